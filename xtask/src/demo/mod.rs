//! `cargo xtask demo`: what dagz does for a real application's suite, in figures.
//!
//! The suite of `examples/shop` runs three times against the same server: as people do today, serially with dagz,
//! and on many workers with dagz. Each run gets databases and state of its own, so none profits from another.
//! [`suite`] runs it, [`databases`] looks at Postgres and cleans up, as [`stores`] does for the other servers, and [`report`]
//! prints and judges.

mod databases;
mod events;
mod report;
mod stores;
mod suite;

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use clap::Args;

use self::databases::Databases;
pub(crate) use self::report::Report;
use self::stores::Stores;
use self::suite::{Mode, Suite};
use crate::services::postgres::POSTGRES;
use crate::services::{Place, Server};
use crate::workspace;

/// Words after `cargo xtask demo`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Workers of the parallel run.
    ///
    /// By default twice the cores and at least four: a database test mostly waits.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// Print one JSON object, and nothing else, to standard output.
    #[arg(long)]
    json: bool,
    /// How often to run all three; the figures are medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = workspace::root()?;
    let report = measure(&root, arguments.workers, arguments.runs)?;
    if arguments.json {
        eprintln!("{}", report.table());
        println!("{}", report.json()?);
    } else {
        println!("{}", report.table());
    }
    report.judge()
}

/// Runs the suite three ways, `runs` times each, on the user's server or a private one.
pub(crate) fn measure(root: &Path, workers: Option<u32>, runs: u32) -> Result<Report> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let workers = match workers {
        Some(workers) => workers,
        None => u32::try_from((cores * 2).max(4)).context("too many cores to count")?,
    };
    let server = Server::share(&POSTGRES, &Place::of(root)?)?;
    if !server.is_given() {
        databases::remove_abandoned(server.url())?;
    }
    let stores = Stores::share(root)?;
    let suite = Suite::build(root)?;
    let state = root.join("target/demo");
    if state.exists() {
        fs::remove_dir_all(&state)
            .with_context(|| format!("failed to remove `{}`", state.display()))?;
    }
    let mut report = Report::default();
    for number in 1..=runs {
        for mode in [Mode::Today, Mode::Serial, Mode::Parallel(workers)] {
            let word = mode.word();
            let name = databases::name(word, number);
            let mut databases = Databases::new(server.url(), &name)?;
            let folder = state.join(format!("{word}-{number}"));
            let stores_at = stores.environment(&name, mode != Mode::Today)?;
            let outcome = suite.run(mode, &databases, &stores_at, &folder);
            // Also after a failure.
            let removed = stores.remove(&name);
            let mut run = outcome?;
            run.databases = databases.made()?;
            report.add(run);
            databases.remove()?;
            removed?;
        }
    }
    report.floor = databases::round_trip(server.url())?;
    Ok(report)
}
