//! Cassandra: beside dagz, what everybody does: `TRUNCATE` of all tables, one after the other or all at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use dagz::cassandra::{
    Config, Driver, databases, remove,
    scylla::{
        client::{session::Session, session_builder::SessionBuilder},
        errors::ExecutionError,
        statement::{Statement, prepared::PreparedStatement},
    },
};
use dagz_core::{DbConfig as _, Target, name, runtime};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::variable;
use crate::{
    names,
    row::Row,
    schedule::{Dirt, Extent, Site, Way, ways},
};

const BY_HAND: &str = "dagz_bench_by_hand";

/// How many statements are on their way at once, where that is the way.
const AT_ONCE: usize = 16;

/// Longer than any `TRUNCATE` takes that is not lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures with `size` tables.
pub(super) fn run(size: usize, extent: Extent) -> Result<Vec<Row>> {
    let url = variable("DAGZ_TEST_CASSANDRA_URL")?;
    let base = format!("dagz_bench_{size}");
    let (_, at) = url.split_once('@').context("the URL names no server")?;
    let target = names::target("bench-cassandra", at, &base, |worker, base| {
        name::rewrite(worker, base, 48)
    })?;
    let config = Config::new(&format!("{url}/{base}"))?;
    runtime::wait(async move {
        let mut site = Cassandra::new(&url, config, target, size).await?;
        let backend = site.version().await?;
        let rows = super::measure(&mut site, &backend, size, &extent).await;
        site.remove().await?;
        rows
    })?
}

fn table(keyspace: &str, n: usize) -> String {
    format!(
        "CREATE TABLE {keyspace}t{n} (id int, at int, name text, value int, PRIMARY KEY (id, at))"
    )
}

fn patient(text: impl Into<String>) -> Statement {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(PATIENCE));
    statement
}

struct Cassandra {
    driver: Driver,
    config: Config,
    target: Target,
    size: usize,
    session: Session,
    floor: PreparedStatement,
    dagz: Statements,
    by_hand: Statements,
}

/// Of one keyspace, a table each.
struct Statements {
    write: Vec<PreparedStatement>,
    look: Vec<PreparedStatement>,
}

impl Statements {
    async fn of(session: &Session, keyspace: &str, size: usize) -> Result<Self> {
        let mut all = Self {
            write: Vec::new(),
            look: Vec::new(),
        };
        for n in 0..size {
            let write =
                format!("INSERT INTO {keyspace}.t{n} (id, at, name, value) VALUES (?, 1, 'x', 2)");
            all.write.push(session.prepare(write).await?);
            let look = format!("SELECT id FROM {keyspace}.t{n} LIMIT 1");
            all.look.push(session.prepare(look).await?);
        }
        Ok(all)
    }
}

impl Cassandra {
    async fn new(url: &str, config: Config, target: Target, size: usize) -> Result<Self> {
        let config = config.migrate_with("bench", move |session| async move {
            for n in 0..size {
                session.query_unpaged(patient(table("", n)), ()).await?;
            }
            Ok::<_, ExecutionError>(())
        });
        let driver = Driver::new(config.clone());
        driver.worker_init(&target).await?;
        driver.prepare(&target).await?;
        driver.release(&target).await;
        let session = session(url).await?;
        let drop = format!("DROP KEYSPACE IF EXISTS {BY_HAND}");
        session.query_unpaged(patient(drop), ()).await?;
        let create = format!(
            "CREATE KEYSPACE {BY_HAND} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        );
        session.query_unpaged(patient(create), ()).await?;
        for n in 0..size {
            let create = table(&format!("{BY_HAND}."), n);
            session.query_unpaged(patient(create), ()).await?;
        }
        let floor = "SELECT key FROM system.local WHERE key = 'local'";
        Ok(Self {
            floor: session.prepare(floor).await?,
            dagz: Statements::of(&session, target.name(), size).await?,
            by_hand: Statements::of(&session, BY_HAND, size).await?,
            driver,
            config,
            target,
            size,
            session,
        })
    }

    async fn version(&self) -> Result<String> {
        let told = "SELECT release_version FROM system.local";
        let told = self.session.query_unpaged(told, ()).await?;
        let (version,): (String,) = told.into_rows_result()?.single_row()?;
        Ok(format!("cassandra {version}"))
    }

    async fn truncate(&self, at_once: usize) -> Result<()> {
        let statements = (0..self.size).map(|n| patient(format!("TRUNCATE {BY_HAND}.t{n}")));
        stream::iter(statements.map(|statement| self.session.query_unpaged(statement, ())))
            .buffer_unordered(at_once)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(())
    }

    async fn remove(self) -> Result<()> {
        let drop = format!("DROP KEYSPACE IF EXISTS {BY_HAND}");
        self.session.query_unpaged(patient(drop), ()).await?;
        for database in databases(&self.config, self.target.project()).await? {
            if database.base() == Some(self.target.base()) {
                remove(&database).await?;
            }
        }
        Ok(())
    }
}

/// A session that has no keyspace.
async fn session(url: &str) -> Result<Session> {
    let (_, login) = url.split_once("://").context("the URL has no scheme")?;
    let (login, at) = login.split_once('@').context("the URL names no user")?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let builder = SessionBuilder::new().known_node(at.trim_end_matches('/'));
    let builder = builder.user(user, password).fetch_schema_metadata(false);
    Ok(builder.build().await?)
}

#[async_trait]
impl Site for Cassandra {
    fn ways(&self) -> Vec<Way> {
        let mut all = ways("dagz", &Dirt::ANY);
        all.extend(ways("dagz, new process", &[Dirt::Three]));
        all.extend(ways("truncate-all", &Dirt::ANY));
        all.extend(ways("truncate-all, at once", &[Dirt::Three]));
        all
    }

    async fn floor(&mut self, _: usize) -> Result<Duration> {
        let started = Instant::now();
        self.session.execute_unpaged(&self.floor, ()).await?;
        Ok(started.elapsed())
    }

    async fn time(&mut self, way: Way) -> Result<Duration> {
        let is_dagz = way.strategy.starts_with("dagz");
        let statements = match is_dagz {
            true => &self.dagz,
            false => &self.by_hand,
        };
        for n in way.dirt.tables(self.size) {
            for id in 0..5 {
                self.session
                    .execute_unpaged(&statements.write[n], (id,))
                    .await?;
            }
        }
        let fresh = Driver::new(self.config.clone());
        let started = Instant::now();
        match way.strategy {
            "dagz" => self.driver.prepare(&self.target).await?,
            "dagz, new process" => fresh.prepare(&self.target).await?,
            "truncate-all" => self.truncate(1).await?,
            "truncate-all, at once" => self.truncate(AT_ONCE).await?,
            other => bail!("`{other}` is no way of Cassandra"),
        }
        Ok(started.elapsed())
    }

    async fn check(&mut self, way: Way) -> Result<()> {
        let statements = match way.strategy.starts_with("dagz") {
            true => &self.dagz,
            false => &self.by_hand,
        };
        for (n, look) in statements.look.iter().enumerate() {
            let found = self.session.execute_unpaged(look, ()).await?;
            let rows = found.into_rows_result()?.rows_num();
            ensure!(rows == 0, "rows in the table `t{n}`");
        }
        Ok(())
    }
}
