//! What a test may take as an argument: a kept [`Conn`], a fresh one of mysql_async, a pool, or the
//! settings.
//!
//! A login takes several round trips, and much arithmetic where the password is hashed, so [`Conn`]
//! comes from a [`Shelf`] of kept ones, a shelf for each worker's database, and goes back there clean.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dagz_core::{FromScope, Result, Scope, Target, runtime};
use mysql_async::{Opts, prelude::Queryable as _};
use tokio::sync::Notify;

use crate::{
    driver::{self, Driver, configured},
    provision, route,
    server::Server,
    sql,
};

/// The most idle clients that are kept for one database.
const KEPT: usize = 4;

/// How long a client may take to become clean; one that is still busy is closed.
const CLEANING: Duration = Duration::from_millis(500);

/// Marks the arguments that this crate makes for tests; inferred, never written.
#[derive(Debug)]
pub enum Mysql {}

/// A connection to the test's own database, to be taken as an argument.
///
/// It derefs to [`mysql_async::Conn`]. It is a kept one and lives on dagz's control runtime. When it
/// is dropped, the session is reset (transaction, variables, temporary tables, locks, prepared
/// statements, the database chosen) and kept for a later test.
pub struct Conn {
    /// Present until dropped.
    inner: Option<mysql_async::Conn>,
    /// Where it goes back to; nowhere if the database is not a worker's own.
    shelf: Option<Arc<Shelf>>,
}

impl Conn {
    async fn of(driver: &Driver) -> Result<Self> {
        let route = resolved(driver).await?;
        let Some(target) = route.target() else {
            let server = driver.server(&route::endpoint(&driver.config().base))?;
            return Ok(Self {
                inner: Some(server.open_plain(route.name(), "dagz test").await?),
                shelf: None,
            });
        };
        let shelf = Arc::clone(&driver.database(target)?.shelf);
        Ok(Self {
            inner: Some(shelf.take().await?),
            shelf: Some(shelf),
        })
    }
}

impl Deref for Conn {
    type Target = mysql_async::Conn;

    fn deref(&self) -> &Self::Target {
        match &self.inner {
            Some(conn) => conn,
            None => unreachable!("a connection is there until it is dropped"),
        }
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match &mut self.inner {
            Some(conn) => conn,
            None => unreachable!("a connection is there until it is dropped"),
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if let (Some(conn), Some(shelf)) = (self.inner.take(), self.shelf.take()) {
            shelf.give_back(conn);
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conn").finish_non_exhaustive()
    }
}

impl FromScope<Mysql> for Conn {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        Self::of(configured()?).await
    }
}

/// The settings of a connection to the test's own database.
impl FromScope<Mysql> for Opts {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        opts().await
    }
}

/// A fresh connection, on the test's own runtime.
impl FromScope<Mysql> for mysql_async::Conn {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        route::open(opts().await?).await
    }
}

/// The configured settings, rerouted.
pub(crate) async fn opts() -> Result<Opts> {
    let driver = configured()?;
    let route = resolved(driver).await?;
    Ok(route::rerouted(&driver.config().base, &route))
}

async fn resolved(driver: &Driver) -> Result<dagz_core::Route> {
    dagz_core::resolve(driver::NAME, route::access(&driver.config().base)).await
}

/// The kept clients of one worker's database.
pub(crate) struct Shelf {
    server: Arc<Server>,
    database: String,
    /// What the clients are called on the server.
    session_name: String,
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Default)]
struct State {
    idle: Vec<mysql_async::Conn>,
    cleaning: usize,
    /// How often the database was made anew: clients of an earlier one are of no use.
    generation: u64,
}

impl Shelf {
    pub(crate) fn new(server: Arc<Server>, target: &Target) -> Self {
        Self {
            server,
            database: target.name().to_owned(),
            session_name: provision::session_name(target, "kept"),
            state: Mutex::default(),
            settled: Notify::new(),
        }
    }

    /// A client, kept or new.
    async fn take(&self) -> Result<mysql_async::Conn> {
        loop {
            let Some(mut conn) = self.state().idle.pop() else {
                return self
                    .server
                    .open_plain(&self.database, &self.session_name)
                    .await;
            };
            // The server may have gone away meanwhile, and a test must not be the one to notice.
            if conn.ping().await.is_ok() {
                return Ok(conn);
            }
        }
    }

    /// Cleans a client and keeps it, or closes it where that cannot be done.
    fn give_back(self: Arc<Self>, conn: mysql_async::Conn) {
        let generation = {
            let mut state = self.state();
            state.cleaning += 1;
            state.generation
        };
        let database = self.database.clone();
        runtime::spawn(async move {
            let cleaned = tokio::time::timeout(CLEANING, clean(conn, &database)).await;
            {
                let mut state = self.state();
                state.cleaning -= 1;
                if let Ok(Ok(conn)) = cleaned
                    && state.generation == generation
                    && state.idle.len() < KEPT
                {
                    state.idle.push(conn);
                }
            }
            self.settled.notify_waiters();
        });
    }

    /// Waits until the clients that were given back are clean, or closed.
    pub(crate) async fn settle(&self) {
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

    /// Closes the idle clients: their database is about to go.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.idle.clear();
    }

    /// The idle clients, as the server numbers them.
    pub(crate) fn sessions(&self) -> Vec<u32> {
        self.state().idle.iter().map(|conn| conn.id()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shelf")
            .field("database", &self.database)
            .field("idle", &self.state().idle.len())
            .finish_non_exhaustive()
    }
}

async fn clean(
    mut conn: mysql_async::Conn,
    database: &str,
) -> Result<mysql_async::Conn, mysql_async::Error> {
    // First, since it reads to its end what the test did not; a reset keeps the database.
    conn.query_drop(format!("USE {}", sql::identifier(database)))
        .await?;
    conn.reset().await?;
    Ok(conn)
}
