//! The pool of database connections.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::{Config, NoTls};

/// Connections per service instance. Small, since the database's memory is shared by many instances.
const MAX_CONNECTIONS: usize = 4;

/// Longest wait for a connection, to be made or to become free.
const WAIT: Duration = Duration::from_secs(5);

/// Server-side limits: a request that waits longer for a lock, or runs longer, has failed anyway.
const SERVER_LIMITS: &str = "-c lock_timeout=3s -c statement_timeout=10s";

/// A pool over `config`, which opens no connection before one is needed.
///
/// Statement and lock time-outs are set on each connection unless `config` brings its own `options`.
///
/// # Panics
/// Never in practice: deadpool refuses only time-outs without a runtime, and one is given.
pub fn pool(mut config: Config) -> Pool {
    if config.get_options().is_none() {
        config.options(SERVER_LIMITS);
    }
    let manager_config = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(config, NoTls, manager_config);
    Pool::builder(manager)
        .max_size(MAX_CONNECTIONS)
        .timeouts(Timeouts {
            wait: Some(WAIT),
            create: Some(WAIT),
            recycle: Some(WAIT),
        })
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a runtime is given, so time-outs are allowed")
}
