//! The folder of one private server: whose it is, where it is, its password and its ports.
//!
//! The main type is [`Home`]. What must outlive the server is in [`Settings`], beside its state file.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Place, identity};
use crate::progress::say;

/// What must outlive the server: kept beside its state file, and like that one for the caller's eyes only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) home: PathBuf,
    pub(crate) password: String,
    /// Used again where they are free, so that addresses in open shells stay right.
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, u16>,
}

impl Settings {
    /// The port of that name; 0 before the first start.
    pub(crate) fn port(&self, name: &str) -> u16 {
        self.ports.get(name).copied().unwrap_or_default()
    }

    fn file(kind: &str) -> String {
        format!("{kind}.settings.json")
    }

    /// Those of the server of `kind`, if it was started in `place` before.
    pub(super) fn read(place: &Place, kind: &str) -> Option<Self> {
        place.read(&Self::file(kind))
    }

    /// Notes them for the next start, and for telling our own addresses from the user's.
    pub(super) fn write(&self, place: &Place, kind: &str) -> Result<()> {
        place.write(&Self::file(kind), self)
    }
}

/// Another root folder, with programs of its own, in which a server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherRoot(pub(crate) PathBuf);

/// The folder of a private server.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) settings: Settings,
    /// As whom to run, where the caller is root.
    user: Option<identity::User>,
    root: Option<OtherRoot>,
}

impl Home {
    /// The home of the server of `kind`, made where it is missing. `users`: as whom it runs where the caller is root,
    /// the first that exists. `root`: where its programs are, if not here.
    pub(super) fn ready(
        place: &Place,
        kind: &'static str,
        users: &[&str],
        root: Option<OtherRoot>,
    ) -> Result<Self> {
        let known = Settings::read(place, kind);
        let wanted = match (&known, &root) {
            (Some(settings), _) => settings.home.clone(),
            (None, Some(root)) => root.0.join("srv").join(kind),
            (None, None) => place.join(kind),
        };
        let (path, user) = usable(kind, &wanted, users)?;
        let settings = match known {
            Some(settings) => Settings {
                home: path,
                ..settings
            },
            None => Settings {
                home: path,
                password: random_hex(24)?,
                ports: BTreeMap::new(),
            },
        };
        // Before any data is made: a password without data does no harm, the other way round nobody gets in.
        settings.write(place, kind)?;
        let home = Self {
            settings,
            user,
            root,
        };
        Ok(home)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.settings.home
    }

    /// Where the server works, and what its processes are told by.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// `path` as the server sees it.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => match path.strip_prefix(&root.0) {
                Ok(rest) => Path::new("/").join(rest),
                Err(_) => path.to_path_buf(),
            },
            None => path.to_path_buf(),
        }
    }

    /// Whether its data is whole, and of the programs' version.
    pub(super) fn is_made_by(&self, version: &str) -> bool {
        self.data().is_dir()
            && fs::read_to_string(self.version_path()).is_ok_and(|made| made == version)
    }

    /// Says that the data is whole: made by programs of `version`, and the server has answered on it.
    pub(super) fn is_whole(&self, version: &str) -> Result<()> {
        let path = self.version_path();
        fs::write(&path, version).with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// Removes whatever data there is and makes an empty folder for it.
    pub(super) fn clear(&self) -> Result<()> {
        let data = self.data();
        for path in [self.version_path(), data.clone()] {
            let outcome = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else if path.exists() {
                fs::remove_file(&path)
            } else {
                Ok(())
            };
            outcome.with_context(|| format!("failed to remove `{}`", path.display()))?;
        }
        self.folder("data").map(drop)
    }

    fn version_path(&self) -> PathBuf {
        self.path().join("made-by")
    }

    /// A folder in this home that only the server's user may enter, made where it is missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
            .with_context(|| format!("failed to make the folder `{}`", path.display()))?;
        self.hand_over(&path)?;
        Ok(path)
    }

    /// Writes a file that only the server's user may read; it may hold a password.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        let write = || {
            // Its mode is set when it is made.
            if path.exists() {
                fs::remove_file(&path)?;
            }
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(text.as_bytes())
        };
        write().with_context(|| format!("failed to write `{}`", path.display()))?;
        self.hand_over(&path)?;
        Ok(path)
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        match self.user {
            Some(user) => hand_over(path, user),
            None => Ok(()),
        }
    }

    /// Where the server's own words go.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// The log, empty and open for a server that is about to start: its end explains a failure, and an earlier
    /// start's must not.
    pub(super) fn new_log(&self) -> Result<File> {
        let path = self.log_path();
        File::create(&path).with_context(|| format!("failed to make `{}`", path.display()))
    }

    /// The log's last lines.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// A command run as the server's user in its data folder, knowing nothing of the caller's environment (`PGDATA`,
    /// `MYSQL_HOME`, …). `program`: as the server sees it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let Some(OtherRoot(root)) = &self.root else {
            return as_user(self.user, &self.data(), program);
        };
        let mut command = as_user(None, &self.data(), Path::new("chroot"));
        if let Some(user) = self.user {
            command.arg(format!("--userspec={}:{}", user.uid, user.gid));
        }
        // `chroot` ends up in the root's root.
        let script = "cd \"$0\" && exec \"$@\"";
        command.arg(root).args(["/bin/sh", "-c", script]);
        command.arg(self.inside(&self.data())).arg(program);
        command
    }

    /// Runs a command to its end; what it said, if it fails.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command
            .output()
            .with_context(|| format!("failed to run `{program}`"))?;
        ensure!(
            output.status.success(),
            "`{program}` failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout).trim_end(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(())
    }
}

/// `wanted`, or a folder of the system's temporary one, made and proven to be usable by the server's user.
fn usable(kind: &str, wanted: &Path, users: &[&str]) -> Result<(PathBuf, Option<identity::User>)> {
    // Also where the folder of an earlier call was temporary and has been cleared away since.
    fs::create_dir_all(wanted).with_context(|| format!("failed to make `{}`", wanted.display()))?;
    let owner = fs::metadata(wanted)
        .with_context(|| format!("failed to look at `{}`", wanted.display()))?;
    if !identity::is_root() {
        ensure!(
            owner.uid() == identity::own_uid(),
            "`{}` belongs to another user (number {}), who ran `cargo xtask services up` before; stop that server as that user and remove the folder",
            wanted.display(),
            owner.uid()
        );
        return Ok((wanted.to_path_buf(), None));
    }
    let user = if owner.uid() == 0 {
        identity::first_user(users)?
    } else {
        // Of an earlier call: whoever owns the data runs it.
        identity::User {
            uid: owner.uid(),
            gid: owner.gid(),
        }
    };
    hand_over(wanted, user)?;
    if may_use(wanted, user) {
        return Ok((wanted.to_path_buf(), Some(user)));
    }
    // A checkout below root's own home, which is closed to others.
    for below in [
        std::env::temp_dir(),
        PathBuf::from("/var/tmp"),
        PathBuf::from("/tmp"),
    ] {
        let Ok(folder) = tempfile::Builder::new()
            .prefix(&format!("dagz-{kind}-"))
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&below)
        else {
            continue;
        };
        hand_over(folder.path(), user)?;
        if may_use(folder.path(), user) {
            let home = folder.keep();
            say(&format!(
                "{kind}: the user that runs the server cannot reach `{}`; its data goes to `{}`",
                wanted.display(),
                home.display()
            ));
            return Ok((home, Some(user)));
        }
    }
    bail!(
        "the caller is root, so the server runs as user number {}, and that one can reach neither `{}` nor a temporary folder; move the checkout to where others may go, or call as an ordinary user",
        user.uid,
        wanted.display()
    )
}

fn hand_over(path: &Path, user: identity::User) -> Result<()> {
    chown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("failed to hand over `{}`", path.display()))
}

/// Tried, not computed: modes, access lists and mounts all have a say.
fn may_use(folder: &Path, user: identity::User) -> bool {
    as_user(Some(user), folder, Path::new("/bin/sh"))
        .args(["-c", "test -w . && cd \"$0\""])
        .arg(folder)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// By the standard library's own `uid` and `gid`: no helper program is needed (`setpriv` is Linux only, `su` and
/// `runuser` open a session and want their words quoted for a shell), and it drops root's groups as well.
fn as_user(user: Option<identity::User>, folder: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("LC_ALL", "C");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    // Not the caller's group either: a Ctrl-C in the middle of making data is ours to handle, and a server outlives
    // the terminal it was started from.
    command.process_group(0);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

pub(super) fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .context("failed to read random bytes")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
