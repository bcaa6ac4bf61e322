//! What a test may take as an argument: an address, a connection, or a channel.

use dagz_core::{Error, ErrorKind, FromScope, Result, Scope};
use lapin::{Channel, Connection, ConnectionProperties, uri::AMQPUri};

use crate::{driver::configured, error, route::RerouteExt as _, server};

/// Marks the arguments that this crate makes for tests; inferred, never written.
#[derive(Debug)]
pub enum Amqp {}

/// The address of the test's own vhost, for a pool or another library.
impl FromScope<Amqp> for AMQPUri {
    async fn from_scope(_scope: &Scope) -> Result<Self> {
        configured()?.config().base.reroute().await
    }
}

/// A fresh connection, driven by the test's own runtime, and called after the test on the broker.
impl FromScope<Amqp> for Connection {
    async fn from_scope(scope: &Scope) -> Result<Self> {
        tokio::runtime::Handle::try_current().map_err(|error| {
            Error::new(
                ErrorKind::Setup,
                "a `lapin::Connection` as an argument needs an async test, whose runtime drives it; take `AMQPUri` instead",
            )
            .with_source(error)
        })?;
        let uri = AMQPUri::from_scope(scope).await?;
        let name = format!("dagz {} {}", scope.tag(), scope.test());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        server::open(uri, properties).await
    }
}

/// A channel of a fresh connection, which ends with the channel.
impl FromScope<Amqp> for Channel {
    async fn from_scope(scope: &Scope) -> Result<Self> {
        let connection = Connection::from_scope(scope).await?;
        let opened = connection.create_channel().await;
        opened.map_err(|error| error::command("cannot open a channel for the test", error))
    }
}
