//! The files of private servers: a folder per checkout, with a state file and two locks per kind of server.
//!
//! [`Place`] is the folder, [`Running`] the state file's content.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The state file of a server that was started here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) kind: String,
    pub(crate) version: String,
    pub(crate) port: u16,
    pub(crate) pid: u32,
    /// How to reach it, password included; hence the file's mode 0600.
    pub(crate) url: String,
    /// Other variables for tests of its driver.
    #[serde(default)]
    pub(crate) more: BTreeMap<String, String>,
    pub(crate) home: PathBuf,
    /// Seconds since 1970.
    pub(crate) started: u64,
    /// From the moment its programs were there to the first answer, making its data included.
    pub(crate) startup_seconds: f64,
    /// Stopped by the last command that uses it, instead of by `services down`.
    pub(crate) temporary: bool,
}

/// The folder of one checkout in which the servers' files live.
///
/// Always below the checkout's own `target`, whatever `CARGO_TARGET_DIR` says: two checkouts that share their
/// build must not stop each other's servers.
#[derive(Debug, Clone)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// `target/services` of the checkout at `root`.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        Self::at(root.join("target/services"))
    }

    /// The folder `path`, made where it is missing.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)
            .with_context(|| format!("failed to make the folder `{}`", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("failed to resolve `{}`", path.display()))?;
        Ok(Self(path))
    }

    /// A path in this place.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// The state of the server of `kind` as it was last written.
    pub(crate) fn running(&self, kind: &str) -> Option<Running> {
        self.read(&format!("{kind}.json"))
    }

    /// Reads a JSON file; nothing where there is none or it cannot be read as one (a newer xtask's, for example).
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read(self.join(name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes a JSON file that only the caller may read, whole or not at all.
    pub(crate) fn write(&self, name: &str, content: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(content)
            .with_context(|| format!("failed to write `{name}`"))?;
        self.write_text(name, &format!("{text}\n"))
    }

    /// The same for a text.
    pub(super) fn write_text(&self, name: &str, text: &str) -> Result<()> {
        let path = self.join(name);
        let write = || -> Result<()> {
            let mut file = tempfile::Builder::new()
                .permissions(fs::Permissions::from_mode(0o600))
                .tempfile_in(&self.0)?;
            file.write_all(text.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("failed to write `{}`", path.display()))
    }

    fn lock_file(&self, kind: &str, what: &str) -> Result<File> {
        let path = self.join(format!("{kind}.{what}.lock"));
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("failed to open `{}`", path.display()))
    }

    /// The file that commands hold shared while they use the server of `kind`.
    pub(super) fn users(&self, kind: &str) -> Result<File> {
        self.lock_file(kind, "users")
    }

    /// Waits for the right to start or stop the server of `kind`.
    pub(super) fn turn(&self, kind: &str) -> Result<File> {
        let file = self.lock_file(kind, "turn")?;
        file.lock().context("failed to lock a file")?;
        Ok(file)
    }
}
