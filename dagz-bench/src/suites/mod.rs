//! The group `suite`: the same five hundred tests under each strategy, and what each costs as a whole.
//!
//! [`run`] runs the suite's test binaries ([`command`]), the cheap [strategies](strategy) several times and in turn, the
//! dear ones less often. [`Watch`](crate::watch::Watch) looks at the server meanwhile. The floor is the tests' statements
//! alone: all of them over one kept connection, in a transaction each, without a harness.

mod command;
mod strategy;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use dagz::postgres::tokio_postgres::{self, Client};
use dagz_bench::suite::{self, TABLES, TESTS, WRITTEN};
use dagz_core::runtime;

use self::strategy::{Program, Strategy};
use crate::{
    postgres::{connect, make, own, remove_databases, version},
    row::Row,
    say,
    watch::{Watch, Work},
};

/// The database whose name dagz reroutes.
fn base() -> String {
    own("dagz_bench_suite")
}

/// The project that dagz stamps databases with here.
const PROJECT: &str = "dagz-bench-suite";

/// Words of the group.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The test binary with dagz. What has no binary is not measured.
    #[arg(long)]
    dagz: Option<PathBuf>,
    /// The test binary with `#[sqlx::test]`.
    #[arg(long)]
    sqlx: Option<PathBuf>,
    /// The test binary of the ways by hand.
    #[arg(long)]
    by_hand: Option<PathBuf>,
    /// Of nextest: the program, what `cargo metadata` told, and what `cargo nextest list` told of the binary with dagz
    /// and of the one by hand.
    #[arg(long)]
    nextest: Vec<PathBuf>,
    /// Only these strategies.
    #[arg(long = "strategy")]
    strategies: Vec<String>,
    /// How often the cheap strategies run.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// How often the dear ones do, which take a minute each.
    #[arg(long, default_value_t = 1)]
    dear_rounds: usize,
    /// Only tests whose names have this in them: `case_0` are a hundred.
    #[arg(long, default_value = "case_")]
    filter: String,
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
    databases: Databases,
}

/// What is migrated for those who are not dagz.
#[derive(Clone)]
struct Databases {
    /// Of the ways that clean before a test.
    by_hand: String,
    /// A copy for what rolls back, and so leaves it clean, as the others do not.
    rolled_back: String,
    /// A copy to which nobody may ever have been connected who is slow to leave.
    template: String,
}

impl Databases {
    fn new() -> Self {
        Self {
            by_hand: own("dagz_bench_suite_by_hand"),
            rolled_back: own("dagz_bench_suite_rolled_back"),
            template: own("dagz_bench_suite_template"),
        }
    }
}

/// Runs all, and tells the rows.
///
/// # Errors
/// Where a test failed, above all: it is the isolation check, and its strategy has no figure. Others have theirs.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    let runner = Runner {
        config: url.parse()?,
        url: url.parse()?,
        state: tempfile::tempdir()?,
        tests: (0..TESTS)
            .filter(|number| format!("case_{number:03}").contains(&arguments.filter))
            .count(),
        databases: Databases::new(),
        arguments,
    };
    ensure!(runner.tests > 0, "no test is called so");
    let (config, databases) = (runner.config.clone(), runner.databases.clone());
    let backend = runtime::wait(async move {
        let elsewhere = connect(&config, "postgres").await?;
        migrate(&elsewhere, &config, &databases).await?;
        remove_databases(&config, PROJECT, &base()).await?;
        version(&elsewhere).await
    })??;
    let outcome = runner.all(&backend);
    let (config, databases) = (runner.config.clone(), runner.databases.clone());
    runtime::wait(async move {
        remove_databases(&config, PROJECT, &base()).await?;
        let elsewhere = connect(&config, "postgres").await?;
        for database in [databases.by_hand, databases.rolled_back, databases.template] {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            elsewhere.batch_execute(&drop).await?;
        }
        anyhow::Ok(())
    })??;
    outcome
}

/// Makes the databases of the ways by hand.
async fn migrate(
    elsewhere: &Client,
    config: &tokio_postgres::Config,
    databases: &Databases,
) -> Result<()> {
    let migrated = &databases.by_hand;
    make(elsewhere, migrated, "").await?;
    let client = connect(config, migrated).await?;
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
    for copy in [&databases.template, &databases.rolled_back] {
        make(elsewhere, copy, &format!("TEMPLATE {migrated}")).await?;
    }
    Ok(())
}

impl Runner {
    fn all(&self, backend: &str) -> Result<()> {
        let mut strategies = vec![strategy::FIRST];
        strategies.extend(strategy::all());
        strategies.retain(|strategy| self.is_wanted(*strategy));
        ensure!(
            !strategies.is_empty(),
            "no strategy is called so, or none has a binary"
        );
        let mut outcomes: Vec<Vec<Outcome>> = strategies.iter().map(|_| Vec::new()).collect();
        let mut floors = Vec::new();
        let mut failed = BTreeSet::new();
        let rounds = self.arguments.rounds.max(self.arguments.dear_rounds);
        for round in 0..rounds {
            floors.push(self.bare()?);
            for (strategy, outcomes) in strategies.iter().zip(&mut outcomes) {
                let Strategy { name, workers, .. } = *strategy;
                let times = match strategy.is_dear {
                    true if name == strategy::FIRST.name => 1,
                    true => self.arguments.dear_rounds,
                    false => self.arguments.rounds,
                };
                if round >= times || failed.contains(name) {
                    continue;
                }
                let outcome = self.one(*strategy);
                match outcome {
                    Ok(outcome) => {
                        say::progress(&format!(
                            "suite: {name}, {workers} at once, round {} of {times}: {:.1} s",
                            round + 1,
                            outcome.wall.as_secs_f64()
                        ));
                        outcomes.push(outcome);
                    }
                    // The figures of others are no worse for it; its own earlier ones are.
                    Err(error) => {
                        say::progress(&format!(
                            "error: `{name}` has no figure, since its run failed: {error:#}"
                        ));
                        failed.insert(name);
                    }
                }
            }
        }
        for (strategy, outcomes) in strategies.iter().zip(&outcomes) {
            if !failed.contains(strategy.name) && !outcomes.is_empty() {
                self.row(backend, *strategy, outcomes, &floors)?.tell()?;
            }
        }
        let failed: Vec<_> = failed.into_iter().collect();
        ensure!(failed.is_empty(), "no figures for {}", failed.join(", "));
        Ok(())
    }

    /// Whether it was asked for, and its binary is there.
    fn is_wanted(&self, strategy: Strategy) -> bool {
        let arguments = &self.arguments;
        let has_program = match strategy.program {
            Program::Dagz => arguments.dagz.is_some(),
            Program::Sqlx => arguments.sqlx.is_some(),
            Program::ByHand => arguments.by_hand.is_some(),
            Program::NextestDagz | Program::NextestByHand => !arguments.nextest.is_empty(),
        };
        let mut asked = arguments.strategies.iter();
        has_program && (arguments.strategies.is_empty() || asked.any(|name| name == strategy.name))
    }

    fn row(
        &self,
        backend: &str,
        strategy: Strategy,
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
            workers: Some(strategy.workers),
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
            ..Row::of("suite", backend, strategy.name, &walls, floors)?
        })
    }

    /// The statements of the tests, and nothing else.
    fn bare(&self) -> Result<Duration> {
        let config = self.config.clone();
        let filter = self.arguments.filter.clone();
        let database = self.databases.rolled_back.clone();
        runtime::wait(async move {
            let client = connect(&config, &database).await?;
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
        let passed = command::passed(&text);
        ensure!(
            output.status.success() && passed == Some(self.tests),
            "{passed:?} of {} tests passed: that is the isolation check. It said:\n{}",
            self.tests,
            command::tail(&text)
        );
        Ok(Outcome { wall, cpu, work })
    }
}
