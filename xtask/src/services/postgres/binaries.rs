//! The programs of Postgres: found on this machine, or installed from its distribution.
//!
//! The main type is [`Binaries`], a folder that has them all.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::super::identity;
use crate::process;

const OLDEST: u32 = 14;
const PROGRAMS: &[&str] = &["postgres", "initdb", "pg_ctl"];
const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// A folder with all programs that a server needs.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    /// 15 of 15.18.
    pub(super) major: u32,
}

impl Binaries {
    /// The path of one of them.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn at(folder: &Path) -> Option<Self> {
        let all = PROGRAMS.iter().all(|name| folder.join(name).is_file());
        let major = all.then(|| major(&folder.join("postgres"))).flatten()?;
        Some(Self {
            folder: folder.to_path_buf(),
            major,
        })
    }
}

/// The machine's programs, installed first where there are none.
pub(super) fn find_or_install() -> Result<Binaries> {
    let mut looked_at = Vec::new();
    if let Some(found) = first_fit(candidates(), &mut looked_at) {
        return Ok(found);
    }
    install(&looked_at)?;
    first_fit(candidates(), &mut looked_at)
        .context("the package was installed, but its programs are not where they are expected")
}

fn first_fit(folders: Vec<PathBuf>, looked_at: &mut Vec<String>) -> Option<Binaries> {
    looked_at.clear();
    for folder in folders {
        match Binaries::at(&folder) {
            Some(found) if found.major >= OLDEST => return Some(found),
            Some(old) => looked_at.push(format!("`{}` (version {})", folder.display(), old.major)),
            None => looked_at.push(format!("`{}`", folder.display())),
        }
    }
    None
}

/// Where they may be, best first: what the user's `PATH` says, then distributions' places, newest version first.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(path) = env::var_os("PATH") {
        let has_server = |folder: &PathBuf| folder.join("postgres").is_file();
        folders.extend(env::split_paths(&path).filter(has_server));
    }
    // Debian and its descendants; then the packages of postgresql.org for Red Hat's.
    folders.extend(versioned(Path::new("/usr/lib/postgresql"), "", "bin"));
    folders.extend(versioned(Path::new("/usr"), "pgsql-", "bin"));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let prefix = env::var_os("HOMEBREW_PREFIX").map(PathBuf::from);
    let usual = ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"].map(PathBuf::from);
    for prefix in prefix.into_iter().chain(usual) {
        folders.extend(versioned(&prefix.join("opt"), "postgresql@", "bin"));
    }
    folders
}

/// `below/<prefix><number>/<inner>` for each number there is, highest first.
fn versioned(below: &Path, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(below)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(inner)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn major(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    major_of(&String::from_utf8_lossy(&output.stdout))
}

/// 15 of `postgres (PostgreSQL) 15.18 (Debian …)`, 19 of `postgres (PostgreSQL) 19devel`.
fn major_of(text: &str) -> Option<u32> {
    let version = text.split(") ").nth(1)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Installs the distribution's package, without letting it make and start a server of its own.
fn install(looked_at: &[String]) -> Result<()> {
    let missing = format!(
        "no Postgres of version {OLDEST} or newer found on `PATH` nor in {}",
        if looked_at.is_empty() {
            "the usual folders".to_owned()
        } else {
            looked_at.join(", ")
        }
    );
    let remedy = "install it (`apt-get install postgresql`, `dnf install postgresql-server`, `brew install postgresql`), or set `DATABASE_URL` to a server of yours";
    if !on_path("apt-get") {
        bail!("{missing}; {remedy}");
    }
    let root = Root::find().with_context(|| {
        format!("{missing}, and the caller is neither root nor may use `sudo` without a password; {remedy}")
    })?;
    eprintln!("postgres: {missing}; installing the distribution's package");
    let apt = |words: &[&str]| -> Result<()> {
        let status = process::run(
            root.command("apt-get")
                .args(words)
                // Standard output is for the shell that evaluates what `services up` prints.
                .stdout(std::io::stderr()),
        )?;
        if !status.success() {
            bail!("`apt-get {}` failed ({status}); {remedy}", words.join(" "));
        }
        Ok(())
    };
    let install = |package| apt(&["install", "-y", "--no-install-recommends", package]);
    apt(&["update"])?;
    // First the part that carries the switch, then, with the switch off, the server.
    install("postgresql-common")?;
    let before = fs::read_to_string(CREATE_CLUSTER).unwrap_or_default();
    root.write(CREATE_CLUSTER, &without_main_cluster(&before))?;
    let outcome = install("postgresql");
    // The machine's owner may want a server of the package later, and then finds the switch as it was.
    root.write(CREATE_CLUSTER, &before)?;
    outcome
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The settings of Debian's packaging with the cluster that it would make and start switched off.
fn without_main_cluster(settings: &str) -> String {
    let is_switch = |line: &&str| !line.trim_start().starts_with("create_main_cluster");
    let mut changed: String = settings
        .lines()
        .filter(is_switch)
        .flat_map(|line| [line, "\n"])
        .collect();
    changed.push_str("create_main_cluster = false\n");
    changed
}

/// The right to install: being root, or `sudo` that asks for no password.
#[derive(Debug)]
struct Root {
    by_sudo: bool,
}

impl Root {
    fn find() -> Option<Self> {
        if identity::is_root() {
            return Some(Self { by_sudo: false });
        }
        let sudo = Command::new("sudo").args(["-n", "true"]).output();
        sudo.is_ok_and(|output| output.status.success())
            .then_some(Self { by_sudo: true })
    }

    fn command(&self, program: &str) -> Command {
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

    fn write(&self, path: &str, content: &str) -> Result<()> {
        let copy = tempfile::NamedTempFile::new().context("failed to make a temporary file")?;
        fs::write(copy.path(), content).context("failed to write a temporary file")?;
        let status = process::run(
            self.command("install")
                .args(["-m", "644"])
                .arg(copy.path())
                .arg(path),
        )?;
        if !status.success() {
            bail!("failed to write `{path}` ({status})");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_program_prints() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(major_of("something else 15.18"), None);
    }

    #[test]
    fn newest_first_by_number() {
        let below = tempfile::tempdir().unwrap();
        for name in ["9", "18", "14", "common"] {
            fs::create_dir(below.path().join(name)).unwrap();
        }
        let found = versioned(below.path(), "", "bin");
        let expected = ["18/bin", "14/bin", "9/bin"].map(|name| below.path().join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_that_lacks_a_program_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("postgres"), "").unwrap();
        assert!(Binaries::at(folder.path()).is_none());
    }

    #[test]
    fn the_packages_own_cluster_is_switched_off() {
        let before = "# a comment\ncreate_main_cluster = true\nssl = on\n";
        assert_eq!(
            without_main_cluster(before),
            "# a comment\nssl = on\ncreate_main_cluster = false\n"
        );
        assert_eq!(without_main_cluster(""), "create_main_cluster = false\n");
    }
}
