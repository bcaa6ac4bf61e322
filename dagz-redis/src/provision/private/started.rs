//! A private server that this process has started: what it was like when it was new, and its end.
//!
//! [`Started`] is one; `provision/private.rs` starts it.

use std::{fmt, process::Child, sync::Mutex};

use redis::{ConnectionInfo, RedisResult};
use tokio::sync::OnceCell;

use super::locked;
use crate::{reset::Whole, server::Link};

/// One server.
pub(crate) struct Started {
    pub(super) info: ConnectionInfo,
    pub(super) password: String,
    supervisor: Mutex<Child>,
    /// The test for which the whole server was reset last.
    pub(crate) reset_for: tokio::sync::Mutex<String>,
    new_state: OnceCell<Whole>,
}

impl fmt::Debug for Started {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Started")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Started {
    /// The server at `info`, which hangs on `supervisor`.
    pub(super) fn new(info: ConnectionInfo, password: String, supervisor: Child) -> Self {
        Self {
            info,
            password,
            supervisor: Mutex::new(supervisor),
            reset_for: tokio::sync::Mutex::default(),
            new_state: OnceCell::new(),
        }
    }

    /// What the server was like before any test.
    pub(crate) async fn new_state(&self, link: &Link) -> RedisResult<&Whole> {
        self.new_state.get_or_try_init(|| Whole::of(link)).await
    }

    /// Ends it, with whatever is on it.
    pub(crate) fn end(&self) {
        let mut supervisor = locked(&self.supervisor);
        // The shell sees it and ends the server.
        drop(supervisor.stdin.take());
        drop(supervisor.wait());
    }

    pub(super) fn has_ended(&self) -> bool {
        !matches!(locked(&self.supervisor).try_wait(), Ok(None))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end();
    }
}
