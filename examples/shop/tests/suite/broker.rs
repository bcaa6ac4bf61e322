//! The broker of this test's own: [`Broker`] is what a test asks for that tells or hears events.
//!
//! Without dagz all tests have one, whose queues are emptied before each.

use dagz::{Error, ErrorKind, FromScope, Scope};
use lapin::options::QueuePurgeOptions;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use shop::events::{Events, NEWSLETTER, POST_ROOM};

use crate::support::{self, Shop};

/// A broker on which nothing was told yet.
pub(crate) struct Broker {
    pub(crate) events: Events,
    _connection: Connection,
}

impl FromScope<Shop> for Broker {
    async fn from_scope(_: &Scope) -> dagz::Result<Self> {
        let uri = support::rerouted_broker().await?;
        Self::at(uri).await.map_err(|error| {
            Error::new(ErrorKind::Prepare, "opening the broker failed").with_source(error)
        })
    }
}

impl Broker {
    async fn at(uri: AMQPUri) -> Result<Self, shop::Error> {
        let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await?;
        let events = Events::over(&connection).await?;
        if !dagz::active() {
            let channel = connection.create_channel().await?;
            for queue in [POST_ROOM, NEWSLETTER] {
                channel
                    .queue_purge(queue.into(), QueuePurgeOptions::default())
                    .await?;
            }
        }
        Ok(Self {
            events,
            _connection: connection,
        })
    }
}

/// Declares what the application needs, once per worker.
pub(crate) async fn declare(uri: AMQPUri) -> Result<(), shop::Error> {
    let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await?;
    Events::over(&connection).await?;
    Ok(())
}
