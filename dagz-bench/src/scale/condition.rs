//! One condition of `scale`: so many tests on so many workers, in this process; [`one`] runs it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use dagz::{
    __private::argument,
    postgres::{Config, Prepare, configure, tokio_postgres},
};
use dagz_bench::suite::Connection as _;
use dagz_core::{Settings, runtime};
use procfs::process::Process;
use serde::{Deserialize, Serialize};

use super::{PROJECT, SLEEP, TABLES};
use crate::{
    harness,
    postgres::schema,
    say,
    watch::{self, Watch},
};

/// One condition.
#[derive(Args, Clone, Debug)]
pub(crate) struct Condition {
    /// How many workers there are.
    #[arg(long)]
    pub(super) workers: usize,
    /// How many tests run.
    #[arg(long)]
    pub(super) tests: usize,
    /// Where dagz keeps its state.
    #[arg(long)]
    pub(super) state: PathBuf,
    /// Whether each test uses a database.
    #[arg(long)]
    pub(super) database: bool,
    /// Whether dagz cleans nothing, to see that this leaves no figure.
    #[arg(long)]
    pub(super) unclean: bool,
}

/// What came of it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Outcome {
    /// Until each worker had its database, in microseconds; they were there or not.
    pub(super) first_us: u64,
    /// Of all tests, after that.
    pub(super) wall_us: u64,
    /// The processor time that the process used meanwhile.
    pub(super) cpu_us: u64,
    /// The same of the server, where that is on this machine.
    pub(super) server_cpu_us: Option<u64>,
    /// The most connections at once.
    pub(super) connections: i64,
    /// The memory of the process.
    pub(super) bytes: u64,
}

/// Runs one condition, in this process, and tells what came of it.
///
/// # Errors
/// Where a test failed or saw a row of another's.
pub(crate) fn one(condition: &Condition) -> Result<()> {
    Settings::builder()
        .workers(u32::try_from(condition.workers)?)
        .project(PROJECT)
        .state_dir(&condition.state)
        .install()?;
    let url = std::env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    let mut base: tokio_postgres::Config = url.parse()?;
    let server = base.clone();
    base.dbname(super::base());
    let mut config = Config::from_config(base).migrate_with("bench", |config| async move {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        runtime::spawn(connection);
        client.batch_execute(&schema(TABLES)).await
    });
    if condition.unclean {
        config = config.prepare(Prepare::None);
    }
    configure(config)?;
    let started = Instant::now();
    // Each thread holds its worker until all have one, so that each worker's database is made.
    let all = Arc::new(Barrier::new(condition.workers));
    let has_database = condition.database;
    on_threads(condition.workers, move |number| {
        let all = Arc::clone(&all);
        let outcome = harness::test(|scope| async move {
            let outcome = body(&scope, number, has_database, Duration::ZERO).await;
            all.wait();
            outcome
        });
        outcome.map(|()| false)
    })?;
    let first = started.elapsed();
    let next = Arc::new(AtomicUsize::new(0));
    let tests = condition.tests;
    let watch = Watch::begin(&server)?;
    let before = watch::own()?;
    let started = Instant::now();
    on_threads(condition.workers, move |_| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number < tests {
            harness::test(|scope| async move { body(&scope, number, has_database, SLEEP).await })?;
        }
        Ok(number < tests)
    })?;
    let wall = started.elapsed();
    let cpu = watch::own()?.saturating_sub(before);
    let work = watch.end()?;
    let status = Process::myself()?.status()?;
    let outcome = Outcome {
        first_us: micros(first)?,
        wall_us: micros(wall)?,
        cpu_us: micros(cpu)?,
        server_cpu_us: work.cpu.map(micros).transpose()?,
        connections: work.connections,
        bytes: status.vmrss.unwrap_or_default() * 1_024,
    };
    say::row(&serde_json::to_string(&outcome)?);
    Ok(())
}

fn micros(time: Duration) -> Result<u64> {
    Ok(u64::try_from(time.as_micros())?)
}

/// Calls `step` on so many threads, on each until it says that there is no more.
fn on_threads(
    count: usize,
    step: impl Fn(usize) -> Result<bool> + Clone + Send + 'static,
) -> Result<()> {
    let mut threads = Vec::new();
    for number in 0..count {
        let step = step.clone();
        threads.push(thread::spawn(move || {
            while step(number)? {}
            anyhow::Ok(())
        }));
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a test panicked"))??;
    }
    Ok(())
}

/// A slow test: it sleeps with a row of its own in a table, and wants to find it alone, before and after.
async fn body(
    scope: &dagz_core::Scope,
    number: usize,
    has_database: bool,
    sleep: Duration,
) -> Result<()> {
    if !has_database {
        tokio::time::sleep(sleep).await;
        return Ok(());
    }
    let client: dagz::postgres::Client = argument(scope).await;
    let table = number % TABLES;
    let count = format!("SELECT count(*) FROM t{table}");
    let before = client.number(&count).await?;
    client
        .run(&format!(
            "INSERT INTO t{table} (name, value) VALUES ('x', {number})"
        ))
        .await?;
    tokio::time::sleep(sleep).await;
    let after = client.number(&count).await?;
    ensure!(
        (before, after) == (0, 1),
        "test {number} saw {before} rows before its own, and {after} after"
    );
    Ok(())
}
