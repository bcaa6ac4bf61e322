//! Native connection types in, rerouted ones out: the way from a test to its own database.
//!
//! [`RerouteExt`] for `tokio_postgres::Config`, [`connect`] in place of tokio-postgres' own, and
//! [`reroute_url`] for libraries that take text, whose editing is in `route/text.rs`. All of them
//! end in [`dagz_core::resolve`].

mod text;

use std::future::Future;

use dagz_core::{Access, Endpoint, Error, ErrorKind, Result, Route, Target};
use tokio_postgres::{
    Client, Connection, Socket,
    config::Host,
    tls::{MakeTlsConnect, TlsConnect},
};

use crate::{
    config,
    driver::{self, DRIVER},
    error::{self, Destination},
};

/// The most that Postgres keeps of an `application_name`, in bytes.
const APPLICATION_NAME_LIMIT: usize = 63;

/// Gives connection settings of the current test's worker for those of the application.
pub trait RerouteExt: Sized {
    /// The same settings, with the database replaced by the current worker's own, which exists
    /// and is clean when this returns. Unchanged where dagz does not reroute.
    ///
    /// # Errors
    /// Those of [`dagz_core::resolve`]: unconfigured, outside a scope, or whatever kept the
    /// database from being made or reset.
    fn reroute(&self) -> impl Future<Output = Result<Self>> + Send;

    /// [`reroute`](Self::reroute) for code that is not async; may be called inside a runtime.
    ///
    /// # Errors
    /// The same.
    fn reroute_blocking(&self) -> Result<Self>;
}

impl RerouteExt for tokio_postgres::Config {
    async fn reroute(&self) -> Result<Self> {
        let route = dagz_core::resolve(driver::NAME, access(self)).await?;
        Ok(rerouted(self, &route))
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let route = dagz_core::resolve_blocking(driver::NAME, access(self))?;
        Ok(rerouted(self, &route))
    }
}

/// `tokio_postgres::connect`, to the current worker's database in place of the one named.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], a string that cannot be parsed, and a connection that cannot
/// be opened.
pub async fn connect<T>(
    config: &str,
    tls: T,
) -> Result<(
    Client,
    Connection<Socket, <T as MakeTlsConnect<Socket>>::Stream>,
)>
where
    T: MakeTlsConnect<Socket>,
    T::TlsConnect: TlsConnect<Socket>,
{
    let config = parse(config)?.reroute().await?;
    config.connect(tls).await.map_err(|error| {
        error::connecting(
            Destination {
                endpoint: &shown(&config),
                database: &database(&config),
                user: &user(&config),
            },
            error,
        )
    })
}

/// The connection string `url`, URL or key/value pairs, with the database replaced by the
/// current worker's; everything else in it stays as it is written.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], and a string that cannot be parsed.
pub async fn reroute_url(url: &str) -> Result<String> {
    let config = parse(url)?;
    let route = dagz_core::resolve(driver::NAME, access(&config)).await?;
    rerouted_text(url, &config, &route)
}

/// [`reroute_url`] for code that is not async; may be called inside a runtime.
///
/// # Errors
/// The same.
pub fn reroute_url_blocking(url: &str) -> Result<String> {
    let config = parse(url)?;
    let route = dagz_core::resolve_blocking(driver::NAME, access(&config))?;
    rerouted_text(url, &config, &route)
}

/// A connection string as tokio-postgres understands it.
pub(crate) fn parse(text: &str) -> Result<tokio_postgres::Config> {
    text.parse().map_err(|error| config::unusable(text, &error))
}

/// What is being accessed; tells the driver, too, how that server can be reached.
pub(crate) fn access(config: &tokio_postgres::Config) -> Access {
    let endpoint = endpoint(config);
    if let Some(driver) = DRIVER.get() {
        driver.learn(&endpoint, config);
    }
    Access::new(endpoint, database(config))
}

/// `config`, with what `route` says; unchanged where it passes the name through.
pub(crate) fn rerouted(config: &tokio_postgres::Config, route: &Route) -> tokio_postgres::Config {
    match route.target() {
        Some(target) => edited(config, route.name(), &application_name(target)),
        None => config.clone(),
    }
}

fn rerouted_text(url: &str, config: &tokio_postgres::Config, route: &Route) -> Result<String> {
    let Some(target) = route.target() else {
        return Ok(url.to_owned());
    };
    text::edited(url, config, route.name(), &application_name(target)).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidName,
            format!(
                "the connection string for database `{}` cannot be rerouted to `{}` on {}: tokio-postgres stops reading it before its end; write it as a URL",
                target.base(),
                target.name(),
                target.worker()
            ),
        )
    })
}

/// `config` for database `name`, called `application_name` unless it has a name already.
fn edited(
    config: &tokio_postgres::Config,
    name: &str,
    application_name: &str,
) -> tokio_postgres::Config {
    let mut config = config.clone();
    config.dbname(name);
    if config.get_application_name().is_none() {
        config.application_name(application_name);
    }
    config
}

/// How a test's sessions are called on the server: its tag, then as much of the end of its name
/// as fits.
pub(crate) fn application_name(target: &Target) -> String {
    let mut name = target.tag().to_owned();
    let room = APPLICATION_NAME_LIMIT.saturating_sub(name.len() + 1);
    let test = target.test();
    let mut start = test.len().saturating_sub(room);
    while !test.is_char_boundary(start) {
        start += 1;
    }
    if start < test.len() {
        name.push(' ');
        name.push_str(&test[start..]);
    }
    name
}

/// The database that a connection by `config` opens: Postgres takes the user's name where none,
/// or an empty one, is given.
pub(crate) fn database(config: &tokio_postgres::Config) -> String {
    match config.get_dbname() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => user(config),
    }
}

/// The user that a connection by `config` logs in as: the operating system's where none is given.
pub(crate) fn user(config: &tokio_postgres::Config) -> String {
    match config.get_user() {
        Some(user) => user.to_owned(),
        None => whoami::username().unwrap_or_default(),
    }
}

/// The server, or the servers, behind `config`, as spelled there.
pub(crate) fn endpoint(config: &tokio_postgres::Config) -> Endpoint {
    let (hosts, addresses, ports) = (
        config.get_hosts(),
        config.get_hostaddrs(),
        config.get_ports(),
    );
    let mut ids = Vec::new();
    for index in 0..hosts.len().max(addresses.len()) {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let host = hosts.get(index).map(|host| match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        ids.push(match (host, addresses.get(index)) {
            (Some(host), Some(address)) => format!("{host}({address}):{port}"),
            (Some(host), None) => format!("{host}:{port}"),
            (None, Some(address)) => format!("{address}:{port}"),
            (None, None) => unreachable!("the index is below one of the lengths"),
        });
    }
    Endpoint::new(ids.join(","))
}

/// The endpoint of `config` for people.
pub(crate) fn shown(config: &tokio_postgres::Config) -> String {
    endpoint(config).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_and_endpoints_are_found_in_all_forms() {
        for (text, expected_database, expected_endpoint) in [
            ("postgres://u@h/shop", "shop", "h:5432"),
            ("postgresql://u:p@h:6000/shop", "shop", "h:6000"),
            ("postgres://u@h", "u", "h:5432"),
            ("postgres://u@h/", "u", "h:5432"),
            ("postgres://u@h/shop?dbname=other", "other", "h:5432"),
            ("postgres://u@h/shop?dbname=", "u", "h:5432"),
            ("postgres://u@h/my%2Fshop", "my/shop", "h:5432"),
            ("postgres://u@%2Frun%2Fpg/shop", "shop", "/run/pg:5432"),
            (
                "postgres:///shop?user=u&host=/run/pg",
                "shop",
                "/run/pg:5432",
            ),
            ("postgres://u@a:1,b:2/shop", "shop", "a:1,b:2"),
            ("postgres://u@[::1]:5433/shop", "shop", "::1:5433"),
            ("host=h user=u dbname=shop", "shop", "h:5432"),
            ("host=h user=u dbname='my shop'", "my shop", "h:5432"),
            ("host=h user=u dbname=''", "u", "h:5432"),
            ("host=a,b port=7 user=u", "u", "a:7,b:7"),
            ("host=a,b port=1,2 user=u", "u", "a:1,b:2"),
            ("host=a hostaddr=10.0.0.1 user=u", "u", "a(10.0.0.1):5432"),
            ("hostaddr=10.0.0.1 user=u", "u", "10.0.0.1:5432"),
            ("host=/run/pg user=u dbname=shop", "shop", "/run/pg:5432"),
        ] {
            let config = parse(text).unwrap();
            assert_eq!(database(&config), expected_database, "{text}");
            assert_eq!(shown(&config), expected_endpoint, "{text}");
        }
    }

    #[test]
    fn absent_user_is_the_operating_system_s() {
        let config = parse("host=h").unwrap();
        assert_eq!(database(&config), whoami::username().unwrap());
    }
}
