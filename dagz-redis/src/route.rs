//! Native connection types in, rerouted ones out: the way from a test to its own database.
//!
//! [`RerouteExt`] for `redis::ConnectionInfo` and `redis::Client`, [`connect`] in place of the library's
//! own, and [`reroute_url`] for libraries that take text, whose editing is in `route/text.rs`. All of them
//! end in [`dagz_core::resolve`].

mod text;

use std::future::Future;

use dagz_core::{Access, Endpoint, Error, ErrorKind, Result, Route, Target, driver::command_line};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, aio::MultiplexedConnection,
};

use crate::{
    driver::{self, DRIVER},
    error::{self, Destination},
};

/// How everything that dagz routes for a test is called on the server begins.
pub(crate) const TAG: &str = "dagz:";

/// The most that dagz makes of a client's name, in bytes; the server has no limit.
const CLIENT_NAME_LIMIT: usize = 120;

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

impl RerouteExt for ConnectionInfo {
    async fn reroute(&self) -> Result<Self> {
        let route = dagz_core::resolve(driver::NAME, access(self)).await?;
        rerouted(self, &route)
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let route = dagz_core::resolve_blocking(driver::NAME, access(self))?;
        rerouted(self, &route)
    }
}

impl RerouteExt for Client {
    async fn reroute(&self) -> Result<Self> {
        client(self.get_connection_info().reroute().await?)
    }

    fn reroute_blocking(&self) -> Result<Self> {
        client(self.get_connection_info().reroute_blocking()?)
    }
}

/// `redis::Client::get_multiplexed_async_connection`, to the current worker's database in place of the
/// one named. Where the server can tell clients apart, this one is called after the test.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], settings that cannot be used, and a connection that cannot be
/// opened.
pub async fn connect(info: impl IntoConnectionInfo) -> Result<MultiplexedConnection> {
    let info = native(info)?;
    let route = dagz_core::resolve(driver::NAME, access(&info)).await?;
    let info = rerouted(&info, &route)?;
    open(&info, route.target()).await
}

/// `redis::Client::get_connection_manager`, to the current worker's database in place of the one named.
///
/// # Errors
/// Those of [`connect`].
#[cfg(feature = "connection-manager")]
pub async fn connection_manager(
    info: impl IntoConnectionInfo,
) -> Result<redis::aio::ConnectionManager> {
    let info = native(info)?.reroute().await?;
    let opened = client(info.clone())?.get_connection_manager().await;
    opened.map_err(|error| error::connecting(Destination::of(&info), error))
}

/// The URL `url` with the database replaced by the current worker's; everything else in it stays as it
/// is written.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], and a URL that cannot be parsed.
pub async fn reroute_url(url: &str) -> Result<String> {
    let info = parse(url)?;
    let route = dagz_core::resolve(driver::NAME, access(&info)).await?;
    rerouted_text(url, &route)
}

/// [`reroute_url`] for code that is not async; may be called inside a runtime.
///
/// # Errors
/// The same.
pub fn reroute_url_blocking(url: &str) -> Result<String> {
    let info = parse(url)?;
    let route = dagz_core::resolve_blocking(driver::NAME, access(&info))?;
    rerouted_text(url, &route)
}

/// A URL as the redis crate understands it.
pub(crate) fn parse(url: &str) -> Result<ConnectionInfo> {
    native(url).map_err(|error| text::unusable(url).unwrap_or(error))
}

/// Whatever leads to a server, as the redis crate understands it.
pub(crate) fn native(info: impl IntoConnectionInfo) -> Result<ConnectionInfo> {
    info.into_connection_info().map_err(|error| {
        // The detail may be a part of the text, and with it a password.
        let why = match error.kind() {
            redis::ErrorKind::InvalidClientConfig => format!("{error}"),
            _ => String::new(),
        };
        let why = match why.split(" - ").next() {
            Some(why) if !why.is_empty() => why.to_lowercase(),
            _ => "it leads to no server".to_owned(),
        };
        Error::new(
            ErrorKind::Settings,
            format!("the Redis address cannot be used: {why}"),
        )
    })
}

/// A connection by `info`, called after the test of `target` on the server.
pub(crate) async fn open(
    info: &ConnectionInfo,
    target: Option<&Target>,
) -> Result<MultiplexedConnection> {
    let failed = |error| error::connecting(Destination::of(info), error);
    let client = client(info.clone())?;
    let opened = client.get_multiplexed_async_connection().await;
    let mut connection = opened.map_err(failed)?;
    if let Some(target) = target {
        // Older servers keep no library's name, and by this one a leaked client is known later.
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(client_name(target));
        let named = name.exec_async(&mut connection).await;
        if let Err(error) = named
            && error::is_connection_lost(&error)
        {
            return Err(failed(error));
        }
    }
    Ok(connection)
}

/// A client for `info`, which connects to nobody yet.
pub(crate) fn client(info: ConnectionInfo) -> Result<Client> {
    Client::open(info).map_err(|error| {
        Error::new(
            ErrorKind::Settings,
            "the Redis connection settings cannot be used",
        )
        .with_source(error)
    })
}

/// What is being accessed; tells the driver, too, how that server can be reached.
pub(crate) fn access(info: &ConnectionInfo) -> Access {
    let endpoint = endpoint(info);
    let index = info.redis_settings().db();
    if let Some(driver) = DRIVER.get() {
        driver.learn(&endpoint, info);
        let worker = driver.fleet().and_then(|fleet| fleet.worker_at(info));
        if let Some(worker) = worker {
            // It was rerouted already.
            return Access::new(endpoint, format!("{index}_{worker}"));
        }
    }
    Access::new(endpoint, index.to_string())
}

/// `info`, with what `route` says; unchanged where it passes the index through.
pub(crate) fn rerouted(info: &ConnectionInfo, route: &Route) -> Result<ConnectionInfo> {
    match route.target() {
        Some(target) => {
            let info = edited(info, index_named(route.name())?, &client_name(target));
            match DRIVER.get().and_then(driver::Driver::fleet) {
                Some(fleet) => fleet.rerouted(&info, target),
                None => Ok(info),
            }
        }
        None => Ok(info.clone()),
    }
}

/// The text of an address, with what `route` says.
pub(crate) fn rerouted_text(url: &str, route: &Route) -> Result<String> {
    let Some(target) = route.target() else {
        return Ok(url.to_owned());
    };
    if let Some(driver) = DRIVER.get()
        && driver.fleet().is_some()
    {
        return text::written(&driver.info_for(target)?);
    }
    Ok(text::edited(url, index_named(route.name())?))
}

/// The index of a worker's database, whose name on a private server is `0_jw03`.
pub(crate) fn index_of(target: &Target) -> Result<i64> {
    index_named(target.name())
}

/// The index that a worker's database is called after.
pub(crate) fn index_named(name: &str) -> Result<i64> {
    let index = name.split('_').next().unwrap_or_default();
    index.parse().map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("`{name}` is no index of a database"),
        )
        .with_source(error)
    })
}

/// `info` for the database `index`, of a library called `name` unless it has a name already.
fn edited(info: &ConnectionInfo, index: i64, name: &str) -> ConnectionInfo {
    let mut settings = info.redis_settings().clone().set_db(index);
    if settings.lib_name().is_none() && !settings.skip_set_lib_name() {
        settings = settings.set_lib_name(name, env!("CARGO_PKG_VERSION"));
    }
    info.clone().set_redis_settings(settings)
}

/// How a test's clients are called on the server: its tag, then as much of the end of its name as fits.
pub(crate) fn client_name(target: &Target) -> String {
    let mut name = tag(target);
    name.push(':');
    let test: String = target
        .test()
        .chars()
        .map(|character| match character {
            '!'..='~' => character,
            // The server takes nothing else in a name.
            _ => '_',
        })
        .collect();
    let room = CLIENT_NAME_LIMIT.saturating_sub(name.len());
    name.push_str(&test[test.len().saturating_sub(room)..]);
    name
}

/// The part of a client's name that says which test it is of.
pub(crate) fn tag(target: &Target) -> String {
    format!("{TAG}{}.{}", target.job(), target.tag())
}

/// The server behind `info`, as spelled there.
pub(crate) fn endpoint(info: &ConnectionInfo) -> Endpoint {
    Endpoint::new(match info.addr() {
        ConnectionAddr::Unix(path) => path.display().to_string(),
        address => address.to_string(),
    })
}

/// What a person types to look into the database of `info`; asks for the password, if there is one.
pub(crate) fn client_command(info: &ConnectionInfo) -> String {
    let mut words = vec!["redis-cli".to_owned()];
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            words.extend([
                "-h".to_owned(),
                host.clone(),
                "-p".to_owned(),
                port.to_string(),
            ]);
        }
        ConnectionAddr::TcpTls { host, port, .. } => {
            words.extend([
                "-h".to_owned(),
                host.clone(),
                "-p".to_owned(),
                port.to_string(),
            ]);
            words.push("--tls".to_owned());
        }
        ConnectionAddr::Unix(path) => {
            words.extend(["-s".to_owned(), path.display().to_string()]);
        }
        _ => {}
    }
    let settings = info.redis_settings();
    if let Some(user) = settings.username() {
        words.extend(["--user".to_owned(), user.to_owned()]);
    }
    if settings.password().is_some() {
        words.push("--askpass".to_owned());
    }
    words.extend(["-n".to_owned(), settings.db().to_string()]);
    command_line(words.iter().map(String::as_str))
}

/// The endpoint for which a private server stands, however loopback is spelled there.
pub(crate) fn stood_for(endpoint: &Endpoint) -> Endpoint {
    let port = |host: &str| endpoint.id().strip_prefix(host);
    match port("localhost:").or_else(|| port("::1:")) {
        Some(port) => Endpoint::new(format!("127.0.0.1:{port}")).shown_as(endpoint.to_string()),
        None => endpoint.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_endpoints_are_found_in_all_forms() {
        for (url, index, shown) in [
            ("redis://h", 0, "h:6379"),
            ("redis://h/", 0, "h:6379"),
            ("redis://h:7000/3", 3, "h:7000"),
            ("redis://u:p@h/3?protocol=resp3", 3, "h:6379"),
            ("valkey://h/3", 3, "h:6379"),
            ("redis://[::1]:7000/3", 3, "::1:7000"),
            ("unix:///run/r.sock", 0, "/run/r.sock"),
            ("unix:///run/r.sock?db=3&pass=x", 3, "/run/r.sock"),
            ("redis+unix:///run/r.sock?db=3", 3, "/run/r.sock"),
            ("valkey+unix:///run/r.sock?db=3", 3, "/run/r.sock"),
        ] {
            let access = access(&parse(url).unwrap());
            assert_eq!(access.name, index.to_string(), "{url}");
            assert_eq!(access.endpoint.to_string(), shown, "{url}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn addresses_with_tls_lead_to_the_same_places() {
        for url in ["rediss://h:7000/3", "valkeys://h:7000/3#insecure"] {
            let access = access(&parse(url).unwrap());
            assert_eq!(access.name, "3", "{url}");
            assert_eq!(access.endpoint.to_string(), "h:7000", "{url}");
        }
    }

    #[test]
    fn editing_changes_the_index_and_an_absent_name_only() {
        let info = parse("redis://u:p@h:7000/3?protocol=resp3").unwrap();
        let edited_info = edited(&info, 17, "dagz:j1.jw00.t001:t");
        let settings = edited_info.redis_settings();
        assert_eq!(settings.db(), 17);
        assert_eq!(settings.lib_name(), Some("dagz:j1.jw00.t001:t"));
        assert_eq!(settings.username(), Some("u"));
        assert_eq!(settings.password(), Some("p"));
        assert_eq!(settings.protocol(), redis::ProtocolVersion::RESP3);
        assert_eq!(edited_info.addr(), info.addr());
        let own = info.redis_settings().clone().set_lib_name("mine", "1");
        let own = edited(&info.clone().set_redis_settings(own), 17, "dagz:x");
        assert_eq!(own.redis_settings().lib_name(), Some("mine"));
    }
}
