//! What a test may take as an argument: a kept [`Conn`], a fresh one of mysql_async, a pool, or the
//! settings.
//!
//! A login takes several round trips, and much arithmetic where the password is hashed, so [`Conn`]
//! comes from a [`Shelf`] of kept ones, a shelf for each worker's database, and goes back there clean.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use dagz_core::{FromScope, Result, Scope, Target, driver::Shelf};
use mysql_async::{Opts, prelude::Queryable as _};

use crate::{
    driver::{self, Database, Driver, configured},
    provision, route, sql,
};

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
    /// Where it goes back to, and the database it is in then; nowhere if that is not a worker's own.
    home: Option<(Arc<Shelf<mysql_async::Conn>>, String)>,
}

impl Conn {
    async fn of(driver: &Driver) -> Result<Self> {
        let route = resolved(driver).await?;
        let Some(target) = route.target() else {
            let server = driver.server(&route::endpoint(&driver.config().base))?;
            return Ok(Self {
                inner: Some(server.open_plain(route.name(), "dagz test").await?),
                home: None,
            });
        };
        let database = driver.database(target)?;
        Ok(Self {
            inner: Some(take(&database, target).await?),
            home: Some((Arc::clone(&database.shelf), target.name().to_owned())),
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
        if let (Some(conn), Some((shelf, database))) = (self.inner.take(), self.home.take()) {
            shelf.give_back(async move { clean(conn, &database).await.ok() });
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

/// A connection to the database of `target`, kept or new.
async fn take(database: &Database, target: &Target) -> Result<mysql_async::Conn> {
    while let Some(mut conn) = database.shelf.take() {
        // The server may have gone away meanwhile, and a test must not be the one to notice.
        if conn.ping().await.is_ok() {
            return Ok(conn);
        }
    }
    let name = provision::session_name(target, "kept");
    database.server.open_plain(target.name(), &name).await
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
