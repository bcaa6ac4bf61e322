//! What a prepare costs, beside the round trip that nobody saves and what people do without dagz.
//!
//! `cargo bench -p dagz-amqp`, with `DAGZ_TEST_AMQP_URL` and `DAGZ_TEST_AMQP_MANAGEMENT_URL`. All ways take turns in
//! one run, since the floor moves with what else the machine does. `prepare` is what a test waits for when what
//! the last one's end began is done; `end to end` is both, with nothing in between.

#![expect(clippy::print_stdout, reason = "a bench tells its results")]

#[expect(dead_code, reason = "the bench needs a part of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use dagz_amqp::Driver;
use dagz_core::{DbConfig as _, runtime};
use lapin::{Channel, options::QueueDeclareOptions, types::FieldTable};
use serde_json::{Value, json};
use support::{
    Site, channel, declare,
    management::{self, part},
    publish,
};

/// What a test does before the next one is prepared.
#[derive(Clone, Copy, Debug)]
enum Dirt {
    Nothing,
    Two,
    All,
    Topology,
}

const DIRTS: [Dirt; 4] = [Dirt::Nothing, Dirt::Two, Dirt::All, Dirt::Topology];

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    for queues in [5, 50] {
        // Under `cargo test --benches`, only whether it works.
        let rounds = if is_bench { 60 } else { 2 };
        let mut site = Site::new(&format!("bench{queues}"), |config| config);
        for name in ["audit", "retry", "ledger", "mail"] {
            let path = format!("/api/queues/{}/{name}", part(&site.base));
            management::delete(&path).expect("the bench has queues of its own");
        }
        for number in 1..queues {
            let path = format!("/api/queues/{}/q{number}", part(&site.base));
            let durable = json!({"durable": true});
            management::put(&path, &durable).expect("a queue is declared");
        }
        let names: Vec<String> = std::iter::once("orders".to_owned())
            .chain((1..queues).map(|number| format!("q{number}")))
            .collect();
        println!("{queues} queues, {rounds} rounds: medians, and times a passive declare");
        let driver = site.driver.clone();
        let target = site.target.clone();
        let visit = runtime::wait(async move { site_channel(&driver, &target).await });
        let visit = visit.expect("a runtime runs");
        for dirt in DIRTS {
            measure(&mut site, &visit, &names, dirt, rounds);
        }
        let driver = site.driver.clone();
        let target = site.target.clone();
        drop(runtime::wait(async move { driver.reset(&target).await }));
    }
}

async fn site_channel(driver: &Driver, target: &dagz_core::Target) -> Channel {
    driver.worker_init(target).await.expect("it is made");
    driver.prepare(target).await.expect("it is prepared");
    driver.release(target).await;
    let visitor = support::connect(support::uri(target.name())).await;
    channel(&visitor).await
}

fn measure(site: &mut Site, visit: &Channel, names: &[String], dirt: Dirt, rounds: usize) {
    let (driver, target) = (site.driver.clone(), site.target.clone());
    let (visit, names) = (visit.clone(), names.to_vec());
    let base = site.base.clone();
    let config = site.config.clone();
    let times = runtime::wait(async move {
        let mut times: [Vec<Duration>; 5] = Default::default();
        for round in 0..rounds {
            // The floor.
            for _ in 0..3 {
                let started = Instant::now();
                passive(&visit, &names[0]).await;
                times[0].push(started.elapsed());
            }
            for is_end_to_end in [false, true] {
                driver.prepare(&target).await.expect("it is prepared");
                let uri = driver.address(&target).await.expect("somebody logs in");
                let connection = support::connect(uri).await;
                soil(&channel(&connection).await, &names, dirt).await;
                drop(connection);
                let started = Instant::now();
                driver.release(&target).await;
                if is_end_to_end {
                    driver.prepare(&target).await.expect("it is prepared");
                    times[2].push(started.elapsed());
                } else {
                    tokio::time::sleep(Duration::from_millis(60)).await;
                    let started = Instant::now();
                    driver.prepare(&target).await.expect("it is prepared");
                    times[1].push(started.elapsed());
                }
                driver.release(&target).await;
            }
            // A process of its own, as under nextest.
            let fresh = Driver::new(config.clone());
            driver.prepare(&target).await.expect("it is prepared");
            let uri = driver.address(&target).await.expect("somebody logs in");
            let connection = support::connect(uri).await;
            soil(&channel(&connection).await, &names, dirt).await;
            drop(connection);
            driver.release(&target).await;
            tokio::time::sleep(Duration::from_millis(60)).await;
            let started = Instant::now();
            fresh.prepare(&target).await.expect("it is prepared");
            times[3].push(started.elapsed());
            fresh.release(&target).await;
            drop(fresh);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if round % 4 == 0 {
                // The plain way: list and delete all over HTTP, and declare it again. In a vhost of its own.
                soil_plain(&base, &names, dirt);
                let started = Instant::now();
                tokio::task::block_in_place(|| plain(&base, &names));
                times[4].push(started.elapsed());
            }
        }
        times
    })
    .expect("a runtime runs");
    let floor = median(&times[0]);
    println!("  {dirt:?}");
    for (name, times) in [
        "passive declare",
        "prepare",
        "end to end",
        "prepare in a new process",
        "list, delete, redeclare",
    ]
    .iter()
    .zip(&times)
    {
        let median = median(times);
        println!(
            "    {name:<26} {:>9.0} µs {:>7.1} ×",
            median.as_nanos() as f64 / 1_000.0,
            median.as_secs_f64() / floor.as_secs_f64()
        );
    }
}

async fn passive(channel: &Channel, queue: &str) {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await
        .expect("it is there");
}

async fn soil(channel: &Channel, names: &[String], dirt: Dirt) {
    let dirty = match dirt {
        Dirt::Nothing | Dirt::Topology => 0,
        Dirt::Two => 2,
        Dirt::All => names.len(),
    };
    for name in &names[..dirty] {
        publish(channel, "", name, "message").await;
    }
    if let Dirt::Topology = dirt {
        declare(channel, "extra").await;
        channel
            .queue_bind(
                "extra".into(),
                "events".into(),
                "#".into(),
                Default::default(),
                FieldTable::default(),
            )
            .await
            .expect("it is bound");
    }
}

/// The same in the base vhost, which is the plain way's.
fn soil_plain(base: &str, names: &[String], dirt: Dirt) {
    let dirty = match dirt {
        Dirt::Nothing | Dirt::Topology => 0,
        Dirt::Two => 2,
        Dirt::All => names.len(),
    };
    for name in &names[..dirty] {
        let message = json!({"properties": {}, "routing_key": name, "payload": "m", "payload_encoding": "string"});
        let path = format!("/api/exchanges/{}/amq.default/publish", part(base));
        management::post(&path, &message).expect("it is published");
    }
    if let Dirt::Topology = dirt {
        let path = format!("/api/queues/{}/extra", part(base));
        management::put(&path, &json!({"durable": true})).expect("it is declared");
    }
}

fn plain(base: &str, names: &[String]) {
    let all = |kind: &str| -> Vec<Value> {
        let told = management::get(&format!("/api/{kind}/{}", part(base))).expect("told");
        told.as_array().cloned().unwrap_or_default()
    };
    let definitions = management::get(&format!("/api/definitions/{}", part(base))).expect("told");
    for kind in ["queues", "exchanges"] {
        for one in all(kind) {
            let name = one["name"].as_str().unwrap_or_default();
            if !name.is_empty() && !name.starts_with("amq.") {
                let path = format!("/api/{kind}/{}/{}", part(base), part(name));
                management::delete(&path).expect("it is deleted");
            }
        }
    }
    let mut again = definitions;
    if let Some(queues) = again["queues"].as_array_mut() {
        queues.retain(|queue| names.iter().any(|name| queue["name"] == **name));
    }
    for kind in [
        "rabbit_version",
        "rabbitmq_version",
        "product_name",
        "product_version",
        "explanation",
    ] {
        if let Some(again) = again.as_object_mut() {
            again.remove(kind);
        }
    }
    if let Some(bindings) = again["bindings"].as_array_mut() {
        bindings.retain(|binding| binding["destination"] != "extra");
    }
    management::post(&format!("/api/definitions/{}", part(base)), &again).expect("declared again");
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
