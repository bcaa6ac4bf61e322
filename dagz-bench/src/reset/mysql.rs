//! MySQL and MariaDB: beside dagz, `TRUNCATE` in its usual forms, `DELETE`, a new database, and `ROLLBACK`; other ways to
//! find out what was written are in `detection.rs`. `worker.rs` has dagz itself.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use dagz::mysql::{
    Config, Identity, databases,
    mysql_async::{Conn, Opts, OptsBuilder, Statement, prelude::Queryable as _},
    remove,
};
use dagz_core::{DbConfig as _, Target, name, runtime};

use super::{
    detection::{self, Detection},
    variable,
    worker::Worker,
};
use crate::{
    names,
    row::Row,
    say,
    schedule::{Dirt, Extent, Site, Way, ways},
};

const FLOORS: usize = 5;
const BY_HAND: &str = "dagz_bench_by_hand";
const KEPT: &str = "dagz, counters kept";

/// The next test comes before dagz has looked what the last one left.
const AT_ONCE: &str = "dagz, counters kept, at once";

/// All tables are behind one lock; and the test's writes alone, which that makes slower, without it and with it.
const GATED: &str = "dagz, counters kept, write gate";
const WRITES: &str = "writes alone, dagz";
const WRITES_GATED: &str = "writes alone, dagz, write gate";

/// Measures on a server of `size` tables.
pub(super) fn run(size: usize, extent: Extent) -> Result<Vec<Row>> {
    let opts = Opts::from_url(&variable("DAGZ_TEST_MYSQL_URL")?)?;
    let opts = OptsBuilder::from_opts(opts).prefer_socket(false);
    let target_of = |base: &str| {
        let opts = Opts::from(opts.clone());
        let endpoint = format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port());
        names::target("bench-mysql", &endpoint, base, |worker, base| {
            name::rewrite(worker, base, 64)
        })
    };
    let targets = ["", "_keep", "_at_once", "_gate"]
        .into_iter()
        .map(|which| target_of(&format!("dagz_bench_{size}{which}")))
        .collect::<Result<Vec<_>>>()?;
    runtime::wait(async move {
        let mut site = Mysql::new(opts, targets, size).await?;
        let backend = site.version().await?;
        let rows = super::measure(&mut site, &backend, size, &extent).await;
        site.remove().await?;
        rows
    })?
}

/// Statements that make so many tables.
pub(super) fn schema(tables: usize) -> String {
    let mut schema = String::new();
    for n in 0..tables {
        let reference = match n % 5 {
            0 => String::new(),
            other => format!(", FOREIGN KEY (parent) REFERENCES t{} (id)", n - other),
        };
        let table = write!(
            schema,
            "CREATE TABLE t{n} (id BIGINT AUTO_INCREMENT PRIMARY KEY, parent BIGINT, name VARCHAR(100), value INT, KEY (name), KEY (value){reference});"
        );
        table.unwrap_or_default();
    }
    schema
}

/// The statement that tells which of a database's tables have rows.
pub(super) fn rows_of(database: &str, size: usize) -> String {
    let tables: Vec<_> = (0..size)
        .map(|n| format!("(SELECT {n} FROM {database}.t{n} LIMIT 1)"))
        .collect();
    tables.join(" UNION ALL ")
}

struct Mysql {
    /// With counters set back, which is the default; with counters kept; the same for tests that come at once, on which
    /// dagz sets itself; and with a write gate.
    dagz: Vec<Worker>,
    opts: OptsBuilder,
    size: usize,
    floors: Vec<(Conn, Statement)>,
    elsewhere: Conn,
    by_hand: Conn,
    detections: Vec<Detection>,
}

/// A connection to `database`.
pub(super) async fn connect(opts: &OptsBuilder, database: &str) -> Result<Conn> {
    Ok(Conn::new(opts.clone().db_name(Some(database))).await?)
}

async fn make(elsewhere: &mut Conn) -> Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {BY_HAND}");
    elsewhere.query_drop(drop).await?;
    let create = format!("CREATE DATABASE {BY_HAND}");
    Ok(elsewhere.query_drop(create).await?)
}

impl Mysql {
    async fn new(opts: OptsBuilder, targets: Vec<Target>, size: usize) -> Result<Self> {
        let keeping = |config: Config| config.identity(Identity::Keep);
        let gated = |config: Config| config.identity(Identity::Keep).write_gate(true);
        let configured: [fn(Config) -> Config; 4] = [|config| config, keeping, keeping, gated];
        let mut dagz = Vec::new();
        for (target, configured) in targets.into_iter().zip(configured) {
            let started = Instant::now();
            dagz.push(Worker::new(&opts, target, size, configured).await?);
            say::progress(&format!(
                "reset: a worker's database of {size} tables took {:.1} s to make",
                started.elapsed().as_secs_f64()
            ));
        }
        let mut elsewhere = Conn::new(opts.clone()).await?;
        make(&mut elsewhere).await?;
        let mut by_hand = connect(&opts, BY_HAND).await?;
        by_hand.query_drop(schema(size)).await?;
        let detections = detection::all(&opts, size, &schema(size)).await?;
        let mut floors = Vec::new();
        for _ in 0..FLOORS {
            let mut conn = Conn::new(opts.clone()).await?;
            let one = conn.prep("SELECT 1").await?;
            floors.push((conn, one));
        }
        Ok(Self {
            dagz,
            opts,
            size,
            floors,
            elsewhere,
            by_hand,
            detections,
        })
    }

    async fn version(&mut self) -> Result<String> {
        let version: Option<String> = self.elsewhere.query_first("SELECT VERSION()").await?;
        let version = version.unwrap_or_default();
        let number = version.split('-').next().unwrap_or_default();
        let kind = match version.contains("MariaDB") {
            true => "mariadb",
            false => "mysql",
        };
        Ok(format!("{kind} {number}"))
    }

    async fn tables(&mut self) -> Result<Vec<String>> {
        Ok(self.by_hand.query("SHOW TABLES").await?)
    }

    async fn without_checks(&mut self, statements: &str) -> Result<()> {
        let text = format!("SET foreign_key_checks = 0; {statements} SET foreign_key_checks = 1");
        Ok(self.by_hand.query_drop(text).await?)
    }

    async fn remove(self) -> Result<()> {
        let Self {
            dagz,
            by_hand,
            detections,
            mut elsewhere,
            opts,
            ..
        } = self;
        drop(by_hand);
        for detection in detections {
            detection.remove().await?;
        }
        let drop_it = format!("DROP DATABASE IF EXISTS {BY_HAND}");
        elsewhere.query_drop(drop_it).await?;
        for target in dagz.into_iter().map(Worker::end) {
            let config = Config::from_opts(opts.clone());
            for database in databases(&config, target.project()).await? {
                if database.base() == Some(target.base()) {
                    remove(&database).await?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Site for Mysql {
    fn ways(&self) -> Vec<Way> {
        let dirty = [Dirt::Three, Dirt::All];
        let mut all = ways("dagz", &Dirt::ANY);
        all.extend(ways(KEPT, &Dirt::ANY));
        all.extend(ways(AT_ONCE, &Dirt::ANY));
        all.extend(ways(GATED, &Dirt::ANY));
        all.extend(ways(WRITES, &dirty));
        all.extend(ways(WRITES_GATED, &dirty));
        all.extend(ways("count-truncate", &Dirt::ANY));
        all.extend(ways("truncate-all", &Dirt::ANY));
        all.extend(ways("delete-all", &Dirt::ANY));
        all.extend(ways("drop-create", &dirty[..1]));
        all.extend(ways("rollback", &dirty));
        all.extend(self.detections.iter().flat_map(Detection::ways));
        all
    }

    async fn floor(&mut self, turn: usize) -> Result<Duration> {
        let (conn, one) = &mut self.floors[turn % FLOORS];
        let started = Instant::now();
        let _one: Option<u8> = conn.exec_first(&*one, ()).await?;
        Ok(started.elapsed())
    }

    async fn time(&mut self, way: Way) -> Result<Duration> {
        let rows = "('x', 1), ('x', 2), ('x', 3), ('x', 4), ('x', 5)";
        let mut writes = String::from("DO 0");
        for n in way.dirt.tables(self.size) {
            write!(writes, "; INSERT INTO t{n} (name, value) VALUES {rows}")?;
        }
        let (worker, is_at_once) = match way.strategy {
            "dagz" => (Some(&mut self.dagz[0]), false),
            KEPT | WRITES => (Some(&mut self.dagz[1]), false),
            AT_ONCE => (Some(&mut self.dagz[2]), true),
            GATED | WRITES_GATED => (Some(&mut self.dagz[3]), false),
            _ => (None, false),
        };
        if let Some(worker) = worker {
            let elsewhere = &mut self.elsewhere;
            let (wrote, reset) = worker.time(&writes, is_at_once, elsewhere).await?;
            return Ok(match way.strategy {
                WRITES | WRITES_GATED => wrote,
                _ => reset,
            });
        }
        let strategy = way.strategy;
        let mut detections = self.detections.iter_mut();
        if let Some(detection) = detections.find(|detection| detection.knows(strategy)) {
            return detection.time(way, &writes).await;
        }
        if way.strategy == "rollback" {
            writes = format!("BEGIN; {writes}");
        }
        self.by_hand.query_drop(writes).await?;
        let started = Instant::now();
        match way.strategy {
            "count-truncate" => {
                for table in self.tables().await? {
                    let count = format!("SELECT COUNT(*) FROM {table}");
                    let count: Option<u64> = self.by_hand.query_first(count).await?;
                    if count > Some(0) {
                        self.without_checks(&format!("TRUNCATE {table};")).await?;
                    }
                }
            }
            "truncate-all" => {
                let tables = self.tables().await?.into_iter();
                let truncate: String = tables.map(|name| format!("TRUNCATE {name};")).collect();
                self.without_checks(&truncate).await?;
            }
            "delete-all" => {
                let tables = self.tables().await?.into_iter();
                let delete: String = tables.map(|name| format!("DELETE FROM {name};")).collect();
                let transaction = format!("BEGIN; {delete} COMMIT;");
                self.without_checks(&transaction).await?;
            }
            "drop-create" => {
                make(&mut self.elsewhere).await?;
                self.by_hand = connect(&self.opts, BY_HAND).await?;
                self.by_hand.query_drop(schema(self.size)).await?;
            }
            "rollback" => self.by_hand.query_drop("ROLLBACK").await?,
            other => bail!("`{other}` is no way of MySQL"),
        }
        let time = started.elapsed();
        if matches!(
            way.strategy,
            "count-truncate" | "truncate-all" | "drop-create"
        ) {
            // Whoever else is on the server looks at its schema anew after a change elsewhere. Where people use dagz,
            // nobody makes one beside it.
            for worker in &mut self.dagz {
                worker.driver.prepare(&worker.target).await?;
                worker.release().await;
            }
        }
        Ok(time)
    }

    async fn check(&mut self, way: Way) -> Result<()> {
        let mut detections = self.detections.iter();
        let database = match way.strategy {
            "dagz" => self.dagz[0].target.name(),
            KEPT | WRITES => self.dagz[1].target.name(),
            AT_ONCE => self.dagz[2].target.name(),
            GATED | WRITES_GATED => self.dagz[3].target.name(),
            strategy => detections
                .find(|detection| detection.knows(strategy))
                .map_or(BY_HAND, Detection::database),
        };
        // Each session more makes it dearer for dagz to ask who waits, so there is none for this alone.
        let rows = self.elsewhere.query(rows_of(database, self.size)).await;
        let dirty: Vec<u32> = rows.context("the tables cannot be read")?;
        ensure!(dirty.is_empty(), "rows in the tables {dirty:?}");
        Ok(())
    }
}
