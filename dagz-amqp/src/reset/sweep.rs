//! From whatever a test left to the start state: [`Keeper::sweep`].
//!
//! It runs when the test's connections are closed. What was declared, deleted or changed shows in the vhost's
//! definitions, which are the broker's own tables and never stale. What was published shows when one asks for it:
//! a `basic.get` waits its turn behind whatever else the queue has to do, such as taking back what a closed
//! consumer had not acknowledged, whereas a passive declare overtakes that. So queues are asked for a message
//! until they have none.

use std::time::Duration;

use dagz_core::{ErrorKind, Target, event::Event};
use futures_util::future::join_all;
use lapin::{
    Channel,
    options::{BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::FieldTable,
};
use serde_json::Value;

use super::{Failure, keeper::Keeper, settings, step::steps};
use crate::{
    error::Cause,
    management::part,
    provision::Start,
    topology::{Drift, Kind, OWN, Topology},
};

/// How often the vhost may turn out to be other than it should be.
const ROUNDS: usize = 12;

/// Up to so many messages are taken one by one: on newer brokers a purge costs as much as fifty of them.
const FEW: u32 = 40;

/// When queues are asked for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// While it is looked what is declared, which saves a round trip.
    Together,
    /// Afterwards. Of a queue that a test has declared anew as one of another kind, the broker answers some questions
    /// by closing the connection.
    LookFirst,
}

/// What came of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// It is in its start state.
    Clean,
    /// It is not, and will not be by these means.
    Stuck,
}

/// What a test left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    drift: Drift,
    /// Queues that belong to a connection which has not ended yet.
    locked: bool,
    /// How many messages there are in which queue.
    messages: Vec<(String, u32)>,
    /// Queues of which it cannot be told without emptying them, and queues that went away meanwhile.
    unsure: bool,
}

impl Keeper {
    /// Looks what a test left, and leaves it there: the next test may be one that wants to see it.
    pub(super) async fn find(&mut self, start: &Start) -> Result<Found, Failure> {
        let topology = &start.topology;
        let channel = self.spare().await?;
        let (looked, peeked) =
            futures_util::future::join(self.look(topology), peek(&channel, topology, self.blind))
                .await;
        let (now, locked) = looked?;
        let mut found = Found {
            drift: topology.drift(&now),
            locked: !locked.is_empty(),
            messages: Vec::new(),
            unsure: topology.is_restless(self.blind),
        };
        match peeked {
            Ok((messages, unsure)) => {
                found.messages = messages;
                found.unsure |= unsure;
            }
            Err(error) if Cause::of(&error).is_otherwise() => {
                found.unsure = true;
                self.respare().await?;
            }
            Err(error) => return Err(self.cannot("look at", error)),
        }
        Ok(found)
    }

    /// Brings the vhost to `start`, of which it is known how it differs.
    pub(super) async fn undo_found(
        &mut self,
        target: &Target,
        start: &Start,
        found: Found,
        order: Order,
    ) -> Result<Sweep, Failure> {
        let Found {
            drift,
            locked,
            messages,
            unsure,
        } = found;
        if !drift.is_empty() || locked {
            self.undo(target, &start.topology, &drift).await?;
        } else if !unsure {
            // Nobody has been here since, so that all is known.
            let channel = self.spare().await?;
            match empty(&channel, &messages).await {
                Ok(true) => return Ok(Sweep::Clean),
                Ok(false) => {}
                Err(error) if Cause::of(&error).is_otherwise() => {
                    self.respare().await?;
                }
                Err(error) => return Err(self.cannot("empty", error)),
            }
        }
        self.sweep(target, start, order).await
    }

    /// Brings the vhost to `start`.
    pub(crate) async fn sweep(
        &mut self,
        target: &Target,
        start: &Start,
        order: Order,
    ) -> Result<Sweep, Failure> {
        let topology = &start.topology;
        let passes = topology.passes(self.blind);
        let mut renew = topology.has_streams(self.blind);
        let mut look = true;
        let mut clean = 0;
        for _ in 0..ROUNDS + passes {
            let channel = self.spare().await?;
            let looked = async {
                match look {
                    true => self.look(topology).await.map(Some),
                    false => Ok(None),
                }
            };
            let (looked, drained) = match order {
                Order::Together => {
                    let drained = drain(&channel, topology, self.blind);
                    let (looked, drained) = futures_util::future::join(looked, drained).await;
                    (looked, Some(drained))
                }
                Order::LookFirst => (looked.await, None),
            };
            let drained = match drained {
                Some(drained) => Some(self.drained(drained).await?),
                None => None,
            };
            if let Some((now, locked)) = looked? {
                let drift = match std::mem::take(&mut renew) {
                    true => topology.renewal(&now),
                    false => topology.drift(&now),
                };
                if !locked.is_empty() {
                    // Its connection is about to end.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if !drift.is_empty() || !locked.is_empty() {
                    // That a stream was not made anew is seen by nothing else.
                    renew = !self.undo(target, topology, &drift).await?
                        && topology.has_streams(self.blind);
                    clean = 0;
                    continue;
                }
            }
            let drained = match drained {
                Some(drained) => drained,
                None => {
                    let drained = drain(&channel, topology, self.blind).await;
                    self.drained(drained).await?
                }
            };
            look = drained == Drained::Missing;
            clean = match drained {
                Drained::Nothing => clean + 1,
                _ => 0,
            };
            if clean >= passes {
                return Ok(Sweep::Clean);
            }
        }
        Ok(Sweep::Stuck)
    }

    /// What came of asking all queues; of one that is not there, too.
    async fn drained(&mut self, drained: lapin::Result<Drained>) -> Result<Drained, Failure> {
        match drained {
            Ok(drained) => Ok(drained),
            Err(error) if Cause::of(&error).is_otherwise() => {
                self.respare().await?;
                Ok(Drained::Missing)
            }
            Err(error) => Err(self.cannot("empty", error)),
        }
    }

    /// A queue that has messages, and how many.
    pub(crate) async fn messages(
        &mut self,
        topology: &Topology,
    ) -> Result<Option<(String, u32)>, Failure> {
        let channel = self.spare().await?;
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
        Ok(None)
    }

    /// What is in the vhost now, and which queues belong to a connection, whoever has it.
    async fn look(&self, start: &Topology) -> Result<(Topology, Vec<String>), Failure> {
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
            Failure::Final(trouble.into_error(ErrorKind::Prepare, &doing))
        })?;
        let queues = queues.as_ref().and_then(Value::as_array);
        let locked = queues.into_iter().flatten().filter_map(|queue| {
            let name = queue["name"].as_str()?;
            let exclusive = queue["exclusive"] == Value::Bool(true);
            (exclusive && !name.starts_with(OWN)).then(|| name.to_owned())
        });
        let locked = locked.filter(|_| self.blind != Some("exclusive"));
        let now = Topology::of(&definitions).seen(start, self.blind);
        Ok((now, locked.collect()))
    }

    /// Does what `drift` says, as far as it can; tells whether that was all of it. Whoever calls looks again.
    async fn undo(
        &mut self,
        target: &Target,
        start: &Topology,
        drift: &Drift,
    ) -> Result<bool, Failure> {
        Event::new("drift")
            .target(target)
            .detail(drift.describe())
            .record();
        settings::apply(&self.server, &self.vhost, drift)
            .await
            .map_err(Failure::Final)?;
        let mut channel = self.spare().await?;
        let mut is_done = true;
        for step in steps(drift) {
            let done = join_all(step.iter().map(|step| step.run(&channel, start))).await;
            let Some(error) = done.into_iter().find_map(Result::err) else {
                continue;
            };
            match Cause::of(&error) {
                // What was to go has gone, or is in somebody's way for another moment.
                Cause::NotFound | Cause::Locked | Cause::Other => {
                    is_done = false;
                    channel = self.respare().await?;
                }
                _ => return Err(self.cannot("reset", error)),
            }
        }
        Ok(is_done)
    }

    fn cannot(&mut self, doing: &str, error: lapin::Error) -> Failure {
        let message = format!("cannot {doing} vhost `{}`", self.vhost);
        Failure::of(&message, error)
    }
}

/// What was found in the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Nothing,
    Some,
    /// One of them is not there, or another one.
    Missing,
}

/// How many messages there are in which queue, and whether that leaves something open. They are given back.
async fn peek(
    channel: &Channel,
    topology: &Topology,
    blind: Option<&str>,
) -> lapin::Result<(Vec<(String, u32)>, bool)> {
    let names = topology.holders(blind);
    let (getable, others): (Vec<_>, Vec<_>) =
        names.partition(|(_, queue)| topology.can_peek(queue));
    let gets = getable
        .iter()
        .map(|(name, _)| channel.basic_get(name.as_str().into(), BasicGetOptions::default()));
    let mut messages = Vec::new();
    for ((name, _), got) in getable.iter().zip(join_all(gets).await) {
        if let Some(got) = got? {
            messages.push(((*name).clone(), got.message_count + 1));
            let back = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            got.acker.nack(back).await?;
        }
    }
    let unsure = !others.is_empty() && blind != Some("ungettable");
    Ok((messages, unsure))
}

/// Takes out exactly so many messages, if so many are there; whether the queues are empty then.
async fn empty(channel: &Channel, messages: &[(String, u32)]) -> lapin::Result<bool> {
    let take = BasicGetOptions { no_ack: true };
    let queues = messages.iter().map(|(name, count)| async move {
        let name = || name.as_str().into();
        if *count > FEW {
            channel
                .queue_purge(name(), QueuePurgeOptions::default())
                .await?;
            return Ok(channel.basic_get(name(), take).await?.is_none());
        }
        // One more, which is not there.
        let gets = (0..=*count).map(|_| channel.basic_get(name(), take));
        let mut last = None;
        for got in join_all(gets).await {
            last = got?;
        }
        lapin::Result::Ok(last.is_none())
    });
    let mut all = true;
    for is_empty in join_all(queues).await {
        all &= is_empty?;
    }
    Ok(all)
}

async fn drain(
    channel: &Channel,
    topology: &Topology,
    blind: Option<&str>,
) -> lapin::Result<Drained> {
    let take = BasicGetOptions { no_ack: true };
    let names = topology.holders(blind);
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
        // Streams are made anew.
        if queue.kind() == Kind::Quorum {
            let purge = QueuePurgeOptions::default();
            if channel.queue_purge(name.as_str().into(), purge).await? > 0 {
                found = Drained::Some;
            }
        }
    }
    Ok(found)
}
