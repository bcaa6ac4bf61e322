//! What a test may take as an argument: a kept [`Client`], a fresh one of tokio-postgres, or its
//! configuration.
//!
//! Opening a connection costs as much as a hundred small queries, so [`Client`] comes from a
//! shelf of kept ones, a shelf for each worker's database, and goes back there clean.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use dagz_core::{Error, ErrorKind, FromScope, Result, Scope, Target};
use futures_util::FutureExt;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::{
    driver::{self, Database, Driver, configured},
    error::{self, Destination},
    provision, route, sql,
};

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
    home: Option<Home>,
}

/// Whose a kept connection is, and what the server calls its session.
struct Home {
    database: Arc<Database>,
    pid: i32,
}

/// A connection on the shelf, with the number of its session.
#[derive(Debug)]
pub(crate) struct Kept {
    client: tokio_postgres::Client,
    pid: i32,
}

impl Kept {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

/// Notes a session as unclean when it is dropped, unless it was found clean before.
///
/// Closing its connection does not end it: a busy server may not even have read yet what the test sent
/// last, and would do it in the middle of the next test. Until it reads it, the session looks idle, and
/// like one of dagz's own.
struct Cleaning {
    home: Home,
    is_clean: bool,
}

impl Cleaning {
    fn succeeded(&mut self) {
        self.is_clean = true;
    }
}

impl Drop for Cleaning {
    fn drop(&mut self) {
        if !self.is_clean {
            self.home.database.note_unclean(self.home.pid);
        }
    }
}

impl Client {
    async fn of(driver: &Driver) -> Result<Self> {
        let route = resolved(driver).await?;
        let Some(target) = route.target() else {
            let server = driver.server(&route::endpoint(&driver.config().base))?;
            return Ok(Self {
                inner: Some(server.open(route.name(), "dagz test").await?),
                home: None,
            });
        };
        let database = driver.database(target)?;
        let Kept { client, pid } = take(&database, target).await?;
        Ok(Self {
            inner: Some(client),
            home: Some(Home { database, pid }),
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
        if let (Some(client), Some(home)) = (self.inner.take(), self.home.take()) {
            let shelf = Arc::clone(&home.database.shelf);
            let pid = home.pid;
            let mut cleaning = Cleaning {
                home,
                is_clean: false,
            };
            shelf.give_back(async move {
                clean(&client).await.ok()?;
                cleaning.succeeded();
                Some(Kept { client, pid })
            });
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

/// A client for the database of `target`, kept or new, whose session is called after its test.
async fn take(database: &Database, target: &Target) -> Result<Kept> {
    let kept = loop {
        match database.shelf.take() {
            Some(kept) if kept.client.is_closed() => {}
            Some(kept) => break kept,
            None => break open(database, target).await?,
        }
    };
    let name = sql::literal(&route::application_name(target));
    // Polled once, it is sent; it is done before anything the test asks for.
    drop(
        kept.client
            .batch_execute(&format!("SET application_name = {name}"))
            .now_or_never(),
    );
    Ok(kept)
}

async fn open(database: &Database, target: &Target) -> Result<Kept> {
    let name = provision::session_name(target, "kept");
    let client = database.server.open(target.name(), &name).await?;
    let row = client
        .query_typed("SELECT pg_backend_pid()", &[])
        .await
        .and_then(|rows| rows[0].try_get(0));
    let pid = row.map_err(|error| {
        error::statement(
            ErrorKind::Prepare,
            format!("cannot use a session in database `{}`", target.name()),
            error,
        )
    })?;
    Ok(Kept { client, pid })
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
