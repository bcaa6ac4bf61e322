//! What a test may take as an argument: a kept [`Client`], a fresh one of tokio-postgres, or its
//! configuration.
//!
//! Opening a connection costs as much as a hundred small queries, so [`Client`] comes from a
//! [`Shelf`] of kept ones, a shelf for each worker's database, and goes back there clean.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use dagz_core::{Error, ErrorKind, FromScope, Result, Scope, Target, driver::Shelf};
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
    shelf: Option<Arc<Shelf<tokio_postgres::Client>>>,
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
        let database = driver.database(target)?;
        Ok(Self {
            inner: Some(take(&database, target).await?),
            shelf: Some(Arc::clone(&database.shelf)),
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
        if let (Some(client), Some(shelf)) = (self.inner.take(), self.shelf.take())
            && !client.is_closed()
        {
            shelf.give_back(async move { clean(&client).await.is_ok().then_some(client) });
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
async fn take(database: &Database, target: &Target) -> Result<tokio_postgres::Client> {
    let client = loop {
        match database.shelf.take() {
            Some(client) if client.is_closed() => {}
            Some(client) => break client,
            None => {
                let name = provision::session_name(target, "kept");
                break database.server.open(target.name(), &name).await?;
            }
        }
    };
    let name = sql::literal(&route::application_name(target));
    // Polled once, it is sent; it is done before anything the test asks for.
    drop(
        client
            .batch_execute(&format!("SET application_name = {name}"))
            .now_or_never(),
    );
    Ok(client)
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
