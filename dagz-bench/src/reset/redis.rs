//! Redis and Valkey: beside dagz, `FLUSHDB` by hand, and what suites do that share one database: a prefix per test, and
//! `SCAN` + `UNLINK` of what has it.
//!
//! The size is how many keys the shared database has, of which `dirty` are the test's. A database that is flushed has
//! those alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use dagz::redis::{
    Config, Driver, Prepare, databases,
    redis::{self, Client, ConnectionInfo, IntoConnectionInfo as _, aio::MultiplexedConnection},
    remove,
};
use dagz_core::{DbConfig as _, Target, runtime};

use super::variable;
use crate::{
    names,
    row::Row,
    schedule::{Dirt, Extent, Site, Way, ways},
};

const FLOORS: usize = 5;

/// How many keys there are at the start, where it is not empty.
const SOWN: usize = 10;

/// The test's keys, and those of others.
const OWN: &str = "test:";
const OTHER: &str = "other:";

/// Measures with `size` keys.
pub(super) fn run(size: usize, extent: Extent) -> Result<Vec<Row>> {
    let info = variable("DAGZ_TEST_REDIS_URL")?.into_connection_info()?;
    let endpoint = info.addr().to_string();
    let (at, mut look) = {
        let info = info.clone();
        runtime::wait(async move {
            let look = connect(&info, 0).await?;
            let at = first_free(&look).await?;
            anyhow::Ok((at, look))
        })??
    };
    let config = Config::from_connection_info(at_index(&info, at))
        .bases([at, at + 1])
        .first_index(at + 2);
    let target_of = |base: i64| {
        let config = config.clone();
        names::target(
            "bench-redis",
            &endpoint,
            &base.to_string(),
            move |worker, base| Driver::new(config.clone()).rewrite(worker, base),
        )
    };
    let targets = [target_of(at)?, target_of(at + 1)?];
    runtime::wait(async move {
        let version: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut look)
            .await?;
        let of = |key: &str| {
            let mut lines = version.lines();
            lines.find_map(|line| line.strip_prefix(key).map(str::to_owned))
        };
        let backend = match of("valkey_version:") {
            Some(number) => format!("valkey {number}"),
            None => format!("redis {}", of("redis_version:").unwrap_or_default()),
        };
        let mut site = Redis::new(&info, config, targets, at, size).await?;
        let rows = super::measure(&mut site, &backend, size, &extent).await;
        site.remove().await?;
        rows
    })?
}

/// The first of six databases before those that dagz and its tests keep their books in.
async fn first_free(look: &MultiplexedConnection) -> Result<i64> {
    let (_, count): (String, i64) = redis::cmd("CONFIG")
        .arg("GET")
        .arg("databases")
        .query_async(&mut look.clone())
        .await?;
    ensure!(
        count >= 10,
        "the server has {count} databases; the benchmark needs 10"
    );
    Ok(count - 8)
}

fn at_index(info: &ConnectionInfo, index: i64) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_db(index);
    info.clone().set_redis_settings(settings)
}

async fn connect(info: &ConnectionInfo, index: i64) -> Result<MultiplexedConnection> {
    let client = Client::open(at_index(info, index))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

struct Redis {
    dagz: Worker,
    /// With a start state that is not empty.
    sown: Worker,
    config: Config,
    size: usize,
    floors: Vec<MultiplexedConnection>,
    /// In a database that is flushed by hand.
    flushed: MultiplexedConnection,
    /// In the database that all share.
    shared: MultiplexedConnection,
}

/// A database of dagz's.
struct Worker {
    driver: Driver,
    target: Target,
    /// A test's own connection.
    test: MultiplexedConnection,
}

impl Worker {
    async fn new(info: &ConnectionInfo, config: Config, target: Target) -> Result<Self> {
        let driver = Driver::new(config);
        driver.worker_init(&target).await?;
        driver.prepare(&target).await?;
        driver.release(&target).await;
        let test = connect(info, target.name().parse()?).await?;
        Ok(Self {
            driver,
            target,
            test,
        })
    }
}

/// What a service's start state is made of.
async fn sow(_: Target, info: ConnectionInfo) -> Result<(), redis::RedisError> {
    let client = Client::open(info)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut set = redis::cmd("MSET");
    for number in 0..SOWN {
        set.arg(format!("sown:{number}")).arg("value");
    }
    set.exec_async(&mut connection).await
}

impl Redis {
    async fn new(
        info: &ConnectionInfo,
        config: Config,
        [target, sown]: [Target; 2],
        at: i64,
        size: usize,
    ) -> Result<Self> {
        let index: i64 = target.name().parse()?;
        let dagz = Worker::new(info, config.clone(), target).await?;
        let sowing = config.clone().prepare(Prepare::Baseline).worker_init(sow);
        let sown = Worker::new(info, sowing, sown).await?;
        let mut floors = Vec::new();
        for _ in 0..FLOORS {
            floors.push(connect(info, index).await?);
        }
        let (flushed, shared) = (connect(info, at + 4).await?, connect(info, at + 5).await?);
        for other in [&flushed, &shared] {
            let keys = count(other).await?;
            ensure!(
                keys == 0,
                "a database that the benchmark would empty has {keys} keys; empty database {} and {} first",
                at + 4,
                at + 5
            );
        }
        Ok(Self {
            dagz,
            sown,
            config,
            size,
            floors,
            flushed,
            shared,
        })
    }

    async fn remove(mut self) -> Result<()> {
        for other in [&mut self.flushed, &mut self.shared] {
            redis::cmd("FLUSHDB").exec_async(other).await?;
        }
        for database in databases(&self.config, self.dagz.target.project()).await? {
            remove(&database).await?;
        }
        Ok(())
    }
}

/// `count` keys that begin with `prefix`.
async fn fill(connection: &mut MultiplexedConnection, prefix: &str, count: usize) -> Result<()> {
    if count > 0 {
        let mut set = redis::cmd("MSET");
        for number in 0..count {
            set.arg(format!("{prefix}{number}")).arg("value");
        }
        set.exec_async(connection).await?;
    }
    Ok(())
}

async fn count(connection: &MultiplexedConnection) -> Result<usize> {
    let size = redis::cmd("DBSIZE")
        .query_async(&mut connection.clone())
        .await;
    size.context("keys cannot be counted")
}

async fn scan_and_unlink(connection: &mut MultiplexedConnection) -> Result<()> {
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{OWN}*"))
            .arg("COUNT")
            .arg(1_000)
            .query_async(connection)
            .await?;
        if !keys.is_empty() {
            redis::cmd("UNLINK")
                .arg(keys)
                .exec_async(connection)
                .await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

#[async_trait]
impl Site for Redis {
    fn ways(&self) -> Vec<Way> {
        let mut all = ways("dagz", &Dirt::ANY);
        all.extend(ways("dagz, new process", &[Dirt::Three]));
        all.extend(ways("dagz, 10 keys sown", &[Dirt::None, Dirt::Three]));
        all.extend(ways("flushdb-async", &Dirt::ANY));
        all.extend(ways("flushdb-sync", &Dirt::ANY));
        all.extend(ways("scan-unlink", &Dirt::ANY));
        all
    }

    async fn floor(&mut self, turn: usize) -> Result<Duration> {
        let floor = &mut self.floors[turn % FLOORS];
        let started = Instant::now();
        redis::cmd("PING").exec_async(floor).await?;
        Ok(started.elapsed())
    }

    async fn time(&mut self, way: Way) -> Result<Duration> {
        let dirty = way.dirt.tables(self.size).len();
        match way.strategy {
            "dagz" | "dagz, new process" | "dagz, 10 keys sown" => {
                let Worker {
                    driver,
                    target,
                    test,
                } = match way.strategy {
                    "dagz, 10 keys sown" => &mut self.sown,
                    _ => &mut self.dagz,
                };
                fill(test, OWN, dirty).await?;
                let fresh = Driver::new(self.config.clone());
                let driver = match way.strategy {
                    "dagz, new process" => &fresh,
                    _ => &*driver,
                };
                // A test takes its time, while what the end of the last one began is on its way.
                for _ in 0..3 {
                    redis::cmd("PING").exec_async(test).await?;
                }
                let started = Instant::now();
                driver.prepare(target).await?;
                let time = started.elapsed();
                driver.release(target).await;
                Ok(time)
            }
            "flushdb-async" | "flushdb-sync" => {
                fill(&mut self.flushed, OWN, dirty).await?;
                let (_, mode) = way.strategy.split_at("flushdb-".len());
                let started = Instant::now();
                let mut flush = redis::cmd("FLUSHDB");
                flush.arg(mode).exec_async(&mut self.flushed).await?;
                Ok(started.elapsed())
            }
            "scan-unlink" => {
                fill(&mut self.shared, OWN, dirty).await?;
                fill(&mut self.shared, OTHER, self.size - dirty).await?;
                let started = Instant::now();
                scan_and_unlink(&mut self.shared).await?;
                Ok(started.elapsed())
            }
            other => bail!("`{other}` is no way of Redis"),
        }
    }

    async fn check(&mut self, way: Way) -> Result<()> {
        let (connection, expected) = match way.strategy {
            "flushdb-async" | "flushdb-sync" => (&self.flushed, 0),
            "scan-unlink" => {
                let others = self.size - way.dirt.tables(self.size).len();
                (&self.shared, others)
            }
            "dagz, 10 keys sown" => (&self.sown.test, SOWN),
            _ => (&self.floors[0], 0),
        };
        let left = count(connection).await?;
        ensure!(left == expected, "{left} keys instead of {expected}");
        if way.strategy == "scan-unlink" {
            // Those of others, which a way that shares a database has to leave alone.
            redis::cmd("FLUSHDB").exec_async(&mut self.shared).await?;
        }
        Ok(())
    }
}
