//! From whatever a test left to the start state: [`Keeper::sweep`].
//!
//! It runs when the test's connections are closed. What was declared, deleted or changed shows in the vhost's
//! definitions, which are the broker's own tables and never stale. What was published shows when one asks for it:
//! a `basic.get` waits its turn behind whatever else the queue has to do, such as taking back what a closed
//! consumer had not acknowledged, whereas a passive declare overtakes that. So queues are asked for a message
//! until they have none.

use dagz_core::Target;
use dagz_core::event::Event;
use futures_util::future::join_all;
use lapin::{
    Channel, ExchangeKind,
    options::{
        BasicGetOptions, ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        ExchangeUnbindOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
        QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use super::{Failure, keeper::Keeper, settings};
use crate::{
    error::Cause,
    management::part,
    provision::Start,
    topology::{Binding, Drift, Exchange, Kind, OWN, Queue, Topology},
};

/// How often the vhost may turn out to be other than it should be.
const ROUNDS: usize = 12;

/// Up to so many messages are taken one by one: on newer brokers a purge costs as much as fifty of them.
const FEW: u32 = 40;

/// What may be done, and came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// It is in its start state.
    Clean,
    /// It is not, and will not be by these means.
    Stuck,
}

impl Keeper {
    /// Brings the vhost to `start`. Without `settings`, what only the management API can change is left alone.
    pub(super) async fn sweep(
        &self,
        target: &Target,
        start: &Start,
        settings: bool,
    ) -> Result<Sweep, Failure> {
        let topology = &start.topology;
        let passes = 1 + usize::from(topology.has_dead_letters());
        let mut look = true;
        let mut clean = 0;
        for _ in 0..ROUNDS {
            let ((now, locked), drained) =
                futures_util::future::try_join(self.look(look), self.drain(topology)).await?;
            let drift = now.map(|now| topology.drift(&now)).unwrap_or_default();
            if !drift.is_empty() || !locked.is_empty() {
                Event::new("drift")
                    .target(target)
                    .detail(drift.describe())
                    .record();
                if drift.needs_management() && !settings {
                    return Ok(Sweep::Stuck);
                }
                if !locked.is_empty() {
                    // Its connection is about to end.
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                self.undo(topology, &drift).await?;
                clean = 0;
                look = true;
                continue;
            }
            if drained == Drained::Missing {
                // A queue went away by itself since the definitions were read.
                look = true;
                clean = 0;
                continue;
            }
            look = false;
            match drained {
                Drained::Nothing => clean += 1,
                _ => clean = 0,
            }
            if clean >= passes {
                return Ok(Sweep::Clean);
            }
        }
        Ok(Sweep::Stuck)
    }

    /// A queue that has messages, and how many.
    pub(crate) async fn messages(
        &self,
        topology: &Topology,
    ) -> Result<Option<(String, u32)>, Failure> {
        let channel = self.second_channel().await?;
        for name in topology.queues.keys() {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let told = channel
                .queue_declare(name.as_str().into(), passive, FieldTable::default())
                .await;
            let told = told.map_err(|error| {
                let message = format!("cannot look at queue `{name}` of vhost `{}`", self.vhost);
                Failure::of(&message, error)
            })?;
            if told.message_count() > 0 {
                return Ok(Some((name.clone(), told.message_count())));
            }
        }
        drop(channel.close(200, "done".into()).await);
        Ok(None)
    }

    /// What is in the vhost now, and which queues belong to a connection, whoever has it.
    async fn look(&self, wanted: bool) -> Result<(Option<Topology>, Vec<String>), Failure> {
        if !wanted {
            return Ok((None, Vec::new()));
        }
        let path = format!(
            "/api/queues/{}?disable_stats=true&enable_queue_totals=true",
            part(&self.vhost)
        );
        let (definitions, queues) = futures_util::future::join(
            self.server.definitions(&self.vhost),
            self.server.management().get(&path),
        )
        .await;
        let definitions = definitions.map_err(Failure::Final)?.unwrap_or_default();
        let queues = queues.map_err(|trouble| {
            let doing = format!("list the queues of vhost `{}`", self.vhost);
            Failure::Final(trouble.into_error(dagz_core::ErrorKind::Prepare, &doing))
        })?;
        let queues = queues.as_ref().and_then(Value::as_array);
        let locked = queues.into_iter().flatten().filter_map(|queue| {
            let name = queue["name"].as_str()?;
            let exclusive = queue["exclusive"] == Value::Bool(true);
            (exclusive && !name.starts_with(OWN)).then(|| name.to_owned())
        });
        Ok((Some(Topology::of(&definitions)), locked.collect()))
    }

    /// Takes all messages out of the queues of `topology`, once.
    async fn drain(&self, topology: &Topology) -> Result<Drained, Failure> {
        if topology.queues.is_empty() {
            return Ok(Drained::Nothing);
        }
        let channel = self.second_channel().await?;
        let drained = drain(&channel, topology).await;
        match drained {
            Ok(drained) => {
                drop(channel.close(200, "done".into()).await);
                Ok(drained)
            }
            Err(error) if Cause::of(&error) == Cause::NotFound => Ok(Drained::Missing),
            Err(error) => {
                let message = format!("cannot empty the queues of vhost `{}`", self.vhost);
                Err(Failure::of(&message, error))
            }
        }
    }

    /// Does what `drift` says, as far as it can; whoever calls looks again.
    async fn undo(&self, start: &Topology, drift: &Drift) -> Result<(), Failure> {
        settings::apply(&self.server, &self.vhost, drift)
            .await
            .map_err(Failure::Final)?;
        let mut channel = self.second_channel().await?;
        for step in steps(drift) {
            let done = join_all(step.iter().map(|step| step.run(&channel, start))).await;
            let mut errors = done.into_iter().filter_map(Result::err);
            let Some(error) = errors.next() else {
                continue;
            };
            match Cause::of(&error) {
                // What was to go has gone, or is in somebody's way for another moment.
                Cause::NotFound | Cause::Locked | Cause::Other => {
                    channel = self.second_channel().await?;
                }
                _ => {
                    let message = format!("cannot reset vhost `{}`", self.vhost);
                    return Err(Failure::of(&message, error));
                }
            }
        }
        drop(channel.close(200, "done".into()).await);
        Ok(())
    }
}

/// What was found in the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Nothing,
    Some,
    /// One of them is not there.
    Missing,
}

async fn drain(channel: &Channel, topology: &Topology) -> lapin::Result<Drained> {
    let take = BasicGetOptions { no_ack: true };
    let names = topology.queues.iter();
    let (getable, others): (Vec<_>, Vec<_>) = names.partition(|(_, queue)| queue.can_get());
    let gets = getable
        .iter()
        .map(|(name, _)| channel.basic_get(name.as_str().into(), take));
    let mut found = Drained::Nothing;
    for ((name, _), got) in getable.iter().zip(join_all(gets).await) {
        let Some(message) = got? else {
            continue;
        };
        found = Drained::Some;
        match message.message_count {
            0 => {}
            few if few <= FEW => {
                let rest = (0..few).map(|_| channel.basic_get(name.as_str().into(), take));
                for got in join_all(rest).await {
                    got?;
                }
            }
            _ => {
                channel
                    .queue_purge(name.as_str().into(), QueuePurgeOptions::default())
                    .await?;
            }
        }
    }
    for (name, queue) in others {
        if queue.kind() == Kind::Stream {
            // Nothing removes what is in a stream, but the stream's end.
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let declared = channel
                .queue_declare(name.as_str().into(), passive, FieldTable::default())
                .await?;
            if declared.message_count() > 0 {
                let delete = QueueDeleteOptions::default();
                channel.queue_delete(name.as_str().into(), delete).await?;
                found = Drained::Missing;
            }
        } else {
            let purge = QueuePurgeOptions::default();
            if channel.queue_purge(name.as_str().into(), purge).await? > 0 {
                found = Drained::Some;
            }
        }
    }
    Ok(found)
}

/// One command.
enum Step<'a> {
    Unbind(&'a Binding),
    DeleteQueue(&'a str),
    DeleteExchange(&'a str),
    DeclareExchange(&'a str),
    DeclareQueue(&'a str),
    Bind(&'a Binding),
}

/// The commands of `drift`, in groups of which each needs what those before it did.
fn steps<'a>(drift: &'a Drift) -> Vec<Vec<Step<'a>>> {
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
    async fn run(&self, channel: &Channel, start: &Topology) -> lapin::Result<()> {
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
            .queue_bind(destination.into(), source.into(), key.into(), options, arguments)
            .await
    } else {
        let options = ExchangeBindOptions::default();
        channel
            .exchange_bind(destination.into(), source.into(), key.into(), options, arguments)
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
            .exchange_unbind(destination.into(), source.into(), key.into(), options, arguments)
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
