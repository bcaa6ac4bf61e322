//! RabbitMQ: beside dagz, all queues purged, deleted and declared again over HTTP, or the whole vhost made anew.
//!
//! The size is how many queues there are; a dirty one has a message.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use dagz::amqp::{
    Config, Driver, databases,
    lapin::{
        BasicProperties, Channel, Connection, ConnectionProperties,
        options::{
            BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
            QueuePurgeOptions,
        },
        types::FieldTable,
        uri::AMQPUri,
    },
    remove,
};
use dagz_core::{DbConfig as _, Target, runtime};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{
    management::{Management, part},
    variable,
};
use crate::{
    names,
    row::Row,
    schedule::{Dirt, Extent, Site, Way, ways},
};

const BASE: &str = "dagz_bench";
const BY_HAND: &str = "dagz_bench_by_hand";

/// From the end of one test to the start of the next, with nothing in between.
const END_TO_END: &str = "dagz, end to end";

/// The first prepare of a process, which opens its connection.
const NEW_PROCESS: &str = "dagz, new process";

/// After a test that declared a queue and bound it.
const DECLARED: &str = "dagz, a queue declared";
const EXTRA: &str = "extra";

/// Until the broker has done what the end of a test begins: it looks at each queue.
fn pause(queues: usize) -> Duration {
    Duration::from_millis(20 + queues as u64 / 4)
}

/// Measures with `size` queues.
pub(super) fn run(size: usize, extent: Extent) -> Result<Vec<Row>> {
    let uri: AMQPUri = match variable("DAGZ_TEST_AMQP_URL")?.parse() {
        Ok(uri) => uri,
        Err(error) => bail!("`DAGZ_TEST_AMQP_URL` cannot be read: {error}"),
    };
    let url = variable("DAGZ_TEST_AMQP_MANAGEMENT_URL")?;
    let config = Config::from_uri(at_vhost(&uri, BASE)).management(&url)?;
    let endpoint = format!("{}:{}", uri.authority.host, uri.authority.port);
    let naming = config.clone();
    let target = names::target("bench-amqp", &endpoint, BASE, move |worker, base| {
        Driver::new(naming.clone()).rewrite(worker, base)
    })?;
    runtime::wait(async move {
        let mut management = Management::new(&url)?;
        let overview = management.get("/api/overview").await?;
        let version = overview["rabbitmq_version"].as_str().unwrap_or_default();
        let backend = format!("rabbitmq {version}");
        // Of a run that was killed.
        remove_worker(&config, &target).await?;
        let queues: Vec<String> = (0..size).map(|number| format!("q{number}")).collect();
        for vhost in [BASE, BY_HAND] {
            make(&mut management, vhost, &topology(&queues)).await?;
        }
        let mut site = Rabbit::new(&uri, config, target, management, queues).await?;
        let rows = super::measure(&mut site, &backend, size, &extent).await;
        site.remove().await?;
        rows
    })?
}

fn at_vhost(uri: &AMQPUri, vhost: &str) -> AMQPUri {
    AMQPUri {
        vhost: vhost.to_owned(),
        ..uri.clone()
    }
}

/// An exchange, and the queues bound to it.
fn topology(queues: &[String]) -> Value {
    let declared = queues
        .iter()
        .map(|name| json!({"name": name, "durable": true, "auto_delete": false, "arguments": {}}));
    let bound = queues.iter().map(|name| json!({"source": "events", "destination_type": "queue", "destination": name, "routing_key": name, "arguments": {}}));
    json!({
        "queues": declared.collect::<Vec<_>>(),
        "exchanges": [{"name": "events", "type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": {}}],
        "bindings": bound.collect::<Vec<_>>(),
    })
}

/// Makes a vhost anew.
async fn make(management: &mut Management, vhost: &str, topology: &Value) -> Result<()> {
    let at = format!("/api/vhosts/{}", part(vhost));
    let all = management.get("/api/vhosts").await?;
    let mut all = all.as_array().into_iter().flatten();
    if all.any(|one| one["name"] == vhost) {
        management.delete(&at).await?;
    }
    // Who makes a vhost may use it.
    management.put(&at, &json!({})).await?;
    let definitions = format!("/api/definitions/{}", part(vhost));
    management.post(&definitions, topology).await
}

async fn remove_worker(config: &Config, target: &Target) -> Result<()> {
    for database in databases(config, target.project()).await? {
        if database.base() == Some(BASE) {
            remove(&database).await?;
        }
    }
    Ok(())
}

async fn channel(uri: AMQPUri) -> Result<(Connection, Channel)> {
    let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok((connection, channel))
}

/// A message to each of `queues`, which the broker has when this is done.
async fn soil(channel: &Channel, queues: &[&str]) -> Result<()> {
    for queue in queues {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        channel
            .basic_publish("".into(), (*queue).into(), options, b"message", properties)
            .await?
            .await?;
    }
    Ok(())
}

/// A queue that is not in the start state, and a binding.
async fn declare(channel: &Channel) -> Result<()> {
    let nothing = FieldTable::default();
    channel
        .queue_declare(
            EXTRA.into(),
            QueueDeclareOptions::default(),
            nothing.clone(),
        )
        .await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind(EXTRA.into(), "events".into(), "#".into(), options, nothing)
        .await?;
    Ok(())
}

/// How many messages and consumers a queue has.
async fn passive(channel: &Channel, queue: &str) -> Result<u32> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let told = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await?;
    Ok(told.message_count() + told.consumer_count())
}

struct Rabbit {
    driver: Driver,
    config: Config,
    target: Target,
    uri: AMQPUri,
    management: Management,
    queues: Vec<String>,
    floors: Vec<(Connection, Channel)>,
    by_hand: (Connection, Channel),
}

impl Rabbit {
    async fn new(
        uri: &AMQPUri,
        config: Config,
        target: Target,
        management: Management,
        queues: Vec<String>,
    ) -> Result<Self> {
        let driver = Driver::new(config.clone());
        driver.worker_init(&target).await?;
        driver.prepare(&target).await?;
        driver.release(&target).await;
        let mut floors = Vec::new();
        for _ in 0..3 {
            floors.push(channel(at_vhost(uri, target.name())).await?);
        }
        Ok(Self {
            by_hand: channel(at_vhost(uri, BY_HAND)).await?,
            uri: uri.clone(),
            driver,
            config,
            target,
            management,
            queues,
            floors,
        })
    }

    async fn remove(mut self) -> Result<()> {
        remove_worker(&self.config, &self.target).await?;
        for vhost in [BASE, BY_HAND] {
            let at = format!("/api/vhosts/{}", part(vhost));
            self.management.delete(&at).await?;
        }
        Ok(())
    }

    async fn dagz(&self, way: Way, dirty: &[&str]) -> Result<Duration> {
        // As a test does it: as its own user, on a connection of its own.
        self.driver.prepare(&self.target).await?;
        let address = self.driver.address(&self.target).await?;
        let (connection, channel) = channel(address).await?;
        soil(&channel, dirty).await?;
        if way.strategy == DECLARED {
            declare(&channel).await?;
        }
        drop((channel, connection));
        let ended = Instant::now();
        self.driver.release(&self.target).await;
        if way.strategy != END_TO_END {
            tokio::time::sleep(pause(self.queues.len())).await;
            // What slept is awake again.
            for (_, channel) in &self.floors {
                passive(channel, &self.queues[0]).await?;
            }
        }
        let fresh = Driver::new(self.config.clone());
        let driver = match way.strategy {
            NEW_PROCESS => &fresh,
            _ => &self.driver,
        };
        let started = match way.strategy {
            END_TO_END => ended,
            _ => Instant::now(),
        };
        driver.prepare(&self.target).await?;
        let time = started.elapsed();
        if way.strategy == NEW_PROCESS {
            fresh.release(&self.target).await;
        }
        Ok(time)
    }

    /// Lists and deletes all over HTTP, and declares it again.
    async fn delete_and_declare(&mut self) -> Result<()> {
        let vhost = part(BY_HAND);
        for kind in ["queues", "exchanges"] {
            let all = self.management.get(&format!("/api/{kind}/{vhost}")).await?;
            for one in all.as_array().into_iter().flatten() {
                let name = one["name"].as_str().unwrap_or_default();
                if !name.is_empty() && !name.starts_with("amq.") {
                    let path = format!("/api/{kind}/{vhost}/{}", part(name));
                    self.management.delete(&path).await?;
                }
            }
        }
        let path = format!("/api/definitions/{vhost}");
        self.management.post(&path, &topology(&self.queues)).await
    }
}

#[async_trait]
impl Site for Rabbit {
    fn ways(&self) -> Vec<Way> {
        let mut all = ways("dagz", &Dirt::ANY);
        all.extend(ways(END_TO_END, &Dirt::ANY));
        all.extend(ways(NEW_PROCESS, &[Dirt::Three]));
        all.extend(ways(DECLARED, &[Dirt::None]));
        all.extend(ways("purge-all", &Dirt::ANY));
        all.extend(ways("delete-redeclare", &Dirt::ANY));
        all.extend(ways("vhost-anew", &[Dirt::Three]));
        all
    }

    async fn floor(&mut self, turn: usize) -> Result<Duration> {
        let (_, channel) = &self.floors[turn % self.floors.len()];
        let started = Instant::now();
        passive(channel, &self.queues[0]).await?;
        Ok(started.elapsed())
    }

    async fn time(&mut self, way: Way) -> Result<Duration> {
        let dirty = way.dirt.tables(self.queues.len()).into_iter();
        let dirty: Vec<&str> = dirty.map(|n| self.queues[n].as_str()).collect();
        if way.strategy.starts_with("dagz") {
            return self.dagz(way, &dirty).await;
        }
        soil(&self.by_hand.1, &dirty).await?;
        let started = Instant::now();
        match way.strategy {
            "purge-all" => {
                let purges = self.queues.iter().map(|queue| {
                    let options = QueuePurgeOptions::default();
                    self.by_hand.1.queue_purge(queue.as_str().into(), options)
                });
                try_join_all(purges).await?;
            }
            "delete-redeclare" => self.delete_and_declare().await?,
            "vhost-anew" => {
                make(&mut self.management, BY_HAND, &topology(&self.queues)).await?;
                self.by_hand = channel(at_vhost(&self.uri, BY_HAND)).await?;
            }
            other => bail!("`{other}` is no way of RabbitMQ"),
        }
        Ok(started.elapsed())
    }

    async fn check(&mut self, way: Way) -> Result<()> {
        let is_dagz = way.strategy.starts_with("dagz");
        let look = match is_dagz {
            true => &self.floors[0].1,
            false => &self.by_hand.1,
        };
        let counts = self.queues.iter().map(|queue| passive(look, queue));
        let counts = try_join_all(counts).await.context("a queue is gone")?;
        let left: u32 = counts.iter().sum();
        ensure!(left == 0, "{left} messages and consumers");
        if way.strategy == DECLARED {
            let at = format!("/api/queues/{}", part(self.target.name()));
            let all = self.management.get(&at).await?;
            let mut all = all.as_array().into_iter().flatten();
            ensure!(!all.any(|queue| queue["name"] == EXTRA), "a queue");
        }
        if is_dagz {
            // The next way's test takes over from here.
            self.driver.release(&self.target).await;
        }
        Ok(())
    }
}
