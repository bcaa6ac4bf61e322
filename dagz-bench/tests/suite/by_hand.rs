//! The suite as people write it without a library, in the way that `DAGZ_BENCH_STRATEGY` says.
//!
//! `truncate-all` and `count-truncate` clean one database before each test, and need `--test-threads=1`.
//! `template-clone` gives each test a clone of a migrated template and drops it when the test passed, as pgtestdb does.
//! `transaction` begins one before the test and rolls it back after. Each test connects for itself, since a connection
//! dies with the runtime that made it, and `#[tokio::test]` makes one per test; only `transaction, kept connection` has
//! a runtime beside those of the tests, which keeps connections alive from one to the next.

use std::{
    env, process,
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use dagz::postgres::tokio_postgres::{Client, Config};
use dagz_bench::suite;
use tokio::runtime::{Builder, Runtime};

/// The database that was migrated before the suite began.
fn migrated() -> Result<Config> {
    let url = env::var("DAGZ_BENCH_URL").context("`cargo xtask bench suite` says where")?;
    Ok(url.parse()?)
}

async fn by_hand(number: usize) -> Result<()> {
    let strategy = env::var("DAGZ_BENCH_STRATEGY").unwrap_or_default();
    let config = migrated()?;
    match strategy.as_str() {
        "truncate-all" => {
            let client = suite::connect(&config).await?;
            let tables = tables(&client).await?.join(", ");
            let truncate = format!("TRUNCATE {tables} RESTART IDENTITY CASCADE");
            client.batch_execute(&truncate).await?;
            suite::case(number, &client).await
        }
        "count-truncate" => {
            let client = suite::connect(&config).await?;
            for table in tables(&client).await? {
                let count = format!("SELECT count(*) FROM {table}");
                if client.query_one(&count, &[]).await?.get::<_, i64>(0) > 0 {
                    let truncate = format!("TRUNCATE {table} RESTART IDENTITY CASCADE");
                    client.batch_execute(&truncate).await?;
                }
            }
            suite::case(number, &client).await
        }
        "template-clone" => cloned(number, &config).await,
        "transaction" | "transaction, nextest" => {
            rolled_back(number, &suite::connect(&config).await?).await
        }
        "transaction, kept connection" => {
            let client = KEPT.take(config).await?;
            let outcome = rolled_back(number, &client).await;
            KEPT.put(client);
            outcome
        }
        other => bail!("`DAGZ_BENCH_STRATEGY` is `{other}`, which is no strategy"),
    }
}

async fn rolled_back(number: usize, client: &Client) -> Result<()> {
    client.batch_execute("BEGIN").await?;
    let outcome = suite::case(number, client).await;
    client.batch_execute("ROLLBACK").await?;
    outcome
}

/// Connections that outlive their tests, as many as there ever were tests at once.
struct Kept {
    runtime: Runtime,
    free: Mutex<Vec<Client>>,
}

static KEPT: LazyLock<Kept> = LazyLock::new(|| Kept {
    runtime: Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime"),
    free: Mutex::default(),
});

impl Kept {
    async fn take(&self, config: Config) -> Result<Client> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match free {
            Some(client) => Ok(client),
            None => {
                let connecting = async move { suite::connect(&config).await };
                self.runtime.spawn(connecting).await?
            }
        }
    }

    fn put(&self, client: Client) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(client);
    }
}

async fn tables(client: &Client) -> Result<Vec<String>> {
    let list = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    let rows = client.query(list, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn cloned(number: usize, template: &Config) -> Result<()> {
    let mut config = template.clone();
    let elsewhere = suite::connect(config.dbname("postgres")).await?;
    let name = format!("dagz_bench_clone_{}_{number}", process::id());
    let template = template.get_dbname().context("the template has a name")?;
    let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
    elsewhere.batch_execute(&create).await?;
    let client = suite::connect(config.dbname(&name)).await?;
    suite::case(number, &client).await?;
    drop(client);
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    Ok(elsewhere.batch_execute(&drop).await?)
}

macro_rules! one {
    ($name:ident, $number:expr) => {
        #[tokio::test]
        async fn $name() -> Result<()> {
            by_hand($number).await
        }
    };
}

dagz_bench::suite!(one);
