//! What a test may take as an argument: a kept [`Client`], a fresh one of tokio-postgres, or its
//! configuration.
//!
//! Opening a connection costs as much as a hundred small queries, so [`Client`] comes from a
//! [`Shelf`] of kept ones, a shelf for each worker's database, and goes back there clean.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dagz_core::{Error, ErrorKind, FromScope, Result, Scope, Target, runtime};
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::{
    driver::{self, Driver, configured},
    error::{self, Destination},
    provision, route,
    server::Server,
    sql,
};

/// The most idle clients that are kept for one database.
const KEPT: usize = 4;

/// How long a client may take to become clean; one that is still busy is closed.
const CLEANING: Duration = Duration::from_millis(500);

/// Ends what a test may have left in a session. Not `DISCARD ALL`: that would take away statements
/// which the client library believes in. Last, the statements that the test prepared by SQL.
const CLEAN: &str = "ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; \
    UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; \
    SELECT 'statement', name FROM pg_prepared_statements WHERE from_sql";

/// Marks the arguments that this crate makes for tests; inferred, never written.
#[derive(Debug)]
pub enum Postgres {}

/// A connected client for the test's own database, to be taken as an argument.
///
/// It derefs to [`tokio_postgres::Client`]. Its connection is a kept one and lives on dagz's
/// control runtime, so it needs no task; notifications are not delivered. When it is dropped, the
/// session is cleaned (transaction, settings, temporary tables, cursors, advisory locks) and kept
/// for a later test. Connections are made without TLS.
pub struct Client {
    /// Present until dropped.
    inner: Option<tokio_postgres::Client>,
    /// Where it goes back to; nowhere if the database is not a worker's own.
    shelf: Option<Arc<Shelf>>,
}

impl Client {
    async fn of(driver: &Driver) -> Result<Self> {
        let route = resolved(driver).await?;
        let Some(target) = route.target() else {
            let server = driver.server(&route::endpoint(&driver.config().base))?;
            return Ok(Self {
                inner: Some(server.open(route.name(), "dagz test").await?),
                shelf: None,
            });
        };
        let shelf = Arc::clone(&driver.database(target)?.shelf);
        Ok(Self {
            inner: Some(shelf.take(&route::application_name(target)).await?),
            shelf: Some(shelf),
        })
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        match &self.inner {
            Some(client) => client,
            None => unreachable!("a client is there until it is dropped"),
        }
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match &mut self.inner {
            Some(client) => client,
            None => unreachable!("a client is there until it is dropped"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let (Some(client), Some(shelf)) = (self.inner.take(), self.shelf.take()) {
            shelf.give_back(client);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

impl FromScope<Postgres> for Client {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        Self::of(configured()?).await
    }
}

/// The settings of a connection to the test's own database.
impl FromScope<Postgres> for tokio_postgres::Config {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        let driver = configured()?;
        let route = resolved(driver).await?;
        Ok(route::rerouted(&driver.config().base, &route))
    }
}

/// A fresh connection, without TLS, driven by a task on the test's own runtime.
impl FromScope<Postgres> for tokio_postgres::Client {
    async fn from_scope(scope: &Scope) -> Result<Self> {
        let tasks = tokio::runtime::Handle::try_current().map_err(|error| {
            Error::new(
                ErrorKind::Setup,
                "a `tokio_postgres::Client` as an argument needs an async test, whose runtime drives the connection; take `dagz::postgres::Client` instead",
            )
            .with_source(error)
        })?;
        let config = <tokio_postgres::Config as FromScope<Postgres>>::from_scope(scope).await?;
        let (client, connection) = config.connect(NoTls).await.map_err(|error| {
            error::connecting(
                Destination {
                    endpoint: &route::shown(&config),
                    database: &route::database(&config),
                    user: &route::user(&config),
                },
                error,
            )
        })?;
        tasks.spawn(async move {
            // Whoever uses the client sees how the connection ends.
            if let Err(error) = connection.await {
                tracing::debug!(target: "dagz", %error, "a test's connection ended");
            }
        });
        Ok(client)
    }
}

async fn resolved(driver: &Driver) -> Result<dagz_core::Route> {
    dagz_core::resolve(driver::NAME, route::access(&driver.config().base)).await
}

/// The kept clients of one worker's database.
pub(crate) struct Shelf {
    server: Arc<Server>,
    database: String,
    /// What idle clients are called on the server.
    session_name: String,
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Default)]
struct State {
    idle: Vec<tokio_postgres::Client>,
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

    /// A client, kept or new, whose session is called `application_name`.
    async fn take(&self, application_name: &str) -> Result<tokio_postgres::Client> {
        let kept = {
            let mut state = self.state();
            state.idle.retain(|client| !client.is_closed());
            state.idle.pop()
        };
        let client = match kept {
            Some(client) => client,
            None => self.server.open(&self.database, &self.session_name).await?,
        };
        let statement = format!("SET application_name = {}", sql::literal(application_name));
        // Polled once, it is sent; it is done before anything the test asks for.
        drop(client.batch_execute(&statement).now_or_never());
        Ok(client)
    }

    /// Cleans a client and keeps it, or closes it where that cannot be done.
    fn give_back(self: Arc<Self>, client: tokio_postgres::Client) {
        if client.is_closed() {
            return;
        }
        let generation = {
            let mut state = self.state();
            state.cleaning += 1;
            state.generation
        };
        runtime::spawn(async move {
            let cleaned = tokio::time::timeout(CLEANING, clean(&client)).await;
            {
                let mut state = self.state();
                state.cleaning -= 1;
                if matches!(cleaned, Ok(Ok(())))
                    && state.generation == generation
                    && state.idle.len() < KEPT
                {
                    state.idle.push(client);
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

async fn clean(client: &tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
    let messages = client.simple_query(CLEAN).await?;
    let statements: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get(0) == Some("statement") => row.get(1),
            _ => None,
        })
        .map(|name| format!("DEALLOCATE {}", sql::identifier(name)))
        .collect();
    if statements.is_empty() {
        return Ok(());
    }
    client.batch_execute(&statements.join("; ")).await
}
