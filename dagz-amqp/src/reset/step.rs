//! The commands that lead from one topology to another: [`steps`], and how each is run.

use lapin::{
    Channel, ExchangeKind,
    options::{
        ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, ExchangeUnbindOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use crate::topology::{Binding, Drift, Exchange, Queue, Topology};

/// One command.
pub(super) enum Step<'a> {
    Unbind(&'a Binding),
    DeleteQueue(&'a str),
    DeleteExchange(&'a str),
    DeclareExchange(&'a str),
    DeclareQueue(&'a str),
    Bind(&'a Binding),
}

/// The commands of `drift`, in groups of which each needs what those before it did.
pub(super) fn steps<'a>(drift: &'a Drift) -> Vec<Vec<Step<'a>>> {
    let bindings = drift.unbind.iter();
    // The management API has removed the others, which it knows by their arguments.
    let bare = bindings.filter(|binding| binding.arguments == "{}");
    let names = |names: &'a [String], step: fn(&'a str) -> Step<'a>| -> Vec<Step<'a>> {
        names.iter().map(|name| step(name)).collect()
    };
    vec![
        bare.map(Step::Unbind).collect(),
        names(&drift.delete_queues, Step::DeleteQueue),
        names(&drift.delete_exchanges, Step::DeleteExchange),
        names(&drift.declare_exchanges, Step::DeclareExchange),
        names(&drift.declare_queues, Step::DeclareQueue),
        drift.bind.iter().map(Step::Bind).collect(),
    ]
}

impl Step<'_> {
    /// Runs it; `start` has what is declared.
    pub(super) async fn run(&self, channel: &Channel, start: &Topology) -> lapin::Result<()> {
        match self {
            Step::Unbind(binding) => unbind(channel, binding).await,
            Step::DeleteQueue(name) => channel
                .queue_delete((*name).into(), QueueDeleteOptions::default())
                .await
                .map(drop),
            Step::DeleteExchange(name) => {
                channel
                    .exchange_delete((*name).into(), ExchangeDeleteOptions::default())
                    .await
            }
            Step::DeclareExchange(name) => match start.exchanges.get(*name) {
                Some(exchange) => declare_exchange(channel, name, exchange).await,
                None => Ok(()),
            },
            Step::DeclareQueue(name) => match start.queues.get(*name) {
                Some(queue) => declare_queue(channel, name, queue).await,
                None => Ok(()),
            },
            Step::Bind(binding) => bind(channel, binding).await,
        }
    }
}

async fn declare_exchange(channel: &Channel, name: &str, exchange: &Exchange) -> lapin::Result<()> {
    let kind = match exchange.kind.as_str() {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "headers" => ExchangeKind::Headers,
        "topic" => ExchangeKind::Topic,
        other => ExchangeKind::Custom(other.to_owned()),
    };
    let options = ExchangeDeclareOptions {
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        ..ExchangeDeclareOptions::default()
    };
    let arguments = table(&exchange.arguments);
    channel
        .exchange_declare(name.into(), kind, options, arguments)
        .await
}

async fn declare_queue(channel: &Channel, name: &str, queue: &Queue) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        durable: queue.durable,
        auto_delete: queue.auto_delete,
        ..QueueDeclareOptions::default()
    };
    let arguments = table(&queue.arguments);
    channel
        .queue_declare(name.into(), options, arguments)
        .await
        .map(drop)
}

async fn bind(channel: &Channel, binding: &Binding) -> lapin::Result<()> {
    let arguments: Value = serde_json::from_str(&binding.arguments).unwrap_or_default();
    let arguments = table(&arguments);
    let (source, destination) = (binding.source.as_str(), binding.destination.as_str());
    let key = binding.routing_key.as_str();
    if binding.to_queue() {
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                destination.into(),
                source.into(),
                key.into(),
                options,
                arguments,
            )
            .await
    } else {
        let options = ExchangeBindOptions::default();
        channel
            .exchange_bind(
                destination.into(),
                source.into(),
                key.into(),
                options,
                arguments,
            )
            .await
    }
}

async fn unbind(channel: &Channel, binding: &Binding) -> lapin::Result<()> {
    let (source, destination) = (binding.source.as_str(), binding.destination.as_str());
    let key = binding.routing_key.as_str();
    let arguments = FieldTable::default();
    if binding.to_queue() {
        channel
            .queue_unbind(destination.into(), source.into(), key.into(), arguments)
            .await
    } else {
        let options = ExchangeUnbindOptions::default();
        channel
            .exchange_unbind(
                destination.into(),
                source.into(),
                key.into(),
                options,
                arguments,
            )
            .await
    }
}

/// Arguments as the broker keeps them when they come as JSON.
fn table(arguments: &Value) -> FieldTable {
    let mut table = FieldTable::default();
    if let Value::Object(arguments) = arguments {
        for (key, value) in arguments {
            table.insert(key.as_str().into(), argument(value));
        }
    }
    table
}

fn argument(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(argument).collect();
            AMQPValue::FieldArray(list.into())
        }
        Value::Object(_) => AMQPValue::FieldTable(table(value)),
    }
}
