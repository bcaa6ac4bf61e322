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
    postgres::{connect, make, remove_databases, schema, target, writes},
    row::Row,
    schedule::{Dirt, Site, Way, ways},
};

/// How many connections the floor is asked on, in turn.
const FLOORS: usize = 5;

/// The database of the ways by hand, and its template.
const BY_HAND: &str = "dagz_bench_by_hand";
const TEMPLATE: &str = "dagz_bench_template";

/// Measures on a server of `size` tables.
pub(super) fn run(size: usize, budget: Duration) -> Result<Vec<Row>> {
    let mut config: tokio_postgres::Config = variable("DATABASE_URL")?.parse()?;
    let base = format!("dagz_bench_{size}");
    config.dbname(&base);
    let target = target(&config, &base)?;
    runtime::wait(async move {
        let mut site = Postgres::new(config, target, size).await?;
        let backend = site.version().await?;
        let rows = super::measure(&mut site, &backend, size, budget).await;
        site.remove().await?;
        rows
    })?
}

struct Postgres {
    driver: Driver,
    target: Target,
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

impl Postgres {
    async fn new(config: tokio_postgres::Config, target: Target, size: usize) -> Result<Self> {
        let driver = Driver::new(Config::from_config(config.clone()).migrate_with(
            "bench",
            move |config| async move {
                let (client, connection) = config.connect(NoTls).await?;
                runtime::spawn(connection);
                client.batch_execute(&schema(size)).await
            },
        ));
        driver.worker_init(&target).await?;
        driver.prepare(&target).await?;
        driver.release(&target).await;
        let elsewhere = connect(&config, "postgres").await?;
        make(&elsewhere, BY_HAND, "").await?;
        make(&elsewhere, TEMPLATE, "").await?;
        for database in [BY_HAND, TEMPLATE] {
            let client = connect(&config, database).await?;
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
            by_hand: connect(&config, BY_HAND).await?,
            driver,
            target,
            config,
            size,
            floors,
            elsewhere,
            count: counts.join(" UNION ALL "),
        })
    }

    async fn version(&self) -> Result<String> {
        let row = self.elsewhere.query_one("SHOW server_version", &[]).await?;
        let version: String = row.get(0);
        let number = version.split(' ').next().unwrap_or_default();
        Ok(format!("postgres {number}"))
    }

    /// As at the end of a test, and until what that begins in the background is done. Not by sleeping: an idle
    /// processor is slow to come back, which is not what is measured.
    async fn release(&self) -> Result<()> {
        self.driver.release(&self.target).await;
        for _ in 0..10 + self.size / 8 {
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
            elsewhere,
            ..
        } = self;
        drop((by_hand, test, look, floors));
        for database in [BY_HAND, TEMPLATE] {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            elsewhere.batch_execute(&drop).await?;
        }
        remove_databases(&config, target.project(), target.base()).await
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
        all.extend(ways("dagz, new process", &dirty[..1]));
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
            "dagz" | "dagz, new process" => {
                self.test.batch_execute(&writes).await?;
                self.release().await?;
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
                make(&self.elsewhere, BY_HAND, "").await?;
                self.by_hand = connect(&self.config, BY_HAND).await?;
                self.by_hand.batch_execute(&schema(self.size)).await?;
            }
            "template-clone" => {
                make(&self.elsewhere, BY_HAND, &format!("TEMPLATE {TEMPLATE}")).await?;
                self.by_hand = connect(&self.config, BY_HAND).await?;
            }
            "rollback" => self.by_hand.batch_execute("ROLLBACK").await?,
            other => bail!("`{other}` is no way of Postgres"),
        }
        let time = started.elapsed();
        if !matches!(way.strategy, "rollback" | "delete-all") {
            // The server tells every session of each truncated table, and one that lags behind forgets all its
            // plans. Where people use dagz, nobody truncates beside it.
            self.driver.prepare(&self.target).await?;
            self.release().await?;
        }
        Ok(time)
    }

    async fn check(&mut self, way: Way) -> Result<()> {
        let client = match way.strategy {
            "dagz" | "dagz, new process" => &self.look,
            _ => &self.by_hand,
        };
        let rows = client.query(&self.count, &[]).await;
        let rows = rows.context("the tables cannot be read")?;
        let dirty: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        ensure!(dirty.is_empty(), "rows in the tables {dirty:?}");
        Ok(())
    }
}
