//! deadpool-lapin: its `Config` rerouted, and a guard for pools that outlive a worker.
//!
//! [`RerouteExt`] for `deadpool_lapin::Config` changes its `url`. [`guard`] is for applications that keep one
//! pool in a static.

use dagz_core::{DbConfig as _, Result};
use deadpool_lapin::{Config, Hook, HookError};
use lapin::uri::AMQPUri;

use crate::{
    driver::DRIVER,
    route::{self, RerouteExt},
};

pub use deadpool_lapin;

/// What the library assumes where there is no `url`.
const DEFAULT: &str = "amqp://127.0.0.1:5672/%2f";

impl RerouteExt for Config {
    async fn reroute(&self) -> Result<Self> {
        let url = self.url.as_deref().unwrap_or(DEFAULT);
        Ok(with(self, route::reroute_url(url).await?))
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let url = self.url.as_deref().unwrap_or(DEFAULT);
        Ok(with(self, route::reroute_url_blocking(url)?))
    }
}

fn with(config: &Config, url: String) -> Config {
    let mut config = config.clone();
    config.url = Some(url);
    config
}

/// A hook that fails when a pool which was made for one worker's vhost hands a connection to a test on
/// another worker, as a pool in a static does under a threaded `cargo test`.
///
/// `uri` is what the pool was made from, after rerouting. Add it both as `pre_recycle` and as `post_create`:
///
/// ```no_run
/// use dagz_amqp::{RerouteExt, deadpool::guard};
/// use deadpool_lapin::{Config, Pool, Runtime};
/// use lapin::{ConnectionProperties, uri::AMQPUri};
///
/// # async fn pool(uri: AMQPUri) -> Result<Pool, Box<dyn std::error::Error>> {
/// let uri = uri.reroute().await?;
/// let config = Config { url: Some(uri.to_string()), ..Config::default() };
/// let pool = config
///     .builder(ConnectionProperties::default, Runtime::Tokio1)?
///     .pre_recycle(guard(&uri))
///     .post_create(guard(&uri))
///     .build()?;
/// # Ok(pool)
/// # }
/// ```
pub fn guard(uri: &AMQPUri) -> Hook {
    let vhost = uri.vhost.clone();
    Hook::sync_fn(move |_, _| {
        let (Some(driver), Some(scope)) = (DRIVER.get(), dagz_core::current()) else {
            return Ok(());
        };
        match driver.worker_of(&vhost) {
            Some(owner) if owner != scope.worker() => Err(HookError::message(format!(
                "the pool of vhost `{vhost}` was made by a test on worker {owner}, but `{}` runs on {}: make a pool per test, or run under nextest",
                scope.test(),
                scope.worker()
            ))),
            _ => Ok(()),
        }
    })
}
