//! What the user configures: where the server is, how a database is made, how it is reset.
//!
//! [`Config`] is a builder; `driver.rs` turns one into the working [`Driver`](crate::Driver).

use std::{error::Error as _, fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use dagz_core::{
    Error, ErrorKind, Options, Result, Target,
    driver::{BoxError, Hook, Migrate, Migrations, PrepareWith},
};

use crate::{provision, reset::WriteLog, route};

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
    /// Every table empty, every sequence at its start; see [`Config::keep_tables`].
    Truncate,
    /// Exactly what migrations or `worker_init` left: rows, seed data and sequences.
    ///
    /// This is the default, because it is right for a schema with seed rows as well as for one
    /// without, and costs the same as [`Truncate`](Prepare::Truncate) where there are none.
    #[default]
    Baseline,
}

/// The configuration of the Postgres driver.
///
/// Holds the base database, which is also where the server and the credentials of dagz's own
/// connections come from, and what [`configure`](crate::configure) needs to know beside it.
#[derive(Clone)]
pub struct Config {
    pub(crate) base: tokio_postgres::Config,
    pub(crate) migrations: Migrations<tokio_postgres::Config>,
    pub(crate) worker_init: Option<Hook<tokio_postgres::Config>>,
    pub(crate) prepare: PrepareWith<Prepare, tokio_postgres::Config>,
    pub(crate) reroute_if: Option<Filter>,
    pub(crate) options: Options,
    pub(crate) keep_tables: Vec<String>,
    pub(crate) leak_patience: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) write_log: WriteLog,
}

impl Config {
    /// A configuration for the base database that `url` names, as a URL or as key/value pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] where `url` cannot be parsed or names no host.
    pub fn new(url: &str) -> Result<Self> {
        let config = route::parse(url)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::new(
                ErrorKind::Settings,
                "the Postgres connection names no host: write `postgres://user@localhost/name`, or `host=/run/postgresql` for a socket",
            ));
        }
        Ok(Self::from_config(config))
    }

    /// A configuration for the base database that `config` names.
    pub fn from_config(config: tokio_postgres::Config) -> Self {
        Self {
            base: config,
            migrations: Migrations::default(),
            worker_init: None,
            prepare: PrepareWith::default(),
            reroute_if: None,
            options: Options::default(),
            keep_tables: KEPT_TABLES.map(str::to_owned).to_vec(),
            leak_patience: Duration::from_millis(250),
            lock_timeout: Duration::from_secs(5),
            write_log: WriteLog::default(),
        }
    }

    /// Makes databases by the SQL files of a directory, once per fingerprint, into a template.
    ///
    /// Takes `*.sql` in the order of their names (leading numbers as numbers), `x.up.sql` without
    /// its `x.down.sql`, and `x/up.sql`. A relative path starts at `CARGO_MANIFEST_DIR`, else at
    /// the current directory. Each file is sent as one batch.
    #[must_use]
    pub fn migrations(mut self, directory: impl Into<PathBuf>) -> Self {
        self.migrations.directory = Some(directory.into());
        self
    }

    /// Makes databases by a function, after [`migrations`](Self::migrations) if both are given.
    ///
    /// It gets the configuration of the template that is being made. Its code cannot be
    /// fingerprinted, so change `tag` whenever what it does changes. It runs on dagz's control
    /// runtime: blocking code belongs into `spawn_blocking`.
    #[must_use]
    pub fn migrate_with<F, Fut, E>(mut self, tag: impl Into<String>, migrate: F) -> Self
    where
        F: Fn(tokio_postgres::Config) -> Fut + Send + Sync + 'static,
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

    /// Resets a worker's database by a function, in place of dagz's own ways.
    ///
    /// It gets the database and the configuration of a connection to it, and may call
    /// [`truncate`](crate::truncate) or [`baseline`](crate::baseline) for a part of the work. It
    /// runs on dagz's control runtime.
    #[must_use]
    pub fn prepare_with<F, Fut, E>(mut self, prepare: F) -> Self
    where
        F: Fn(Target, tokio_postgres::Config) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.prepare = PrepareWith::Hook(Hook::prepare_with(prepare));
        self
    }

    /// Makes a worker's database by a function, in place of template and clone.
    ///
    /// It gets the database and the configuration of a connection to it, finds no such database
    /// of dagz's own making, creates it, and calls [`adopt`](crate::adopt). It runs on dagz's
    /// control runtime, once per worker and job, and again after a test has changed the schema.
    #[must_use]
    pub fn worker_init<F, Fut, E>(mut self, init: F) -> Self
    where
        F: Fn(Target, tokio_postgres::Config) -> Fut + Send + Sync + 'static,
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

    /// The tables that [`Prepare::Truncate`] never empties, as `table` or `schema.table`.
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

    /// The most that a reset waits for a lock on a table; 5 s unless said otherwise.
    ///
    /// To look, and to read the log of writes and undo what that tells, it waits no longer than
    /// [`leak_patience`](Self::leak_patience), either. Then it ends what earlier tests left, and tries again, some times;
    /// at last the database is made anew.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Whether a trigger on each table notes which tables a test wrote to, so that a reset need not
    /// look into all of them; `true` unless said otherwise. Needs a superuser; without one, it is as
    /// if it were off.
    #[must_use]
    pub fn write_log(mut self, on: bool) -> Self {
        self.write_log.is_on = on;
        self
    }

    /// The tables that get no such trigger, as `table` or `schema.table`, with their partitions and other
    /// descendants: each reset looks into them. For tables that are written to so often, by small statements, that the trigger shows.
    #[must_use]
    pub fn write_log_except<N: Into<String>>(
        mut self,
        tables: impl IntoIterator<Item = N>,
    ) -> Self {
        self.write_log.except = tables.into_iter().map(Into::into).collect();
        self
    }

    /// Switches one detection off, so that tests can see that something depends on it.
    #[doc(hidden)]
    #[must_use]
    pub fn blind_to(mut self, detection: &'static str) -> Self {
        self.write_log.blind = Some(detection);
        self
    }

    /// What a template depends on beside the migrations.
    pub(crate) fn format(&self) -> String {
        format!("{}{}", provision::FORMAT, self.write_log.fingerprint())
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
            // `tokio_postgres::Config` hides the password itself.
            .field("base", &self.base)
            .field("migrations", &self.migrations.directory)
            .field("migrate_with", &self.migrations.function)
            .field("worker_init", &self.worker_init.is_some())
            .field("prepare", &self.prepare)
            .field("reroute_if", &self.reroute_if.is_some())
            .field("keep_tables", &self.keep_tables)
            .field("leak_patience", &self.leak_patience)
            .field("lock_timeout", &self.lock_timeout)
            .field("write_log", &self.write_log)
            .finish_non_exhaustive()
    }
}

/// Why `text` is not a connection string, in words that cannot repeat a password of it.
pub(crate) fn unusable(text: &str, error: &tokio_postgres::Error) -> Error {
    let why = match text.split_once("://") {
        Some((scheme, _))
            if !matches!(scheme, "postgres" | "postgresql")
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            format!("scheme `{scheme}` is not `postgres`")
        }
        _ => error
            .source()
            .map(ToString::to_string)
            .filter(|cause| is_harmless(cause))
            .unwrap_or_else(|| {
                "it is neither a `postgres://` URL nor `key=value` pairs".to_owned()
            }),
    };
    Error::new(
        ErrorKind::Settings,
        format!("the Postgres connection string cannot be used: {why}"),
    )
}

/// Whether a parser's complaint names nothing but one of the documented options.
///
/// In a mistyped string anything may end up where an option's name is expected, so only what
/// looks like one is repeated.
fn is_harmless(cause: &str) -> bool {
    ["unknown option `", "invalid value for option `"]
        .iter()
        .any(|start| {
            cause
                .strip_prefix(start)
                .and_then(|rest| rest.strip_suffix('`'))
                .is_some_and(|name| {
                    name.len() <= 32 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_strings_are_named_without_their_password() {
        for (text, expected) in [
            (
                "mysql://app:hunter2@localhost/shop",
                "scheme `mysql` is not `postgres`",
            ),
            (
                "postgres://app:hunter2@localhost:x/shop",
                "invalid value for option `port`",
            ),
            (
                "postgres://app:hunter2@localhost/shop?colour=red",
                "unknown option `colour`",
            ),
            ("app:hunter2=1@localhost/shop?x=1", "it is neither"),
            ("postgres://app:hunter2@/shop", "names no host"),
            ("host", "it is neither"),
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
        let config = Config::new("postgres://app:hunter2@localhost/shop").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("shop") && shown.contains("Baseline"),
            "{shown}"
        );
    }
}
