//! `cargo dagz jobs`: recent jobs, newest first.

use clap::Args;
use dagz_core::history::{History, Job, Outcome as Ended, Summary};
use serde::Serialize;

use crate::{
    exit::{OK, Outcome},
    place,
    screen::{self, Table, Tone, say},
};

/// Words after `cargo dagz jobs`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Print JSON: a list of objects, newest first.
    #[arg(long)]
    json: bool,
}

/// A job, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    /// In UTC.
    started: String,
    seconds: f64,
    running: bool,
    interrupted: bool,
    branch: Option<String>,
    commit: Option<String>,
    workers: u32,
    nodes: u32,
    passed: usize,
    failed: usize,
    /// Failed first, and passed when run again.
    flaky: usize,
    /// Failed on used databases, and passed on fresh ones.
    isolation: usize,
    /// Ended by no word of its own: killed, or out of time.
    cut: usize,
    /// Spent on making and preparing databases, over all workers.
    preparing_seconds: f64,
}

impl Row {
    fn new(job: &Job, summary: &Summary) -> Self {
        Self {
            id: job.id().to_owned(),
            started: screen::rfc3339(job.started()),
            seconds: summary.took.as_secs_f64(),
            running: summary.is_running,
            interrupted: job.is_interrupted(),
            branch: job.branch().map(str::to_owned),
            commit: job.commit().map(str::to_owned),
            workers: job.workers(),
            nodes: job.node_total(),
            passed: summary.count(Ended::Passed),
            failed: summary.count(Ended::Failed),
            flaky: summary.count(Ended::Flaky),
            isolation: summary.count(Ended::Isolation),
            cut: summary.count(Ended::Cut),
            preparing_seconds: summary.preparing.as_secs_f64(),
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let settings = place::settings()?;
    let mut rows = Vec::new();
    let mut table = Table::new(&[
        "job",
        "started",
        "branch",
        "commit",
        "took",
        "workers",
        "nodes",
        "passed",
        "failed",
        "flaky",
        "isolation",
        "cut",
        "state",
    ]);
    for job in History::of(&settings).jobs()? {
        let summary = job.summary()?;
        let row = Row::new(&job, &summary);
        let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let short = row.commit.as_deref().and_then(|commit| commit.get(..9));
        let (tone, state) = match (row.running, row.failed + row.isolation + row.cut, row.flaky) {
            (true, ..) => (Tone::Plain, "running"),
            _ if row.interrupted => (Tone::Bad, "interrupted"),
            (_, 0, 0) => (Tone::Good, "ended"),
            (_, 0, _) => (Tone::Odd, "ended"),
            _ => (Tone::Bad, "ended"),
        };
        table.row(
            tone,
            vec![
                row.id.clone(),
                screen::moment(job.started()),
                or_dash(row.branch.as_deref()),
                or_dash(short),
                screen::duration(summary.took),
                row.workers.to_string(),
                row.nodes.to_string(),
                row.passed.to_string(),
                row.failed.to_string(),
                row.flaky.to_string(),
                row.isolation.to_string(),
                row.cut.to_string(),
                state.to_owned(),
            ],
        );
        rows.push(row);
    }
    if arguments.json {
        screen::print_json(&rows);
    } else if rows.is_empty() {
        say!(
            "no job yet: none is recorded in `{}`",
            settings.state_dir().display()
        );
    } else {
        table.print();
    }
    Ok(OK)
}
