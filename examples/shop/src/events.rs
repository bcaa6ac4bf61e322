//! What happens in the shop, told on a RabbitMQ exchange to whoever listens: the post room and the newsletter.
//!
//! The main type is [`Events`]. An event may be told twice, after a crash in between; its number is the message's id.

use deadpool_postgres::Pool;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};

use crate::error::Error;

/// Where events are told; the topic is the routing key.
const EXCHANGE: &str = "shop.events";

/// The queue of those who send what was paid for.
pub const POST_ROOM: &str = "shop.post-room";

/// The queue of those who write to customers.
pub const NEWSLETTER: &str = "shop.newsletter";

/// Which events reach whom.
const BINDINGS: [(&str, &str); 2] = [(POST_ROOM, "order.paid"), (NEWSLETTER, "order.*")];

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number in the outbox.
    pub id: i64,
    /// What kind of thing.
    pub topic: String,
}

/// The exchange and its queues, over one channel.
#[derive(Debug, Clone)]
pub struct Events {
    channel: Channel,
}

impl Events {
    /// Opens a channel, and declares what is not there yet.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn over(broker: &Connection) -> Result<Self, Error> {
        let channel = broker.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                EXCHANGE.into(),
                ExchangeKind::Topic,
                durable,
                FieldTable::default(),
            )
            .await?;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        for (queue, topic) in BINDINGS {
            channel
                .queue_declare(queue.into(), durable, FieldTable::default())
                .await?;
            channel
                .queue_bind(
                    queue.into(),
                    EXCHANGE.into(),
                    topic.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(Self { channel })
    }

    /// Tells what happened in the shop at `shop` after event number `last`, and returns the number of the last event
    /// told.
    ///
    /// # Errors
    /// When the database or the broker refuses; what was told until then stays told.
    pub async fn tell(&self, shop: &Pool, last: i64) -> Result<i64, Error> {
        let happened = shop
            .get()
            .await?
            .query(
                "SELECT id, topic, payload::text FROM outbox WHERE id > $1 ORDER BY id",
                &[&last],
            )
            .await?;
        let mut told = last;
        for row in happened {
            let (id, topic, payload): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            let properties = BasicProperties::default()
                .with_message_id(id.to_string().into())
                .with_delivery_mode(2);
            self.channel
                .basic_publish(
                    EXCHANGE.into(),
                    topic.into(),
                    BasicPublishOptions::default(),
                    payload.as_bytes(),
                    properties,
                )
                .await?
                .await?;
            told = id;
        }
        Ok(told)
    }

    /// Takes the next event out of `queue`, if there is one.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn next(&self, queue: &str) -> Result<Option<Event>, Error> {
        let taken = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), taken).await?;
        Ok(got.map(|message| {
            let id = message.properties.message_id().as_ref();
            Event {
                id: id.and_then(|id| id.as_str().parse().ok()).unwrap_or(0),
                topic: message.routing_key.to_string(),
            }
        }))
    }
}
