//! The record of a private server: how the child processes of a test find the test's server.
//!
//! A file per worker in the state directory, written anew for each test, since nobody but that test may
//! use the server. Used by `provision/private.rs`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use dagz_core::{Endpoint, Error, ErrorKind, Result, Settings, Worker, name};
use redis::ConnectionInfo;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::info;

/// Where a test's private server is, for the test's child processes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) tag: String,
    pub(super) worker: u32,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) password: String,
}

impl Record {
    /// How to connect to the server.
    pub(super) fn info(&self) -> Result<ConnectionInfo> {
        info(&self.host, self.port, &self.password)
    }

    /// Writes it, whole or not at all. Only its owner may read such a file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        NamedTempFile::new_in(folder()?)
            .and_then(|mut file| {
                file.write_all(serde_json::to_string(self)?.as_bytes())?;
                file.persist(path).map_err(|error| error.error)
            })
            .map(drop)
            .map_err(|error| unwritten(path, error))
    }
}

/// Where the records are, and the files of servers that start.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = Settings::current()?.state_dir().join("redis");
    fs::create_dir_all(&folder).map_err(|error| unwritten(&folder, error))?;
    Ok(folder)
}

/// The record of `worker`'s server that stands for `endpoint`.
pub(super) fn path(worker: Worker, endpoint: &Endpoint) -> Result<PathBuf> {
    Ok(folder()?.join(format!("{worker}-{}.json", name::short_hash(endpoint.id()))))
}

/// Reads a record, if there is one.
pub(super) fn read(path: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn unwritten(path: &Path, error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format!(
            "writing `{}` failed; check its permissions, or point `DAGZ_STATE_DIR` elsewhere",
            path.display()
        ),
    )
    .with_source(error)
}
