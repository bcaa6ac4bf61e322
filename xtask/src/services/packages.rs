//! Programs from the machine's package manager, without any server of the package being started or enabled.
//!
//! [`install`] is the entrance. Debian's packages start what they bring and make it start at each boot; neither is
//! ours to do on somebody's machine. The first is kept off by the distribution's own switch, `policy-rc.d`, the
//! second is undone for what was not there before.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::identity;
use crate::process;
use crate::progress::{Progress, say};

/// Asked by package scripts before they start a service; Debian Policy, 9.3.3.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Exit code 101 means: not allowed. The second line tells a file of ours that a killed command left behind.
const NOTHING_STARTS: &str =
    "#!/bin/sh\n# of `cargo xtask services`, for the time of an installation\nexit 101\n";

/// One installation at a time in this process, and one refresh of the package lists.
static IS_REFRESHED: Mutex<bool> = Mutex::new(false);

/// What to install, and what to say where that is not possible.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The kind of server it is for.
    pub(super) kind: &'static str,
    pub(super) packages: &'static [&'static str],
    /// Units of these packages, which must neither run nor be enabled for being installed.
    pub(super) units: &'static [&'static str],
    /// How somebody without apt gets it, and which variable names a server that runs already.
    pub(super) remedy: &'static str,
}

/// Installs `wanted`. `missing` says what was looked for in vain.
pub(super) fn install(wanted: &Wanted, missing: &str) -> Result<()> {
    let mut is_refreshed = IS_REFRESHED.lock().unwrap_or_else(PoisonError::into_inner);
    let remedy = wanted.remedy;
    if on_path("apt-get").is_none() {
        bail!("{missing}; {remedy}");
    }
    let root = Root::find().with_context(|| {
        format!("{missing}, and the caller is neither root nor may use `sudo` without a password; {remedy}")
    })?;
    say(&format!(
        "{}: {missing}; installing {}",
        wanted.kind,
        wanted.packages.join(", ")
    ));
    if !*is_refreshed {
        root.apt(&["update"]).with_context(|| remedy.to_owned())?;
        *is_refreshed = true;
    }
    let existed: Vec<_> = wanted.units.iter().map(|unit| has_unit(unit)).collect();
    let switch = Switch::off(&root)?;
    let words = ["install", "-y", "--no-install-recommends"];
    let outcome = root
        .apt(&[&words, wanted.packages].concat())
        .with_context(|| remedy.to_owned());
    drop(switch);
    for (unit, existed) in wanted.units.iter().zip(existed) {
        if !existed && has_unit(unit) {
            root.disable(unit);
        }
    }
    outcome
}

/// The first folder of `PATH` with `program`, as the path of that program.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// `program` on `PATH`, or in one of the folders where distributions put what ordinary users do not call.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let usual = [
        "/usr/sbin",
        "/usr/local/sbin",
        "/usr/libexec",
        "/opt/homebrew/bin",
        "/usr/local/bin",
    ];
    on_path(program).or_else(|| {
        let candidates = usual.iter().map(|folder| Path::new(folder).join(program));
        candidates.into_iter().find(|path| path.is_file())
    })
}

fn has_unit(unit: &str) -> bool {
    let folders = ["/lib/systemd/system", "/usr/lib/systemd/system"];
    let mut units = folders.iter().map(|folder| Path::new(folder).join(unit));
    units.any(|path| path.exists()) || Path::new("/etc/init.d").join(script_of(unit)).exists()
}

/// `redis-server` of `redis-server.service`.
fn script_of(unit: &str) -> &str {
    unit.rsplit_once('.').map_or(unit, |(name, _)| name)
}

fn succeeded(command: &Command, status: ExitStatus, said: &[String]) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let words = command.get_args().map(|word| word.to_string_lossy());
    let words: Vec<_> = words.skip_while(|word| word.contains('=')).collect();
    bail!(
        "`{}` failed ({status}); its last words:\n{}",
        words.join(" "),
        said[said.len().saturating_sub(20)..].join("\n")
    )
}

/// While it lives, package scripts start nothing.
struct Switch<'a> {
    root: &'a Root,
    /// What was there before; `None` where nothing was.
    before: Option<String>,
}

impl<'a> Switch<'a> {
    fn off(root: &'a Root) -> Result<Self> {
        let before = fs::read_to_string(POLICY)
            .ok()
            .filter(|text| text != NOTHING_STARTS);
        root.write(Path::new(POLICY), NOTHING_STARTS, "755")?;
        Ok(Self { root, before })
    }
}

impl Drop for Switch<'_> {
    fn drop(&mut self) {
        let outcome = match &self.before {
            Some(text) => self.root.write(Path::new(POLICY), text, "755"),
            None => self.root.run(self.root.command("rm").args(["-f", POLICY])),
        };
        if let Err(error) = outcome {
            say(&format!(
                "failed to put `{POLICY}` back as it was: {error:#}"
            ));
        }
    }
}

/// The right to install: being root, or `sudo` that asks for no password.
#[derive(Debug)]
pub(super) struct Root {
    by_sudo: bool,
}

impl Root {
    /// The caller's right, if it has one.
    pub(super) fn find() -> Option<Self> {
        if identity::is_root() {
            return Some(Self { by_sudo: false });
        }
        let sudo = Command::new("sudo").args(["-n", "true"]).output();
        sudo.is_ok_and(|output| output.status.success())
            .then_some(Self { by_sudo: true })
    }

    /// A command with that right.
    pub(super) fn command(&self, program: &str) -> Command {
        // `env` since sudo does not pass the caller's environment on.
        let words = ["env", "DEBIAN_FRONTEND=noninteractive", program];
        let mut command = if self.by_sudo {
            let mut command = Command::new("sudo");
            command.arg("-n").arg(words[0]);
            command
        } else {
            Command::new(words[0])
        };
        command.args(&words[1..]);
        command
    }

    /// Runs a short command to its end; an error with what it said if it fails.
    pub(super) fn run(&self, command: &mut Command) -> Result<()> {
        let mut said = Vec::new();
        let status = process::run_lines(command, |_, line| said.push(line.to_owned()))?;
        succeeded(command, status, &said)
    }

    /// The same for a long one, showing that it goes on.
    pub(super) fn run_shown(&self, label: &str, command: &mut Command) -> Result<()> {
        let mut progress = Progress::new(label);
        let mut said = Vec::new();
        let status = process::run_lines(command, |_, line| {
            progress.advance(line);
            said.push(line.to_owned());
        })?;
        drop(progress);
        succeeded(command, status, &said)
    }

    fn apt(&self, words: &[&str]) -> Result<()> {
        // Another apt, the machine's nightly one for example, is waited for.
        let mut command = self.command("apt-get");
        command
            .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
            .args(words);
        self.run_shown(&format!("apt-get {}", words[0]), &mut command)
    }

    /// Writes a file of the system's, whole.
    pub(super) fn write(&self, path: &Path, content: &str, mode: &str) -> Result<()> {
        let copy = tempfile::NamedTempFile::new().context("failed to make a temporary file")?;
        fs::write(copy.path(), content).context("failed to write a temporary file")?;
        let mut command = self.command("install");
        command.args(["-m", mode]).arg(copy.path()).arg(path);
        self.run(&mut command)
            .with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// Keeps a unit from being started at boot. It does not run: nothing started it.
    fn disable(&self, unit: &str) {
        for (program, words) in [
            ("update-rc.d", [script_of(unit), "disable"]),
            ("systemctl", ["disable", unit]),
        ] {
            // Which of the two there is differs; a machine with neither has no boot to speak of.
            let _absent = self.command(program).args(words).output();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_beyond_the_path() {
        assert!(on_path("sh").is_some());
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program"), None);
    }
}
