//! One server: how dagz reaches it, and which one it is under all its addresses.
//!
//! All of dagz's own connections are opened here, on the control runtime, where they may be kept.
//! The main type is [`Server`]; `driver.rs` holds them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use dagz_core::{Endpoint, Error, ErrorKind, Result, driver::command_line, runtime};
use tokio::sync::OnceCell;
use tokio_postgres::{
    Client, NoTls,
    config::{Host, TargetSessionAttrs},
    error::SqlState,
};

use crate::{
    error::{self, Destination},
    route,
};

/// The oldest major version whose catalogs and statements dagz is written for.
const OLDEST_SUPPORTED: u32 = 14;

/// How long a connection may take where the user set no `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What dagz's own sessions need, whatever the role or the server is set to: no limits that end a
/// kept session, no rows hidden by policies, and plans that suit a probe of many small tables.
pub(crate) const SESSION_SETTINGS: &str = "SET row_security = off; SET jit = off; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; \
    SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'; \
    SET synchronous_commit = off; SET max_parallel_workers_per_gather = 0; \
    SET plan_cache_mode = force_generic_plan; SET client_min_messages = warning";

/// A server and the settings by which dagz connects to it.
#[derive(Debug)]
pub(crate) struct Server {
    shown: String,
    config: tokio_postgres::Config,
    identity: OnceCell<Endpoint>,
    /// The server's major version, once a connection has told it.
    major: Arc<AtomicU32>,
    /// A connection to the maintenance database that nobody uses at the moment.
    spare: Mutex<Option<Client>>,
}

impl Server {
    /// The server that `config` leads to.
    pub(crate) fn new(config: &tokio_postgres::Config) -> Self {
        let mut config = config.clone();
        if config.get_hosts().len() > 1 {
            // Databases can only be made where writing is allowed.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Self {
            shown: route::shown(&config),
            config,
            identity: OnceCell::new(),
            major: Arc::default(),
            spare: Mutex::new(None),
        }
    }

    /// `host:port`, for people.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The server's major version; 0 before the first connection.
    pub(crate) fn major(&self) -> u32 {
        self.major.load(Ordering::Relaxed)
    }

    /// The user that dagz connects as.
    pub(crate) fn user(&self) -> String {
        route::user(&self.config)
    }

    /// The settings of a connection to `database`, as the user gave them.
    pub(crate) fn config_for(&self, database: &str) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        config.dbname(database);
        config
    }

    /// What a person types to look into `database`; asks for the password, if one is needed.
    pub(crate) fn client_command(&self, database: &str) -> String {
        let mut words = vec!["psql".to_owned()];
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => Some(host.clone()),
            #[cfg(unix)]
            Some(Host::Unix(path)) => Some(path.display().to_string()),
            None => self.config.get_hostaddrs().first().map(ToString::to_string),
        };
        if let Some(host) = host {
            words.extend(["-h".to_owned(), host]);
        }
        if let Some(port) = self.config.get_ports().first() {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.extend(["-U".to_owned(), self.user()]);
        words.extend(["-d".to_owned(), database.to_owned()]);
        command_line(words.iter().map(String::as_str))
    }

    /// A new connection of dagz's own to `database`, with the settings that its sessions need.
    pub(crate) async fn connect(&self, database: &str, application_name: &str) -> Result<Client> {
        let client = self.open(database, application_name).await?;
        client
            .batch_execute(SESSION_SETTINGS)
            .await
            .map_err(|error| {
                error::statement(
                    ErrorKind::Unsupported,
                    format!("cannot set up a session in database `{database}`"),
                    error,
                )
            })?;
        Ok(client)
    }

    /// A new connection to `database`, driven on the control runtime.
    pub(crate) async fn open(&self, database: &str, application_name: &str) -> Result<Client> {
        let mut config = self.config_for(database);
        config.application_name(application_name);
        let shown = self.shown.clone();
        let major = Arc::clone(&self.major);
        runtime::run(async move { open(config, shown, &major).await }).await?
    }

    /// A connection to the maintenance database, to which [`keep`](Self::keep) may give it back.
    pub(crate) async fn maintenance(&self, application_name: &str) -> Result<Client> {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(client) = spare.filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let base = route::database(&self.config);
        let mut candidates = ["postgres", "template1", base.as_str()]
            .into_iter()
            .peekable();
        loop {
            let Some(database) = candidates.next() else {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "no maintenance database was tried",
                ));
            };
            match self.connect(database, application_name).await {
                Err(error) if candidates.peek().is_some() && is_about_this_database(&error) => {}
                result => return result,
            }
        }
    }

    /// Keeps a connection to the maintenance database for the next that needs one.
    pub(crate) fn keep(&self, maintenance: Client) {
        *self
            .spare
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(maintenance);
    }

    /// Which server this is: the same for every address that leads to it.
    pub(crate) async fn identity(&self) -> Result<&Endpoint> {
        self.identity
            .get_or_try_init(|| async {
                let client = self.maintenance("dagz identify").await?;
                // A server that starts twice within a microsecond on one port does not exist;
                // `system_identifier` would tell no more, and needs a right.
                let row = client
                    .query_one(
                        "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, \
                                current_setting('port')",
                        &[],
                    )
                    .await
                    .map_err(|error| {
                        error::statement(
                            ErrorKind::Unsupported,
                            format!("Postgres at `{}` does not say which server it is", self.shown),
                            error,
                        )
                    })?;
                let (started, port): (i64, String) = (row.get(0), row.get(1));
                self.keep(client);
                Ok(Endpoint::new(format!("postgres-{started:x}-{port}")).shown_as(&self.shown))
            })
            .await
    }
}

async fn open(
    config: tokio_postgres::Config,
    endpoint: String,
    known_major: &AtomicU32,
) -> Result<Client> {
    let (database, user) = (route::database(&config), route::user(&config));
    let destination = Destination {
        endpoint: &endpoint,
        database: &database,
        user: &user,
    };
    let timeout = config
        .get_connect_timeout()
        .copied()
        .map_or(CONNECT_TIMEOUT, |timeout| timeout.max(CONNECT_TIMEOUT));
    let (client, connection) = tokio::time::timeout(timeout, config.connect(NoTls))
        .await
        .map_err(|_| error::connecting_took_too_long(destination, timeout.as_secs()))?
        .map_err(|error| error::connecting(destination, error))?;
    let version = connection.parameter("server_version").unwrap_or("unknown");
    // A server that does not say is taken for the newest.
    let major = major(version).unwrap_or(u32::MAX);
    known_major.store(major, Ordering::Relaxed);
    if major < OLDEST_SUPPORTED {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "Postgres at `{endpoint}` is version {version}: dagz needs {OLDEST_SUPPORTED} or later"
            ),
        ));
    }
    runtime::spawn(async move {
        // Whoever uses the client sees how a connection ends.
        if let Err(error) = connection.await {
            tracing::debug!(target: "dagz", %error, "a connection of dagz's own ended");
        }
    });
    Ok(client)
}

fn major(version: &str) -> Option<u32> {
    let digits = version
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// Whether another database of the same server may be opened where this one was not.
fn is_about_this_database(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
        .is_some_and(|native| {
            error::has_code(native, &SqlState::INVALID_CATALOG_NAME)
                || error::has_code(native, &SqlState::INSUFFICIENT_PRIVILEGE)
                || error::has_code(native, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_read_from_what_servers_report() {
        for (version, expected) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("18beta1", Some(18)),
            ("9.6.24", Some(9)),
            ("unknown", None),
        ] {
            assert_eq!(major(version), expected, "{version}");
        }
    }
}
