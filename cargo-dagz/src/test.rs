//! `cargo dagz test`: runs the suite by nextest or by cargo, and says at its end what dagz knows of it.
//!
//! The runner's output is its own. What ties its processes to one job is `DAGZ_JOB`, by which the job is found
//! again afterwards.

use std::{
    env, io,
    process::{self, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use dagz_core::{
    Settings,
    history::{History, Outcome as Ended},
};

use crate::{
    exit::{self, Failure, Outcome},
    place,
    screen::{self, Tone, say},
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

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let settings = place::settings()?;
    if arguments.runner == Runner::Cargo && arguments.filters.len() > 1 {
        return Err(Failure::usage(
            "`cargo test` takes one filter; give one, or leave out `--runner cargo`",
        ));
    }
    // The runner hears of Ctrl-C by itself and ends its tests; here it must only not be the end.
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))
        .map_err(|error| Failure::environment(format!("cannot watch for Ctrl-C: {error}")))?;
    let given = env::var("DAGZ_JOB").ok().filter(|job| !job.is_empty());
    let job = given.unwrap_or_else(own_job);
    let code = match arguments.runner {
        Runner::Nextest => by_nextest(arguments, &job)?,
        Runner::Cargo => by_cargo(arguments, &job)?,
    };
    summarise(&settings, &job)?;
    Ok(match interrupted.load(Ordering::SeqCst) {
        true => exit::INTERRUPTED,
        false => code,
    })
}

/// A name that no other execution has.
fn own_job() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("cargo-dagz-{}-{}", process::id(), now.as_micros())
}

fn by_nextest(arguments: &Arguments, job: &str) -> Outcome {
    let mut version = cargo(job, arguments);
    version
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !status(&mut version).is_ok_and(|code| code == Some(0)) {
        return Err(Failure::usage(
            "`cargo nextest` is missing; install it by `cargo install --locked cargo-nextest`, or say `--runner cargo`",
        ));
    }
    let mut command = cargo(job, arguments);
    command.args(["nextest", "run"]);
    if let Some(workers) = arguments.workers {
        command.args(["--test-threads", &workers.to_string()]);
    }
    command.args(&arguments.words).args(&arguments.filters);
    // nextest documents these; anything else is for its own output to explain.
    Ok(match status(&mut command)? {
        Some(0) => exit::OK,
        Some(4) => exit::NO_TESTS,
        Some(100) => exit::TESTS_FAILED,
        Some(101) => exit::BUILD_FAILED,
        Some(2 | 96) => exit::USAGE,
        _ => exit::ENVIRONMENT,
    })
}

fn by_cargo(arguments: &Arguments, job: &str) -> Outcome {
    // `cargo test` ends with 101 when a test fails and when nothing could be built; so it is built first.
    let mut build = cargo(job, arguments);
    build.args(["test", "--no-run"]).args(&arguments.words);
    match status(&mut build)? {
        Some(0) => {}
        Some(1) => return Ok(exit::USAGE),
        _ => return Ok(exit::BUILD_FAILED),
    }
    let mut command = cargo(job, arguments);
    command
        .args(["test", "--no-fail-fast"])
        .args(&arguments.words)
        .args(&arguments.filters);
    if let Some(workers) = arguments.workers {
        command.args(["--", "--test-threads", &workers.to_string()]);
    }
    Ok(match status(&mut command)? {
        Some(0) => exit::OK,
        Some(101) => exit::TESTS_FAILED,
        Some(1) => exit::USAGE,
        _ => exit::ENVIRONMENT,
    })
}

fn cargo(job: &str, arguments: &Arguments) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("DAGZ_JOB", job).stdin(Stdio::null());
    if arguments.keep_failed {
        command.env("DAGZ_KEEP_FAILED", "true");
    }
    if let Some(workers) = arguments.workers {
        command.env("DAGZ_WORKERS", workers.to_string());
    }
    command
}

/// Runs `command` to its end; the code is `None` where a signal ended it.
fn status(command: &mut Command) -> Outcome<Option<i32>> {
    let failed = |error: io::Error| Failure::environment(format!("cannot run cargo: {error}"));
    Ok(command.status().map_err(failed)?.code())
}

fn summarise(settings: &Settings, job: &str) -> Outcome<()> {
    let key = format!("given:{job}");
    let jobs = History::of(settings).jobs()?;
    let Some(job) = jobs.iter().find(|found| found.key() == key) else {
        say!("dagz: no test used it");
        return Ok(());
    };
    let summary = job.summary()?;
    let failed = summary.count(Ended::Failed) + summary.count(Ended::Cut);
    let flaky = summary.count(Ended::Flaky);
    let tone = match (failed, flaky) {
        (0, 0) => Tone::Good,
        (0, _) => Tone::Odd,
        _ => Tone::Bad,
    };
    let line = format!(
        "dagz: {} on {} workers: {} passed, {} failed, {flaky} flaky, {} cut; {} spent on databases, over all workers",
        job.id(),
        job.workers(),
        summary.count(Ended::Passed),
        summary.count(Ended::Failed),
        summary.count(Ended::Cut),
        screen::duration(summary.preparing),
    );
    say!("{}", tone.paint(&line));
    let mut slow: Vec<_> = summary.tests.iter().collect();
    slow.sort_by_key(|test| std::cmp::Reverse(test.took));
    for test in slow.iter().take(3) {
        say!("dagz: slow: {} {}", screen::duration(test.took), test.name);
    }
    if failed + flaky > 0 {
        say!("dagz: see `cargo dagz logs {} --failed`", job.id());
    }
    Ok(())
}
