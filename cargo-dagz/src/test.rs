//! `cargo dagz test`: runs the suite by nextest or by cargo, tries again what failed, and says at its end what dagz
//! knows of it.
//!
//! What ties all processes to one job is `DAGZ_JOB`. `test/nextest.rs` and `test/cargo.rs` are the two runners,
//! `test/words.rs` takes apart what the user says to them, `test/child.rs` runs them and hears them, `test/live.rs`
//! shows how far they are, `test/again.rs` decides what is tried again, and `test/report.rs` is the end. The main type
//! is [`Session`].

mod again;
mod cargo;
mod child;
mod live;
mod nextest;
mod report;
mod words;

use std::{
    collections::BTreeMap,
    env, process,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use dagz_core::{
    Settings,
    history::{History, Job, Running},
};

use self::{
    again::{How, Pass},
    child::Signals,
    live::{Live, Showing},
    report::Report,
};
use crate::{
    exit::{self, Failure, Outcome},
    place,
};

/// Words after `cargo dagz test`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// On how many workers, and so how many tests at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: Option<u32>,
    /// What runs the tests.
    #[arg(long, value_enum, default_value_t = Runner::Nextest)]
    runner: Runner,
    /// How often a test that fails is run, the first time included.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    tries: u32,
    /// Show a line per worker all the time: below the bar, or every few seconds where there is no terminal.
    #[arg(long)]
    show_workers: bool,
    /// How often to say how far the run is, where there is no terminal.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Print the end as JSON, on standard output, and everything else on standard error.
    #[arg(long)]
    json: bool,
    /// Keep the databases of tests that fail as they left them; `cargo dagz logs` tells how to look.
    #[arg(long)]
    keep_failed: bool,
    /// Only tests whose name contains one of these; cargo takes one only.
    filters: Vec<String>,
    /// Words for the runner itself, such as `-p shop`.
    #[arg(last = true)]
    words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Runner {
    /// `cargo nextest run`: each test in a process of its own.
    Nextest,
    /// `cargo test`: each binary in a process of its own.
    Cargo,
}

/// A test, by its binary and its name.
pub(crate) type TestKey = (String, String);

/// How the runner saw a test end, over all passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// How each of its tries ended, and in which pass.
    pub(crate) tries: Vec<(How, bool)>,
    pub(crate) took: Duration,
}

/// One execution of the command: what it was asked for, and what it has seen so far.
pub(crate) struct Session<'a> {
    arguments: &'a Arguments,
    settings: Settings,
    /// What `DAGZ_JOB` is for all processes.
    name: String,
    signals: Signals,
    job: Option<(Job, Running)>,
    /// The tests that the runner told of; with cargo, none.
    seen: BTreeMap<TestKey, Seen>,
    skipped: usize,
    /// How many tests failed by what `cargo test` said, and how many of those the job knows.
    failed_by_cargo: usize,
    failed_known: usize,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let settings = place::settings()?;
    if arguments.runner == Runner::Cargo && arguments.filters.len() > 1 {
        return Err(Failure::usage(
            "`cargo test` takes one filter; give one, or leave out `--runner cargo`",
        ));
    }
    let given = env::var("DAGZ_JOB").ok().filter(|job| !job.is_empty());
    let mut session = Session {
        arguments,
        settings,
        name: given.unwrap_or_else(own_job),
        signals: Signals::watch()?,
        job: None,
        seen: BTreeMap::new(),
        skipped: 0,
        failed_by_cargo: 0,
        failed_known: 0,
    };
    let begun = SystemTime::now();
    let mut code = session.pass(&Pass::first())?;
    if code == exit::TESTS_FAILED {
        code = again::run(&mut session, begun.elapsed().unwrap_or_default())?;
    }
    session.find_job();
    let is_interrupted = session.signals.is_interrupted();
    if is_interrupted {
        code = exit::INTERRUPTED;
        if let Some((job, _)) = &session.job {
            job.set_interrupted()?;
        }
    }
    Report::of(&mut session)?.print(arguments.json);
    Ok(code)
}

/// A name that no other execution has.
fn own_job() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("cargo-dagz-{}-{}", process::id(), now.as_micros())
}

impl Session<'_> {
    /// Runs the suite, or what a pass is about of it, to its end.
    fn pass(&mut self, pass: &Pass) -> Outcome {
        match self.arguments.runner {
            Runner::Nextest => nextest::run(self, pass),
            Runner::Cargo => cargo::run(self, pass),
        }
    }

    /// The job, once a test of it has begun; kept running from then on, for there may be more passes.
    fn find_job(&mut self) -> Option<&Job> {
        if self.job.is_none() {
            let key = format!("given:{}", self.name);
            // A record that cannot be read now is asked for again at the end.
            let jobs = History::of(&self.settings).jobs().unwrap_or_default();
            let job = jobs.into_iter().find(|job| job.key() == key)?;
            let running = job.keep_running().ok()?;
            self.job = Some((job, running));
        }
        self.job.as_ref().map(|(job, _)| job)
    }

    fn live(&self) -> Live {
        Live::new(Showing {
            has_workers: self.arguments.show_workers,
            every: self.arguments.every,
        })
    }
}
