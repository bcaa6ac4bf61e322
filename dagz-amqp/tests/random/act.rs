//! What a test may do at random: [`Act`].

use lapin::{
    Channel, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
        QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use proptest::{prelude::*, sample::select};
use serde_json::json;

use crate::support::management::{self, part};

/// Those of the start state, and two more.
const QUEUES: [&str; 7] = [
    "orders", "mail", "ledger", "audit", "retry", "extra", "more",
];
/// One of the broker's own among them.
const EXCHANGES: [&str; 4] = ["events", "all", "amq.topic", "extra"];
const KEYS: [&str; 4] = ["", "order.new", "order.paid", "orders"];
const KINDS: [&str; 4] = ["classic", "quorum", "stream", "otherwise"];
/// Where the management API has them, and their names. The first is of the start state.
const SETTINGS: [(&str, &str); 4] = [
    ("policies", "short"),
    ("policies", "extra"),
    ("operator-policies", "extra"),
    ("vhost-limits", "max-queues"),
];

/// One thing a test may do; what the broker refuses fails, as it does in tests.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Publish(&'static str, &'static str),
    Send(&'static str),
    Declare(&'static str, &'static str),
    DeclareOwn(&'static str),
    Delete(&'static str),
    Purge(&'static str),
    Get(&'static str),
    Consume(&'static str),
    DeclareExchange(&'static str),
    DeleteExchange(&'static str),
    Bind(&'static str, &'static str, &'static str),
    Unbind(&'static str, &'static str, &'static str),
    /// A transaction that is left open.
    Transact(&'static str),
    /// As whoever may: not over a connection that ends with the test.
    Set((&'static str, &'static str)),
    Unset((&'static str, &'static str)),
}

pub(crate) fn act() -> impl Strategy<Value = Act> {
    let queue = || select(QUEUES.as_slice());
    let exchange = || select(EXCHANGES.as_slice());
    let key = || select(KEYS.as_slice());
    prop_oneof![
        4 => (exchange(), key()).prop_map(|(exchange, key)| Act::Publish(exchange, key)),
        4 => queue().prop_map(Act::Send),
        2 => (queue(), select(KINDS.as_slice())).prop_map(|(queue, kind)| Act::Declare(queue, kind)),
        1 => queue().prop_map(Act::DeclareOwn),
        2 => queue().prop_map(Act::Delete),
        1 => queue().prop_map(Act::Purge),
        2 => queue().prop_map(Act::Get),
        1 => queue().prop_map(Act::Consume),
        2 => exchange().prop_map(Act::DeclareExchange),
        1 => exchange().prop_map(Act::DeleteExchange),
        2 => (queue(), exchange(), key()).prop_map(|(queue, exchange, key)| Act::Bind(queue, exchange, key)),
        2 => (queue(), exchange(), select(["order.*", "order.paid", ""].as_slice()))
            .prop_map(|(queue, exchange, key)| Act::Unbind(queue, exchange, key)),
        1 => queue().prop_map(Act::Transact),
        1 => select(SETTINGS.as_slice()).prop_map(Act::Set),
        1 => select(SETTINGS.as_slice()).prop_map(Act::Unset),
    ]
}

impl Act {
    pub(crate) async fn run(&self, channel: &Channel, vhost: &str) -> Result<(), lapin::Error> {
        let none = FieldTable::default;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let setting = |(kind, name)| format!("/api/{kind}/{}/{name}", part(vhost));
        match *self {
            Self::Publish(exchange, key) => publish(channel, exchange, key).await?,
            Self::Send(queue) => publish(channel, "", queue).await?,
            Self::Declare(queue, kind) => {
                let (name, value) = match kind {
                    "otherwise" => ("x-max-length", AMQPValue::LongInt(7)),
                    kind => ("x-queue-type", AMQPValue::LongString(kind.into())),
                };
                let mut arguments = none();
                arguments.insert(name.into(), value);
                channel
                    .queue_declare(queue.into(), durable, arguments)
                    .await?;
            }
            Self::DeclareOwn(queue) => {
                let own = QueueDeclareOptions {
                    exclusive: true,
                    auto_delete: true,
                    ..QueueDeclareOptions::default()
                };
                channel.queue_declare(queue.into(), own, none()).await?;
            }
            Self::Delete(queue) => {
                let options = QueueDeleteOptions::default();
                channel.queue_delete(queue.into(), options).await?;
            }
            Self::Purge(queue) => {
                let options = QueuePurgeOptions::default();
                channel.queue_purge(queue.into(), options).await?;
            }
            Self::Get(queue) => {
                let options = BasicGetOptions::default();
                channel.basic_get(queue.into(), options).await?;
            }
            Self::Consume(queue) => {
                let options = BasicConsumeOptions::default();
                let consumer = channel.basic_consume(queue.into(), "".into(), options, none());
                std::mem::forget(consumer.await?);
            }
            Self::DeclareExchange(exchange) => {
                let options = ExchangeDeclareOptions::default();
                let kind = ExchangeKind::Direct;
                channel
                    .exchange_declare(exchange.into(), kind, options, none())
                    .await?;
            }
            Self::DeleteExchange(exchange) => {
                let options = ExchangeDeleteOptions::default();
                channel.exchange_delete(exchange.into(), options).await?;
            }
            Self::Bind(queue, exchange, key) => {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(queue.into(), exchange.into(), key.into(), options, none())
                    .await?;
            }
            Self::Unbind(queue, exchange, key) => {
                channel
                    .queue_unbind(queue.into(), exchange.into(), key.into(), none())
                    .await?;
            }
            Self::Transact(queue) => {
                channel.tx_select().await?;
                let options = BasicPublishOptions::default();
                channel
                    .basic_publish(
                        "".into(),
                        queue.into(),
                        options,
                        b"late",
                        Default::default(),
                    )
                    .await?;
            }
            Self::Set(which) => {
                let value = match which.0 {
                    "vhost-limits" => json!({"value": 8}),
                    _ => {
                        json!({"pattern": "^mail", "definition": {"max-length": 2}, "priority": 1, "apply-to": "queues"})
                    }
                };
                management::put(&setting(which), &value).expect("it is set");
            }
            Self::Unset(which) => management::delete(&setting(which)).expect("it goes"),
        }
        Ok(())
    }
}

async fn publish(channel: &Channel, exchange: &str, key: &str) -> Result<(), lapin::Error> {
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            options,
            b"text",
            Default::default(),
        )
        .await?
        .await
        .map(drop)
}
