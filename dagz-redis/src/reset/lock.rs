//! The lock of the run that uses a worker's database.
//!
//! A key in the books that names its holder's connection, from a prepare to the end of the test. It is
//! worth as much as that connection: once the server no longer lists it, whoever held the lock is gone,
//! and so is the lock. Leases keep the tests of one checkout apart; this keeps apart runs that do not
//! know of each other, such as two machines with one node index.

use dagz_core::{Error, ErrorKind, Target};
use serde::{Deserialize, Serialize};

use super::clients::Client;

/// The key of the lock of `index`.
pub(super) fn key(index: i64) -> String {
    format!("dagz:lock:{index}")
}

/// Who has an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lock {
    /// The driver that took it.
    holder: String,
    /// The name of the connection on which it was taken, which no other connection ever has.
    client: String,
    project: String,
    worker: String,
    test: String,
}

impl Lock {
    /// The lock for the test of `target`, taken by `holder` on its connection `client`.
    pub(super) fn new(target: &Target, holder: &str, client: &str) -> Self {
        Self {
            holder: holder.to_owned(),
            client: client.to_owned(),
            project: target.project().to_owned(),
            worker: target.worker().to_string(),
            test: target.test().to_owned(),
        }
    }

    /// The lock that was read; `None` where nobody can read it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether `holder` took it, on this connection or on one that it has lost.
    pub(super) fn is_of(&self, holder: &str) -> bool {
        self.holder == holder
    }

    /// Whether the connection on which it was taken is among `clients`.
    pub(super) fn is_alive(&self, clients: &[Client]) -> bool {
        clients.iter().any(|client| client.name == self.client)
    }

    /// The error for not getting `index`, which it is on.
    pub(super) fn in_use(&self, index: i64, clients: &[Client]) -> Error {
        let Self {
            project,
            worker,
            test,
            ..
        } = self;
        let held = clients
            .iter()
            .find(|client| client.name == self.client)
            .map_or_else(
                || "a connection that has just ended".to_owned(),
                |client| format!("{} for {} s", client.address, client.age),
            );
        Error::new(
            ErrorKind::InUse,
            format!(
                "another run is using database `{index}`: `{test}` on {worker} of project `{project}`, connected from {held}; give each machine its own `DAGZ_NODE_INDEX`, and each checkout that shares a server its own `DAGZ_PROJECT` and `Config::first_index`"
            ),
        )
    }
}
