//! Postgres: beside dagz, `TRUNCATE` in its three usual forms, `DELETE`, a new database, a clone, and `ROLLBACK`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
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
    schedule::{Dirt, Site, Way, ways},
};

/// How many connections the floor is asked on, in turn.
const FLOORS: usize = 5;

/// Without the log of writes, where it cannot be.
const WITHOUT_LOG: &str = "dagz, without the log";

/// The next test comes before dagz has found out what the last one left.
const AT_ONCE: &str = "dagz, at once";

/// The database of the ways by hand.
fn by_hand() -> String {
    own("dagz_bench_by_hand")
}

/// Its template.
fn template() -> String {
    own("dagz_bench_template")
}

/// Measures on a server of `size` tables.
pub(super) fn run(size: usize, budget: Duration) -> Result<Vec<Row>> {
    let mut config: tokio_postgres::Config = variable("DATABASE_URL")?.parse()?;
    let base = own(&format!("dagz_bench_{size}"));
    config.dbname(&base);
    let plain = target(&config, &format!("{base}_plain"))?;
    let target = target(&config, &base)?;
    runtime::wait(async move {
        let mut site = Postgres::new(config, [target, plain], size).await?;
        let backend = version(&site.elsewhere).await?;
        let rows = super::measure(&mut site, &backend, size, budget).await;
        site.remove().await?;
        rows
    })?
}

struct Postgres {
    driver: Driver,
    target: Target,
    plain: Plain,
    config: tokio_postgres::Config,
    size: usize,
    floors: Vec<(Client, Statement)>,
    /// In the database `postgres`, where nothing is anybody's business.
    elsewhere: Client,
    /// A test's own connection, in dagz's database.
    test: Client,
    /// In dagz's database, to look.
    look: Client,
    by_hand: Client,
    /// Counts what is in all tables.
    count: String,
}

/// A database of dagz's that has no log of writes: each table is asked.
struct Plain {
    driver: Driver,
    target: Target,
    test: Client,
}

impl Plain {
    async fn new(config: &tokio_postgres::Config, target: Target, size: usize) -> Result<Self> {
        let mut config = config.clone();
        config.dbname(target.base());
        let driver = driver(Config::from_config(config.clone()).write_log(false), size);
        make_ready(&driver, &target).await?;
        Ok(Self {
            test: connect(&config, target.name()).await?,
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
        [target, plain]: [Target; 2],
        size: usize,
    ) -> Result<Self> {
        let driver = driver(Config::from_config(config.clone()), size);
        make_ready(&driver, &target).await?;
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
            test: connect(&config, target.name()).await?,
            look: connect(&config, target.name()).await?,
            by_hand: connect(&config, &by_hand()).await?,
            plain: Plain::new(&config, plain, size).await?,
            driver,
            target,
            config,
            size,
            floors,
            elsewhere,
            count: counts.join(" UNION ALL "),
        })
    }

    /// As at the end of a test, and until what that begins in the background is done. Not by sleeping: an idle
    /// processor is slow to come back, which is not what is measured.
    async fn release(&self, driver: &Driver, target: &Target) -> Result<()> {
        driver.release(target).await;
        for _ in 0..10 + self.size / 2 {
            self.elsewhere.simple_query("SELECT 1").await?;
        }
        Ok(())
    }

    async fn remove(self) -> Result<()> {
        let Self {
            by_hand,
            test,
            look,
            floors,
            config,
            target,
            plain,
            elsewhere,
            ..
        } = self;
        drop((by_hand, test, look, floors, plain.test));
        for database in [self::by_hand(), template()] {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            elsewhere.batch_execute(&drop).await?;
        }
        for target in [target, plain.target] {
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
            AT_ONCE => {
                self.test.batch_execute(&writes).await?;
                self.driver.release(&self.target).await;
                let started = Instant::now();
                self.driver.prepare(&self.target).await?;
                let time = started.elapsed();
                self.driver.release(&self.target).await;
                return Ok(time);
            }
            "dagz" | "dagz, new process" => {
                self.test.batch_execute(&writes).await?;
                self.release(&self.driver, &self.target).await?;
                let fresh = Driver::new(Config::from_config(self.config.clone()));
                let driver = match way.strategy {
                    "dagz" => &self.driver,
                    _ => &fresh,
                };
                let started = Instant::now();
                driver.prepare(&self.target).await?;
                let time = started.elapsed();
                driver.release(&self.target).await;
                return Ok(time);
            }
            WITHOUT_LOG => {
                let Plain {
                    driver,
                    target,
                    test,
                } = &self.plain;
                test.batch_execute(&writes).await?;
                self.release(driver, target).await?;
                let started = Instant::now();
                driver.prepare(target).await?;
                let time = started.elapsed();
                driver.release(target).await;
                return Ok(time);
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
            for (driver, target) in [
                (&self.driver, &self.target),
                (&self.plain.driver, &self.plain.target),
            ] {
                driver.prepare(target).await?;
                self.release(driver, target).await?;
            }
        }
        Ok(time)
    }

    async fn check(&mut self, way: Way) -> Result<()> {
        let client = match way.strategy {
            "dagz" | AT_ONCE | "dagz, new process" => &self.look,
            WITHOUT_LOG => &self.plain.test,
            _ => &self.by_hand,
        };
        let rows = client.query(&self.count, &[]).await;
        let rows = rows.context("the tables cannot be read")?;
        let dirty: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        ensure!(dirty.is_empty(), "rows in the tables {dirty:?}");
        Ok(())
    }
}
