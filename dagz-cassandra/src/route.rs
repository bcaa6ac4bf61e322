//! Native session settings in, rerouted ones out: the way from a test to its own keyspace.
//!
//! [`RerouteExt`] for scylla's `SessionBuilder`, [`connect`] in place of its `build`, [`session`] for the one
//! that is kept, and [`reroute_url`] and [`keyspace`] for what only takes text; `route/url.rs` reads URLs. All
//! of them end in [`dagz_core::resolve`].

mod url;

use std::{future::Future, sync::Arc};

use dagz_core::{Access, ErrorKind, Result, Route, runtime};
use scylla::client::{session::Session, session_builder::SessionBuilder};

pub(crate) use self::url::parse;
use crate::{
    driver::{self, DRIVER, configured},
    error,
    source::Source,
};

/// Gives session settings of the current test's worker for those of the application.
pub trait RerouteExt: Sized {
    /// The same settings, with the keyspace replaced by the current worker's own, which exists
    /// and is clean when this returns; its name is set to be taken as it is spelled. Unchanged where
    /// dagz does not reroute, as where no keyspace is named.
    ///
    /// # Errors
    /// Those of [`dagz_core::resolve`]: unconfigured, outside a scope, or whatever kept the
    /// keyspace from being made or reset.
    fn reroute(&self) -> impl Future<Output = Result<Self>> + Send;

    /// [`reroute`](Self::reroute) for code that is not async; may be called inside a runtime.
    ///
    /// # Errors
    /// The same.
    fn reroute_blocking(&self) -> Result<Self>;
}

impl RerouteExt for SessionBuilder {
    async fn reroute(&self) -> Result<Self> {
        let source = Source::from_builder(self.clone());
        let route = dagz_core::resolve(driver::NAME, access(&source)).await?;
        Ok(rerouted(self, &source, &route))
    }

    fn reroute_blocking(&self) -> Result<Self> {
        let source = Source::from_builder(self.clone());
        let route = dagz_core::resolve_blocking(driver::NAME, access(&source))?;
        Ok(rerouted(self, &source, &route))
    }
}

/// `SessionBuilder::build`, to the current worker's keyspace in place of the one named. The session is new
/// and lives on the caller's runtime; [`session`] is cheaper.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], and a session that cannot be opened.
pub async fn connect(builder: &SessionBuilder) -> Result<Session> {
    let builder = builder.reroute().await?;
    builder
        .build()
        .await
        .map_err(|error| error::connecting(&Source::from_builder(builder.clone()), error))
}

/// The session that this process keeps for the current worker's keyspace, in place of the one that `url`
/// names.
///
/// Opening a session is dear, so there is one per process, cluster, user and keyspace. It lives on dagz's
/// control runtime and may be used from any; it is checked before it is given, and replaced if the
/// server went away. What a `USE` of an earlier test did to it is undone.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], a URL that cannot be parsed, and a session that cannot be opened.
pub async fn session(url: &str) -> Result<Arc<Session>> {
    kept(parse(url)?).await
}

/// The kept session for the current worker's keyspace in place of that of `source`.
pub(crate) async fn kept(source: Source) -> Result<Arc<Session>> {
    let driver = match DRIVER.get() {
        Some(driver) => driver.clone(),
        // Switched off, or unconfigured, which `resolve` tells apart.
        None => {
            dagz_core::resolve(driver::NAME, access(&source)).await?;
            return runtime::run(async move {
                let built = source.builder().build().await;
                built
                    .map(Arc::new)
                    .map_err(|error| error::connecting(&source, error))
            })
            .await?;
        }
    };
    let route = dagz_core::resolve(driver::NAME, access(&source)).await?;
    let source = source.in_keyspace(route.name());
    runtime::run(async move { driver.kept(&source).ready().await }).await?
}

/// The URL with the keyspace replaced by the current worker's; everything else in it stays as it is
/// written, but for `case_sensitive`, which is added where it must be.
///
/// # Errors
/// Those of [`RerouteExt::reroute`], and a URL that cannot be parsed.
pub async fn reroute_url(text: &str) -> Result<String> {
    let source = parse(text)?;
    let route = dagz_core::resolve(driver::NAME, access(&source)).await?;
    Ok(rerouted_text(text, &route))
}

/// [`reroute_url`] for code that is not async; may be called inside a runtime.
///
/// # Errors
/// The same.
pub fn reroute_url_blocking(text: &str) -> Result<String> {
    let source = parse(text)?;
    let route = dagz_core::resolve_blocking(driver::NAME, access(&source))?;
    Ok(rerouted_text(text, &route))
}

/// The name of the current worker's keyspace in place of `base`, on the configured cluster: for statements
/// that qualify their tables, whose text dagz does not change. `base` is spelled as the server spells it.
///
/// # Errors
/// Those of [`RerouteExt::reroute`].
pub async fn keyspace(base: &str) -> Result<String> {
    let route = dagz_core::resolve(driver::NAME, named(base)?).await?;
    Ok(route.name().to_owned())
}

/// [`keyspace`] for code that is not async; may be called inside a runtime.
///
/// # Errors
/// The same.
pub fn keyspace_blocking(base: &str) -> Result<String> {
    let route = dagz_core::resolve_blocking(driver::NAME, named(base)?)?;
    Ok(route.name().to_owned())
}

fn named(base: &str) -> Result<Access> {
    match configured() {
        Ok(driver) => Ok(access(&driver.config().base.in_keyspace(base))),
        // No server is needed for what the core answers without a configuration.
        Err(error) if error.kind() == ErrorKind::Unconfigured => {
            Ok(Access::new(dagz_core::Endpoint::new("cassandra"), base))
        }
        Err(error) => Err(error),
    }
}

/// What is being accessed; tells the driver, too, how that cluster can be reached.
pub(crate) fn access(source: &Source) -> Access {
    let endpoint = source.endpoint();
    if let Some(driver) = DRIVER.get() {
        driver.learn(&endpoint, source);
    }
    Access::new(endpoint, source.keyspace())
}

/// `builder`, with what `route` says; unchanged where it passes the name through.
pub(crate) fn rerouted(builder: &SessionBuilder, source: &Source, route: &Route) -> SessionBuilder {
    match route.target() {
        Some(_) => source.in_keyspace(route.name()).builder(),
        None => builder.clone(),
    }
}

fn rerouted_text(text: &str, route: &Route) -> String {
    match route.target() {
        Some(_) => url::edited(text, route.name()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspaces_and_endpoints_are_found_in_all_forms() {
        let builder = || SessionBuilder::new().known_node("h");
        for (builder, keyspace) in [
            (builder(), ""),
            (builder().use_keyspace("Shop", false), "shop"),
            (builder().use_keyspace("Shop", true), "Shop"),
        ] {
            let access = access(&Source::from_builder(builder));
            assert_eq!(access.name, keyspace);
            assert_eq!(access.endpoint.to_string(), "h:9042");
        }
    }

    #[test]
    fn a_rerouted_builder_spells_its_keyspace() {
        let builder = SessionBuilder::new()
            .known_node("h")
            .use_keyspace("Shop", false);
        let source = Source::from_builder(builder).in_keyspace("shop_jw03");
        let config = source.builder().config;
        assert_eq!(config.used_keyspace.as_deref(), Some("shop_jw03"));
        assert!(config.keyspace_case_sensitive);
    }
}
