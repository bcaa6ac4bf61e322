//! What a test may take as an argument: the kept session, a fresh one, or the settings.

use std::sync::Arc;

use dagz_core::{Error, ErrorKind, FromScope, Result, Scope};
use scylla::client::{session::Session, session_builder::SessionBuilder};

use crate::{driver::configured, route};

/// Marks the arguments that this crate makes for tests; inferred, never written.
#[derive(Debug)]
pub enum Cassandra {}

/// The session that this process keeps for the test's own keyspace; see [`session`](crate::session).
impl FromScope<Cassandra> for Arc<Session> {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        route::kept(configured()?.config().base.clone()).await
    }
}

/// The settings of a session in the test's own keyspace.
impl FromScope<Cassandra> for SessionBuilder {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        let base = &configured()?.config().base;
        let route = dagz_core::resolve(crate::driver::NAME, route::access(base)).await?;
        Ok(route::rerouted(&base.builder(), base, &route))
    }
}

/// A fresh session, on the test's own runtime.
impl FromScope<Cassandra> for Session {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        tokio::runtime::Handle::try_current().map_err(|error| {
            Error::new(
                ErrorKind::Setup,
                "a `Session` as an argument needs an async test, whose runtime drives it; take `Arc<Session>` instead, which dagz's does",
            )
            .with_source(error)
        })?;
        route::connect(&configured()?.config().base.builder()).await
    }
}
