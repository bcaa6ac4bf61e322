//! The end of a run: what passed and what did not, what was slow, what dagz itself took, and where to look next.
//!
//! The main type is [`Report`].

use std::time::Duration;

use dagz_core::history::{History, Summary};
use serde::Serialize;

use super::{Session, TestKey, again::Verdict};
use crate::{
    exit::Outcome,
    screen::{self, Tone, say},
};

/// How many slow tests are shown.
const SLOW: usize = 3;

/// What the end of a run says; `--json` prints it as it is.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `null` where no test used dagz.
    job: Option<String>,
    workers: Option<u32>,
    interrupted: bool,
    passed: usize,
    failed: usize,
    flaky: usize,
    /// Failed on used databases, and passed on fresh ones.
    isolation: usize,
    cut: usize,
    skipped: usize,
    /// Spent on making and preparing databases, over all workers.
    preparing_seconds: f64,
    /// Those to be looked at.
    tests: Vec<Row>,
    slowest: Vec<Row>,
}

/// A test of a [`Report`].
#[derive(Debug, Serialize)]
struct Row {
    binary: String,
    test: String,
    verdict: Verdict,
    seconds: f64,
    /// In how many jobs on record it was flaky, and in how many it ran.
    flaky_jobs: usize,
    jobs: usize,
}

/// A test, what became of it, and how long its last try took.
pub(super) type Told = (TestKey, Verdict, Duration);

/// Each test; and the job's summary, if there is a job.
pub(super) fn verdicts(session: &mut Session<'_>) -> Outcome<(Vec<Told>, Option<Summary>)> {
    let summary = match session.find_job() {
        Some(job) => Some(job.summary()?),
        None => None,
    };
    let known = summary.iter().flat_map(|summary| &summary.tests);
    let mut verdicts = Vec::new();
    for (key, seen) in &session.seen {
        let mut known = known.clone();
        let known = known.find(|test| test.binary == key.0 && test.name == key.1);
        verdicts.push((key.clone(), Verdict::of_seen(seen, known), seen.took));
    }
    for test in known {
        let key = (test.binary.clone(), test.name.clone());
        if !session.seen.contains_key(&key) {
            verdicts.push((key, Verdict::of_known(test), test.took));
        }
    }
    Ok((verdicts, summary))
}

impl Report {
    /// That of what `session` has seen.
    pub(crate) fn of(session: &mut Session<'_>) -> Outcome<Self> {
        let (verdicts, summary) = verdicts(session)?;
        let flakes = History::of(&session.settings).flakes()?;
        let count = |wanted: Verdict| verdicts.iter().filter(|(_, own, _)| *own == wanted).count();
        let row = |(key, verdict, took): &Told| {
            let flakes = flakes.get(key).copied().unwrap_or_default();
            Row {
                binary: key.0.clone(),
                test: key.1.clone(),
                verdict: *verdict,
                seconds: took.as_secs_f64(),
                flaky_jobs: flakes.flaky,
                jobs: flakes.jobs,
            }
        };
        let noted = verdicts
            .iter()
            .filter(|(_, verdict, _)| *verdict != Verdict::Passed);
        let mut slow: Vec<_> = verdicts.iter().collect();
        slow.sort_by_key(|(.., took)| std::cmp::Reverse(*took));
        let slowest = slow.iter().take(SLOW);
        let job = session.job.as_ref().map(|(job, _)| job);
        Ok(Self {
            job: job.map(|job| job.id().to_owned()),
            workers: job.map(dagz_core::history::Job::workers),
            interrupted: session.signals.is_interrupted(),
            passed: count(Verdict::Passed),
            failed: count(Verdict::Failed),
            flaky: count(Verdict::Flaky),
            isolation: count(Verdict::Isolation),
            cut: count(Verdict::Cut),
            skipped: session.skipped,
            preparing_seconds: summary.map_or(0.0, |summary| summary.preparing.as_secs_f64()),
            slowest: slowest.copied().map(row).collect(),
            tests: noted.map(row).collect(),
        })
    }

    /// Prints it, as JSON if so wanted.
    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            screen::print_json(self);
            return;
        }
        let (Some(job), Some(workers)) = (&self.job, self.workers) else {
            say!("dagz: no test used it");
            self.print_tests();
            return;
        };
        let tone = match (self.failed + self.isolation + self.cut, self.flaky) {
            (0, 0) => Tone::Good,
            (0, _) => Tone::Odd,
            _ => Tone::Bad,
        };
        let state = match self.interrupted {
            true => " was interrupted",
            false => "",
        };
        let noun = match workers {
            1 => "worker",
            _ => "workers",
        };
        let line = format!(
            "dagz: {job} on {workers} {noun}{state}: {} passed, {} failed, {} flaky, {} isolation bugs, {} cut, {} skipped; {} spent on databases, over all workers",
            self.passed,
            self.failed,
            self.flaky,
            self.isolation,
            self.cut,
            self.skipped,
            screen::duration(Duration::from_secs_f64(self.preparing_seconds)),
        );
        say!("{}", tone.paint(&line));
        self.print_tests();
        for row in &self.slowest {
            let took = screen::duration(Duration::from_secs_f64(row.seconds));
            say!("dagz: slow: {took} {} ({})", row.test, row.binary);
        }
        if self.tests.iter().any(|row| row.verdict != Verdict::Cut) {
            say!("dagz: see `cargo dagz logs {job} --failed`");
        }
    }

    fn print_tests(&self) {
        for Row {
            binary,
            test,
            verdict,
            flaky_jobs,
            jobs,
            ..
        } in &self.tests
        {
            let (tone, text) = match verdict {
                Verdict::Passed => continue,
                Verdict::Flaky => (
                    Tone::Odd,
                    format!("flaky: {test} ({binary}), in {flaky_jobs} of {jobs} jobs on record"),
                ),
                Verdict::Isolation => (
                    Tone::Bad,
                    format!(
                        "isolation bug: {test} ({binary}) failed on databases that other tests had used, and passed on fresh ones"
                    ),
                ),
                Verdict::Failed => (Tone::Bad, format!("failed: {test} ({binary})")),
                Verdict::Cut => (Tone::Bad, format!("cut off: {test} ({binary})")),
            };
            say!("{}", tone.paint(&format!("dagz: {text}")));
        }
    }
}
