//! Postgres: beside dagz, `TRUNCATE` in its three usual forms, `DELETE`, a new database, a clone, and `ROLLBACK`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use async_trait::async_trait;
use dagz::postgres::{
    Config, Driver,
    tokio_postgres::{self, Client, NoTls, Statement},
};
use dagz_core::{DbConfig as _, Target, runtime};

use super::variable;
use crate::{
    postgres::{connect, make, own, remove_databases, schema, target, version, writes},
    row::Row,
    schedule::{Dirt, Extent, Site, Way, ways},
};

/// How many connections the floor is asked on, in turn.
const FLOORS: usize = 5;

/// Without the log of writes, where it cannot be.
const WITHOUT_LOG: &str = "dagz, without the log";

/// The next test comes before dagz has found out what the last one left.
const AT_ONCE: &str = "dagz, at once";

/// The test's writes alone, which the log makes slower, with it and without it.
const WRITES: &str = "writes alone, dagz";
const WRITES_WITHOUT_LOG: &str = "writes alone, dagz, without the log";

/// After so long dagz has looked what a test left, where there are few tables; and for each where there are many. No longer,
/// since a connection is the slower the longer it has rested, whatever it is asked.
const REST: Duration = Duration::from_millis(8);
const REST_FOR_TABLE: Duration = Duration::from_micros(24);

/// The database of the ways by hand.
fn by_hand() -> String {
    own("dagz_bench_by_hand")
}

/// Its template.
fn template() -> String {
    own("dagz_bench_template")
}

/// Measures on a server of `size` tables.
pub(super) fn run(size: usize, extent: Extent) -> Result<Vec<Row>> {
    let mut config: tokio_postgres::Config = variable("DATABASE_URL")?.parse()?;
    let base = own(&format!("dagz_bench_{size}"));
    config.dbname(&base);
    let targets = ["", "_at_once", "_plain"]
        .into_iter()
        .map(|which| target(&config, &format!("{base}{which}")))
        .collect::<Result<Vec<_>>>()?;
    runtime::wait(async move {
        let mut site = Postgres::new(config, targets, size).await?;
        let backend = version(&site.elsewhere).await?;
        let rows = super::measure(&mut site, &backend, size, &extent).await;
        site.remove().await?;
        rows
    })?
}

struct Postgres {
    dagz: Worker,
    /// For tests that come at once, on which dagz sets itself.
    at_once: Worker,
    /// Without a log of writes: each table is asked.
    plain: Worker,
    config: tokio_postgres::Config,
    size: usize,
    floors: Vec<(Client, Statement)>,
    /// In the database `postgres`, where nothing is anybody's business.
    elsewhere: Client,
    by_hand: Client,
    /// Counts what is in all tables.
    count: String,
}

/// A worker's database, of dagz's.
struct Worker {
    driver: Driver,
    target: Target,
    /// A test's own connection.
    test: Client,
    look: Client,
}

impl Worker {
    async fn new(config: Config, target: Target, size: usize) -> Result<Self> {
        let address: tokio_postgres::Config = variable("DATABASE_URL")?.parse()?;
        let driver = driver(config, size);
        make_ready(&driver, &target).await?;
        Ok(Self {
            test: connect(&address, target.name()).await?,
            look: connect(&address, target.name()).await?,
            driver,
            target,
        })
    }
}

fn driver(config: Config, size: usize) -> Driver {
    Driver::new(config.migrate_with("bench", move |config| async move {
        let (client, connection) = config.connect(NoTls).await?;
        runtime::spawn(connection);
        client.batch_execute(&schema(size)).await
    }))
}

async fn make_ready(driver: &Driver, target: &Target) -> Result<()> {
    driver.worker_init(target).await?;
    driver.prepare(target).await?;
    driver.release(target).await;
    Ok(())
}

impl Postgres {
    async fn new(
        config: tokio_postgres::Config,
        targets: Vec<Target>,
        size: usize,
    ) -> Result<Self> {
        let mut workers = Vec::new();
        for (target, has_log) in targets.into_iter().zip([true, true, false]) {
            let mut config = config.clone();
            config.dbname(target.base());
            let config = Config::from_config(config).write_log(has_log);
            workers.push(Worker::new(config, target, size).await?);
        }
        let [dagz, at_once, plain] = <[Worker; 3]>::try_from(workers)
            .map_err(|workers| anyhow!("{} workers", workers.len()))?;
        let elsewhere = connect(&config, "postgres").await?;
        for database in [by_hand(), template()] {
            make(&elsewhere, &database, "").await?;
            let client = connect(&config, &database).await?;
            client.batch_execute(&schema(size)).await?;
        }
        let mut floors = Vec::new();
        for _ in 0..FLOORS {
            let client = connect(&config, "postgres").await?;
            let one = client.prepare("SELECT 1").await?;
            floors.push((client, one));
        }
        let counts: Vec<_> = (0..size)
            .map(|n| format!("SELECT {n} AS n FROM (SELECT FROM t{n} LIMIT 1) AS found"))
            .collect();
        Ok(Self {
            by_hand: connect(&config, &by_hand()).await?,
            dagz,
            at_once,
            plain,
            config,
            size,
            floors,
            elsewhere,
            count: counts.join(" UNION ALL "),
        })
    }

    /// As at the end of a test, and until what that begins in the background is done. Not by sleeping: an idle
    /// processor is slow to come back, which is not what is measured.
    async fn release(&self, worker: &Worker) -> Result<()> {
        worker.driver.release(&worker.target).await;
        let started = Instant::now();
        let rest = REST.max(REST_FOR_TABLE * u32::try_from(self.size)?);
        while started.elapsed() < rest {
            self.elsewhere.simple_query("SELECT 1").await?;
        }
        Ok(())
    }

    /// Whose database dagz resets in this way.
    fn worker(&self, way: Way) -> &Worker {
        match way.strategy {
            AT_ONCE => &self.at_once,
            WITHOUT_LOG | WRITES_WITHOUT_LOG => &self.plain,
            _ => &self.dagz,
        }
    }

    async fn remove(self) -> Result<()> {
        let Self {
            by_hand,
            floors,
            config,
            dagz,
            at_once,
            plain,
            elsewhere,
            ..
        } = self;
        drop((by_hand, floors));
        for database in [self::by_hand(), template()] {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            elsewhere.batch_execute(&drop).await?;
        }
        for Worker {
            target, test, look, ..
        } in [dagz, at_once, plain]
        {
            drop((test, look));
            remove_databases(&config, target.project(), target.base()).await?;
        }
        Ok(())
    }
}

/// The tables of the schema `public`.
async fn tables(client: &Client) -> Result<Vec<String>> {
    let list = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    let rows = client.query(list, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Lists the tables, counts the rows of each, and truncates those that have any, one by one.
async fn count_and_truncate(client: &Client) -> Result<()> {
    for table in tables(client).await? {
        let count = format!("SELECT count(*) FROM {table}");
        if client.query_one(&count, &[]).await?.get::<_, i64>(0) > 0 {
            let truncate = format!("TRUNCATE {table} RESTART IDENTITY CASCADE");
            client.batch_execute(&truncate).await?;
        }
    }
    Ok(())
}

/// Lists the tables, and truncates them in one statement.
async fn truncate_all(client: &Client) -> Result<()> {
    let tables = tables(client).await?.join(", ");
    let truncate = format!("TRUNCATE {tables} RESTART IDENTITY CASCADE");
    Ok(client.batch_execute(&truncate).await?)
}

#[async_trait]
impl Site for Postgres {
    fn ways(&self) -> Vec<Way> {
        let dirty = [Dirt::Three, Dirt::All];
        let mut all = ways("dagz", &Dirt::ANY);
        all.extend(ways(AT_ONCE, &[Dirt::None, Dirt::Three]));
        all.extend(ways("dagz, new process", &dirty[..1]));
        all.extend(ways(WITHOUT_LOG, &Dirt::ANY[..2]));
        all.extend(ways(WRITES, &dirty));
        all.extend(ways(WRITES_WITHOUT_LOG, &dirty));
        all.extend(ways("count-truncate", &Dirt::ANY));
        all.extend(ways("truncate-all", &Dirt::ANY));
        all.extend(ways("delete-all", &Dirt::ANY));
        all.extend(ways("drop-create", &dirty[..1]));
        all.extend(ways("template-clone", &dirty[..1]));
        all.extend(ways("rollback", &dirty));
        all
    }

    async fn floor(&mut self, turn: usize) -> Result<Duration> {
        let (client, one) = &self.floors[turn % FLOORS];
        let started = Instant::now();
        client.query(one, &[]).await?;
        Ok(started.elapsed())
    }

    async fn time(&mut self, way: Way) -> Result<Duration> {
        let writes = writes(way.dirt.tables(self.size));
        match way.strategy {
            "dagz" | "dagz, new process" | AT_ONCE | WITHOUT_LOG | WRITES | WRITES_WITHOUT_LOG => {
                let worker = self.worker(way);
                let started = Instant::now();
                worker.test.batch_execute(&writes).await?;
                let wrote = started.elapsed();
                match way.strategy {
                    AT_ONCE => worker.driver.release(&worker.target).await,
                    _ => self.release(worker).await?,
                }
                let fresh = Driver::new(Config::from_config(self.config.clone()));
                let driver = match way.strategy {
                    "dagz, new process" => &fresh,
                    _ => &worker.driver,
                };
                let started = Instant::now();
                driver.prepare(&worker.target).await?;
                let time = started.elapsed();
                driver.release(&worker.target).await;
                return Ok(match way.strategy {
                    WRITES | WRITES_WITHOUT_LOG => wrote,
                    _ => time,
                });
            }
            "rollback" => {
                let begin = format!("BEGIN; {writes}");
                self.by_hand.batch_execute(&begin).await?;
            }
            _ => self.by_hand.batch_execute(&writes).await?,
        }
        let started = Instant::now();
        match way.strategy {
            "count-truncate" => count_and_truncate(&self.by_hand).await?,
            "truncate-all" => truncate_all(&self.by_hand).await?,
            "delete-all" => {
                let tables = tables(&self.by_hand).await?.into_iter();
                let delete: String = tables.map(|name| format!("DELETE FROM {name};")).collect();
                self.by_hand.batch_execute(&delete).await?;
            }
            "drop-create" => {
                make(&self.elsewhere, &by_hand(), "").await?;
                self.by_hand = connect(&self.config, &by_hand()).await?;
                self.by_hand.batch_execute(&schema(self.size)).await?;
            }
            "template-clone" => {
                make(
                    &self.elsewhere,
                    &by_hand(),
                    &format!("TEMPLATE {}", template()),
                )
                .await?;
                self.by_hand = connect(&self.config, &by_hand()).await?;
            }
            "rollback" => self.by_hand.batch_execute("ROLLBACK").await?,
            other => bail!("`{other}` is no way of Postgres"),
        }
        let time = started.elapsed();
        if !matches!(way.strategy, "rollback" | "delete-all") {
            // The server tells every session of each truncated table, and one that lags behind forgets all its
            // plans. Where people use dagz, nobody truncates beside it.
            for dirt in [Dirt::None, Dirt::Three] {
                let writes = self::writes(dirt.tables(self.size));
                for worker in [&self.dagz, &self.at_once, &self.plain] {
                    worker.test.batch_execute(&writes).await?;
                    match std::ptr::eq(worker, &self.at_once) {
                        true => worker.driver.release(&worker.target).await,
                        false => self.release(worker).await?,
                    }
                    worker.driver.prepare(&worker.target).await?;
                    worker.driver.release(&worker.target).await;
                }
            }
        }
        Ok(time)
    }

    async fn check(&mut self, way: Way) -> Result<()> {
        let client = match way.strategy.contains("dagz") {
            true => &self.worker(way).look,
            false => &self.by_hand,
        };
        let rows = client.query(&self.count, &[]).await;
        let rows = rows.context("the tables cannot be read")?;
        let dirty: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        ensure!(dirty.is_empty(), "rows in the tables {dirty:?}");
        Ok(())
    }
}
