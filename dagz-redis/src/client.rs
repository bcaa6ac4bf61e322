//! What a test may take as an argument: the library's client, its settings, or a connection.
//!
//! Opening a connection to Redis costs a few round trips, so none is kept for tests, as `dagz-postgres`
//! does: a fresh one can have nothing left in it.

use dagz_core::{Error, ErrorKind, FromScope, Result, Scope};
use redis::{Client, ConnectionInfo, aio::MultiplexedConnection};

use crate::{
    driver::{self, Driver, configured},
    route,
};

/// Marks the arguments that this crate makes for tests; inferred, never written.
#[derive(Debug)]
pub enum Redis {}

/// The settings of a connection to the test's own database.
impl FromScope<Redis> for ConnectionInfo {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        let driver = configured()?;
        let route = resolved(driver).await?;
        route::rerouted(&driver.config().base, &route)
    }
}

/// A client for the test's own database, to open connections with, blocking ones too.
impl FromScope<Redis> for Client {
    async fn from_scope(scope: &Scope) -> Result<Self> {
        route::client(ConnectionInfo::from_scope(scope).await?)
    }
}

/// A fresh connection, driven by a task on the test's own runtime.
impl FromScope<Redis> for MultiplexedConnection {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        tokio::runtime::Handle::try_current().map_err(|error| {
            Error::new(
                ErrorKind::Setup,
                "a `MultiplexedConnection` as an argument needs an async test, whose runtime drives the connection; take `redis::Client` instead",
            )
            .with_source(error)
        })?;
        let driver = configured()?;
        let route = resolved(driver).await?;
        let info = route::rerouted(&driver.config().base, &route)?;
        route::open(&info, route.target()).await
    }
}

async fn resolved(driver: &Driver) -> Result<dagz_core::Route> {
    dagz_core::resolve(driver::NAME, route::access(&driver.config().base)).await
}
