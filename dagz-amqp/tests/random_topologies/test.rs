//! The connections of one test at random, which stay open: [`Test`], and [`flood`], which never ends.
//!
//! `act.rs` has what is done over them, `round.rs` when.

use std::time::Duration;

use lapin::{
    Channel, Connection, ConnectionProperties, message::Delivery, options::ConfirmSelectOptions,
    uri::AMQPUri,
};
use tokio::time::timeout;

use crate::act::{self, Act, Acts, How};

/// Longer than the broker takes for anything that a test does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longer than it takes to log in.
const LOGIN: Duration = Duration::from_secs(1);

/// One of a test's connections.
#[derive(Default)]
struct Open {
    connection: Option<Connection>,
    /// The first of them confirms.
    channels: [Option<Channel>; 2],
    held: [Vec<Delivery>; 2],
}

/// The connections of one test.
pub(crate) struct Test {
    pub(crate) address: AMQPUri,
    /// Whether it was not let in, and does not try again.
    is_refused: bool,
    connections: [Open; 3],
}

impl Test {
    pub(crate) fn new(address: AMQPUri) -> Self {
        Self {
            address,
            is_refused: false,
            connections: Default::default(),
        }
    }

    pub(crate) async fn run(&mut self, acts: &Acts) {
        for (by, act) in acts {
            if timeout(PATIENCE, self.act(*by, act)).await.is_err() {
                // Whoever waits in vain gives up, as a test does.
                self.connections[by.0] = Open::default();
            }
        }
    }

    /// Does it, if it is let in: whoever is refused loses the channel, or even the connection.
    async fn act(&mut self, (connection, channel): (usize, usize), act: &Act) {
        let open = &mut self.connections[connection];
        let is_open = |connection: &Connection| connection.status().connected();
        if !open.connection.as_ref().is_some_and(is_open) {
            if self.is_refused {
                return;
            }
            let properties = ConnectionProperties::default();
            let anew = Connection::connect_uri(self.address.clone(), properties);
            // Who may not log in is told so only seconds later.
            let Ok(Ok(anew)) = timeout(LOGIN, anew).await else {
                self.is_refused = true;
                return;
            };
            *open = Open {
                connection: Some(anew),
                ..Open::default()
            };
        }
        if let Act::Close = act {
            if let Some(connection) = open.connection.take() {
                // What was broken off meanwhile may never tell.
                let closing = connection.close(200, "".into());
                drop(timeout(PATIENCE / 2, closing).await);
            }
            return;
        }
        let Some(connection) = &open.connection else {
            return;
        };
        let is_open = |channel: &Channel| channel.status().connected();
        if !open.channels[channel].as_ref().is_some_and(is_open) {
            open.held[channel].clear();
            open.channels[channel] = connection.create_channel().await.ok();
            if let (0, Some(first)) = (channel, &open.channels[0]) {
                let options = ConfirmSelectOptions::default();
                drop(first.confirm_select(options).await);
            }
        }
        if let Some(own) = &open.channels[channel] {
            let vhost = &self.address.vhost;
            // What the broker refuses fails, as it does in tests.
            drop(act.run(own, vhost, &mut open.held[channel]).await);
        }
    }
}

/// Sends to the queue as fast as the broker takes it, as long as the connection is there.
pub(crate) async fn flood(address: AMQPUri, queue: &'static str) {
    let properties = ConnectionProperties::default();
    let Ok(connection) = Connection::connect_uri(address, properties).await else {
        return;
    };
    if let Ok(channel) = connection.create_channel().await {
        while act::send(&channel, "", queue, How::Plain).await.is_ok() {}
    }
}
