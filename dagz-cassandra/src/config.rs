//! What the user configures: where the cluster is, how a keyspace is made, how it is reset.
//!
//! [`Config`] is a builder; `driver.rs` turns one into the working [`Driver`](crate::Driver).

use std::{fmt, future::Future, path::PathBuf, sync::Arc};

use dagz_core::{
    Error, ErrorKind, Options, Result, Target,
    driver::{BoxError, Hook, Migrate, Migrations, PrepareWith},
};
use scylla::client::{session::Session, session_builder::SessionBuilder};

use crate::{route, source::Source};

type Filter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Bookkeeping of the common migration tools: emptying it would make them migrate again.
const KEPT_TABLES: [&str; 3] = [
    "cassandra_migration_version",
    "schema_migration",
    "schema_migrations",
];

/// How a worker's keyspace is brought to its start state before a test's first access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepare {
    /// Not at all: what earlier tests wrote stays.
    None,
    /// Every table empty; see [`Config::keep_tables`].
    Truncate,
    /// Exactly the rows that migrations or `worker_init` left.
    ///
    /// This is the default, because it is right for a schema with seed rows as well as for one
    /// without, and costs the same as [`Truncate`](Prepare::Truncate) where there are none.
    #[default]
    Baseline,
}

/// The configuration of the Cassandra driver.
///
/// Holds the base keyspace, which is also where the cluster and the credentials of dagz's own
/// sessions come from, and what [`configure`](crate::configure) needs to know beside it.
#[derive(Clone)]
pub struct Config {
    pub(crate) base: Source,
    pub(crate) migrations: Migrations<Arc<Session>>,
    pub(crate) template: Option<String>,
    pub(crate) replication: Option<String>,
    pub(crate) worker_init: Option<Hook<Arc<Session>>>,
    pub(crate) prepare: PrepareWith<Prepare, Arc<Session>>,
    pub(crate) reroute_if: Option<Filter>,
    pub(crate) options: Options,
    pub(crate) keep_tables: Vec<String>,
    pub(crate) fetch_schema: bool,
    pub(crate) blind: Option<&'static str>,
}

impl Config {
    /// A configuration for the base keyspace that `url` names, such as
    /// `cassandra://app:secret@localhost:9042/shop`. Several contact points are separated by commas;
    /// user, password and keyspace are percent-decoded; `?case_sensitive=true` keeps capitals in the
    /// keyspace's name, which are small letters otherwise, as in CQL.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] where `url` cannot be parsed or names no keyspace.
    pub fn new(url: &str) -> Result<Self> {
        Self::from_source(route::parse(url)?)
    }

    /// A configuration for the base keyspace that `builder` uses. Contact points, credentials, TLS and
    /// whatever else is set there hold for dagz's sessions, too; the pool's size and what is fetched of
    /// the schema do not: both are kept small.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] where `builder` uses no keyspace.
    pub fn from_builder(builder: SessionBuilder) -> Result<Self> {
        Self::from_source(Source::from_builder(builder))
    }

    /// A configuration for the whole cluster that `url` leads to, which need not name a keyspace: for
    /// [`databases`](crate::databases), [`remove`](crate::remove) and [`doctor`](crate::doctor()), and not for
    /// tests, whose base keyspace it does not know.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] where `url` cannot be parsed.
    pub fn of_cluster(url: &str) -> Result<Self> {
        Ok(Self::around(route::parse(url)?))
    }

    fn from_source(base: Source) -> Result<Self> {
        if base.keyspace().is_empty() {
            return Err(Error::new(
                ErrorKind::Settings,
                "no keyspace is named: say which one the application uses, as in `cassandra://localhost/shop` or by `SessionBuilder::use_keyspace`; dagz reroutes keyspaces, and a session without one reaches what its statements name",
            ));
        }
        Ok(Self::around(base))
    }

    fn around(base: Source) -> Self {
        Self {
            base,
            migrations: Migrations::of_files("cql"),
            template: None,
            replication: None,
            worker_init: None,
            prepare: PrepareWith::default(),
            reroute_if: None,
            options: Options::default(),
            keep_tables: KEPT_TABLES.map(str::to_owned).to_vec(),
            fetch_schema: false,
            blind: None,
        }
    }

    /// Makes keyspaces by the CQL files of a directory.
    ///
    /// Takes `*.cql` in the order of their names (leading numbers as numbers), `x.up.cql` without
    /// its `x.down.cql`, and `x/up.cql`. A relative path starts at `CARGO_MANIFEST_DIR`, else at
    /// the current directory. Names in them are unqualified: `USE` and statements that make or drop a
    /// keyspace are refused, since they would leave the worker's.
    #[must_use]
    pub fn migrations(mut self, directory: impl Into<PathBuf>) -> Self {
        self.migrations.directory = Some(directory.into());
        self
    }

    /// Fills keyspaces by a function: after [`migrations`](Self::migrations) if there are some, or
    /// after the copy of a [`template`](Self::template) if one is named, else in an empty keyspace.
    ///
    /// It gets a session in the keyspace that is being made. Its code cannot be fingerprinted, so
    /// change `tag` whenever what it does changes. It runs on dagz's control runtime, once per worker.
    #[must_use]
    pub fn migrate_with<F, Fut, E>(mut self, tag: impl Into<String>, migrate: F) -> Self
    where
        F: Fn(Arc<Session>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.migrations.function = Some(Migrate::new(tag, migrate));
        self
    }

    /// Copies the schema of `keyspace`, as the server spells its name, in place of the base keyspace's.
    #[must_use]
    pub fn template(mut self, keyspace: impl Into<String>) -> Self {
        self.template = Some(keyspace.into());
        self
    }

    /// The replication of workers' keyspaces, a map of CQL; unless said otherwise that of what is
    /// copied, or `{'class': 'SimpleStrategy', 'replication_factor': 1}` where nothing is.
    #[must_use]
    pub fn replication(mut self, replication: impl Into<String>) -> Self {
        self.replication = Some(replication.into());
        self
    }

    /// How a worker's keyspace is reset; [`Prepare::Baseline`] unless said otherwise.
    #[must_use]
    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = PrepareWith::Own(prepare);
        self
    }

    /// Resets a worker's keyspace by a function, in place of dagz's own ways.
    ///
    /// It gets the keyspace and a session in it, and may call [`truncate`](crate::truncate),
    /// [`baseline`](crate::baseline) or [`truncate_session`](crate::truncate_session) for a part of
    /// the work. It runs on dagz's control runtime.
    #[must_use]
    pub fn prepare_with<F, Fut, E>(mut self, prepare: F) -> Self
    where
        F: Fn(Target, Arc<Session>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.prepare = PrepareWith::Hook(Hook::prepare_with(prepare));
        self
    }

    /// Makes a worker's keyspace by a function, in place of dagz's own ways.
    ///
    /// It gets the keyspace and a session that is in none, finds no such keyspace of dagz's own
    /// making, creates it, and calls [`adopt`](crate::adopt). It runs on dagz's control runtime, once
    /// per worker and job, and again after a test has changed the schema.
    #[must_use]
    pub fn worker_init<F, Fut, E>(mut self, init: F) -> Self
    where
        F: Fn(Target, Arc<Session>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.worker_init = Some(Hook::worker_init(init));
        self
    }

    /// Reroutes only the keyspaces for which `filter` says so.
    #[must_use]
    pub fn reroute_if(mut self, filter: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.reroute_if = Some(Arc::new(filter));
        self
    }

    /// Whether a run with one worker uses the base keyspaces; `false` unless said otherwise.
    #[must_use]
    pub fn single_worker_disable(mut self, disable: bool) -> Self {
        self.options.single_worker_disable = disable;
        self
    }

    /// Whether tests with the mark `main_worker` use the base keyspaces; `true` unless said
    /// otherwise.
    #[must_use]
    pub fn main_worker_bypass(mut self, bypass: bool) -> Self {
        self.options.main_worker_bypass = bypass;
        self
    }

    /// Whether opening a keyspace outside any test is an error even when no test runs.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.options.strict = strict;
        self
    }

    /// The tables that a reset never touches.
    ///
    /// Replaces the default: the bookkeeping tables that migration tools for Cassandra use.
    #[must_use]
    pub fn keep_tables<N: Into<String>>(mut self, tables: impl IntoIterator<Item = N>) -> Self {
        self.keep_tables = tables.into_iter().map(Into::into).collect();
        self
    }

    /// Whether sessions that dagz keeps know the schema of their keyspace
    /// (`Session::get_cluster_state`); `false` unless said otherwise, since fetching it makes each
    /// opening slower.
    #[must_use]
    pub fn fetch_schema(mut self, fetch: bool) -> Self {
        self.fetch_schema = fetch;
        self
    }

    /// Switches one detection off, so that tests can see that something depends on it.
    #[doc(hidden)]
    #[must_use]
    pub fn blind_to(mut self, detection: &'static str) -> Self {
        self.blind = Some(detection);
        self
    }

    /// Whether the user's filter lets `name` be rerouted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.reroute_if.as_ref().is_none_or(|filter| filter(name))
    }
}

/// Shows what is configured, without the password.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("base", &self.base)
            .field("migrations", &self.migrations.directory)
            .field("migrate_with", &self.migrations.function)
            .field("template", &self.template)
            .field("replication", &self.replication)
            .field("worker_init", &self.worker_init.is_some())
            .field("prepare", &self.prepare)
            .field("reroute_if", &self.reroute_if.is_some())
            .field("keep_tables", &self.keep_tables)
            .field("fetch_schema", &self.fetch_schema)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_strings_are_named_without_their_password() {
        for (text, expected) in [
            ("postgres://app:hunter2@localhost/shop", "scheme `postgres`"),
            ("cassandra://app:hunter2@localhost:x/shop", "port"),
            ("cassandra://app:hunter2@localhost", "no keyspace is named"),
            (
                "cassandra://app:hunter2@localhost/shop?colour=hunter2",
                "unknown parameter `colour`",
            ),
            ("cassandra://app:hunter2@/shop", "no host"),
            ("hunter2", "no URL"),
        ] {
            let error = Config::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings, "{text}");
            let said = error.report().to_string();
            assert!(said.contains(expected), "{text}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let config = Config::new("cassandra://app:hunter2@localhost/Shop").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("localhost:9042") && shown.contains("shop"),
            "{shown}"
        );
    }
}
