//! What a prepare costs, against the bare round trip, in one interleaved run.
//!
//! `DAGZ_TEST_REDIS_URL=… cargo bench -p dagz-redis --bench prepare [rounds]` prints medians in
//! microseconds. Each round runs, in an order that changes: the floor (a `PING` on five kept connections
//! driven on the control runtime, as dagz's own are), a prepare, and what is recommended elsewhere, on a
//! database that holds none, a thousand or a hundred thousand keys. *Cold* is the first prepare of a
//! process, which opens its connection: every test's under nextest.

#![expect(clippy::print_stdout, reason = "a bench reports there")]
#![expect(clippy::unwrap_used, reason = "a bench may end where it cannot go on")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env,
    time::{Duration, Instant},
};

use dagz_core::{DbConfig, Target, runtime};
use dagz_redis::{Config, Driver, Prepare};
use redis::aio::MultiplexedConnection;
use support::{Site, info, tell};

/// What is compared.
const WAYS: [&str; 8] = [
    "PING",
    "prepare (flush)",
    "prepare (baseline of 10 keys)",
    "release",
    "FLUSHDB SYNC",
    "SCAN + UNLINK",
    "cold",
    "FLUSHDB ASYNC",
];

fn main() {
    let rounds = env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    for keys in [0, 1_000, 100_000] {
        // Filling takes its time.
        let rounds = rounds.unwrap_or(if keys > 1_000 { 40 } else { 500 });
        let site = Site::new("bench_prepare", |config| config.prepare(Prepare::Flush));
        let seeded = Driver::new(
            site.config
                .clone()
                .worker_init(support::seed(10))
                .prepare(Prepare::Baseline),
        );
        let seeded = (seeded, support::target(site.block.bases()[1]));
        let plain = (site.driver.clone(), site.target.clone());
        let config = site.config.clone();
        let times = runtime::wait(measured(plain, seeded, config, keys, rounds)).unwrap();
        println!("{keys} keys, {rounds} rounds");
        let floor = median(&times[0]);
        for (name, times) in WAYS.iter().zip(&times) {
            let median = median(times);
            println!(
                "  {name:<30} {:>9.0} µs {:>8.1} × floor",
                median.as_nanos() as f64 / 1_000.0,
                median.as_secs_f64() / floor.as_secs_f64()
            );
        }
    }
}

async fn measured(
    (driver, target): (Driver, Target),
    (seeded, seeded_target): (Driver, Target),
    config: Config,
    keys: u64,
    rounds: usize,
) -> [Vec<Duration>; 8] {
    for (driver, target) in [(&driver, &target), (&seeded, &seeded_target)] {
        driver.worker_init(target).await.unwrap();
        driver.prepare(target).await.unwrap();
        driver.release(target).await;
    }
    let index = target.name().parse().unwrap();
    let mut floors = Vec::new();
    for _ in 0..5 {
        floors.push(support::connect(info(index)).await);
    }
    let mut test = support::connect(info(index)).await;
    let mut seeded_test = support::connect(info(seeded_target.name().parse().unwrap())).await;
    let mut times: [Vec<Duration>; 8] = Default::default();
    for round in 0..rounds {
        let mut order = [0, 1, 2, 4, 5, 7];
        order.rotate_left(round % 6);
        if round % 2 == 1 {
            order.swap(1, 3);
        }
        for way in order {
            match way {
                0 => {}
                2 => fill(&mut seeded_test, keys).await,
                _ => fill(&mut test, keys).await,
            }
            if keys > 1_000 {
                // For the server to be done with what the filling left it to do.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let ping = |connection: &mut MultiplexedConnection| {
                let mut connection = connection.clone();
                async move {
                    redis::cmd("PING")
                        .exec_async(&mut connection)
                        .await
                        .unwrap()
                }
            };
            let started = Instant::now();
            match way {
                0 => ping(&mut floors[round % 5]).await,
                1 => driver.prepare(&target).await.unwrap(),
                2 => seeded.prepare(&seeded_target).await.unwrap(),
                4 => tell(&test, "FLUSHDB SYNC").await,
                7 => tell(&test, "FLUSHDB ASYNC").await,
                _ => scan_and_unlink(&mut test).await,
            }
            times[way].push(started.elapsed());
            if way == 1 || way == 2 {
                let started = Instant::now();
                let (driver, target) = match way {
                    1 => (&driver, &target),
                    _ => (&seeded, &seeded_target),
                };
                driver.release(target).await;
                times[3].push(started.elapsed());
                // A test takes its time, too, while what was released is on its way.
                ping(&mut floors[0]).await;
            }
        }
        if round % 10 == 0 {
            let fresh = Driver::new(config.clone());
            let started = Instant::now();
            fresh.prepare(&target).await.unwrap();
            times[6].push(started.elapsed());
            fresh.release(&target).await;
        }
    }
    times
}

async fn fill(connection: &mut MultiplexedConnection, keys: u64) {
    if keys > 0 {
        let mut populate = redis::cmd("DEBUG");
        let populated = populate
            .arg("POPULATE")
            .arg(keys)
            .arg("key")
            .exec_async(connection)
            .await;
        if populated.is_err() {
            // `DEBUG` is off by default.
            let numbers: Vec<u64> = (0..keys).collect();
            for chunk in numbers.chunks(5_000) {
                let mut set = redis::cmd("MSET");
                for number in chunk {
                    set.arg(format!("key:{number}")).arg("value");
                }
                set.exec_async(connection).await.unwrap();
            }
        }
    }
}

async fn scan_and_unlink(connection: &mut MultiplexedConnection) {
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("COUNT")
            .arg(1_000)
            .query_async(connection)
            .await
            .unwrap();
        if !keys.is_empty() {
            redis::cmd("UNLINK")
                .arg(keys)
                .exec_async(connection)
                .await
                .unwrap();
        }
        cursor = next;
        if cursor == 0 {
            return;
        }
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}
