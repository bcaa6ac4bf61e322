//! What a scope has done: which names it routed, which databases it prepared, what still runs.
//!
//! Kept by `scope.rs`, filled by `resolve.rs`. The main type is [`Progress`].

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use crate::{Access, Endpoint, Error, ErrorKind, Result, Target};

/// Preparations are bounded by the drivers' own time-outs; this only keeps a bug from hanging a run.
const PATIENCE: Duration = Duration::from_secs(120);

/// A database's identity within a scope: driver, server, worker name.
pub(crate) type Key = (&'static str, Endpoint, String);

#[derive(Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    running: usize,
    /// Accesses that were answered, for a second one to be answered at once.
    routes: HashMap<(&'static str, Access), Target>,
    prepared: HashMap<Key, Arc<OnceCell<Result<()>>>>,
    /// What to release, in the order of preparation.
    targets: Vec<Target>,
}

impl State {
    fn open(&self, test: &str) -> Result<()> {
        if self.closed {
            return Err(Error::new(
                ErrorKind::OutsideScope,
                format!(
                    "a thread or task of `{test}` opened a database after that test had ended; join it before the test returns"
                ),
            ));
        }
        Ok(())
    }
}

impl Progress {
    /// What this access was answered before, if it was.
    ///
    /// # Errors
    ///
    /// When the scope has been left: its worker may be another test's by now.
    pub(crate) fn route(
        &self,
        test: &str,
        driver: &'static str,
        access: &Access,
    ) -> Result<Option<Target>> {
        let state = self.lock();
        state.open(test)?;
        Ok(state.routes.get(&(driver, access.clone())).cloned())
    }

    /// Whether the database `base` of `driver` was answered, on any server.
    pub(crate) fn is_routed(&self, driver: &str, base: &str) -> bool {
        self.lock()
            .routes
            .values()
            .any(|target| target.driver() == driver && target.base() == base)
    }

    pub(crate) fn routed(&self, access: Access, target: Target) {
        self.lock().routes.insert((target.driver(), access), target);
    }

    /// The one cell in which the preparation of `key` happens.
    pub(crate) fn cell(&self, key: Key) -> Arc<OnceCell<Result<()>>> {
        self.lock().prepared.entry(key).or_default().clone()
    }

    /// Remembers that `target` was prepared and is to be released.
    pub(crate) fn prepared(&self, target: Target) {
        self.lock().targets.push(target);
    }

    /// Workers' databases that were opened and that dagz did not prepare: those of `manual_init`.
    pub(crate) fn unprepared(&self, prepared: &[Target]) -> Vec<Target> {
        let mut found: Vec<Target> = Vec::new();
        for target in self.lock().routes.values() {
            let is_same = |other: &Target| {
                (other.driver(), other.endpoint(), other.name())
                    == (target.driver(), target.endpoint(), target.name())
            };
            if !prepared.iter().chain(&found).any(is_same) {
                found.push(target.clone());
            }
        }
        found
    }

    /// The databases that were prepared so far.
    pub(crate) fn prepared_keys(&self) -> Vec<Key> {
        let state = self.lock();
        let done = state
            .prepared
            .iter()
            .filter(|(_, cell)| matches!(cell.get(), Some(Ok(()))));
        done.map(|(key, _)| key.clone()).collect()
    }

    /// Announces work that must end before the worker is given back.
    pub(crate) fn begin(&self, test: &str) -> Result<()> {
        let mut state = self.lock();
        state.open(test)?;
        state.running += 1;
        Ok(())
    }

    pub(crate) fn end(&self) {
        self.lock().running -= 1;
        self.idle.notify_all();
    }

    /// Refuses new work, waits for what runs, and tells what is to be released.
    pub(crate) fn close(&self) -> Vec<Target> {
        let mut state = self.lock();
        state.closed = true;
        let deadline = Instant::now() + PATIENCE;
        while state.running > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                let text = format!("a preparation still ran {PATIENCE:?} after its test had ended");
                crate::event::warn(None, &text);
                break;
            };
            state = self
                .idle
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        std::mem::take(&mut state.targets)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
