//! What a test may do at random, over connections and channels that stay open: [`Act`], and [`acts`].
//!
//! The names are those of `start.rs`; `test.rs` has the connections.

use lapin::{
    BasicProperties, Channel, ExchangeKind, PublisherConfirm,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicPublishOptions, BasicQosOptions, ExchangeBindOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, ExchangeUnbindOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    start::{EXCHANGES, FIXED, KEYS, QUEUES, arguments, operator_policy, policy},
    support::management::{self, part},
};

/// One thing a test may do; what the broker refuses fails, as it does in tests.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Publish(&'static str, &'static str, How),
    /// So many that nobody waits for.
    Burst(&'static str, u32),
    Get(&'static str),
    Consume(&'static str),
    /// What of all that the channel holds, or its consumers took: whether it goes, and comes back.
    Settle(Settle),
    Purge(&'static str),
    Declare(&'static str, Value, Extent),
    Delete(&'static str),
    DeclareExchange(&'static str, &'static str, bool),
    DeleteExchange(&'static str),
    Bind(Ends),
    Unbind(Ends),
    Select,
    Commit,
    Rollback,
    /// Closes the connection, as a test should.
    Close,
    /// As whoever may: not over a connection that ends with the test.
    Set(&'static str, Value),
    Unset(&'static str),
}

/// What a message is like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Plain,
    Persistent,
    /// It expires at once.
    Fleeting,
    Urgent,
    WithHeader,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Settle {
    Acknowledged,
    Rejected,
    GivenBack,
}

/// Of whom a queue is, and how long it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    Durable,
    AutoDelete,
    Exclusive,
}

/// Source, destination, whether that is a queue, key, and the number in the arguments, of either of two types.
pub(crate) type Ends = (
    &'static str,
    (&'static str, bool),
    &'static str,
    Option<bool>,
);

/// Where the management API has what a test may set.
const SETTINGS: [&str; 6] = [
    "policies/p0",
    "policies/p1",
    "policies/extra",
    "operator-policies/o0",
    "vhost-limits/max-queues",
    "vhost-limits/max-connections",
];

/// What is done, each by the connection and the channel of it that have these numbers.
pub(crate) type Acts = Vec<((usize, usize), Act)>;

/// Such acts; `late` ones are over the connections alone.
pub(crate) fn acts(most: usize, is_late: bool) -> impl Strategy<Value = Acts> {
    let act = act().prop_filter("it would be seen", move |act| {
        !is_late || !matches!(act, Act::Set(..) | Act::Unset(_))
    });
    vec(((0..3_usize, 0..2_usize), act), 0..most)
}

/// Messages for any queue, and nothing else that would have to be undone.
pub(crate) fn messages() -> impl Strategy<Value = Acts> {
    let sent = select(QUEUES.as_slice()).prop_map(|queue| Act::Publish("", queue, How::Plain));
    vec(((0..3_usize, 0..2_usize), sent), 1..4)
}

/// What goes on as long as the connection is there.
pub(crate) fn lasting() -> impl Strategy<Value = Acts> {
    let queue = || select(QUEUES.as_slice());
    let act = prop_oneof![
        queue().prop_map(Act::Consume),
        queue().prop_map(|queue| Act::Publish("", queue, How::Plain)),
        queue().prop_map(Act::Get),
    ];
    vec(((0..3_usize, 0..2_usize), act), 1..6)
}

fn act() -> impl Strategy<Value = Act> {
    let queue = || prop_oneof![12 => select(QUEUES.as_slice()), 1 => Just("dagz.mark")];
    let exchange = || prop_oneof![4 => select(EXCHANGES.as_slice()), 1 => select(FIXED.as_slice())];
    let key = || select(KEYS.as_slice());
    let how = || {
        select(
            [
                How::Plain,
                How::Plain,
                How::Persistent,
                How::Fleeting,
                How::Urgent,
                How::WithHeader,
            ]
            .as_slice(),
        )
    };
    let declared = select(["classic", "quorum", "stream"].as_slice()).prop_flat_map(arguments);
    let extent = select(
        [
            Extent::Durable,
            Extent::Durable,
            Extent::AutoDelete,
            Extent::Exclusive,
        ]
        .as_slice(),
    );
    let ends = || {
        let destination = prop_oneof![
            3 => queue().prop_map(|name| (name, true)),
            1 => select(EXCHANGES.as_slice()).prop_map(|name| (name, false)),
        ];
        (
            exchange(),
            destination,
            key(),
            prop::option::weighted(0.4, any::<bool>()),
        )
    };
    let own = select(["dagz.mark", "dagz.lease"].as_slice());
    let set = prop_oneof![
        3 => (select(&SETTINGS[..3]), policy()),
        1 => operator_policy().prop_map(|value| (SETTINGS[3], value)),
        1 => (0..9_i32).prop_map(|most| (SETTINGS[4], json!({"value": most}))),
        1 => (0..3_i32).prop_map(|most| (SETTINGS[5], json!({"value": most}))),
    ];
    prop_oneof![
        6 => (exchange(), key(), how()).prop_map(|(exchange, key, how)| Act::Publish(exchange, key, how)),
        8 => (queue(), how()).prop_map(|(queue, how)| Act::Publish("", queue, how)),
        2 => (queue(), 2..200_u32).prop_map(|(queue, count)| Act::Burst(queue, count)),
        4 => queue().prop_map(Act::Get),
        3 => queue().prop_map(Act::Consume),
        3 => select([Settle::Acknowledged, Settle::Rejected, Settle::GivenBack].as_slice()).prop_map(Act::Settle),
        1 => queue().prop_map(Act::Purge),
        4 => (queue(), declared, extent).prop_map(|(queue, arguments, extent)| Act::Declare(queue, arguments, extent)),
        3 => queue().prop_map(Act::Delete),
        1 => own.prop_map(Act::Delete),
        3 => (exchange(), select(["direct", "fanout", "topic", "headers"].as_slice()), any::<bool>())
            .prop_map(|(exchange, kind, is_fleeting)| Act::DeclareExchange(exchange, kind, is_fleeting)),
        2 => exchange().prop_map(Act::DeleteExchange),
        5 => ends().prop_map(Act::Bind),
        3 => ends().prop_map(Act::Unbind),
        2 => Just(Act::Select),
        1 => Just(Act::Commit),
        1 => Just(Act::Rollback),
        1 => Just(Act::Close),
        2 => set.prop_map(|(what, value)| Act::Set(what, value)),
        1 => select(SETTINGS.as_slice()).prop_map(Act::Unset),
    ]
}

/// The arguments of a binding: one number, of a type or another, is not one argument to the broker.
fn with_number(is_long: Option<bool>) -> FieldTable {
    let mut arguments = FieldTable::default();
    if let Some(is_long) = is_long {
        arguments.insert("x-match".into(), AMQPValue::LongString("any".into()));
        let number = match is_long {
            true => AMQPValue::LongLongInt(1),
            false => AMQPValue::LongInt(1),
        };
        arguments.insert("n".into(), number);
    }
    arguments
}

/// Arguments as another library than lapin would send them.
fn table(arguments: &Value) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in arguments.as_object().into_iter().flatten() {
        let value = match value {
            Value::Bool(value) => AMQPValue::Boolean(*value),
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            number => AMQPValue::LongInt(
                number
                    .as_i64()
                    .unwrap_or_default()
                    .try_into()
                    .unwrap_or(i32::MAX),
            ),
        };
        table.insert(key.as_str().into(), value);
    }
    table
}

fn message(how: How) -> BasicProperties {
    let plain = BasicProperties::default();
    match how {
        How::Plain => plain,
        How::Persistent => plain.with_delivery_mode(2),
        How::Fleeting => plain.with_expiration("0".into()),
        How::Urgent => plain.with_priority(4),
        How::WithHeader => plain.with_headers(with_number(Some(true))),
    }
}

/// Sends a message, which is confirmed if the channel confirms.
pub(crate) async fn send(
    channel: &Channel,
    exchange: &str,
    key: &str,
    how: How,
) -> Result<PublisherConfirm, lapin::Error> {
    let options = BasicPublishOptions::default();
    let (exchange, key) = (exchange.into(), key.into());
    let sent = channel.basic_publish(exchange, key, options, b"text", message(how));
    sent.await
}

impl Act {
    /// Does it; what is taken and not acknowledged is added to `held`.
    pub(crate) async fn run(
        &self,
        channel: &Channel,
        vhost: &str,
        held: &mut Vec<Delivery>,
    ) -> Result<(), lapin::Error> {
        let none = FieldTable::default;
        let setting = |what: &str| {
            let (kind, name) = what.split_once('/').unwrap_or_default();
            format!("/api/{kind}/{}/{name}", part(vhost))
        };
        match self {
            Self::Publish(exchange, key, how) => {
                send(channel, exchange, key, *how).await?.await?;
            }
            Self::Burst(queue, count) => {
                for _ in 0..*count {
                    drop(send(channel, "", queue, How::Plain).await?);
                }
            }
            Self::Get(queue) => {
                let got = channel
                    .basic_get((*queue).into(), BasicGetOptions::default())
                    .await?;
                held.extend(got.map(|got| got.delivery));
            }
            Self::Consume(queue) => {
                // Streams need it.
                channel.basic_qos(3, BasicQosOptions::default()).await?;
                let options = BasicConsumeOptions::default();
                let consumer = channel.basic_consume((*queue).into(), "".into(), options, none());
                std::mem::forget(consumer.await?);
            }
            Self::Settle(how) => {
                for delivery in held.drain(..) {
                    let back = |requeue| BasicNackOptions {
                        requeue,
                        ..BasicNackOptions::default()
                    };
                    match how {
                        Settle::Acknowledged => delivery.ack(BasicAckOptions::default()).await?,
                        Settle::Rejected => delivery.nack(back(false)).await?,
                        Settle::GivenBack => delivery.nack(back(true)).await?,
                    };
                }
            }
            Self::Purge(queue) => {
                channel
                    .queue_purge((*queue).into(), QueuePurgeOptions::default())
                    .await?;
            }
            Self::Declare(queue, arguments, extent) => {
                let options = QueueDeclareOptions {
                    durable: !matches!(extent, Extent::Exclusive),
                    exclusive: matches!(extent, Extent::Exclusive),
                    auto_delete: matches!(extent, Extent::AutoDelete),
                    ..QueueDeclareOptions::default()
                };
                channel
                    .queue_declare((*queue).into(), options, table(arguments))
                    .await?;
            }
            Self::Delete(queue) => {
                channel
                    .queue_delete((*queue).into(), QueueDeleteOptions::default())
                    .await?;
            }
            Self::DeclareExchange(exchange, kind, is_fleeting) => {
                let kind = match *kind {
                    "fanout" => ExchangeKind::Fanout,
                    "topic" => ExchangeKind::Topic,
                    "headers" => ExchangeKind::Headers,
                    _ => ExchangeKind::Direct,
                };
                let options = ExchangeDeclareOptions {
                    durable: !is_fleeting,
                    auto_delete: *is_fleeting,
                    ..ExchangeDeclareOptions::default()
                };
                channel
                    .exchange_declare((*exchange).into(), kind, options, none())
                    .await?;
            }
            Self::DeleteExchange(exchange) => {
                channel
                    .exchange_delete((*exchange).into(), ExchangeDeleteOptions::default())
                    .await?;
            }
            Self::Bind((source, (destination, is_queue), key, number)) => {
                let (source, destination, key) =
                    ((*source).into(), (*destination).into(), (*key).into());
                let arguments = with_number(*number);
                if *is_queue {
                    let options = QueueBindOptions::default();
                    channel
                        .queue_bind(destination, source, key, options, arguments)
                        .await?;
                } else {
                    let options = ExchangeBindOptions::default();
                    channel
                        .exchange_bind(destination, source, key, options, arguments)
                        .await?;
                }
            }
            Self::Unbind((source, (destination, is_queue), key, number)) => {
                let (source, destination, key) =
                    ((*source).into(), (*destination).into(), (*key).into());
                let arguments = with_number(*number);
                if *is_queue {
                    channel
                        .queue_unbind(destination, source, key, arguments)
                        .await?;
                } else {
                    let options = ExchangeUnbindOptions::default();
                    channel
                        .exchange_unbind(destination, source, key, options, arguments)
                        .await?;
                }
            }
            Self::Select => channel.tx_select().await?,
            Self::Commit => channel.tx_commit().await?,
            Self::Rollback => channel.tx_rollback().await?,
            // Whoever has the connection does it.
            Self::Close => {}
            // What does not fit to something else is refused.
            Self::Set(what, value) => drop(management::put(&setting(what), value)),
            Self::Unset(what) => drop(management::delete(&setting(what))),
        }
        Ok(())
    }
}
