//! What a prepare costs, against the bare round trip, in one interleaved run.
//!
//! `DATABASE_URL=… cargo bench -p dagz-postgres --bench prepare [tables] [rounds]` prints medians
//! in microseconds. Each round runs, in a shuffled order: the floor (a prepared `SELECT 1` on a
//! kept connection driven on the control runtime, as dagz's own are), a prepare with nothing
//! dirty, and one after a test that wrote five rows into each of three tables. *Cold* is the first
//! prepare of a process, which opens its connection: every test's under nextest.

#![expect(clippy::print_stdout, reason = "a bench reports there")]
#![expect(clippy::unwrap_used, reason = "a bench may end where it cannot go on")]

use std::{
    env,
    time::{Duration, Instant},
};

use dagz_core::{Access, DbConfig, Endpoint, Scope, Target, configure, resolve_blocking, runtime};
use dagz_postgres::{Config, Driver, Prepare, databases, remove};
use tokio_postgres::{NoTls, config::Host};

struct Names;

impl DbConfig for Names {
    fn driver(&self) -> &'static str {
        "names"
    }

    fn name_limit(&self) -> usize {
        63
    }
}

fn schema(tables: usize) -> String {
    (0..tables)
        .map(|n| {
            let parent = if n % 5 == 0 { 0 } else { n - n % 5 };
            let reference = if n % 5 == 0 {
                String::new()
            } else {
                format!(" REFERENCES t{parent}")
            };
            let seed = if n % 10 == 9 {
                format!("INSERT INTO t{n} (name) SELECT 'seed ' || i FROM generate_series(1, 10) i;")
            } else {
                String::new()
            };
            format!(
                "CREATE TABLE t{n} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint{reference}, name text, value integer);
                 CREATE INDEX ON t{n} (name); CREATE INDEX ON t{n} (value); {seed}"
            )
        })
        .collect()
}

fn main() {
    let mut arguments = env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let tables = arguments.next().unwrap_or(50);
    let rounds = arguments.next().unwrap_or(300);
    for prepare in [Prepare::Truncate, Prepare::Baseline] {
        measure(tables, rounds, prepare);
    }
}

fn measure(tables: usize, rounds: usize, prepare: Prepare) {
    let url = env::var("DATABASE_URL").expect("`DATABASE_URL` names a server");
    let base = format!("bench_{tables}_{prepare:?}").to_lowercase();
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.dbname(&base);
    let driver = Driver::new(
        Config::from_config(config.clone())
            .prepare(prepare)
            .migrate_with("1", move |config| async move {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(connection);
                client.batch_execute(&schema(tables)).await
            }),
    );
    drop(configure(Names));
    let guard = Scope::builder("bench").enter().unwrap();
    let target = target(&config, &base);
    let times = runtime::wait(rounds_of(
        driver,
        target.clone(),
        config.clone(),
        (rounds, prepare),
    ))
    .unwrap();
    println!("{tables} tables, {rounds} rounds, {prepare:?}");
    let floor = median(&times[0]);
    for (name, times) in ["SELECT 1", "clean", "3 dirty", "release", "cold"]
        .iter()
        .zip(&times)
    {
        let median = median(times);
        println!(
            "  {name:<10} {:>8.0} µs {:>6.1} × floor",
            median.as_nanos() as f64 / 1_000.0,
            median.as_secs_f64() / floor.as_secs_f64()
        );
    }
    drop(guard);
    runtime::wait(async move {
        for database in databases(&Config::from_config(config), target.project())
            .await
            .unwrap()
        {
            if database.base() == Some(&base) {
                remove(&database).await.unwrap();
            }
        }
    })
    .unwrap();
}

fn target(config: &tokio_postgres::Config, base: &str) -> Target {
    let host = match &config.get_hosts()[0] {
        Host::Tcp(host) => host.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let endpoint = Endpoint::new(format!("{host}:{}", config.get_ports()[0]));
    let route = resolve_blocking("names", Access::new(endpoint, base)).unwrap();
    route.target().unwrap().clone()
}

async fn rounds_of(
    driver: Driver,
    target: Target,
    mut config: tokio_postgres::Config,
    (rounds, prepare): (usize, Prepare),
) -> [Vec<Duration>; 5] {
    driver.worker_init(&target).await.unwrap();
    driver.prepare(&target).await.unwrap();
    driver.release(&target).await;
    config.dbname(target.name());
    let mut connections = Vec::new();
    for _ in 0..2 {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        runtime::spawn(connection);
        connections.push(client);
    }
    let (floor, test) = (&connections[0], &connections[1]);
    let one = floor.prepare("SELECT 1").await.unwrap();
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..rounds {
        if round % 10 == 0 {
            let fresh = Driver::new(Config::from_config(config.clone()).prepare(prepare));
            let started = Instant::now();
            fresh.prepare(&target).await.unwrap();
            times[4].push(started.elapsed());
            fresh.release(&target).await;
        }
        let mut order = [0, 1, 2];
        order.rotate_left(round % 3);
        if round % 2 == 1 {
            order.swap(0, 1);
        }
        for what in order {
            if what == 2 {
                let write: String = [3, 17, 31]
                    .iter()
                    .map(|n| {
                        format!("INSERT INTO t{n} (name, value) SELECT 'x', i FROM generate_series(1, 5) i;")
                    })
                    .collect();
                test.batch_execute(&write).await.unwrap();
            }
            let started = Instant::now();
            if what == 0 {
                floor.query(&one, &[]).await.unwrap();
            } else {
                driver.prepare(&target).await.unwrap();
            }
            times[what].push(started.elapsed());
            let started = Instant::now();
            driver.release(&target).await;
            times[3].push(started.elapsed());
        }
    }
    times
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}
