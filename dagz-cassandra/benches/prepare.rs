//! What a prepare costs, against the bare round trip, in one interleaved run.
//!
//! `DAGZ_TEST_CASSANDRA_URL=… cargo bench -p dagz-cassandra --bench prepare [tables] [rounds] [workers]` prints
//! medians in microseconds. Each round runs, in a changing order: the floor (a prepared `SELECT` of one row of
//! `system.local`), a prepare with nothing dirty, and one after a test that wrote five rows into each of three
//! tables; and, now and then, one after a test that wrote into all tables, what is usually done instead, to
//! truncate all of them, with 3 and with all dirty, and the first prepare of a process, *cold*, which opens its
//! session: every test's under nextest. At the end the keyspaces of `workers` workers are made at once.

#![expect(clippy::print_stdout, reason = "a bench reports there")]
#![expect(clippy::unwrap_used, reason = "a bench may end where it cannot go on")]

use std::{
    env,
    time::{Duration, Instant},
};

use dagz_cassandra::{
    Config, Driver, databases, remove,
    scylla::{
        client::{session::Session, session_builder::SessionBuilder},
        errors::ExecutionError,
    },
};
use dagz_core::{Access, DbConfig, Endpoint, Scope, Target, configure, resolve_blocking, runtime};

struct Names;

impl DbConfig for Names {
    fn driver(&self) -> &'static str {
        "names"
    }

    fn name_limit(&self) -> usize {
        48
    }
}

/// How rarely the slow ways are measured.
const SLOW: usize = 10;

/// The tables that a test dirties.
const DIRTY: [usize; 3] = [1, 3, 7];

fn main() {
    let mut arguments = env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let tables = arguments.next().unwrap_or(50);
    let rounds = arguments.next().unwrap_or(200);
    let workers = arguments.next().unwrap_or(8);
    drop(configure(Names));
    measure(tables, rounds, workers);
}

/// The server's URL, for the keyspace `name`.
fn url(name: &str) -> String {
    let url =
        env::var("DAGZ_TEST_CASSANDRA_URL").expect("`DAGZ_TEST_CASSANDRA_URL` names a server");
    format!("{url}/{name}")
}

/// A session that has no keyspace.
async fn plain() -> Session {
    let url = url("");
    let (login, at) = url.split_once("://").unwrap().1.split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let builder = SessionBuilder::new().known_node(at.trim_end_matches('/'));
    builder
        .user(user, password)
        .fetch_schema_metadata(false)
        .build()
        .await
        .unwrap()
}

fn measure(tables: usize, rounds: usize, workers: usize) {
    let base = format!("bench_{tables}");
    let config = Config::new(&url(&base)).unwrap();
    let config = config.migrate_with("1", move |session| async move {
        for n in 0..tables {
            let table = format!(
                "CREATE TABLE t{n} (id int, at int, name text, value int, PRIMARY KEY (id, at))"
            );
            session.query_unpaged(table, ()).await?;
        }
        Ok::<_, ExecutionError>(())
    });
    let guard = Scope::builder("bench").enter().unwrap();
    let target = target(&base);
    let times = runtime::wait(rounds_of(config.clone(), target.clone(), tables, rounds)).unwrap();
    println!("{tables} tables, {rounds} rounds");
    let floor = median(&times[0].1);
    for (name, times) in &times {
        let median = median(times);
        println!(
            "  {name:<24} {:>8.0} µs {:>7.1} × floor  ({})",
            median.as_nanos() as f64 / 1_000.0,
            median.as_secs_f64() / floor.as_secs_f64(),
            times.len()
        );
    }
    // What a process pays per worker, all at once.
    let started = Instant::now();
    let others: Vec<_> = (0..workers)
        .map(|n| self::target(&format!("bench_{tables}_{n}")))
        .collect();
    runtime::wait(async move {
        let driver = Driver::new(config);
        let mut made = Vec::new();
        for target in others {
            let driver = driver.clone();
            made.push(runtime::spawn(async move {
                driver.worker_init(&target).await.unwrap();
                let started = Instant::now();
                driver.prepare(&target).await.unwrap();
                started.elapsed()
            }));
        }
        let mut first = Vec::new();
        for made in made {
            first.push(made.await.unwrap());
        }
        println!(
            "  {workers} workers at once: made in {:.0?}, the first prepare of each {:.1?}",
            started.elapsed(),
            median(&first)
        );
    })
    .unwrap();
    drop(guard);
    runtime::wait(async move {
        let config = Config::new(&url(&base)).unwrap();
        for database in databases(&config, target.project()).await.unwrap() {
            if database.base().is_some_and(|of| of.starts_with(&base)) {
                remove(&database).await.unwrap();
            }
        }
    })
    .unwrap();
}

fn target(base: &str) -> Target {
    let url = url("");
    let at = url.split_once('@').unwrap().1.trim_end_matches('/');
    let route = resolve_blocking("names", Access::new(Endpoint::new(at), base)).unwrap();
    route.target().unwrap().clone()
}

type Times = Vec<(&'static str, Vec<Duration>)>;

async fn rounds_of(config: Config, target: Target, tables: usize, rounds: usize) -> Times {
    let driver = Driver::new(config.clone());
    driver.worker_init(&target).await.unwrap();
    driver.prepare(&target).await.unwrap();
    let session = plain().await;
    let floor = "SELECT key FROM system.local WHERE key = 'local'";
    let floor = session.prepare(floor).await.unwrap();
    let mut writes = Vec::new();
    for n in 0..tables {
        let name = target.name();
        let write = format!("INSERT INTO {name}.t{n} (id, at, name, value) VALUES (?, 1, 'x', 2)");
        writes.push(session.prepare(write).await.unwrap());
    }
    let names = [
        "SELECT of one row",
        "nothing dirty",
        "3 dirty",
        "all dirty",
        "TRUNCATE all, 3 dirty",
        "TRUNCATE all, all dirty",
        "cold, nothing dirty",
    ];
    let mut times: Times = names.iter().map(|name| (*name, Vec::new())).collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..3).collect();
        if round % SLOW == 0 {
            order.extend(3..names.len());
        }
        let length = order.len();
        order.rotate_left(round % length);
        for what in order {
            let dirty: Vec<usize> = match what {
                2 | 4 => DIRTY.to_vec(),
                3 | 5 => (0..tables).collect(),
                _ => Vec::new(),
            };
            for table in dirty {
                for id in 0..5 {
                    session
                        .execute_unpaged(&writes[table], (id,))
                        .await
                        .unwrap();
                }
            }
            let started = Instant::now();
            match what {
                0 => drop(session.execute_unpaged(&floor, ()).await.unwrap()),
                1..=3 => driver.prepare(&target).await.unwrap(),
                4 | 5 => {
                    for n in 0..tables {
                        let truncate = format!("TRUNCATE {}.t{n}", target.name());
                        session.query_unpaged(truncate, ()).await.unwrap();
                    }
                }
                _ => {
                    let fresh = Driver::new(config.clone());
                    fresh.prepare(&target).await.unwrap();
                }
            }
            times[what].1.push(started.elapsed());
        }
    }
    times
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
