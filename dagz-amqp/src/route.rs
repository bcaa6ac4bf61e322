//! Native connection types in, rerouted ones out: the way from a test to its own vhost.
//!
//! [`RerouteExt`] for `lapin::uri::AMQPUri`, [`connect`] and [`connect_uri`] in place of the library's own, and
//! [`reroute_url`] for libraries that take text. All of them end in [`dagz_core::resolve`]. A vhost is handled
//! decoded, as lapin reads it: no path is `/`, a path of nothing but `/` is the empty name, `%2f` is `/`.

use std::future::Future;

use dagz_core::{Access, Endpoint, Error, ErrorKind, Result, Route, runtime};
use lapin::{Connection, ConnectionProperties, uri::AMQPUri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::{
    driver::{self, DRIVER},
    login::Login,
    server,
};

/// Gives connection settings of the current test's worker for those of the application.
pub trait RerouteExt: Sized {
    /// The same settings, with the vhost replaced by the current worker's own, which exists and is clean when
    /// this returns, and with credentials for it. Unchanged where dagz does not reroute.
    ///
    /// # Errors
    /// Those of [`dagz_core::resolve`]: unconfigured, outside a scope, or whatever kept the vhost from being
    /// made or reset.
    fn reroute(&self) -> impl Future<Output = Result<Self>> + Send;

    /// [`reroute`](Self::reroute) for code that is not async; may be called inside a runtime.
    ///
    /// # Errors
    /// The same.
    fn reroute_blocking(&self) -> Result<Self>;
}

impl RerouteExt for AMQPUri {
    async fn reroute(&self) -> Result<Self> {
        let route = dagz_core::resolve(driver::NAME, access(self)).await?;
        Ok(edited(self, &route, login(&route).await?.as_ref()))
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let route = dagz_core::resolve_blocking(driver::NAME, access(self))?;
        Ok(edited(self, &route, login_blocking(&route)?.as_ref()))
    }
}

/// `lapin::Connection::connect`, to the current worker's vhost in place of the one named.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], a URL that cannot be parsed, and a connection that cannot be opened.
pub async fn connect(url: &str, options: ConnectionProperties) -> Result<Connection> {
    connect_uri(parse(url)?, options).await
}

/// `lapin::Connection::connect_uri`, to the current worker's vhost in place of the one named.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], and a connection that cannot be opened.
pub async fn connect_uri(uri: AMQPUri, options: ConnectionProperties) -> Result<Connection> {
    server::open(uri.reroute().await?, options).await
}

/// The URL `url` with vhost and credentials replaced by the current worker's; everything else in it stays as it
/// is written.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], and a URL that cannot be parsed.
pub async fn reroute_url(url: &str) -> Result<String> {
    let route = dagz_core::resolve(driver::NAME, access(&parse(url)?)).await?;
    edited_text(url, &route, login(&route).await?.as_ref())
}

/// [`reroute_url`] for code that is not async; may be called inside a runtime.
///
/// # Errors
/// The same.
pub fn reroute_url_blocking(url: &str) -> Result<String> {
    let route = dagz_core::resolve_blocking(driver::NAME, access(&parse(url)?))?;
    edited_text(url, &route, login_blocking(&route)?.as_ref())
}

/// A URL as lapin understands it.
pub(crate) fn parse(url: &str) -> Result<AMQPUri> {
    // Its errors repeat the scheme at most, or the whole text, in which there may be a password.
    url.parse().map_err(|error: String| {
        let why = match error.contains(url) {
            true => "it names no host".to_owned(),
            false => error.to_lowercase(),
        };
        Error::new(
            ErrorKind::Settings,
            format!("the RabbitMQ address cannot be used: {why}"),
        )
    })
}

/// What is being accessed; tells the driver, too, how that broker can be reached.
pub(crate) fn access(uri: &AMQPUri) -> Access {
    let endpoint = endpoint(uri);
    if let Some(driver) = DRIVER.get() {
        driver.learn(&endpoint, uri);
    }
    Access::new(endpoint, uri.vhost.clone())
}

/// As whom the test of `route` logs in; `None` where the name passed unchanged.
pub(crate) async fn login(route: &Route) -> Result<Option<Login>> {
    match (DRIVER.get(), route.target().cloned()) {
        (Some(driver), Some(target)) => match driver.login_of(&target) {
            Some(login) => Ok(Some(login)),
            None => {
                let found = runtime::run(async move { driver.find_login(&target).await });
                found.await?.map(Some)
            }
        },
        _ => Ok(None),
    }
}

fn login_blocking(route: &Route) -> Result<Option<Login>> {
    match (DRIVER.get(), route.target().cloned()) {
        (Some(driver), Some(target)) => match driver.login_of(&target) {
            Some(login) => Ok(Some(login)),
            None => runtime::wait(async move { driver.find_login(&target).await })?.map(Some),
        },
        _ => Ok(None),
    }
}

/// `uri`, for the vhost of `route` and for `login`.
pub(crate) fn edited(uri: &AMQPUri, route: &Route, login: Option<&Login>) -> AMQPUri {
    let mut uri = uri.clone();
    if let Some(login) = login {
        route.name().clone_into(&mut uri.vhost);
        login.applied_to(&mut uri);
    }
    uri
}

/// The text of an address, for the vhost of `route` and for `login`.
pub(crate) fn edited_text(text: &str, route: &Route, login: Option<&Login>) -> Result<String> {
    let Some(login) = login else {
        return Ok(text.to_owned());
    };
    replaced(text, route.name(), &login.user, login.password()).ok_or_else(|| {
        Error::new(
            ErrorKind::Settings,
            "the RabbitMQ address cannot be used: it has no place for a user",
        )
    })
}

fn replaced(text: &str, vhost: &str, user: &str, password: &str) -> Option<String> {
    let mut url = Url::parse(text).ok()?;
    url.set_username(user).ok()?;
    url.set_password(Some(password)).ok()?;
    url.set_path(&utf8_percent_encode(vhost, NON_ALPHANUMERIC).to_string());
    Some(url.into())
}

/// The broker behind `uri`, as spelled there.
pub(crate) fn endpoint(uri: &AMQPUri) -> Endpoint {
    Endpoint::new(format!("{}:{}", uri.authority.host, uri.authority.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_path_the_vhost_is_the_default_one() {
        assert_eq!(access(&parse("amqp://h").unwrap()).name, "/");
    }

    #[test]
    fn a_trailing_slash_is_the_empty_vhost() {
        assert_eq!(access(&parse("amqp://h/").unwrap()).name, "");
    }

    #[test]
    fn an_encoded_slash_is_the_default_vhost() {
        assert_eq!(access(&parse("amqp://h/%2f").unwrap()).name, "/");
        assert_eq!(access(&parse("amqp://h/%2F").unwrap()).name, "/");
    }

    #[test]
    fn vhosts_and_endpoints_are_found_in_all_forms() {
        for (url, vhost, shown) in [
            ("amqp://h/orders", "orders", "h:5672"),
            (
                "amqps://u:p@h:7000/a%2fb%20c?heartbeat=10",
                "a/b c",
                "h:7000",
            ),
            ("amqps://h", "/", "h:5671"),
            ("amqp://h/%C3%BC", "ü", "h:5672"),
        ] {
            let access = access(&parse(url).unwrap());
            assert_eq!(access.name, vhost, "{url}");
            assert_eq!(access.endpoint.to_string(), shown, "{url}");
        }
    }

    #[test]
    fn text_keeps_all_but_vhost_and_credentials() {
        for (url, expected) in [
            (
                "amqp://u:p@h:7000/%2f?heartbeat=10&cacertfile=x",
                "amqp://dagz%2E1:secret@h:7000/orders%5Fjw03?heartbeat=10&cacertfile=x",
            ),
            ("amqp://h", "amqp://dagz%2E1:secret@h/orders%5Fjw03"),
        ] {
            let text = replaced(url, "orders_jw03", "dagz.1", "secret").unwrap();
            let back = parse(&text).unwrap();
            assert_eq!(text.replace("dagz.1", "dagz%2E1"), expected);
            assert_eq!(back.vhost, "orders_jw03");
            assert_eq!(back.authority.userinfo.username, "dagz.1");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_not_repeated() {
        for url in ["amqp:u:hunter2", "http://u:hunter2@h", "hunter2"] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(!error.report().to_string().contains("hunter2"), "{error}");
        }
    }
}
