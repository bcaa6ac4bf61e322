//! One server: how dagz reaches it, of which kind it is, and which one under all its addresses.
//!
//! All of dagz's own connections are opened here, on the control runtime, where they may be kept.
//! The main type is [`Server`]; `driver.rs` holds them.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use dagz_core::{Endpoint, Error, ErrorKind, Result, driver::command_line, runtime};
use mysql_async::{Conn, Opts, OptsBuilder, PoolOpts, prelude::Queryable as _};
use tokio::sync::OnceCell;

use crate::{
    error::{self, Destination},
    route,
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The `sql_mode` of dagz's own sessions: what was stored must be stored again, whatever the
/// server thinks of it today, and a zero in an `AUTO_INCREMENT` column is a zero.
pub(crate) const SQL_MODE: &str = "NO_AUTO_VALUE_ON_ZERO";

/// What dagz's own sessions need, whatever the user or the server is set to. That foreign keys are
/// off is for these sessions only, and for all they do. Of the comments, each kind of server runs
/// those that are meant for it.
const SESSION_SETTINGS: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0, \
    unique_checks = 0, autocommit = 1, lock_wait_timeout = 1, innodb_lock_wait_timeout = 1, \
    wait_timeout = 28800, sql_safe_updates = 0, sql_select_limit = DEFAULT, sql_quote_show_create = 1, \
    character_set_results = utf8mb4, time_zone = '+00:00' \
    /*!80000 , information_schema_stats_expiry = 0, max_execution_time = 0 */ \
    /*M!100500 , max_statement_time = 0, idle_transaction_timeout = 0 */; \
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION TRANSACTION READ WRITE";

/// Which of the two kinds of server it is, as far as statements differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    /// The oldest version whose catalogs and statements dagz is written for.
    fn oldest(self) -> (u16, u16) {
        match self {
            Self::MariaDb => (10, 11),
            Self::MySql => (8, 0),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }
}

/// What a server says of itself, and of dagz's user on it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) flavour: Flavour,
    pub(crate) version: String,
    /// `user@host`, as in grants.
    pub(crate) account: String,
    /// Whether `performance_schema` tells who holds which lock.
    pub(crate) shows_locks: bool,
}

/// A server and the settings by which dagz connects to it.
#[derive(Debug)]
pub(crate) struct Server {
    shown: String,
    opts: Opts,
    identity: OnceCell<Endpoint>,
    facts: OnceLock<Facts>,
    /// A connection to no database that nobody uses at the moment.
    spare: Mutex<Option<Conn>>,
}

impl Server {
    /// The server that `opts` lead to.
    pub(crate) fn new(opts: &Opts) -> Self {
        Self {
            shown: route::shown(opts),
            opts: opts.clone(),
            identity: OnceCell::new(),
            facts: OnceLock::new(),
            spare: Mutex::new(None),
        }
    }

    /// `host:port`, for people.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// What a person types to look into `database`; asks for the password, if there is one.
    pub(crate) fn client_command(&self, database: &str) -> String {
        let is_mysql = self
            .facts()
            .is_ok_and(|facts| facts.flavour == Flavour::MySql);
        let mut words = vec![if is_mysql { "mysql" } else { "mariadb" }.to_owned()];
        match self.opts.socket() {
            Some(socket) => words.extend(["-S".to_owned(), socket.to_owned()]),
            None => words.extend([
                "--protocol=tcp".to_owned(),
                "-h".to_owned(),
                self.opts.ip_or_hostname().to_owned(),
                "-P".to_owned(),
                self.opts.tcp_port().to_string(),
            ]),
        }
        if let Some(user) = self.opts.user() {
            words.extend(["-u".to_owned(), user.to_owned()]);
        }
        if self.opts.pass().is_some() {
            words.push("-p".to_owned());
        }
        words.push(database.to_owned());
        command_line(words.iter().map(String::as_str))
    }

    /// What the first connection was told.
    pub(crate) fn facts(&self) -> Result<&Facts> {
        self.facts.get().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("nothing is known of the server at `{}` yet", self.shown),
            )
        })
    }

    /// The statement that gives dagz's user what it needs for `database`.
    pub(crate) fn grant(&self, database: &str) -> String {
        let account = self.facts.get().map_or_else(
            || self.opts.user().unwrap_or_default(),
            |facts| facts.account.as_str(),
        );
        error::grant(database, account)
    }

    /// The settings of a connection to `database`, as the user gave them.
    pub(crate) fn opts_for(&self, database: &str) -> Opts {
        OptsBuilder::from_opts(self.opts.clone())
            .db_name(Some(database))
            .into()
    }

    /// A new connection of dagz's own to `database`, or to none, with the settings that its
    /// sessions need.
    pub(crate) async fn connect(&self, database: Option<&str>, purpose: &str) -> Result<Conn> {
        let opts = OptsBuilder::from_opts(self.opts.clone())
            .db_name(database)
            // The user's are for the user's sessions.
            .init::<String>(Vec::new())
            .setup::<String>(Vec::new())
            .after_connect(|_| Box::pin(async { Ok(()) }))
            .stmt_cache_size(0)
            .client_found_rows(false)
            .pool_opts(PoolOpts::default());
        let mut conn = self.open(opts, database, purpose).await?;
        conn.query_drop(SESSION_SETTINGS).await.map_err(|error| {
            error::statement(
                ErrorKind::Unsupported,
                format!("cannot set up a session at `{}`", self.shown),
                error,
            )
        })?;
        Ok(conn)
    }

    /// A new connection to `database` as tests have it.
    pub(crate) async fn open_plain(&self, database: &str, purpose: &str) -> Result<Conn> {
        let opts = OptsBuilder::from_opts(self.opts.clone()).db_name(Some(database));
        self.open(opts, Some(database), purpose).await
    }

    /// A new connection, driven on the control runtime, to a server that is known to be supported.
    async fn open(&self, opts: OptsBuilder, database: Option<&str>, purpose: &str) -> Result<Conn> {
        let opts: Opts = opts
            // Asking for the socket and connecting again by it takes longer than a short session
            // lives, and the path may be one inside a container.
            .prefer_socket(false)
            .connect_attribute("program_name", purpose)
            .into();
        let connecting = {
            let opts = opts.clone();
            runtime::run(
                async move { tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(opts)).await },
            )
        };
        let destination = Destination {
            endpoint: &self.shown,
            database: database.unwrap_or("mysql"),
            user: opts.user().unwrap_or_default(),
        };
        let mut conn = connecting
            .await?
            .map_err(|_| error::connecting_took_too_long(destination, CONNECT_TIMEOUT.as_secs()))?
            .map_err(|error| error::connecting(destination, error))?;
        if self.facts.get().is_none() {
            let facts = self.ask(&mut conn).await?;
            self.facts.get_or_init(|| facts);
        }
        Ok(conn)
    }

    async fn ask(&self, conn: &mut Conn) -> Result<Facts> {
        let failed = |error| {
            error::statement(
                ErrorKind::Unsupported,
                format!(
                    "the server at `{}` does not say what it is: is it MySQL or MariaDB?",
                    self.shown
                ),
                error,
            )
        };
        let row: Option<(String, String)> = conn
            .query_first("SELECT VERSION(), CURRENT_USER()")
            .await
            .map_err(failed)?;
        let (version, account) = row.unwrap_or_default();
        let flavour = supported(&version, &self.shown)?;
        // A user without rights on it, or a server without it, has other means.
        let shows_locks = flavour == Flavour::MySql
            && conn
                .query_first::<u64, _>(
                    "SELECT COUNT(*) FROM performance_schema.metadata_locks l \
                     JOIN performance_schema.setup_instruments i \
                     WHERE l.owner_thread_id = PS_CURRENT_THREAD_ID() AND i.enabled = 'YES' \
                       AND i.name = 'wait/lock/metadata/sql/mdl' AND @@performance_schema",
                )
                .await
                .is_ok_and(|count| count > Some(0));
        Ok(Facts {
            flavour,
            version,
            account,
            shows_locks,
        })
    }

    /// A connection to no database, to which [`keep`](Self::keep) may give it back.
    pub(crate) async fn maintenance(&self, purpose: &str) -> Result<Conn> {
        let spare = self.spare().take();
        match spare {
            Some(conn) if !conn.is_disconnected() => Ok(conn),
            _ => self.connect(None, purpose).await,
        }
    }

    /// Keeps a connection to no database for the next that needs one.
    pub(crate) fn keep(&self, maintenance: Conn) {
        *self.spare() = Some(maintenance);
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Option<Conn>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which server this is: the same for every address that leads to it.
    pub(crate) async fn identity(&self) -> Result<&Endpoint> {
        self.identity
            .get_or_try_init(|| async {
                let mut conn = self.maintenance("dagz identify").await?;
                // Nothing names a server of either kind on all versions, but no two have one
                // directory on one machine.
                let identity: Option<String> = conn
                    .query_first("SELECT CONCAT_WS(':', @@hostname, @@port, @@datadir)")
                    .await
                    .map_err(|error| {
                        error::statement(
                            ErrorKind::Unsupported,
                            format!("MySQL at `{}` does not say which server it is", self.shown),
                            error,
                        )
                    })?;
                self.keep(conn);
                let identity = identity.unwrap_or_default();
                Ok(Endpoint::new(format!("mysql-{identity}")).shown_as(&self.shown))
            })
            .await
    }
}

/// The kind of server that reports `version`, if dagz is written for it.
fn supported(version: &str, shown: &str) -> Result<Flavour> {
    let flavour = if version.to_ascii_lowercase().contains("mariadb") {
        Flavour::MariaDb
    } else {
        Flavour::MySql
    };
    let mut numbers = version
        .split(|character: char| !character.is_ascii_digit())
        .map_while(|number| number.parse::<u16>().ok());
    let found = (numbers.next(), numbers.next());
    let oldest = flavour.oldest();
    if found >= (Some(oldest.0), Some(oldest.1)) {
        return Ok(flavour);
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "{} at `{shown}` is version {version}: dagz needs {}.{} or later",
            flavour.name(),
            oldest.0,
            oldest.1
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (version, expected) in [
            ("10.11.19-MariaDB-0+deb12u1", Some(Flavour::MariaDb)),
            ("11.8.2-MariaDB", Some(Flavour::MariaDb)),
            ("10.6.7-MariaDB-log", None),
            ("8.0.36", Some(Flavour::MySql)),
            ("9.7.4-2", Some(Flavour::MySql)),
            ("5.7.44-log", None),
            ("unknown", None),
        ] {
            assert_eq!(supported(version, "h:1").ok(), expected, "{version}");
        }
        let error = supported("5.7.44-log", "h:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "MySQL at `h:1` is version 5.7.44-log: dagz needs 8.0 or later"
        );
    }
}
