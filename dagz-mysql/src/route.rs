//! Native connection types in, rerouted ones out: the way from a test to its own database.
//!
//! [`RerouteExt`] for `mysql_async::Opts` and `OptsBuilder`, [`connect`] in place of
//! `Conn::from_url`, and [`reroute_url`] for libraries that take text, whose editing is in
//! `route/text.rs`. All of them end in [`dagz_core::resolve`].

mod text;

use std::future::Future;

use dagz_core::{Access, Endpoint, Result, Route, Target};
use mysql_async::{Conn, Opts, OptsBuilder};

pub(crate) use self::text::parse;
use crate::{
    driver::{self, DRIVER},
    error::{self, Destination},
    sql,
};

/// What a session says of itself, if the user's settings say nothing.
const PROGRAM_NAME: &str = "program_name";

/// The most of a test's name that a session carries, in bytes; servers cut long attributes.
const PROGRAM_NAME_LIMIT: usize = 128;

/// Gives connection settings of the current test's worker for those of the application.
pub trait RerouteExt: Sized {
    /// The same settings, with the database replaced by the current worker's own, which exists
    /// and is clean when this returns. Unchanged where dagz does not reroute.
    ///
    /// A pool that is made of them gives its connections back to that database, wherever a `USE`
    /// of a test took them.
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

impl RerouteExt for Opts {
    async fn reroute(&self) -> Result<Self> {
        let route = dagz_core::resolve(driver::NAME, access(self)).await?;
        Ok(rerouted(self, &route))
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let route = dagz_core::resolve_blocking(driver::NAME, access(self))?;
        Ok(rerouted(self, &route))
    }
}

impl RerouteExt for OptsBuilder {
    async fn reroute(&self) -> Result<Self> {
        let opts = Opts::from(self.clone()).reroute().await?;
        Ok(Self::from_opts(opts))
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let opts = Opts::from(self.clone()).reroute_blocking()?;
        Ok(Self::from_opts(opts))
    }
}

/// `mysql_async::Conn::from_url`, to the current worker's database in place of the one named.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], a URL that cannot be parsed, and a connection that cannot be
/// opened.
pub async fn connect(url: &str) -> Result<Conn> {
    open(parse(url)?.reroute().await?).await
}

/// A connection of the test's own, on its own runtime.
pub(crate) async fn open(opts: Opts) -> Result<Conn> {
    Conn::new(opts.clone()).await.map_err(|error| {
        error::connecting(
            Destination {
                endpoint: &shown(&opts),
                database: &database(&opts),
                user: opts.user().unwrap_or_default(),
            },
            error,
        )
    })
}

/// The URL with the database replaced by the current worker's; everything else in it stays as it is
/// written. Takes `mysql://` and `mariadb://`, with any parameters: a socket is looked for in
/// `socket` and `unix_socket`.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], and a URL that cannot be parsed.
pub async fn reroute_url(url: &str) -> Result<String> {
    let opts = text::parse_any(url)?;
    let route = dagz_core::resolve(driver::NAME, access(&opts)).await?;
    Ok(rerouted_text(url, &route))
}

/// [`reroute_url`] for code that is not async; may be called inside a runtime.
///
/// # Errors
/// The same.
pub fn reroute_url_blocking(url: &str) -> Result<String> {
    let opts = text::parse_any(url)?;
    let route = dagz_core::resolve_blocking(driver::NAME, access(&opts))?;
    Ok(rerouted_text(url, &route))
}

/// What is being accessed; tells the driver, too, how that server can be reached.
pub(crate) fn access(opts: &Opts) -> Access {
    let endpoint = endpoint(opts);
    if let Some(driver) = DRIVER.get() {
        driver.learn(&endpoint, opts);
    }
    Access::new(endpoint, database(opts))
}

/// `opts`, with what `route` says; unchanged where it passes the name through.
pub(crate) fn rerouted(opts: &Opts, route: &Route) -> Opts {
    let Some(target) = route.target() else {
        return opts.clone();
    };
    let back = format!("USE {}", sql::identifier(route.name()));
    // The server keeps a session's database when a pool resets it, so that a test's `USE` would
    // reach the next one. Last of what is set up, or mysql_async's order being from the end, first:
    // the user's own statements may choose a database, too.
    let mut setup = vec![back];
    if !opts.setup().is_empty() {
        let back = setup.clone();
        setup.extend_from_slice(opts.setup());
        setup.extend(back);
    }
    let mut builder = OptsBuilder::from_opts(opts.clone())
        .db_name(Some(route.name()))
        .setup(setup);
    let has_name = opts
        .connect_attributes()
        .is_some_and(|attributes| attributes.contains_key(PROGRAM_NAME));
    if !has_name {
        builder = builder.connect_attribute(PROGRAM_NAME, program_name(target));
    }
    builder.into()
}

fn rerouted_text(url: &str, route: &Route) -> String {
    match route.target() {
        Some(_) => text::edited(url, route.name()),
        None => url.to_owned(),
    }
}

/// How a test's sessions are called on the server: its tag, then as much of the end of its name
/// as fits.
pub(crate) fn program_name(target: &Target) -> String {
    let mut name = target.tag().to_owned();
    let room = PROGRAM_NAME_LIMIT.saturating_sub(name.len() + 1);
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

/// The database that a connection by `opts` opens; empty where it opens none.
pub(crate) fn database(opts: &Opts) -> String {
    opts.db_name().unwrap_or_default().to_owned()
}

/// The server behind `opts`, as spelled there.
pub(crate) fn endpoint(opts: &Opts) -> Endpoint {
    Endpoint::new(match opts.socket() {
        Some(socket) => socket.to_owned(),
        None => format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port()),
    })
}

/// The endpoint of `opts` for people.
pub(crate) fn shown(opts: &Opts) -> String {
    endpoint(opts).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_and_endpoints_are_found_in_all_forms() {
        for (url, expected_database, expected_endpoint) in [
            ("mysql://u@h/shop", "shop", "h:3306"),
            ("mysql://u:p%40@h:6000/shop", "shop", "h:6000"),
            ("mysql://u@h", "", "h:3306"),
            ("mysql://u@h/", "", "h:3306"),
            ("mysql://u@h/my%2Fshop", "my/shop", "h:3306"),
            ("mysql://u@h/gr%C3%BCn", "grün", "h:3306"),
            (
                "mysql://u@h/shop?socket=%2Frun%2Fmysql.sock",
                "shop",
                "/run/mysql.sock",
            ),
            ("mysql://u@[::1]:3307/shop", "shop", "[::1]:3307"),
        ] {
            let any = text::parse_any(url).unwrap();
            for opts in [parse(url).unwrap(), any] {
                assert_eq!(database(&opts), expected_database, "{url}");
                assert_eq!(shown(&opts), expected_endpoint, "{url}");
            }
        }
    }
}
