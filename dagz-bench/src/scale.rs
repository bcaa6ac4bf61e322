//! The group `scale`: many workers and many tests, whose bodies sleep, so that it is dagz that is measured and not how
//! many cores the machine has.
//!
//! Each condition is a process of its own, since a process has one number of workers ([`one`]). The floor is the ideal:
//! as many tests at once as there are workers, each for as long as it sleeps, and nothing beside.

use std::{
    process::Command,
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
    postgres::{Config, configure, tokio_postgres},
};
use dagz_bench::suite::Connection as _;
use dagz_core::{Settings, runtime};
use procfs::process::Process;
use serde::{Deserialize, Serialize};

use crate::{
    harness,
    postgres::{connect, remove_databases, schema},
    row::Row,
    say,
};

const BASE: &str = "dagz_bench_scale";
const PROJECT: &str = "dagz-bench-scale";

/// How many tables a worker's database has: making 64 of them is not what is measured.
const TABLES: usize = 5;

/// How long a test sleeps.
const SLEEP: Duration = Duration::from_millis(50);

/// No condition takes longer than this, ideally.
const LONGEST: Duration = Duration::from_secs(10);

const WORKERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const TESTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];

/// One condition.
#[derive(Args, Clone, Debug)]
pub(crate) struct Condition {
    /// How many workers there are.
    #[arg(long)]
    workers: usize,
    /// How many tests run.
    #[arg(long)]
    tests: usize,
    /// Where dagz keeps its state.
    #[arg(long)]
    state: std::path::PathBuf,
    /// Whether each test uses a database.
    #[arg(long)]
    database: bool,
}

/// What came of it.
#[derive(Debug, Deserialize, Serialize)]
struct Outcome {
    /// Until each worker had its database, in microseconds; they were there or not.
    first_us: u64,
    /// Of all tests, after that.
    wall_us: u64,
    /// The memory of the process.
    bytes: u64,
}

/// Measures all conditions, and tells the rows.
///
/// # Errors
/// Where a test failed or saw a row of another's.
pub(crate) fn run(is_quick: bool) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    let config: tokio_postgres::Config = url.parse()?;
    let backend = {
        let config = config.clone();
        runtime::wait(async move {
            remove_databases(&config, PROJECT, BASE).await?;
            let client = connect(&config, "postgres").await?;
            let version = client.query_one("SHOW server_version", &[]).await?;
            let version: String = version.get(0);
            anyhow::Ok(format!(
                "postgres {}",
                version.split(' ').next().unwrap_or_default()
            ))
        })??
    };
    let state = tempfile::tempdir()?;
    let outcome = conditions(&backend, state.path(), is_quick);
    runtime::wait(async move { remove_databases(&config, PROJECT, BASE).await })??;
    outcome
}

fn conditions(backend: &str, state: &std::path::Path, is_quick: bool) -> Result<()> {
    let mut memory = Vec::new();
    for (strategy, database) in [("dagz", true), ("dagz, without a database", false)] {
        for workers in WORKERS {
            for tests in TESTS {
                let is_whole = tests >= workers || tests == 1;
                let longest = if is_quick { LONGEST / 10 } else { LONGEST };
                if ideal(workers, tests) > longest || !is_whole || (!database && tests < 1_000) {
                    continue;
                }
                say::progress(&format!(
                    "scale: {strategy}, {workers} workers, {tests} tests"
                ));
                let condition = Condition {
                    workers,
                    tests,
                    state: state.to_owned(),
                    database,
                };
                let outcome = in_process(&condition)?;
                if database {
                    memory.push((workers, outcome.bytes, outcome.first_us));
                }
                let wall = Duration::from_micros(outcome.wall_us);
                let row = Row::of(
                    "scale",
                    backend,
                    strategy,
                    &[wall],
                    &[ideal(workers, tests)],
                )?;
                let row = Row {
                    tables: TABLES,
                    dirty: usize::from(database),
                    workers: Some(workers),
                    tests: Some(tests),
                    ..row
                };
                row.tell()?;
            }
        }
    }
    let (Some((few, least, _)), Some((many, most, _))) = (memory.first(), memory.last()) else {
        return Ok(());
    };
    let each = (*most as i64 - *least as i64) / (*many as i64 - *few as i64).max(1);
    let row = Row {
        group: "scale",
        backend: backend.to_owned(),
        strategy: "dagz, memory per worker".to_owned(),
        bytes: Some(each),
        samples: 1,
        workers: Some(*many),
        ..Row::default()
    };
    row.tell()
}

/// How long the tests would take if there was nothing but them.
fn ideal(workers: usize, tests: usize) -> Duration {
    SLEEP * u32::try_from(tests.div_ceil(workers)).unwrap_or(u32::MAX)
}

fn in_process(condition: &Condition) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("scale-condition");
    command.args(["--workers", &condition.workers.to_string()]);
    command.args(["--tests", &condition.tests.to_string()]);
    command.arg("--state").arg(&condition.state);
    if condition.database {
        command.arg("--database");
    }
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{condition:?} has no figure: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs one condition, in this process, and tells what came of it.
///
/// # Errors
/// As [`run`].
pub(crate) fn one(condition: &Condition) -> Result<()> {
    Settings::builder()
        .workers(u32::try_from(condition.workers)?)
        .project(PROJECT)
        .state_dir(&condition.state)
        .install()?;
    let url = std::env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    let mut base: tokio_postgres::Config = url.parse()?;
    base.dbname(BASE);
    configure(
        Config::from_config(base).migrate_with("bench", |config| async move {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            runtime::spawn(connection);
            client.batch_execute(&schema(TABLES)).await
        }),
    )?;
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
    let started = Instant::now();
    on_threads(condition.workers, move |_| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number < tests {
            harness::test(|scope| async move { body(&scope, number, has_database, SLEEP).await })?;
        }
        Ok(number < tests)
    })?;
    let wall = started.elapsed();
    let status = Process::myself()?.status()?;
    let outcome = Outcome {
        first_us: u64::try_from(first.as_micros())?,
        wall_us: u64::try_from(wall.as_micros())?,
        bytes: status.vmrss.unwrap_or_default() * 1_024,
    };
    say::row(&serde_json::to_string(&outcome)?);
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ideally_all_workers_are_busy() {
        assert_eq!(ideal(1, 1), SLEEP);
        assert_eq!(ideal(4, 100), SLEEP * 25);
        assert_eq!(ideal(64, 1_000), SLEEP * 16);
    }
}
