//! deadpool-redis: its `Config` rerouted, and a guard for pools that outlive a worker.
//!
//! [`RerouteExt`] for `deadpool_redis::Config` keeps its own form: a URL stays a URL, a structure a
//! structure. [`guard`] is for applications that keep one pool in a static.

use dagz_core::{Error, ErrorKind, Result};
use deadpool_redis::{Hook, HookError};
use redis::ConnectionInfo;

use crate::{
    driver::{self, DRIVER},
    route::{self, RerouteExt},
};

pub use deadpool_redis;

impl RerouteExt for deadpool_redis::Config {
    async fn reroute(&self) -> Result<Self> {
        let native = native(self)?;
        let route = dagz_core::resolve(driver::NAME, route::access(&native)).await?;
        rerouted(self, &native, &route)
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let native = native(self)?;
        let route = dagz_core::resolve_blocking(driver::NAME, route::access(&native))?;
        rerouted(self, &native, &route)
    }
}

fn native(config: &deadpool_redis::Config) -> Result<ConnectionInfo> {
    match (&config.url, &config.connection) {
        (Some(url), None) => route::parse(url),
        (None, Some(connection)) => route::native(connection.clone()),
        (None, None) => route::native(deadpool_redis::ConnectionInfo::default()),
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Settings,
            "the deadpool configuration has both a `url` and a `connection`: give one of them",
        )),
    }
}

fn rerouted(
    config: &deadpool_redis::Config,
    native: &ConnectionInfo,
    route: &dagz_core::Route,
) -> Result<deadpool_redis::Config> {
    let mut config = config.clone();
    match &config.url {
        Some(url) => config.url = Some(route::rerouted_text(url, route)?),
        None => config.connection = Some(route::rerouted(native, route)?.into()),
    }
    Ok(config)
}

/// A hook that fails when a pool which was made for one worker's database hands a connection to a
/// test on another worker, as a pool in a static does under a threaded `cargo test`.
///
/// `info` is what the pool was made from, after rerouting. Add it both as `pre_recycle` and as
/// `post_create`:
///
/// ```no_run
/// use dagz_redis::{RerouteExt, deadpool::guard};
/// use deadpool_redis::{Manager, Pool};
///
/// # async fn pool(info: redis::ConnectionInfo) -> Result<Pool, Box<dyn std::error::Error>> {
/// let info = info.reroute().await?;
/// let pool = Pool::builder(Manager::new(info.clone())?)
///     .pre_recycle(guard(&info))
///     .post_create(guard(&info))
///     .build()?;
/// # Ok(pool)
/// # }
/// ```
pub fn guard(info: &ConnectionInfo) -> Hook {
    let access = route::access(info);
    Hook::sync_fn(move |_, _| {
        let (Some(driver), Some(scope)) = (DRIVER.get(), dagz_core::current()) else {
            return Ok(());
        };
        match dagz_core::DbConfig::worker_of(driver, &access.name) {
            Some(owner) if owner != scope.worker() => Err(HookError::message(format!(
                "the pool of database `{}` was made by a test on worker {owner}, but `{}` runs on {}: make a pool per test, or run under nextest",
                access.name,
                scope.test(),
                scope.worker()
            ))),
            _ => Ok(()),
        }
    })
}
