//! What a prepare costs, against the bare round trip, in one interleaved run.
//!
//! `DAGZ_TEST_MYSQL_URL=… cargo bench -p dagz-mysql --bench prepare [tables] [rounds]` prints medians
//! in microseconds. Each round runs, in a changing order: the floor (a prepared `SELECT 1`, on one of
//! five kept connections on the control runtime, as dagz's own are), a prepare with nothing dirty,
//! and one after a test that wrote five rows into each of three tables; and, now and then, what is usually done instead: to count the rows of each table and
//! truncate those that have any, and to truncate all. Counters are kept in one run, and set back in
//! another: each `ALTER` makes whoever else is on the server look at its schema. *Cold* is the first prepare of a process, which
//! opens its connection: every test's under nextest.

#![expect(clippy::print_stdout, reason = "a bench reports there")]
#![expect(clippy::unwrap_used, reason = "a bench may end where it cannot go on")]

use std::{
    env,
    fmt::Write as _,
    time::{Duration, Instant},
};

use dagz_core::{Access, DbConfig, Endpoint, Scope, Target, configure, resolve_blocking, runtime};
use dagz_mysql::{
    Config, Driver, Identity, Prepare, databases,
    mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable as _},
    remove,
};

struct Names;

impl DbConfig for Names {
    fn driver(&self) -> &'static str {
        "names"
    }

    fn name_limit(&self) -> usize {
        64
    }
}

/// How rarely the slow ways are measured.
const SLOW: usize = 10;

/// The tables that a test dirties.
const DIRTY: [usize; 3] = [1, 3, 7];

fn schema(tables: usize) -> String {
    let mut schema = String::new();
    for n in 0..tables {
        let parent = n - n % 5;
        let reference = match n % 5 {
            0 => String::new(),
            _ => format!(", FOREIGN KEY (parent) REFERENCES t{parent} (id)"),
        };
        let _ = write!(
            schema,
            "CREATE TABLE t{n} (id BIGINT AUTO_INCREMENT PRIMARY KEY, parent BIGINT, name VARCHAR(100), value INT, KEY (name), KEY (value){reference});"
        );
        if n % 10 == 9 {
            let rows: Vec<_> = (0..10).map(|i| format!("('seed {i}')")).collect();
            let _ = write!(schema, "INSERT INTO t{n} (name) VALUES {};", rows.join(","));
        }
    }
    schema
}

fn main() {
    let mut arguments = env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let tables = arguments.next().unwrap_or(50);
    let rounds = arguments.next().unwrap_or(200);
    drop(configure(Names));
    for prepare in [Prepare::Truncate, Prepare::Baseline] {
        for identity in [Identity::Keep, Identity::Restore] {
            measure((tables, rounds), prepare, identity);
        }
    }
}

fn measure((tables, rounds): (usize, usize), prepare: Prepare, identity: Identity) {
    let url = env::var("DAGZ_TEST_MYSQL_URL").expect("`DAGZ_TEST_MYSQL_URL` names a server");
    let base = format!("bench_{tables}_{prepare:?}_{identity:?}").to_lowercase();
    let opts: Opts = OptsBuilder::from_opts(Opts::from_url(&url).unwrap())
        .db_name(Some(&base))
        .prefer_socket(false)
        .into();
    let config = Config::from_opts(opts.clone())
        .prepare(prepare)
        .identity(identity)
        .migrate_with("1", move |opts| async move {
            Conn::new(opts).await?.query_drop(schema(tables)).await
        });
    let guard = Scope::builder("bench").enter().unwrap();
    let target = target(&opts, &base);
    let rounds_of = rounds_of(config, target.clone(), opts.clone(), (tables, rounds));
    let times = runtime::wait(rounds_of).unwrap();
    println!("{tables} tables, {rounds} rounds, {prepare:?}, {identity:?}");
    let floor = median(&times[0].1);
    for (name, times) in &times {
        let median = median(times);
        println!(
            "  {name:<22} {:>8.0} µs {:>7.1} × floor",
            median.as_nanos() as f64 / 1_000.0,
            median.as_secs_f64() / floor.as_secs_f64()
        );
    }
    drop(guard);
    runtime::wait(async move {
        for database in databases(&Config::from_opts(opts), target.project())
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

fn target(opts: &Opts, base: &str) -> Target {
    let endpoint = Endpoint::new(format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port()));
    let route = resolve_blocking("names", Access::new(endpoint, base)).unwrap();
    route.target().unwrap().clone()
}

type Times = Vec<(&'static str, Vec<Duration>)>;

async fn rounds_of(
    config: Config,
    target: Target,
    opts: Opts,
    (tables, rounds): (usize, usize),
) -> Times {
    let driver = Driver::new(config.clone());
    driver.worker_init(&target).await.unwrap();
    driver.prepare(&target).await.unwrap();
    driver.release(&target).await;
    let inside: Opts = OptsBuilder::from_opts(opts)
        .db_name(Some(target.name()))
        .into();
    let mut floors = Vec::new();
    for _ in 0..5 {
        let mut conn = Conn::new(inside.clone()).await.unwrap();
        let one = conn.prep("SELECT 1").await.unwrap();
        floors.push((conn, one));
    }
    let mut test = Conn::new(inside).await.unwrap();
    let names = [
        "SELECT 1, prepared",
        "nothing dirty",
        "3 dirty",
        "cold, nothing dirty",
        "COUNT, TRUNCATE dirty",
        "TRUNCATE all",
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
            if [2, 4, 5].contains(&what) {
                for table in DIRTY {
                    let write = format!(
                        "INSERT INTO t{table} (name, value) VALUES ('x', 1), ('x', 2), ('x', 3), ('x', 4), ('x', 5)"
                    );
                    test.query_drop(write).await.unwrap();
                }
            }
            let started = Instant::now();
            match what {
                0 => {
                    let (conn, one) = &mut floors[round % 5];
                    let _one: Option<u8> = conn.exec_first(&*one, ()).await.unwrap();
                }
                1 | 2 => driver.prepare(&target).await.unwrap(),
                3 => {
                    let fresh = Driver::new(config.clone());
                    fresh.prepare(&target).await.unwrap();
                    fresh.release(&target).await;
                }
                4 => count_and_truncate(&mut test).await,
                _ => truncate_all(&mut test, tables).await,
            }
            times[what].1.push(started.elapsed());
            driver.release(&target).await;
            if what > 3 {
                // Seeds and counters are back for whoever comes next.
                driver.prepare(&target).await.unwrap();
                driver.release(&target).await;
            }
        }
    }
    times
}

async fn count_and_truncate(conn: &mut Conn) {
    conn.query_drop("SET foreign_key_checks = 0").await.unwrap();
    let tables: Vec<String> = conn.query("SHOW TABLES").await.unwrap();
    for table in tables.iter().filter(|table| table.starts_with('t')) {
        let count: Option<u64> = conn
            .query_first(format!("SELECT COUNT(*) FROM {table}"))
            .await
            .unwrap();
        if count > Some(0) {
            conn.query_drop(format!("TRUNCATE {table}")).await.unwrap();
        }
    }
    conn.query_drop("SET foreign_key_checks = 1").await.unwrap();
}

async fn truncate_all(conn: &mut Conn, tables: usize) {
    let truncate: String = (0..tables).map(|n| format!("TRUNCATE t{n};")).collect();
    conn.query_drop(format!(
        "SET foreign_key_checks = 0; {truncate} SET foreign_key_checks = 1"
    ))
    .await
    .unwrap();
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
