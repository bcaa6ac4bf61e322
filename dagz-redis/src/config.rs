//! What the user configures: where the server is, which indices are used, how they are reset.
//!
//! [`Config`] is a builder; `driver.rs` turns one into the working [`Driver`](crate::Driver).

use std::{fmt, future::Future, sync::Arc, time::Duration};

use dagz_core::{
    Options, Result, Target,
    driver::{BoxError, Hook, PrepareWith},
};
use redis::ConnectionInfo;

use crate::{PrivateServers, map::IndexMap, route};

type Filter = Arc<dyn Fn(i64) -> bool + Send + Sync>;

/// How a worker's database is brought to its start state before a test's first access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepare {
    /// Not at all: what earlier tests wrote stays.
    None,
    /// Without any key.
    Flush,
    /// Exactly the keys that `worker_init` left, with the time that they had to live.
    ///
    /// This is the default, because it is right with seed keys as well as without, and costs the
    /// same as [`Flush`](Prepare::Flush) where there are none.
    #[default]
    Baseline,
}

/// The configuration of the Redis driver.
///
/// Holds the base database, which is also where the server and the credentials of dagz's own
/// connections come from, and what [`configure`](crate::configure) needs to know beside it.
#[derive(Clone)]
pub struct Config {
    pub(crate) base: ConnectionInfo,
    bases: Vec<i64>,
    first: Option<i64>,
    pub(crate) worker_init: Option<Hook<ConnectionInfo>>,
    pub(crate) prepare: PrepareWith<Prepare, ConnectionInfo>,
    pub(crate) reroute_if: Option<Filter>,
    pub(crate) options: Options,
    pub(crate) lock_timeout: Duration,
    pub(crate) private_servers: Option<PrivateServers>,
    pub(crate) blind: Option<&'static str>,
}

impl Config {
    /// A configuration for the base database that `url` names: `redis://`, `rediss://`, `unix://` with
    /// `?db=`, and the same with `valkey`. Without an index it is 0.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`](dagz_core::ErrorKind::Settings) where `url` cannot be used.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self::from_connection_info(route::parse(url)?))
    }

    /// A configuration for the base database that `info` names.
    pub fn from_connection_info(info: ConnectionInfo) -> Self {
        Self {
            bases: vec![info.redis_settings().db()],
            base: info,
            first: None,
            worker_init: None,
            prepare: PrepareWith::default(),
            reroute_if: None,
            options: Options::default(),
            lock_timeout: Duration::from_secs(2),
            private_servers: None,
            blind: None,
        }
    }

    /// All the indices that the application uses, in an order that stays; the one of the base database
    /// unless said otherwise.
    ///
    /// Worker *w* has, for the base at position *p* of *n*, the index `first_index + w * n + p`.
    #[must_use]
    pub fn bases(mut self, bases: impl IntoIterator<Item = i64>) -> Self {
        self.bases = bases.into_iter().collect();
        self
    }

    /// The first index of the first worker; the one after the highest base unless said otherwise.
    ///
    /// Give each of several projects that share a server its own.
    #[must_use]
    pub fn first_index(mut self, first: i64) -> Self {
        self.first = Some(first);
        self
    }

    /// How a worker's database is reset; [`Prepare::Baseline`] unless said otherwise.
    #[must_use]
    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = PrepareWith::Own(prepare);
        self
    }

    /// Resets a worker's database by a function, in place of dagz's own ways.
    ///
    /// It gets the database and the settings of a connection to it, and may call
    /// [`flush`](crate::flush) or [`baseline`](crate::baseline) for a part of the work. It runs on
    /// dagz's control runtime.
    #[must_use]
    pub fn prepare_with<F, Fut, E>(mut self, prepare: F) -> Self
    where
        F: Fn(Target, ConnectionInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.prepare = PrepareWith::Hook(Hook::prepare_with(prepare));
        self
    }

    /// Fills a worker's database by a function: what it leaves is the start state of
    /// [`Prepare::Baseline`].
    ///
    /// It gets the database and the settings of a connection to it, and finds it empty. It runs on
    /// dagz's control runtime, once per worker and job, and again where the server has lost its data
    /// meanwhile.
    #[must_use]
    pub fn worker_init<F, Fut, E>(mut self, init: F) -> Self
    where
        F: Fn(Target, ConnectionInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.worker_init = Some(Hook::worker_init(init));
        self
    }

    /// Reroutes only the indices for which `filter` says so.
    #[must_use]
    pub fn reroute_if(mut self, filter: impl Fn(i64) -> bool + Send + Sync + 'static) -> Self {
        self.reroute_if = Some(Arc::new(filter));
        self
    }

    /// Whether a run with one worker uses the base databases; `false` unless said otherwise.
    #[must_use]
    pub fn single_worker_disable(mut self, disable: bool) -> Self {
        self.options.single_worker_disable = disable;
        self
    }

    /// Whether tests with the mark `main_worker` use the base databases; `true` unless said
    /// otherwise.
    #[must_use]
    pub fn main_worker_bypass(mut self, bypass: bool) -> Self {
        self.options.main_worker_bypass = bypass;
        self
    }

    /// Whether opening a database outside any test is an error even when no test runs.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.options.strict = strict;
        self
    }

    /// How long a reset waits for another run that uses the database before it fails; 2 s unless said
    /// otherwise.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Gives each worker a server of its own, which dagz starts, in place of indices on the configured one.
    ///
    /// A test sees the base index on it, and may do to the whole server what it likes: functions, scripts,
    /// configuration, users, `FLUSHALL`. The configured server need not be there. A server ends with the
    /// process that started it; a child process of a test uses that of the test.
    #[must_use]
    pub fn private_servers(mut self, servers: PrivateServers) -> Self {
        self.private_servers = Some(servers);
        self
    }

    /// Switches one detection off, so that tests can see that something depends on it.
    #[doc(hidden)]
    #[must_use]
    pub fn blind_to(mut self, detection: &'static str) -> Self {
        self.blind = Some(detection);
        self
    }

    /// The declared indices, sound or not.
    pub(crate) fn declared(&self) -> &[i64] {
        &self.bases
    }

    /// Whether the user's filter lets `index` be rerouted.
    pub(crate) fn wants(&self, index: i64) -> bool {
        self.reroute_if.as_ref().is_none_or(|filter| filter(index))
    }

    /// Which index is whose.
    pub(crate) fn map(&self) -> Result<IndexMap> {
        IndexMap::new(&self.bases, self.first)
    }
}

/// Shows what is configured, without the password.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            // `redis::ConnectionInfo` hides the password itself.
            .field("base", &self.base)
            .field("bases", &self.bases)
            .field("first_index", &self.first)
            .field("worker_init", &self.worker_init.is_some())
            .field("prepare", &self.prepare)
            .field("reroute_if", &self.reroute_if.is_some())
            .field("lock_timeout", &self.lock_timeout)
            .field("private_servers", &self.private_servers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let config = Config::new("redis://app:hunter2@localhost/3").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("localhost") && shown.contains("Baseline"),
            "{shown}"
        );
    }

    #[test]
    fn the_index_of_the_address_is_a_base_unless_said_otherwise() {
        let config = Config::new("redis://localhost/3").unwrap();
        assert_eq!(config.map().unwrap().bases(), [3]);
        assert_eq!(config.bases([0, 1]).map().unwrap().bases(), [0, 1]);
    }
}
