//! What a prepare costs, against the bare round trip and what others do, in one interleaved run.
//!
//! `DATABASE_URL=… cargo bench -p dagz-postgres --bench prepare [rounds] [tables…]` prints medians
//! in microseconds. Each round runs, in a shuffled order: the floor (a prepared `SELECT 1`, on one
//! of five kept connections in turn, driven on the control runtime, as dagz's own are), a prepare
//! with nothing dirty, and prepares after tests that wrote five rows into each of three tables, or
//! of all. *Cold* is the first prepare of a process, which opens its connection: every test's under
//! nextest. *List, count, truncate* and *truncate all* are what suites do by hand, on a kept
//! connection after the same three writes; *rollback* is that of a transaction with them. *Insert*
//! is five rows in one statement, into a database with the log and into one without.

#![expect(clippy::print_stdout, reason = "a bench reports there")]
#![expect(clippy::unwrap_used, reason = "a bench may end where it cannot go on")]

use std::{
    env,
    time::{Duration, Instant},
};

use dagz_core::{Access, DbConfig, Endpoint, Scope, Target, configure, resolve_blocking, runtime};
use dagz_postgres::{Config, Driver, databases, remove};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, config::Host};

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

const NAMES: [&str; 12] = [
    "SELECT 1",
    "clean",
    "3 dirty",
    "all dirty",
    "list, count, truncate",
    "truncate all",
    "rollback",
    "insert",
    "insert, no log",
    "clean, no log",
    "3 dirty, no log",
    "cold",
];
const FLOORS: usize = 5;

fn main() {
    let mut arguments = env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let rounds = arguments.next().unwrap_or(200);
    let mut sizes: Vec<usize> = arguments.collect();
    if sizes.is_empty() {
        sizes.push(50);
    }
    drop(configure(Names));
    for tables in sizes {
        measure(tables, rounds);
    }
}

fn measure(tables: usize, rounds: usize) {
    let guard = Scope::builder("bench").enter().unwrap();
    let [log, plain] = [true, false].map(|has_log| {
        let base = format!("bench_{tables}_{has_log}");
        let url = env::var("DATABASE_URL").expect("`DATABASE_URL` names a server");
        let mut config: tokio_postgres::Config = url.parse().unwrap();
        config.dbname(&base);
        let target = target(&config, &base);
        Bench::new(tables, has_log, (config, base, target))
    });
    let times =
        runtime::wait(async move { rounds_of(tables, rounds, log.await, plain.await).await })
            .unwrap();
    println!("{tables} tables, {rounds} rounds");
    let floor = median(&times[0]);
    for (name, times) in NAMES.iter().zip(&times) {
        let median = median(times);
        println!(
            "  {name:<22} {:>8.0} µs {:>7.1} × floor",
            median.as_nanos() as f64 / 1_000.0,
            median.as_secs_f64() / floor.as_secs_f64()
        );
    }
    drop(guard);
}

/// A database with the log or without, and a test's connection to it.
struct Bench {
    driver: Driver,
    target: Target,
    config: tokio_postgres::Config,
    base: String,
    test: Client,
    tables: usize,
    /// In another database, where it is nobody's business.
    elsewhere: Client,
}

impl Bench {
    async fn new(
        tables: usize,
        has_log: bool,
        (mut config, base, target): (tokio_postgres::Config, String, Target),
    ) -> Self {
        let driver = Driver::new(
            Config::from_config(config.clone())
                .write_log(has_log)
                .migrate_with("1", move |config| async move {
                    connect(&config).await.batch_execute(&schema(tables)).await
                }),
        );
        driver.worker_init(&target).await.unwrap();
        driver.prepare(&target).await.unwrap();
        driver.release(&target).await;
        config.dbname(target.name());
        let test = connect(&config).await;
        let elsewhere = connect(config.clone().dbname("postgres")).await;
        Self {
            driver,
            target,
            config,
            base,
            test,
            elsewhere,
            tables,
        }
    }

    async fn write(&self, tables: impl Iterator<Item = usize>) {
        self.test.batch_execute(&writes(tables)).await.unwrap();
    }

    async fn prepare(&self) -> Duration {
        let started = Instant::now();
        self.driver.prepare(&self.target).await.unwrap();
        started.elapsed()
    }

    /// As at the end of a test, and until what that does in the background is done. Not by
    /// sleeping: an idle processor is slow to come back, which is not what is measured.
    async fn release(&self) {
        self.driver.release(&self.target).await;
        for _ in 0..10 + self.tables / 8 {
            self.elsewhere.simple_query("SELECT 1").await.unwrap();
        }
    }

    async fn remove(self) {
        let project = self.target.project().to_owned();
        for database in databases(&Config::from_config(self.config), &project)
            .await
            .unwrap()
        {
            if database.base() == Some(&self.base) {
                remove(&database).await.unwrap();
            }
        }
    }
}

fn writes(tables: impl Iterator<Item = usize>) -> String {
    tables
        .map(|n| {
            format!("INSERT INTO t{n} (name, value) SELECT 'x', i FROM generate_series(1, 5) i;")
        })
        .collect()
}

async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    runtime::spawn(connection);
    client
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

async fn rounds_of(tables: usize, rounds: usize, log: Bench, plain: Bench) -> Vec<Vec<Duration>> {
    let mut floors = Vec::new();
    for _ in 0..FLOORS {
        let client = connect(log.config.clone().dbname("postgres")).await;
        let one = client.prepare("SELECT 1").await.unwrap();
        floors.push((client, one));
    }
    let insert = "INSERT INTO t1 (name, value) SELECT 'x', i FROM generate_series(1, 5) i";
    let inserts = [
        log.test.prepare(insert).await.unwrap(),
        plain.test.prepare(insert).await.unwrap(),
    ];
    let dirty = [1, 6, 8];
    let mut times = vec![Vec::new(); NAMES.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..NAMES.len()).collect();
        order.rotate_left(round % NAMES.len());
        if round % 2 == 1 {
            order.reverse();
        }
        for what in order {
            // Seldom, and by hand at other times than the rest: the server tells every session of
            // each truncated table, and one that lags behind forgets all its plans.
            let is_its_turn = match what {
                3 | 11 => round % 10 < 3,
                4 | 5 => round % 10 == 5,
                _ => true,
            };
            if !is_its_turn {
                continue;
            }
            let bench = if matches!(what, 4..=5 | 8..=10) {
                &plain
            } else {
                &log
            };
            let started = Instant::now();
            let time = match what {
                0 => {
                    let (client, one) = &floors[round % FLOORS];
                    client.query(one, &[]).await.unwrap();
                    started.elapsed()
                }
                1 | 9 => bench.prepare().await,
                2 | 10 => {
                    bench.write(dirty.into_iter()).await;
                    bench.release().await;
                    bench.prepare().await
                }
                3 => {
                    bench.write(0..tables).await;
                    bench.release().await;
                    bench.prepare().await
                }
                4 => {
                    bench.write(dirty.into_iter()).await;
                    by_hand(&bench.test, false).await
                }
                5 => {
                    bench.write(dirty.into_iter()).await;
                    by_hand(&bench.test, true).await
                }
                6 => {
                    let text = format!("BEGIN; {}", writes(dirty.into_iter()));
                    bench.test.batch_execute(&text).await.unwrap();
                    let started = Instant::now();
                    bench.test.batch_execute("ROLLBACK").await.unwrap();
                    started.elapsed()
                }
                7 | 8 => {
                    bench
                        .test
                        .execute(&inserts[usize::from(what == 8)], &[])
                        .await
                        .unwrap();
                    started.elapsed()
                }
                _ => {
                    let config = Config::from_config(bench.config.clone());
                    let fresh = Driver::new(config);
                    let started = Instant::now();
                    fresh.prepare(&bench.target).await.unwrap();
                    let time = started.elapsed();
                    fresh.release(&bench.target).await;
                    time
                }
            };
            times[what].push(time);
            // What the next finds is clean.
            if matches!(what, 4..=8) {
                bench.release().await;
                bench.prepare().await;
            }
            bench.release().await;
        }
    }
    drop(floors);
    for bench in [log, plain] {
        bench.remove().await;
    }
    times
}

/// Lists the tables, then truncates all of them, or those that a count finds filled.
async fn by_hand(client: &Client, all: bool) -> Duration {
    let started = Instant::now();
    let list = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    let mut names: Vec<String> = client
        .query(list, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    if !all {
        let mut filled = Vec::new();
        for name in names {
            let count = format!("SELECT count(*) FROM {name}");
            let messages = client.simple_query(&count).await.unwrap();
            let is_empty = messages.iter().any(
                |message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("0")),
            );
            if !is_empty {
                filled.push(name);
            }
        }
        names = filled;
    }
    let truncate = if all {
        format!("TRUNCATE {} RESTART IDENTITY CASCADE", names.join(", "))
    } else {
        names
            .iter()
            .map(|name| format!("TRUNCATE {name} RESTART IDENTITY CASCADE;"))
            .collect()
    };
    client.batch_execute(&truncate).await.unwrap();
    started.elapsed()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}
