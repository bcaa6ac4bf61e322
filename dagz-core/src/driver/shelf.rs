//! Connections that are kept from test to test, for the servers where opening one is dear.
//!
//! The main type is [`Shelf`], of which a driver has one for each worker's database.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::runtime;

/// The most idle connections that are kept for one database.
const KEPT: usize = 4;

/// How long a connection may take to become clean; one that is still busy is closed.
const CLEANING: Duration = Duration::from_millis(500);

/// The kept connections of one worker's database.
pub struct Shelf<C> {
    state: Mutex<State<C>>,
    settled: Notify,
}

struct State<C> {
    idle: Vec<C>,
    cleaning: usize,
    /// How often the database was made anew: connections to an earlier one are of no use.
    generation: u64,
}

impl<C: Send + 'static> Shelf<C> {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                idle: Vec::new(),
                cleaning: 0,
                generation: 0,
            }),
            settled: Notify::new(),
        }
    }

    /// A kept connection, if there is one. It may have been closed meanwhile, or the server may have gone away.
    pub fn take(&self) -> Option<C> {
        self.state().idle.pop()
    }

    /// Waits on the control runtime for `cleaning`, which ends what a test may have left in a connection, and keeps
    /// it then; closes it where it gets none, or not in time.
    pub fn give_back(self: Arc<Self>, cleaning: impl Future<Output = Option<C>> + Send + 'static) {
        let generation = {
            let mut state = self.state();
            state.cleaning += 1;
            state.generation
        };
        runtime::spawn(async move {
            let cleaned = tokio::time::timeout(CLEANING, cleaning).await;
            {
                let mut state = self.state();
                state.cleaning -= 1;
                if let Ok(Some(connection)) = cleaned
                    && state.generation == generation
                    && state.idle.len() < KEPT
                {
                    state.idle.push(connection);
                }
            }
            self.settled.notify_waiters();
        });
    }

    /// Waits until the connections that were given back are clean, or closed.
    pub async fn settle(&self) {
        loop {
            let settled = self.settled.notified();
            if self.state().cleaning == 0 {
                return;
            }
            // Cleaning is bounded, and with it this loop; the timeout only guards against a
            // notification between the look and the wait.
            drop(tokio::time::timeout(Duration::from_millis(10), settled).await);
        }
    }

    /// Closes the idle connections: their database is about to go.
    pub fn clear(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.idle.clear();
    }

    /// What `look` says of each idle connection.
    pub fn each<T>(&self, look: impl FnMut(&C) -> T) -> Vec<T> {
        self.state().idle.iter().map(look).collect()
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Send + 'static> Default for Shelf<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Send + 'static> fmt::Debug for Shelf<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shelf")
            .field("idle", &self.state().idle.len())
            .finish_non_exhaustive()
    }
}
