//! Whatever a test declares, deletes, binds, publishes and leaves at random, the next one begins at the start state.

#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::{cell::Cell, collections::BTreeSet};

use dagz_amqp::Driver;
use dagz_core::{DbConfig as _, Target};
use lapin::{
    Channel, Connection, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
        QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config as Cases, TestRunner},
};
use serde_json::json;
use support::{
    Site, at_site, channel, connect, definitions,
    management::{self, part},
};

/// Those of the start state, and two more.
const QUEUES: [&str; 7] = [
    "orders", "mail", "ledger", "audit", "retry", "extra", "more",
];
/// One of the broker's own among them.
const EXCHANGES: [&str; 4] = ["events", "all", "amq.topic", "extra"];
const KEYS: [&str; 4] = ["", "order.new", "order.paid", "orders"];
const KINDS: [&str; 4] = ["classic", "quorum", "stream", "otherwise"];

/// One thing a test may do; what the broker refuses fails, as it does in tests.
#[derive(Clone, Debug)]
enum Act {
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
    Policy(&'static str),
    Forget(&'static str),
}

fn act() -> impl Strategy<Value = Act> {
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
        1 => exchange().prop_map(Act::DeclareExchange),
        1 => exchange().prop_map(Act::DeleteExchange),
        2 => (queue(), exchange(), key()).prop_map(|(queue, exchange, key)| Act::Bind(queue, exchange, key)),
        2 => (queue(), exchange(), select(["order.*", "order.paid", ""].as_slice()))
            .prop_map(|(queue, exchange, key)| Act::Unbind(queue, exchange, key)),
        1 => queue().prop_map(Act::Transact),
        1 => select(["short", "extra"].as_slice()).prop_map(Act::Policy),
        1 => select(["short", "extra"].as_slice()).prop_map(Act::Forget),
    ]
}

impl Act {
    async fn run(&self, channel: &Channel, vhost: &str) -> Result<(), lapin::Error> {
        let none = FieldTable::default;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let policy = |name: &str| format!("/api/policies/{}/{name}", part(vhost));
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
            Self::Policy(name) => {
                let other = json!({"pattern": "^mail", "definition": {"max-length": 2}, "priority": 1, "apply-to": "queues"});
                management::put(&policy(name), &other).expect("the policy is put");
            }
            Self::Forget(name) => management::delete(&policy(name)).expect("the policy goes"),
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

/// The connections of one test, all of which live on after it.
struct Test {
    driver: Driver,
    target: Target,
    connections: Vec<Connection>,
}

impl Test {
    /// Does it on a channel of its own: whoever is refused loses it, or even the connection.
    async fn act(&mut self, act: &Act) {
        if !self
            .connections
            .last()
            .is_some_and(|last| last.status().connected())
        {
            let address = self.driver.address(&self.target).await;
            let connection = connect(address.expect("the test may log in")).await;
            self.connections.push(connection);
        }
        let Some(connection) = self.connections.last() else {
            return;
        };
        let channel = match act {
            Act::Transact(_) => connection.create_channel().await.expect("a channel opens"),
            _ => channel(connection).await,
        };
        drop(act.run(&channel, self.target.name()).await);
        std::mem::forget(channel);
    }
}

/// What is to be as at the start: each definition, and how many messages and consumers each queue has.
async fn state(site: &Site) -> BTreeSet<String> {
    let definitions = definitions(site.target.name());
    let mut state = BTreeSet::new();
    for (kind, list) in definitions.as_object().expect("kinds of definitions") {
        let list = list.as_array().expect("a list");
        state.extend(list.iter().map(|one| format!("{kind}: {one}")));
    }
    let visit = site.visit().await;
    let channel = channel(&visit).await;
    for queue in definitions["queues"].as_array().expect("a list") {
        let queue = queue["name"].as_str().expect("a name");
        let counts = support::counts(&channel, queue).await;
        state.insert(format!("in {queue}: {counts:?}"));
    }
    drop(visit.close(200, "".into()).await);
    state
}

/// Fails for the smallest workload that is not undone. `is_new` says that each reset is the first of its process.
fn is_exact(test: &str, is_new: bool) {
    at_site(
        test,
        |config| config,
        async |site| {
            site.init().await;
            let start = state(site).await;
            // Its lease goes with the last of its clones.
            let nobody = Driver::new(site.config.clone());
            let driver = Cell::new(Some(std::mem::replace(&mut site.driver, nobody)));
            let here = &*site;
            let changed = Cell::new(0);
            let cases = dagz_testkit::site::cases(25);
            let mut runner = TestRunner::new(Cases {
                cases,
                // A failure is the broker's state, which a later run does not have.
                failure_persistence: None,
                max_shrink_iters: 60,
                // In milliseconds.
                max_shrink_time: 60_000,
                ..Cases::default()
            });
            let workload = (vec(act(), 1..8), prop::option::weighted(0.2, act()));
            let result = tokio::task::block_in_place(|| {
                runner.run(&workload, |(acts, late)| {
                    tokio::runtime::Handle::current().block_on(async {
                        let mut test = Test {
                            driver: driver
                                .take()
                                .unwrap_or_else(|| Driver::new(here.config.clone())),
                            target: here.target.clone(),
                            connections: Vec::new(),
                        };
                        for act in &acts {
                            test.act(act).await;
                        }
                        changed.set(changed.get() + u32::from(state(here).await != start));
                        let next = match is_new {
                            // The process of this test ends without a word.
                            true => Driver::new(here.config.clone()),
                            false => test.driver.clone(),
                        };
                        if is_new {
                            test.driver = next.clone();
                        } else {
                            next.release(&here.target).await;
                            if let Some(late) = &late
                                && let Some(connection) = test.connections.last()
                                && let Ok(channel) = connection.create_channel().await
                            {
                                // It may be ended while it does so.
                                drop(late.run(&channel, here.target.name()).await);
                            }
                        }
                        let prepared = next.prepare(&here.target).await;
                        prepared.unwrap_or_else(|error| panic!("{}", error.report()));
                        driver.set(Some(next));
                        let found = state(here).await;
                        let missing: Vec<_> = start.difference(&found).collect();
                        let besides: Vec<_> = found.difference(&start).collect();
                        prop_assert!(
                            missing.is_empty() && besides.is_empty(),
                            "missing: {missing:#?}, and besides: {besides:#?}"
                        );
                        Ok(())
                    })
                })
            });
            if let Some(driver) = driver.take() {
                site.driver = driver;
            }
            if let Err(error) = result {
                panic!("{error}");
            }
            assert!(
                changed.get() > cases / 2,
                "only {} workloads changed anything",
                changed.get()
            );
        },
    );
}

#[test]
fn any_workload_is_undone() {
    is_exact("random", false);
}

#[test]
fn any_workload_of_another_process_is_undone() {
    is_exact("random_new", true);
}
