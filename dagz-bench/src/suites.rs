//! The group `suite`: the same five hundred tests under each strategy, and what each costs as a whole.
//!
//! [`run`] runs the suite's test binaries, the cheap strategies several times and in turn, the dear ones less often.
//! [`Watch`](crate::watch::Watch) looks at the server meanwhile. The floor is the tests' statements alone: all of
//! them over one kept connection, in a transaction each, without a harness.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use dagz::postgres::tokio_postgres::{self, Client};
use dagz_bench::suite::{self, TABLES, TESTS, WRITTEN};
use dagz_core::runtime;

use crate::{
    postgres::{connect, make, remove_databases},
    row::Row,
    say,
    watch::{Watch, Work},
};

/// The database whose name dagz reroutes, and the ones that are migrated for the others.
const BASE: &str = "dagz_bench_suite";
const MIGRATED: &str = "dagz_bench_suite_by_hand";

/// A copy of it for what rolls back, and so leaves it clean, as the ways that truncate before a test do not.
const ROLLED_BACK: &str = "dagz_bench_suite_rolled_back";

/// A copy of it, to which nobody may ever have been connected who is slow to leave.
const TEMPLATE: &str = "dagz_bench_suite_template";

/// The project that dagz stamps databases with here.
const PROJECT: &str = "dagz-bench-suite";

/// Words of the group.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The test binary with dagz.
    #[arg(long)]
    dagz: PathBuf,
    /// The test binary with `#[sqlx::test]`.
    #[arg(long)]
    sqlx: PathBuf,
    /// The test binary of the ways by hand.
    #[arg(long)]
    by_hand: PathBuf,
    /// Of nextest: the program, what `cargo metadata` told, and what `cargo nextest list` told of the binaries.
    #[arg(long)]
    nextest: Vec<PathBuf>,
    /// How often the cheap strategies run.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How often the dear ones do, which take a minute each.
    #[arg(long, default_value_t = 1)]
    dear_rounds: usize,
    /// Only tests whose names have this in them: `case_0` are a hundred.
    #[arg(long, default_value = "case_")]
    filter: String,
}

/// A strategy, on so many workers or threads.
#[derive(Clone, Copy, Debug)]
struct Strategy {
    name: &'static str,
    workers: usize,
    is_dear: bool,
}

/// In the order they run, round by round.
fn strategies() -> Vec<Strategy> {
    let on = |name, workers: &[usize], is_dear| -> Vec<Strategy> {
        let each = workers.iter();
        each.map(|workers| Strategy {
            name,
            workers: *workers,
            is_dear,
        })
        .collect()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = on("dagz", &[1, 2, 4, 8], false);
    all.extend(on("transaction", &[1, 2, 4, 8], false));
    all.extend(on("dagz-nextest", &[1, 2, 4, 8], true));
    all.extend(on("count-truncate", &[1], true));
    // By default a harness has as many threads as there are cores, and so have these.
    all.extend(on("template-clone", &[cores], true));
    all.extend(on("truncate-all", &[1], true));
    all.extend(on("sqlx-test", &[cores], true));
    all
}

/// What came of one run.
struct Outcome {
    wall: Duration,
    cpu: Duration,
    work: Work,
}

struct Runner {
    arguments: Arguments,
    url: url::Url,
    config: tokio_postgres::Config,
    state: tempfile::TempDir,
    /// How many tests the filter leaves.
    tests: usize,
}

/// Runs all, and tells the rows.
///
/// # Errors
/// Where a test failed, above all: it is the isolation check, and there is no figure without it.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    let runner = Runner {
        config: url.parse()?,
        url: url.parse()?,
        state: tempfile::tempdir()?,
        tests: (0..TESTS)
            .filter(|number| format!("case_{number:03}").contains(&arguments.filter))
            .count(),
        arguments,
    };
    ensure!(runner.tests > 0, "no test is called so");
    let config = runner.config.clone();
    let backend = runtime::wait(async move {
        let elsewhere = connect(&config, "postgres").await?;
        migrate(&elsewhere, &config).await?;
        remove_databases(&config, PROJECT, BASE).await?;
        let version = elsewhere.query_one("SHOW server_version", &[]).await?;
        let version: String = version.get(0);
        let number = version.split(' ').next().unwrap_or_default();
        anyhow::Ok(format!("postgres {number}"))
    })??;
    let outcome = runner.all(&backend);
    let config = runner.config.clone();
    runtime::wait(async move {
        remove_databases(&config, PROJECT, BASE).await?;
        let elsewhere = connect(&config, "postgres").await?;
        for database in [MIGRATED, ROLLED_BACK, TEMPLATE] {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            elsewhere.batch_execute(&drop).await?;
        }
        anyhow::Ok(())
    })??;
    outcome
}

/// Makes the database of the ways by hand.
async fn migrate(elsewhere: &Client, config: &tokio_postgres::Config) -> Result<()> {
    make(elsewhere, MIGRATED, "").await?;
    let client = connect(config, MIGRATED).await?;
    let files = std::fs::read_dir(suite::migrations())?;
    let mut paths: Vec<_> = files
        .map(|file| Ok(file?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    for path in paths {
        client
            .batch_execute(&std::fs::read_to_string(path)?)
            .await?;
    }
    drop(client);
    for copy in [TEMPLATE, ROLLED_BACK] {
        make(elsewhere, copy, &format!("TEMPLATE {MIGRATED}")).await?;
    }
    Ok(())
}

impl Runner {
    fn all(&self, backend: &str) -> Result<()> {
        // What only the first run of a project pays: the template, and a clone per worker.
        let first = Strategy {
            name: "dagz",
            workers: 8,
            is_dear: false,
        };
        say::progress("suite: dagz, the first run ever");
        let first = self.one(first)?;
        let strategies = strategies();
        let mut outcomes: Vec<Vec<Outcome>> = strategies.iter().map(|_| Vec::new()).collect();
        let mut floors = Vec::new();
        let rounds = self.arguments.rounds.max(self.arguments.dear_rounds);
        for round in 0..rounds {
            floors.push(self.bare()?);
            for (strategy, outcomes) in strategies.iter().zip(&mut outcomes) {
                let times = match strategy.is_dear {
                    true => self.arguments.dear_rounds,
                    false => self.arguments.rounds,
                };
                let has_program =
                    strategy.name != "dagz-nextest" || !self.arguments.nextest.is_empty();
                if round >= times || !has_program {
                    continue;
                }
                say::progress(&format!(
                    "suite: {} on {}, round {} of {times}",
                    strategy.name,
                    strategy.workers,
                    round + 1
                ));
                let outcome = self.one(*strategy).with_context(|| {
                    format!("`{}` has no figure: its run failed", strategy.name)
                })?;
                outcomes.push(outcome);
            }
        }
        self.row(backend, "dagz, first run", 8, &[first], &floors)?
            .tell()?;
        for (strategy, outcomes) in strategies.iter().zip(&outcomes) {
            if !outcomes.is_empty() {
                self.row(backend, strategy.name, strategy.workers, outcomes, &floors)?
                    .tell()?;
            }
        }
        Ok(())
    }

    fn row(
        &self,
        backend: &str,
        name: &str,
        workers: usize,
        outcomes: &[Outcome],
        floors: &[Duration],
    ) -> Result<Row> {
        let walls: Vec<_> = outcomes.iter().map(|outcome| outcome.wall).collect();
        let mean = |of: &dyn Fn(&Outcome) -> f64| {
            outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64
        };
        let has_server = outcomes.iter().all(|outcome| outcome.work.cpu.is_some());
        Ok(Row {
            tables: TABLES,
            dirty: WRITTEN,
            workers: Some(workers),
            tests: Some(self.tests),
            cpu_ms: Some(mean(&|outcome| outcome.cpu.as_secs_f64() * 1e3).round()),
            server_cpu_ms: has_server.then(|| {
                let cpu = |outcome: &Outcome| outcome.work.cpu.unwrap_or_default().as_secs_f64();
                mean(&|outcome| cpu(outcome) * 1e3).round()
            }),
            connections: outcomes
                .iter()
                .map(|outcome| outcome.work.connections)
                .max(),
            wal_bytes: Some(mean(&|outcome| outcome.work.wal_bytes as f64) as i64),
            objects: Some(mean(&|outcome| outcome.work.objects as f64) as i64),
            ..Row::of("suite", backend, name, &walls, floors)?
        })
    }

    /// The statements of the tests, and nothing else.
    fn bare(&self) -> Result<Duration> {
        let config = self.config.clone();
        let filter = self.arguments.filter.clone();
        runtime::wait(async move {
            let client = connect(&config, ROLLED_BACK).await?;
            let started = Instant::now();
            for number in 0..TESTS {
                if format!("case_{number:03}").contains(&filter) {
                    client.batch_execute("BEGIN").await?;
                    suite::case(number, &client).await?;
                    client.batch_execute("ROLLBACK").await?;
                }
            }
            Ok(started.elapsed())
        })?
    }

    fn one(&self, strategy: Strategy) -> Result<Outcome> {
        let watch = Watch::begin(&self.config)?;
        let before = crate::watch::children()?;
        let started = Instant::now();
        let output = self
            .command(strategy)?
            .output()
            .context("the suite cannot be run")?;
        let wall = started.elapsed();
        let cpu = crate::watch::children()?.saturating_sub(before);
        let work = watch.end()?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let passed = passed(&text);
        ensure!(
            output.status.success() && passed == Some(self.tests),
            "{passed:?} of {} tests passed: that is the isolation check. It said:\n{}",
            self.tests,
            tail(&text)
        );
        Ok(Outcome { wall, cpu, work })
    }

    fn command(&self, strategy: Strategy) -> Result<Command> {
        let is_nextest = strategy.name == "dagz-nextest";
        let mut command = match (strategy.name, self.arguments.nextest.as_slice()) {
            ("dagz-nextest", words) => {
                let [program, cargo, binaries] = words else {
                    anyhow::bail!(
                        "`--nextest` takes a program and two files, each with its own word"
                    );
                };
                let mut command = Command::new(program);
                command.args(["nextest", "run", "--cargo-metadata"]);
                command.arg(cargo).arg("--binaries-metadata").arg(binaries);
                command.args(["--status-level=none", "--hide-progress-bar"]);
                command
            }
            ("dagz", _) => Command::new(&self.arguments.dagz),
            ("sqlx-test", _) => Command::new(&self.arguments.sqlx),
            _ => Command::new(&self.arguments.by_hand),
        };
        command
            .arg(format!("--test-threads={}", strategy.workers))
            .arg(&self.arguments.filter);
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name == "DAGZ"
                || ["DAGZ_", "RUST_TEST_", "NEXTEST"]
                    .iter()
                    .any(|own| name.starts_with(own))
            {
                command.env_remove(&key);
            }
        }
        let name = match strategy.name {
            "template-clone" => TEMPLATE,
            "transaction" => ROLLED_BACK,
            name if name.starts_with("dagz") => BASE,
            _ => MIGRATED,
        };
        let mut url = self.url.clone();
        url.set_path(name);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
            .env("DATABASE_URL", self.url.as_str())
            .env("DAGZ_BENCH_URL", url.as_str())
            .env("DAGZ_BENCH_STRATEGY", strategy.name)
            .env("DAGZ_PROJECT", PROJECT)
            .env("DAGZ_STATE_DIR", self.state.path())
            .env("DAGZ_WORKERS", strategy.workers.to_string())
            .env("RUST_BACKTRACE", "0");
        if !is_nextest {
            // What a cargo that started it would be known by: each run is a job of its own.
            let number = self.state.path().join("runs");
            command.env("DAGZ_JOB", next(&number)?);
        }
        Ok(command)
    }
}

/// A word that no earlier call gave.
fn next(counter: &Path) -> Result<String> {
    let number: usize = std::fs::read_to_string(counter).map_or(Ok(0), |text| text.parse())?;
    std::fs::write(counter, (number + 1).to_string())?;
    Ok(format!("bench-{number}"))
}

/// How many tests passed, by the summary of libtest or of nextest; none where one failed.
fn passed(text: &str) -> Option<usize> {
    let of = |text: &str| text.split_whitespace().next()?.parse().ok();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("test result: ok. ") {
            return of(rest);
        }
        if let Some((_, rest)) = line.split_once(" tests run: ")
            && !rest.contains("failed")
        {
            return of(rest);
        }
    }
    None
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners() {
        let libtest = "\ntest result: ok. 500 passed; 0 failed; 0 ignored; finished in 1.2s\n";
        assert_eq!(passed(libtest), Some(500));
        let failed = "test result: FAILED. 499 passed; 1 failed; 0 ignored";
        assert_eq!(passed(failed), None);
        let nextest = "     Summary [   3.9s] 500 tests run: 500 passed, 0 skipped";
        assert_eq!(passed(nextest), Some(500));
        let failed = "     Summary [   3.9s] 500 tests run: 499 passed, 1 failed, 0 skipped";
        assert_eq!(passed(failed), None);
    }

    #[test]
    fn each_run_has_a_word_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let counter = folder.path().join("runs");
        assert_eq!(next(&counter).unwrap(), "bench-0");
        assert_eq!(next(&counter).unwrap(), "bench-1");
    }
}
