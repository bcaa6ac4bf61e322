//! A pool of connections to the test's own database, and the guard against one that outlives its
//! worker.
//!
//! [`Pool`] is `mysql_async::Pool` with a look at each connection that it hands out.

use std::fmt;

use dagz_core::{DbConfig as _, Error, ErrorKind, FromScope, Result, Scope};
use mysql_async::{Conn, Opts, prelude::Queryable as _};

use crate::{
    client::{Mysql, opts},
    driver::DRIVER,
    error::{self, Destination},
    route, sql,
};

/// `mysql_async::Pool`, whose connections are in the database of the test that asks for one.
///
/// A test that says `USE other` changes its connection, and the server's own reset of a session
/// keeps that. Here each connection is put back as it is handed out, for the price of a round trip.
/// And a pool that was made for one worker's database, as one in a static is under a threaded
/// `cargo test`, fails when a test on another worker asks it:
///
/// ```no_run
/// use dagz_mysql::{Pool, RerouteExt, mysql_async::Opts};
///
/// # async fn pool(opts: Opts) -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::new(opts.reroute().await?);
/// let mut conn = pool.get_conn().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    inner: mysql_async::Pool,
    opts: Opts,
}

impl Pool {
    /// A pool for `opts`, which were rerouted.
    pub fn new(opts: impl Into<Opts>) -> Self {
        let opts = opts.into();
        Self {
            inner: mysql_async::Pool::new(opts.clone()),
            opts,
        }
    }

    /// The pool inside, for what takes that: its connections come unchecked, but are put back to
    /// the database when they are given back.
    pub fn inner(&self) -> &mysql_async::Pool {
        &self.inner
    }

    /// A connection to the database that the pool was made for.
    ///
    /// # Errors
    /// [`ErrorKind::ForeignWorker`] where that is another worker's, and what keeps it from being
    /// opened.
    pub async fn get_conn(&self) -> Result<Conn> {
        let database = route::database(&self.opts);
        self.is_ours(&database)?;
        let failed = |error| {
            let destination = Destination {
                endpoint: &route::shown(&self.opts),
                database: &database,
                user: self.opts.user().unwrap_or_default(),
            };
            error::connecting(destination, error)
        };
        let mut conn = self.inner.get_conn().await.map_err(failed)?;
        if !database.is_empty() {
            let back = format!("USE {}", sql::identifier(&database));
            conn.query_drop(back).await.map_err(failed)?;
        }
        Ok(conn)
    }

    /// Closes all connections; see `mysql_async::Pool::disconnect`.
    ///
    /// # Errors
    /// Those of a connection that cannot be closed in order.
    pub async fn disconnect(self) -> Result<()> {
        self.inner.disconnect().await.map_err(|error| {
            let message = format!("cannot close a pool of `{}`", route::database(&self.opts));
            error::statement(ErrorKind::Unreachable, message, error)
        })
    }

    fn is_ours(&self, database: &str) -> Result<()> {
        let (Some(driver), Some(scope)) = (DRIVER.get(), dagz_core::current()) else {
            return Ok(());
        };
        match driver.worker_of(database) {
            Some(owner) if owner != scope.worker() => Err(Error::new(
                ErrorKind::ForeignWorker,
                format!(
                    "the pool of database `{database}` was made by a test on worker {owner}, but `{}` runs on {}: make a pool per test, or run under nextest",
                    scope.test(),
                    scope.worker()
                ),
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("server", &route::shown(&self.opts))
            .field("database", &route::database(&self.opts))
            .finish_non_exhaustive()
    }
}

/// A pool of fresh connections, on the test's own runtime.
impl FromScope<Mysql> for Pool {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        Ok(Self::new(opts().await?))
    }
}
