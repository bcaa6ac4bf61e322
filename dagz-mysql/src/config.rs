//! What the user configures: where the server is, how a database is made, how it is reset.
//!
//! [`Config`] is a builder; `driver.rs` turns one into the working [`Driver`](crate::Driver).

use std::{fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use dagz_core::{
    Options, Result, Target,
    driver::{BoxError, Hook, Migrate, Migrations, PrepareWith},
};
use mysql_async::Opts;

use crate::route;

type Filter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Bookkeeping of the common migration tools: emptying it would make them migrate again.
const KEPT_TABLES: [&str; 5] = [
    "_sqlx_migrations",
    "__diesel_schema_migrations",
    "seaql_migrations",
    "refinery_schema_history",
    "schema_migrations",
];

/// How a worker's database is brought to its start state before a test's first access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepare {
    /// Not at all: what earlier tests wrote stays.
    None,
    /// Every table empty, every counter at its start; see [`Config::keep_tables`].
    Truncate,
    /// Exactly what migrations or `worker_init` left: rows, seed data and counters.
    ///
    /// This is the default, because it is right for a schema with seed rows as well as for one
    /// without, and costs the same as [`Truncate`](Prepare::Truncate) where there are none.
    #[default]
    Baseline,
}

/// Whether a reset sets the counters of `AUTO_INCREMENT` columns back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// Every test begins with the same next id. Only a statement that changes the table sets a
    /// counter back, which costs 2 to 3 ms for each table whose counter a test moved, and looking at
    /// the counters of 50 tables 1 ms; more on a busy disk.
    #[default]
    Restore,
    /// Counters go on from test to test, at no cost.
    Keep,
}

/// The configuration of the MySQL driver.
///
/// Holds the base database, which is also where the server and the credentials of dagz's own
/// connections come from, and what [`configure`](crate::configure) needs to know beside it.
#[derive(Clone)]
pub struct Config {
    pub(crate) base: Opts,
    pub(crate) migrations: Migrations<Opts>,
    pub(crate) worker_init: Option<Hook<Opts>>,
    pub(crate) prepare: PrepareWith<Prepare, Opts>,
    pub(crate) identity: Identity,
    pub(crate) reroute_if: Option<Filter>,
    pub(crate) options: Options,
    pub(crate) keep_tables: Vec<String>,
    pub(crate) leak_patience: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) hold: Duration,
    pub(crate) write_gate: bool,
    pub(crate) blind: Option<&'static str>,
}

impl Config {
    /// A configuration for the base database that `url` names, such as
    /// `mysql://app@localhost/shop`.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`](dagz_core::ErrorKind::Settings) where `url` cannot be parsed.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self::from_opts(route::parse(url)?))
    }

    /// A configuration for the base database that `opts` names.
    pub fn from_opts(opts: impl Into<Opts>) -> Self {
        Self {
            base: opts.into(),
            migrations: Migrations::default(),
            worker_init: None,
            prepare: PrepareWith::default(),
            identity: Identity::default(),
            reroute_if: None,
            options: Options::default(),
            keep_tables: KEPT_TABLES.map(str::to_owned).to_vec(),
            leak_patience: Duration::from_millis(250),
            lock_timeout: Duration::from_secs(5),
            hold: Duration::from_millis(20),
            write_gate: false,
            blind: None,
        }
    }

    /// Makes databases by the SQL files of a directory, once per fingerprint, into a template.
    ///
    /// Takes `*.sql` in the order of their names (leading numbers as numbers), `x.up.sql` without
    /// its `x.down.sql`, and `x/up.sql`. A relative path starts at `CARGO_MANIFEST_DIR`, else at
    /// the current directory. Each file is sent as one batch;
    /// `DELIMITER` is a word of the `mysql` shell and means nothing here.
    #[must_use]
    pub fn migrations(mut self, directory: impl Into<PathBuf>) -> Self {
        self.migrations.directory = Some(directory.into());
        self
    }

    /// Makes databases by a function, after [`migrations`](Self::migrations) if both are given.
    ///
    /// It gets the settings of a connection to the template that is being made. Its code cannot be
    /// fingerprinted, so change `tag` whenever what it does changes. It runs on dagz's control
    /// runtime: blocking code belongs into `spawn_blocking`.
    #[must_use]
    pub fn migrate_with<F, Fut, E>(mut self, tag: impl Into<String>, migrate: F) -> Self
    where
        F: Fn(Opts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.migrations.function = Some(Migrate::new(tag, migrate));
        self
    }

    /// How a worker's database is reset; [`Prepare::Baseline`] unless said otherwise.
    #[must_use]
    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = PrepareWith::Own(prepare);
        self
    }

    /// Whether counters are set back, too; [`Identity::Restore`] unless said otherwise.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Resets a worker's database by a function, in place of dagz's own ways.
    ///
    /// It gets the database and the settings of a connection to it, and may call
    /// [`truncate`](crate::truncate) or [`baseline`](crate::baseline) for a part of the work. It
    /// runs on dagz's control runtime.
    #[must_use]
    pub fn prepare_with<F, Fut, E>(mut self, prepare: F) -> Self
    where
        F: Fn(Target, Opts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.prepare = PrepareWith::Hook(Hook::prepare_with(prepare));
        self
    }

    /// Makes a worker's database by a function, in place of template and clone.
    ///
    /// It gets the database and the settings of a connection to it, finds no such database
    /// of dagz's own making, creates it, and calls [`adopt`](crate::adopt). It runs on dagz's
    /// control runtime, once per worker and job, and again after a test has changed the schema.
    #[must_use]
    pub fn worker_init<F, Fut, E>(mut self, init: F) -> Self
    where
        F: Fn(Target, Opts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.worker_init = Some(Hook::worker_init(init));
        self
    }

    /// Reroutes only the databases for which `filter` says so.
    #[must_use]
    pub fn reroute_if(mut self, filter: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
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

    /// The tables that [`Prepare::Truncate`] never empties.
    ///
    /// Replaces the default: the bookkeeping tables of sqlx, diesel, sea-orm, refinery and the
    /// `schema_migrations` that many tools share.
    #[must_use]
    pub fn keep_tables<N: Into<String>>(mut self, tables: impl IntoIterator<Item = N>) -> Self {
        self.keep_tables = tables.into_iter().map(Into::into).collect();
        self
    }

    /// How long a transaction that an earlier test left open may take to end by itself; 250 ms
    /// unless said otherwise. After that its session is named and ended.
    #[must_use]
    pub fn leak_patience(mut self, patience: Duration) -> Self {
        self.leak_patience = patience;
        self
    }

    /// How long a reset waits for a lock before it fails; 5 s unless said otherwise.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long, after a test has ended, its worker's database is kept as it was found then, for the next test on this
    /// worker, which then need not look again; others who want to use it meanwhile wait. 20 ms unless set, zero for not
    /// at all.
    #[must_use]
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// Whether workers' databases get triggers by which one lock keeps everybody from writing to any InnoDB table;
    /// `false` unless said otherwise.
    ///
    /// What is [held](Self::hold) between two tests is that one lock then, in the place of one for each table: to undo what
    /// a test left takes as long with a thousand tables as with ten. For that a test's own writes take longer, by up to a quarter
    /// for a few rows, and to make a database takes 4 to 8 ms more for each table. It pays where there are hundreds of
    /// them. The triggers do nothing; `SHOW TRIGGERS` lists them as `dagz_gate_…`, and a table that has some cannot be
    /// renamed into another database.
    #[must_use]
    pub fn write_gate(mut self, gate: bool) -> Self {
        self.write_gate = gate;
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
            // Only these: `Opts` shows its password.
            .field("server", &route::shown(&self.base))
            .field("base", &route::database(&self.base))
            .field("user", &self.base.user())
            .field("migrations", &self.migrations.directory)
            .field("migrate_with", &self.migrations.function)
            .field("worker_init", &self.worker_init.is_some())
            .field("prepare", &self.prepare)
            .field("identity", &self.identity)
            .field("reroute_if", &self.reroute_if.is_some())
            .field("keep_tables", &self.keep_tables)
            .field("leak_patience", &self.leak_patience)
            .field("lock_timeout", &self.lock_timeout)
            .field("write_gate", &self.write_gate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use dagz_core::ErrorKind;

    use super::*;

    #[test]
    fn bad_strings_are_named_without_their_password() {
        for (text, expected) in [
            (
                "postgres://app:hunter2@localhost/shop",
                "scheme `postgres` is not `mysql`",
            ),
            ("mysql://app:hunter2@localhost:x/shop", "no URL"),
            (
                "mysql://app:hunter2@localhost/shop?colour=red",
                "unknown parameter `colour`",
            ),
            (
                "mysql://app:hunter2@localhost/shop?tcp_nodelay=hunter2",
                "the value of `tcp_nodelay`",
            ),
            ("app:hunter2@localhost/shop", "is not `mysql`"),
            ("", "no URL"),
        ] {
            let error = Config::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings, "{text}");
            let report = error.report().to_string();
            assert!(report.contains(expected), "{text}: {report}");
            assert!(!report.contains("hunter2"), "{report}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let config = Config::new("mysql://app:hunter2@localhost/shop").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("shop") && shown.contains("Baseline"),
            "{shown}"
        );
    }
}
