//! The group `scale`: many workers and many tests, whose bodies sleep, so that it is dagz that is measured and not how
//! many cores the machine has.
//!
//! Each [condition] is a process of its own, since a process has one number of workers. The floor is the ideal: as many
//! tests at once as there are workers, each for as long as it sleeps, and nothing beside. The processor's time beside it
//! tells where the machine ends and not dagz.

mod condition;

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use dagz::postgres::tokio_postgres;
use dagz_core::runtime;

use self::condition::Outcome;
pub(crate) use self::condition::{Condition, one};
use crate::{
    postgres::{connect, own, remove_databases, version},
    row::Row,
    say,
};

const PROJECT: &str = "dagz-bench-scale";

/// The database whose name dagz reroutes.
fn base() -> String {
    own("dagz_bench_scale")
}

/// How many tables a worker's database has: making 64 of them is not what is measured.
const TABLES: usize = 5;

/// How long a test sleeps.
const SLEEP: Duration = Duration::from_millis(50);

/// No condition takes longer than this, ideally.
const LONGEST: Duration = Duration::from_secs(10);

const WORKERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const TESTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];

/// Measures all conditions, and tells the rows; `is_unclean` has dagz clean nothing, which must leave no figure.
///
/// # Errors
/// Where a test failed or saw a row of another's.
pub(crate) fn run(is_quick: bool, is_unclean: bool) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    let config: tokio_postgres::Config = url.parse()?;
    let backend = {
        let config = config.clone();
        runtime::wait(async move {
            remove_databases(&config, PROJECT, &base()).await?;
            version(&connect(&config, "postgres").await?).await
        })??
    };
    let state = tempfile::tempdir()?;
    let outcome = conditions(is_quick, state.path(), is_unclean)
        .into_iter()
        .map(|condition| {
            let outcome = in_process(&condition)?;
            row(&backend, &condition, &outcome)?.tell()?;
            Ok((condition, outcome))
        })
        .collect::<Result<Vec<_>>>()
        .and_then(|outcomes| memory(&backend, &outcomes).map_or(Ok(()), |row| row.tell()));
    runtime::wait(async move { remove_databases(&config, PROJECT, &base()).await })??;
    outcome
}

/// What is measured, in this order.
fn conditions(is_quick: bool, state: &Path, unclean: bool) -> Vec<Condition> {
    let longest = if is_quick { LONGEST / 10 } else { LONGEST };
    let mut all = Vec::new();
    for database in [true, false] {
        for workers in WORKERS {
            for tests in TESTS {
                // Fewer tests than workers are as many workers as tests; and many tests do without a database what few
                // do.
                let is_whole = tests >= workers || tests == 1;
                let is_worth_it = database || tests >= 1_000;
                if is_whole && is_worth_it && ideal(workers, tests) <= longest {
                    all.push(Condition {
                        workers,
                        tests,
                        state: state.to_owned(),
                        database,
                        unclean,
                    });
                }
            }
        }
    }
    all
}

fn row(backend: &str, condition: &Condition, outcome: &Outcome) -> Result<Row> {
    let Condition {
        workers,
        tests,
        database,
        ..
    } = *condition;
    let strategy = match database {
        true => "dagz",
        false => "dagz, without a database",
    };
    let (wall, ideal) = (
        Duration::from_micros(outcome.wall_us),
        ideal(workers, tests),
    );
    say::progress(&format!(
        "scale: {strategy}, {workers} workers, {tests} tests: {:.2} s, ideally {:.2} s",
        wall.as_secs_f64(),
        ideal.as_secs_f64()
    ));
    let ms = |us: u64| (us as f64 / 1e3).round();
    Ok(Row {
        tables: TABLES,
        dirty: usize::from(database),
        workers: Some(workers),
        tests: Some(tests),
        cpu_ms: Some(ms(outcome.cpu_us)),
        server_cpu_ms: outcome.server_cpu_us.map(ms),
        connections: Some(outcome.connections),
        ready_ms: database.then(|| ms(outcome.first_us)),
        ..Row::of("scale", backend, strategy, &[wall], &[ideal])?
    })
}

/// The memory that one more worker takes, its thread and its connections included: of conditions that differ in nothing
/// else.
fn memory(backend: &str, outcomes: &[(Condition, Outcome)]) -> Option<Row> {
    let alike = outcomes
        .iter()
        .filter(|(condition, _)| condition.database && condition.tests == 100);
    let of = |(condition, outcome): &(Condition, Outcome)| {
        (condition.workers as i64, outcome.bytes as i64)
    };
    let alike: Vec<_> = alike.map(of).collect();
    let (few, least) = *alike.first()?;
    let (many, most) = *alike.last()?;
    Some(Row {
        group: "scale",
        backend: backend.to_owned(),
        strategy: "dagz, memory per worker".to_owned(),
        bytes: Some((most - least) / (many - few).max(1)),
        samples: 1,
        workers: Some(usize::try_from(many).ok()?),
        ..Row::default()
    })
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
    if condition.unclean {
        command.arg("--unclean");
    }
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{} tests on {} workers have no figure: {}",
        condition.tests,
        condition.workers,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_one_to_many() {
        let all = conditions(false, Path::new("/state"), false);
        for of in [true, false] {
            let has = |workers, tests| {
                all.iter().any(|condition| {
                    (condition.workers, condition.tests, condition.database) == (workers, tests, of)
                })
            };
            assert!(has(64, 10_000));
            assert_eq!(has(1, 1), of);
        }
        assert!(
            all.iter()
                .all(|condition| condition.tests == 1 || condition.tests >= condition.workers)
        );
        let quick = conditions(true, Path::new("/state"), false);
        let time = |all: &[Condition]| -> Duration {
            let each = all.iter();
            each.map(|one| ideal(one.workers, one.tests)).sum()
        };
        assert!(time(&quick) < time(&all) / 4);
    }

    #[test]
    fn memory_is_of_what_differs_in_nothing_else() {
        let outcome = |workers, tests, bytes| {
            let condition = Condition {
                workers,
                tests,
                state: "/state".into(),
                database: true,
                unclean: false,
            };
            let outcome = Outcome {
                first_us: 1,
                wall_us: 1,
                cpu_us: 1,
                server_cpu_us: None,
                connections: 1,
                bytes,
            };
            (condition, outcome)
        };
        let all = [
            outcome(1, 1, 10),
            outcome(1, 100, 1_000),
            outcome(64, 100, 64_000),
            outcome(64, 10_000, 999_000),
        ];
        assert_eq!(memory("x", &all).unwrap().bytes, Some(1_000));
        assert!(memory("x", &all[..1]).is_none());
    }

    #[test]
    fn ideally_all_workers_are_busy() {
        assert_eq!(ideal(1, 1), SLEEP);
        assert_eq!(ideal(4, 100), SLEEP * 25);
        assert_eq!(ideal(64, 1_000), SLEEP * 16);
    }
}
