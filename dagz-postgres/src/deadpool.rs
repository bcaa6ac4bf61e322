//! deadpool-postgres: its `Config` rerouted, and a guard for pools that outlive a worker.
//!
//! [`RerouteExt`] for `deadpool_postgres::Config` edits the one place that counts, `dbname`.
//! [`guard`] is for applications that keep one pool in a static.

use dagz_core::{Error, ErrorKind, Result, Route};
use deadpool_postgres::{Hook, HookError};

use crate::{
    driver::{self, DRIVER},
    route::{self, RerouteExt},
};

pub use deadpool_postgres;

impl RerouteExt for deadpool_postgres::Config {
    async fn reroute(&self) -> Result<Self> {
        let native = native(self)?;
        let route = dagz_core::resolve(driver::NAME, route::access(&native)).await?;
        Ok(rerouted(self, &native, &route))
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let native = native(self)?;
        let route = dagz_core::resolve_blocking(driver::NAME, route::access(&native))?;
        Ok(rerouted(self, &native, &route))
    }
}

fn native(config: &deadpool_postgres::Config) -> Result<tokio_postgres::Config> {
    config.get_pg_config().map_err(|error| {
        // An invalid URL may be part of the native error's text, and with it a password.
        let message = match error {
            deadpool_postgres::ConfigError::InvalidUrl(_) => {
                "the `url` of the deadpool configuration is not a Postgres connection string"
            }
            deadpool_postgres::ConfigError::DbnameMissing
            | deadpool_postgres::ConfigError::DbnameEmpty => {
                "the deadpool configuration names no database: set `dbname`"
            }
        };
        Error::new(ErrorKind::Settings, message)
    })
}

fn rerouted(
    config: &deadpool_postgres::Config,
    native: &tokio_postgres::Config,
    route: &Route,
) -> deadpool_postgres::Config {
    let mut config = config.clone();
    if let Some(target) = route.target() {
        // `dbname` and `application_name` win over the URL.
        config.dbname = Some(route.name().to_owned());
        if native.get_application_name().is_none() {
            config.application_name = Some(route::application_name(target));
        }
    }
    config
}

/// A hook that fails when a pool which was made for one worker's database hands a connection to a
/// test on another worker, as a pool in a static does under a threaded `cargo test`.
///
/// `config` is what the pool was made from, after rerouting. Add it both as `pre_recycle` and as
/// `post_create`:
///
/// ```no_run
/// use dagz_postgres::{RerouteExt, deadpool::guard};
/// use deadpool_postgres::{Manager, Pool};
/// use tokio_postgres::NoTls;
///
/// # async fn pool(config: tokio_postgres::Config) -> Result<Pool, Box<dyn std::error::Error>> {
/// let config = config.reroute().await?;
/// let pool = Pool::builder(Manager::new(config.clone(), NoTls))
///     .pre_recycle(guard(&config))
///     .post_create(guard(&config))
///     .build()?;
/// # Ok(pool)
/// # }
/// ```
pub fn guard(config: &tokio_postgres::Config) -> Hook {
    let database = route::database(config);
    Hook::sync_fn(move |_, _| {
        let (Some(driver), Some(scope)) = (DRIVER.get(), dagz_core::current()) else {
            return Ok(());
        };
        match dagz_core::DbConfig::worker_of(driver, &database) {
            Some(owner) if owner != scope.worker() => Err(HookError::message(format!(
                "the pool of database `{database}` was made by a test on worker {owner}, but `{}` runs on {}: make a pool per test, or run under nextest",
                scope.test(),
                scope.worker()
            ))),
            _ => Ok(()),
        }
    })
}
