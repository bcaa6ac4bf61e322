//! What the user configures: where the broker is, how a worker's vhost is made and reset.
//!
//! [`Config`] is a builder; `driver.rs` turns one into the working [`Driver`](crate::Driver).

use std::{fmt, future::Future, sync::Arc, time::Duration};

use dagz_core::{
    Options, Result, Target,
    driver::{BoxError, Hook, PrepareWith},
};
use lapin::uri::AMQPUri;

use crate::{management::Address, route};

type Filter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// How a worker's vhost is brought to its start state before a test's first access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepare {
    /// Not at all: what earlier tests declared and published stays. Their connections end.
    None,
    /// Exactly the queues, exchanges, bindings and policies it was made with, and no message.
    #[default]
    Reset,
}

/// The configuration of the RabbitMQ driver.
///
/// Holds the base vhost, which is also where the broker and the credentials of dagz's own connections
/// come from, and what [`configure`](crate::configure) needs to know beside it.
#[derive(Clone)]
pub struct Config {
    pub(crate) base: AMQPUri,
    management: Address,
    pub(crate) worker_init: Option<Hook<AMQPUri>>,
    pub(crate) prepare: PrepareWith<Prepare, AMQPUri>,
    reroute_if: Option<Filter>,
    pub(crate) options: Options,
    pub(crate) lock_timeout: Duration,
    pub(crate) blind: Option<&'static str>,
}

impl Config {
    /// A configuration for the base vhost that `url` names, as lapin reads it: without a path it is `/`.
    ///
    /// The management API is assumed at the same host, port 15672, for the same user.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`](dagz_core::ErrorKind::Settings) where `url` cannot be used.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self::from_uri(route::parse(url)?))
    }

    /// A configuration for the base vhost that `uri` names.
    pub fn from_uri(uri: AMQPUri) -> Self {
        let login = &uri.authority.userinfo;
        Self {
            management: Address::usual(&uri.authority.host, &login.username, &login.password),
            base: uri,
            worker_init: None,
            prepare: PrepareWith::default(),
            reroute_if: None,
            options: Options::default(),
            lock_timeout: Duration::from_secs(2),
            blind: None,
        }
    }

    /// Where the management API is, and who asks it: `http://user:password@host:15672`.
    ///
    /// The user, that of the base vhost unless given here, must have the tag `administrator`; dagz's own
    /// connections log in as this user, too.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`](dagz_core::ErrorKind::Settings) where `url` cannot be used.
    pub fn management(mut self, url: &str) -> Result<Self> {
        self.management = Address::parse(url, &self.management)?;
        Ok(self)
    }

    /// How a worker's vhost is reset; [`Prepare::Reset`] unless said otherwise.
    #[must_use]
    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = PrepareWith::Own(prepare);
        self
    }

    /// Resets a worker's vhost by a function, in place of dagz's own ways.
    ///
    /// It gets the vhost and the address of it, with which the test will log in, and may call
    /// [`reset`](crate::reset()) for a part of the work. It runs on dagz's control runtime.
    #[must_use]
    pub fn prepare_with<F, Fut, E>(mut self, prepare: F) -> Self
    where
        F: Fn(Target, AMQPUri) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.prepare = PrepareWith::Hook(Hook::prepare_with(prepare));
        self
    }

    /// Declares what is in a worker's vhost by a function, in place of a copy of the base vhost's
    /// definitions.
    ///
    /// It gets the vhost, empty, and the address of it, and runs on dagz's control runtime once per worker
    /// and job. What it declares is the start state; messages are not, and are an error.
    #[must_use]
    pub fn worker_init<F, Fut, E>(mut self, init: F) -> Self
    where
        F: Fn(Target, AMQPUri) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.worker_init = Some(Hook::worker_init(init));
        self
    }

    /// Reroutes only the vhosts for which `filter` says so.
    #[must_use]
    pub fn reroute_if(mut self, filter: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.reroute_if = Some(Arc::new(filter));
        self
    }

    /// Whether a run with one worker uses the base vhosts; `false` unless said otherwise.
    #[must_use]
    pub fn single_worker_disable(mut self, disable: bool) -> Self {
        self.options.single_worker_disable = disable;
        self
    }

    /// Whether tests with the mark `main_worker` use the base vhosts; `true` unless said otherwise.
    #[must_use]
    pub fn main_worker_bypass(mut self, bypass: bool) -> Self {
        self.options.main_worker_bypass = bypass;
        self
    }

    /// Whether opening a vhost outside any test is an error even when no test runs.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.options.strict = strict;
        self
    }

    /// How long a reset waits for another run that uses the vhost before it fails; 2 s unless said
    /// otherwise.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Switches one detection off, so that tests can see that something depends on it.
    #[doc(hidden)]
    #[must_use]
    pub fn blind_to(mut self, detection: &'static str) -> Self {
        self.blind = Some(detection);
        self
    }

    /// Whether the user's filter lets `vhost` be rerouted.
    pub(crate) fn wants(&self, vhost: &str) -> bool {
        self.reroute_if.as_ref().is_none_or(|filter| filter(vhost))
    }

    /// Where the management API of the configured broker is.
    pub(crate) fn management_address(&self) -> &Address {
        &self.management
    }
}

/// Shows what is configured, without passwords.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("at", &route::endpoint(&self.base).id())
            .field("vhost", &self.base.vhost)
            .field("user", &self.base.authority.userinfo.username)
            .field("management", &self.management)
            .field("worker_init", &self.worker_init.is_some())
            .field("prepare", &self.prepare)
            .field("reroute_if", &self.reroute_if.is_some())
            .field("lock_timeout", &self.lock_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_passwords() {
        let config = Config::new("amqp://app:hunter2@localhost/orders").unwrap();
        let config = config.management("http://root:hunter3@localhost").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter"), "{shown}");
        for told in ["localhost:5672", "orders", "app", "root", "15672", "Reset"] {
            assert!(shown.contains(told), "{shown}");
        }
    }
}
