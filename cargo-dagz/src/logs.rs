//! `cargo dagz logs`: what happened in a job, per worker and test; line by line while it runs, with `--follow`.

use std::{collections::BTreeMap, thread, time::Duration};

use clap::Args;
use dagz_core::{
    Worker,
    history::{Entry, History, Job, Kept, Log, Outcome as Ended, Output, Test},
};

use crate::{
    exit::{Failure, OK, Outcome},
    place,
    screen::{self, Tone, say},
};

/// How often a log that is followed is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// Words after `cargo dagz logs`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The job, as `cargo dagz jobs` calls it, or `latest`.
    #[arg(default_value = "latest")]
    job: String,
    /// Only this worker, `jw03`.
    #[arg(long, value_parser = worker)]
    worker: Option<Worker>,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// Only tests that failed, were cut off, or passed at a second attempt only.
    #[arg(long)]
    failed: bool,
    /// Go on, line by line, until the job ends.
    #[arg(long)]
    follow: bool,
}

fn worker(text: &str) -> Result<Worker, String> {
    let number = text.strip_prefix("jw").unwrap_or(text).parse();
    number
        .map(Worker::new)
        .map_err(|_| "a worker is written `jw03`".to_owned())
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let settings = place::settings()?;
    let job = place::job(&settings, &arguments.job)?;
    if arguments.follow {
        follow(arguments, &job)?;
    } else {
        show(arguments, &job, &Kept::all(&settings)?)?;
        if arguments.test.is_some() {
            tell_flakes(arguments, &History::of(&settings), &job)?;
        }
    }
    Ok(OK)
}

impl Arguments {
    /// Whether the words ask for what concerns `worker` and `test`, whatever became of it.
    fn wants(&self, worker: Option<Worker>, test: Option<&str>) -> bool {
        let is_worker = self.worker.is_none() || self.worker == worker;
        let is_test = |part: &String| test.is_some_and(|test| test.contains(part.as_str()));
        is_worker && self.test.as_ref().is_none_or(is_test)
    }

    /// Whether the words ask for everything.
    fn wants_all(&self) -> bool {
        self.worker.is_none() && self.test.is_none() && !self.failed
    }
}

/// One attempt at a test, or what happened outside of tests: its process and its tag.
type Key = (u32, String);

fn key(entry: &Entry) -> Option<Key> {
    // What has a test and no tag got no worker: the failure to get one is all there is.
    let tag = entry.tag.clone().or_else(|| entry.test.clone())?;
    Some((entry.pid, tag))
}

fn show(arguments: &Arguments, job: &Job, kept: &[Kept]) -> Outcome<()> {
    let mut log = job.log();
    let entries = log.read()?;
    let summary = job.summary()?;
    if let Some(part) = &arguments.test
        && !summary.tests.iter().any(|test| test.name.contains(part))
    {
        return Err(Failure::usage(format!(
            "job `{}` has no test whose name contains `{part}`",
            job.id()
        )));
    }
    let mut attempts: BTreeMap<Key, Vec<&Entry>> = BTreeMap::new();
    let mut others = Vec::new();
    for entry in &entries {
        match key(entry) {
            Some(key) => attempts.entry(key).or_default().push(entry),
            None => others.push(entry),
        }
    }
    // Worker by worker, and on each in the order in which they began.
    let mut attempts: Vec<_> = attempts.into_values().collect();
    let outputs = Outputs::of(job, &mut attempts)?;
    attempts.sort_by_key(|entries| (entries[0].worker(), entries[0].at()));
    if arguments.wants_all() {
        others.iter().for_each(|entry| say!("{}", line(entry)));
    }
    for entries in &attempts {
        let first = entries[0];
        let test = first.test.as_deref().unwrap_or_default();
        let found = summary.tests.iter().find(|known| {
            known.name == test && first.binary.as_ref().is_none_or(|own| *own == known.binary)
        });
        if arguments.failed && !found.is_some_and(is_failure) {
            continue;
        }
        if arguments.wants(first.worker(), Some(test)) {
            say!("{}", heading(entries, summary.is_running));
            for entry in entries {
                say!("  {}{}", line(entry), given_back(entry, job, kept));
            }
            for text in outputs
                .texts(first)
                .flat_map(|output| output.text.trim().lines())
            {
                say!("  | {text}");
            }
        }
    }
    remark(job, &log);
    Ok(())
}

/// What attempts wrote, by the process and the tag that the log has of each.
struct Outputs {
    outputs: Vec<Output>,
    /// Which of its test's attempts each is.
    numbers: BTreeMap<Key, usize>,
}

impl Outputs {
    fn of(job: &Job, attempts: &mut [Vec<&Entry>]) -> Outcome<Self> {
        attempts.sort_by_key(|entries| entries[0].at());
        let mut counts = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for first in attempts.iter().map(|entries| entries[0]) {
            let count = counts.entry((&first.binary, &first.test)).or_insert(0);
            *count += 1;
            numbers.extend(key(first).map(|key| (key, *count)));
        }
        Ok(Self {
            outputs: job.outputs()?,
            numbers,
        })
    }

    /// What the attempt that begins with `first` wrote.
    fn texts(&self, first: &Entry) -> impl Iterator<Item = &Output> {
        let number = key(first).and_then(|key| self.numbers.get(&key).copied());
        self.outputs.iter().filter(move |output| {
            Some(&output.test) == first.test.as_ref()
                && Some(&output.binary) == first.binary.as_ref()
                && Some(output.attempt) == number
        })
    }
}

/// Says of each test that was asked for how often it was flaky.
fn tell_flakes(arguments: &Arguments, history: &History, job: &Job) -> Outcome<()> {
    let known = history.flakes()?;
    for test in job.summary()?.tests {
        if arguments.wants(test.worker, Some(&test.name)) {
            let key = (test.binary.clone(), test.name.clone());
            let flakes = known.get(&key).copied().unwrap_or_default();
            say!(
                "{} ({}) was flaky in {} of {} jobs on record",
                test.name,
                test.binary,
                flakes.flaky,
                flakes.jobs
            );
        }
    }
    Ok(())
}

/// Says of a database that was kept as a failed test left it that it is not any more.
fn given_back(entry: &Entry, job: &Job, kept: &[Kept]) -> &'static str {
    let is_still = kept.iter().any(|kept| {
        Some(kept.worker()) == entry.worker()
            && kept.job() == job.id()
            && Some(kept.test()) == entry.test.as_deref()
    });
    match entry.kind.as_str() {
        "kept" if entry.database.is_some() && !is_still => " (given back since)",
        _ => "",
    }
}

fn is_failure(test: &Test) -> bool {
    matches!(
        test.outcome,
        Ended::Failed | Ended::Cut | Ended::Flaky | Ended::Isolation
    )
}

/// `jw03.t017 orders::places_one: failed after 82 ms`.
fn heading(entries: &[&Entry], is_running: bool) -> String {
    let first = entries[0];
    let end = entries.iter().find(|entry| entry.outcome.is_some());
    let (tone, ended) = match end.and_then(|end| end.outcome.as_deref()) {
        Some("passed") => (Tone::Good, "passed"),
        Some(_) => (Tone::Bad, "failed"),
        None if is_running => (Tone::Plain, "running"),
        None => (Tone::Bad, "cut off"),
    };
    let last = end
        .or(entries.last())
        .map_or(first.at(), |entry| entry.at());
    let took = last.duration_since(first.at()).unwrap_or_default();
    let worker = first.tag.as_deref().unwrap_or("no worker");
    let test = first.test.as_deref().unwrap_or("-");
    let binary = match &first.binary {
        Some(binary) => format!(" ({binary})"),
        None => String::new(),
    };
    let text = format!(
        "{worker} {test}{binary}: {ended} after {}",
        screen::duration(took)
    );
    tone.paint(&text)
}

/// `19:30:12.345 prepare postgres shop_jw03, 0.4 ms: detail`.
fn line(entry: &Entry) -> String {
    let mut text = format!("{} {}", screen::clock(entry.at()), entry.kind);
    for word in [&entry.driver, &entry.database].into_iter().flatten() {
        text.push(' ');
        text.push_str(word);
    }
    if let Some(took) = entry.took() {
        text.push_str(&format!(", {}", screen::duration(took)));
    }
    match entry.again.as_deref() {
        Some("worker") => text.push_str(", tried again on the worker it had"),
        Some("fresh") => text.push_str(", tried again on databases made anew"),
        _ => {}
    }
    match (entry.kind.as_str(), &entry.detail) {
        // Anything else is why a name passed unchanged.
        ("route", Some(base)) if entry.tag.is_some() && !base.contains(' ') => {
            text.push_str(&format!(" for {base}"))
        }
        (_, Some(detail)) => text.push_str(&format!(": {detail}")),
        _ => {}
    }
    if let Some(outcome) = &entry.outcome {
        text.push_str(&format!(", {outcome}"));
    }
    let is_failed = entry.outcome.as_deref() == Some("failed");
    let tone = match entry.kind.as_str() {
        "error" => Tone::Bad,
        _ if is_failed => Tone::Bad,
        "leak" | "drift" | "warning" | "kept" => Tone::Odd,
        _ => Tone::Plain,
    };
    tone.paint(&text)
}

fn follow(arguments: &Arguments, job: &Job) -> Outcome<()> {
    let mut log = job.log();
    // With `--failed`, what belongs to a test is held back until it is known to have failed.
    let mut held: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    loop {
        // Asked before reading: what a job writes before it ends is read after it has.
        let is_running = job.is_running()?;
        for entry in log.read()? {
            if !arguments.wants(entry.worker(), entry.test.as_deref()) {
                continue;
            }
            let who = entry.tag.as_deref().unwrap_or("-");
            let test = entry.test.as_deref().unwrap_or("-");
            let shown = format!("{who} {test} {}", line(&entry));
            match key(&entry) {
                _ if !arguments.failed => say!("{shown}"),
                None => {}
                Some(key) => {
                    let lines = held.entry(key.clone()).or_default();
                    lines.push(shown);
                    if let Some(outcome) = &entry.outcome {
                        if outcome != "passed" {
                            lines.iter().for_each(|line| say!("{line}"));
                        }
                        held.remove(&key);
                    }
                }
            }
        }
        if !is_running {
            break;
        }
        thread::sleep(PAUSE);
    }
    // What never ended was cut off.
    held.values().flatten().for_each(|line| say!("{line}"));
    remark(job, &log);
    Ok(())
}

/// Says what is not in the log.
fn remark(job: &Job, log: &Log) {
    if job.is_cut() {
        eprintln!(
            "note: the log reached its bound, and only tells how tests began and ended from there on; raise `DAGZ_LOG_BYTES`"
        );
    }
    match log.passed_over() {
        0 => {}
        count => eprintln!(
            "note: {count} lines were passed over: cut off while being written, or of a later dagz"
        ),
    }
}
