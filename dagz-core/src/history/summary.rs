//! What a job's events amount to: its tests, how each ended, and what dagz itself took.
//!
//! The main type is [`Summary`].

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{Entry, Job};
use crate::Worker;

/// How a test ended, as far as the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed at first, and passed when it was run again in the same job.
    Flaky,
    /// It failed on databases that other tests had used, and passed on ones made anew: it depends on what others
    /// leave behind.
    Isolation,
    /// It failed.
    Failed,
    /// It has begun, and its job still runs.
    Running,
    /// Its process ended before it did: killed, aborted, or out of time.
    Cut,
}

/// One test of a job, over all its attempts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Test {
    /// The binary it is in; empty where the log does not tell.
    pub binary: String,
    /// Its name.
    pub name: String,
    /// How it ended, after its last attempt.
    pub outcome: Outcome,
    /// Its marks, such as `main_worker`.
    pub marks: Vec<String>,
    /// Whether it was given a database in any attempt.
    pub has_database: bool,
    /// How often it was run.
    pub attempts: usize,
    /// The worker of the last attempt; `None` where it got none.
    pub worker: Option<Worker>,
    /// How long the last attempt took, from the worker's lease to its return.
    pub took: Duration,
    /// When the last attempt began.
    pub began: SystemTime,
}

/// What a job's events amount to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Its tests, in the order in which they began first.
    pub tests: Vec<Test>,
    /// From its start to its last event, or until now while it runs.
    pub took: Duration,
    /// What dagz spent on making and preparing databases, over all workers.
    pub preparing: Duration,
    /// Whether it still runs.
    pub is_running: bool,
}

impl Summary {
    /// That of `entries`, the events of `job`.
    pub(super) fn of(job: &Job, entries: &[Entry], is_running: bool) -> Self {
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut open: BTreeMap<(u32, String), usize> = BTreeMap::new();
        let mut preparing = Duration::ZERO;
        for entry in entries {
            if matches!(entry.kind.as_str(), "init" | "prepare") {
                preparing += entry.took().unwrap_or_default();
            }
            let Some(test) = &entry.test else { continue };
            let key = (entry.pid, entry.tag.clone().unwrap_or_default());
            let begins = entry.kind == "lease" || (entry.binary.is_some() && entry.tag.is_none());
            if let Some(attempt) = open.get(&key).and_then(|at| attempts.get_mut(*at)) {
                attempt.has_database |= entry.database.is_some();
            }
            if begins {
                open.insert(key.clone(), attempts.len());
                attempts.push(Attempt {
                    binary: entry.binary.clone().unwrap_or_default(),
                    name: test.clone(),
                    worker: entry.worker(),
                    began: entry.at(),
                    ended: entry.at(),
                    outcome: None,
                    marks: entry.marks.clone(),
                    is_fresh: entry.again.as_deref() == Some("fresh"),
                    has_database: false,
                });
            }
            let Some(outcome) = entry.outcome.as_deref() else {
                continue;
            };
            let attempt = open.get(&key).and_then(|at| attempts.get_mut(*at));
            if let Some(attempt) = attempt.filter(|attempt| attempt.name == *test) {
                attempt.ended = entry.at();
                attempt.outcome = Some(outcome == "passed");
            }
            // The lease of a test whose set-up failed stays without an end of its own.
            if entry.tag.is_none() {
                let same =
                    |attempt: &&mut Attempt| attempt.name == *test && attempt.outcome.is_none();
                if let Some(attempt) = attempts.iter_mut().rev().find(same) {
                    attempt.outcome = Some(outcome == "passed");
                }
            }
        }
        let last = entries.iter().map(Entry::at).max();
        let now = is_running.then(SystemTime::now);
        let end = now.or(last).unwrap_or(job.started());
        Self {
            tests: tests(attempts, is_running),
            took: end.duration_since(job.started()).unwrap_or_default(),
            preparing,
            is_running,
        }
    }

    /// How many of its tests ended like `outcome`.
    pub fn count(&self, outcome: Outcome) -> usize {
        let alike = self.tests.iter().filter(|test| test.outcome == outcome);
        alike.count()
    }
}

struct Attempt {
    binary: String,
    name: String,
    worker: Option<Worker>,
    began: SystemTime,
    ended: SystemTime,
    /// Whether it passed, once it has ended.
    outcome: Option<bool>,
    marks: Vec<String>,
    is_fresh: bool,
    has_database: bool,
}

fn tests(attempts: Vec<Attempt>, is_running: bool) -> Vec<Test> {
    let mut at: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut tests: Vec<Test> = Vec::new();
    for attempt in attempts {
        let key = (attempt.binary.clone(), attempt.name.clone());
        let index = *at.entry(key).or_insert_with(|| {
            tests.push(Test {
                binary: attempt.binary.clone(),
                name: attempt.name.clone(),
                outcome: Outcome::Running,
                marks: attempt.marks.clone(),
                has_database: false,
                attempts: 0,
                worker: None,
                took: Duration::ZERO,
                began: attempt.began,
            });
            tests.len() - 1
        });
        let test = &mut tests[index];
        let failed_before = test.attempts > 0
            && matches!(
                test.outcome,
                Outcome::Failed | Outcome::Cut | Outcome::Flaky | Outcome::Isolation
            );
        test.has_database |= attempt.has_database;
        test.outcome = match attempt.outcome {
            // Without a database there is nothing to be made anew: the attempt was like any other.
            Some(true) if failed_before && attempt.is_fresh && test.has_database => {
                Outcome::Isolation
            }
            Some(true) if failed_before => Outcome::Flaky,
            Some(true) => Outcome::Passed,
            Some(false) => Outcome::Failed,
            None if is_running => Outcome::Running,
            None => Outcome::Cut,
        };
        test.attempts += 1;
        test.worker = attempt.worker;
        test.began = attempt.began;
        test.took = attempt
            .ended
            .duration_since(attempt.began)
            .unwrap_or_default();
    }
    tests
}
