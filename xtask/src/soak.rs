//! `cargo xtask soak`: the random tests of the drivers, over and over, for an hour.
//!
//! They are the test files called `random…`, which make schemas and workloads at random, reset, and compare the
//! database with its start state. What fails is shrunk and shown by the test; the soak ends there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::test::{self, Totals};
use crate::{process, workspace};

/// Words after `cargo xtask soak`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How long; each driver has its turn at least once, and the turn that has begun is finished.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    minutes: u64,
    /// Only this driver; may be repeated. Default: all that have random tests.
    #[arg(short, long = "package", value_name = "CRATE")]
    packages: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = workspace::root()?;
    let mut packages = arguments.packages.clone();
    if packages.is_empty() {
        for member in workspace::members(&root)? {
            if has_random_tests(&root.join(&member.name).join("tests")) {
                packages.push(member.name);
            }
        }
    }
    ensure!(!packages.is_empty(), "no crate has random tests");
    let servers = test::needed_servers(&root, &packages)?;
    let started = Instant::now();
    let limit = Duration::from_secs(60 * arguments.minutes);
    let mut totals = Totals::default();
    let mut rounds = 0;
    'rounds: while rounds == 0 || started.elapsed() < limit {
        rounds += 1;
        for package in &packages {
            process::check_interrupted()?;
            if rounds > 1 && started.elapsed() >= limit {
                break 'rounds;
            }
            let outcome = test::run_random(&root, package, &servers)?;
            ensure!(
                outcome.success && outcome.totals.run > 0,
                "{package} failed in round {rounds}: {}",
                outcome.totals
            );
            totals += outcome.totals;
            let minutes = started.elapsed().as_secs() / 60;
            eprintln!("\n{package} in round {rounds}, after {minutes} min: {totals}");
        }
    }
    Ok(())
}

fn has_random_tests(folder: &std::path::Path) -> bool {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("random"))
}
