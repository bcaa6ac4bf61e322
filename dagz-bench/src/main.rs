//! `dagz-bench <group>`: measures, and prints a row per line as JSON. `cargo xtask bench` is the way to run it: it has
//! the servers up, and makes tables and plots of the rows.

mod harness;
mod names;
mod overhead;
mod postgres;
mod reset;
mod row;
mod say;
mod scale;
mod schedule;
mod suites;
mod watch;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use dagz_core::{Scope, Settings};

use crate::{reset::Backend, row::Row, schedule::Extent};

/// Measures what dagz costs.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    group: Group,
}

#[derive(Subcommand, Debug)]
enum Group {
    /// Bringing a database back to its start state.
    Reset(Reset),
    /// One suite under each strategy.
    Suite(suites::Arguments),
    /// What a test pays beside its statements.
    Overhead(Quick),
    /// Many workers, many tests.
    Scale(Quick),
    /// One condition of `scale`, in a process of its own.
    #[command(hide = true)]
    ScaleCondition(scale::Condition),
}

#[derive(Args, Debug)]
struct Quick {
    /// Few rounds and small sizes.
    #[arg(long)]
    quick: bool,
    /// Has dagz clean nothing, to see that this leaves no figure.
    #[arg(long, hide = true)]
    unclean: bool,
}

#[derive(Args, Debug)]
struct Reset {
    /// Only these servers.
    #[arg(long = "backend", value_enum)]
    backends: Vec<Backend>,
    /// How many tables, keys or queues there are.
    #[arg(long = "size", default_values_t = [10, 50, 200, 1_000])]
    sizes: Vec<usize>,
    /// Only these ways, without any other beside them.
    #[arg(long = "strategy")]
    strategies: Vec<String>,
    /// How long to measure each server with each size, about.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    match run(Arguments::parse().group) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::progress(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(group: Group) -> Result<()> {
    match group {
        Group::Suite(arguments) => suites::run(arguments)?,
        Group::Scale(arguments) => scale::run(arguments.quick, arguments.unclean)?,
        Group::ScaleCondition(condition) => scale::one(&condition)?,
        Group::Overhead(arguments) => {
            let _state = settings()?;
            let rounds = if arguments.quick { 50 } else { 500 };
            let rows = overhead::run(rounds, arguments.unclean)?;
            rows.iter().try_for_each(Row::tell)?;
        }
        Group::Reset(reset) => {
            let _state = settings()?;
            let _worker = Scope::builder("bench").enter()?;
            let backends = match reset.backends.as_slice() {
                [] => &Backend::ALL,
                some => some,
            };
            let mut failed = Vec::new();
            for backend in backends {
                for size in &reset.sizes {
                    let extent = Extent {
                        budget: Duration::from_secs_f64(reset.seconds),
                        only: reset.strategies.clone(),
                    };
                    match reset::run(*backend, *size, extent) {
                        Ok(rows) => rows.iter().try_for_each(Row::tell)?,
                        // The figures of others are no worse for it.
                        Err(error) => {
                            say::progress(&format!("error: {error:#}"));
                            failed.push(format!("{backend:?} with {size}"));
                        }
                    }
                }
            }
            ensure!(failed.is_empty(), "no figures for {}", failed.join(", "));
        }
    }
    Ok(())
}

/// Settings that are nobody's but this program's, while the answer lives.
fn settings() -> Result<tempfile::TempDir> {
    let state = tempfile::tempdir()?;
    Settings::builder()
        .workers(1)
        .project("dagz-bench")
        .state_dir(state.path())
        .install()?;
    Ok(state)
}
