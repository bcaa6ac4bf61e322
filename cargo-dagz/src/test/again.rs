//! What is tried again, and what that tells.
//!
//! After the suite has run, what failed is run again in the same job: first on the worker that the test had, then, what
//! still fails, on databases made anew. `dagz-core`'s `again.rs` does what is asked for by `DAGZ_AGAIN`. The main types
//! are [`Pass`] and [`Verdict`].

use std::{collections::BTreeSet, time::Duration};

use dagz_core::history::{Outcome as Ended, Test};
use serde::Serialize;

use super::{Runner, Seen, Session, TestKey};
use crate::{exit, exit::Outcome};

/// So many may fail in any suite and be tried again.
const ALWAYS: usize = 3;

/// A test that takes this long is not tried again if it also takes a large part of the run.
const LONG: Duration = Duration::from_secs(10);

/// How the tests of a pass are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As the suite is run.
    First,
    /// On the worker that each had before.
    Worker,
    /// On databases made anew.
    Fresh,
}

/// One time that tests are run in a job.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) how: How,
    tests: BTreeSet<TestKey>,
}

impl Pass {
    pub(crate) fn first() -> Self {
        Self {
            how: How::First,
            tests: BTreeSet::new(),
        }
    }

    pub(crate) fn is_first(&self) -> bool {
        self.how == How::First
    }

    /// What `DAGZ_AGAIN` is.
    pub(crate) fn word(&self) -> Option<&'static str> {
        match self.how {
            How::First => None,
            How::Worker => Some("worker"),
            How::Fresh => Some("fresh"),
        }
    }

    /// The tests that it runs, where those are not all.
    pub(crate) fn tests(&self) -> Option<impl ExactSizeIterator<Item = &TestKey>> {
        (!self.is_first()).then(|| self.tests.iter())
    }
}

/// What became of a test, over all its tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Passed,
    /// It failed, and passed when it was tried again.
    Flaky,
    /// It failed on databases that others had used, and passed on ones made anew.
    Isolation,
    Failed,
    /// It never ended.
    Cut,
}

impl Verdict {
    /// Of a test that the runner told of; `known` is what the job's log has of it.
    pub(crate) fn of_seen(seen: &Seen, known: Option<&Test>) -> Self {
        let Some((how, passed)) = seen.tries.last() else {
            return Self::Cut;
        };
        let failed_before = seen.tries.iter().any(|(_, passed)| !passed);
        // What has no database had nothing made anew.
        let has_database = known.is_some_and(|test| test.has_database);
        match (passed, failed_before) {
            (true, false) => Self::Passed,
            (true, true) if *how == How::Fresh && has_database => Self::Isolation,
            (true, true) => Self::Flaky,
            (false, _) => Self::Failed,
        }
    }

    /// Of a test that only the job's log knows.
    pub(crate) fn of_known(test: &Test) -> Self {
        match test.outcome {
            Ended::Passed => Self::Passed,
            Ended::Flaky => Self::Flaky,
            Ended::Isolation => Self::Isolation,
            Ended::Failed => Self::Failed,
            _ => Self::Cut,
        }
    }

    /// Whether the job fails by it.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Isolation | Self::Failed | Self::Cut)
    }
}

/// Tries again what failed in a run that took `wall`; tells how the job ends.
pub(super) fn run(session: &mut Session<'_>, wall: Duration) -> Outcome {
    let tries = session.arguments.tries;
    for (number, how) in [(2, How::Worker), (3, How::Fresh)] {
        if number > tries || session.signals.is_interrupted() {
            break;
        }
        let tests = match candidates(session, wall)? {
            Some(tests) if !tests.is_empty() => tests,
            _ => break,
        };
        let place = match how {
            How::Fresh => "databases made anew",
            _ => "the worker of each",
        };
        eprintln!(
            "dagz: trying {} failed tests again, on {place}",
            tests.len()
        );
        session.pass(&Pass { how, tests })?;
    }
    let (verdicts, _) = super::report::verdicts(session)?;
    let is_failure = verdicts.iter().any(|(_, verdict, _)| verdict.is_failure());
    let untold = session.failed_by_cargo.saturating_sub(session.failed_known);
    Ok(match is_failure || untold > 0 {
        true => exit::TESTS_FAILED,
        false => exit::OK,
    })
}

/// What fails so far and is worth trying again; `None` where it is the suite that fails.
fn candidates(session: &mut Session<'_>, wall: Duration) -> Outcome<Option<BTreeSet<TestKey>>> {
    let (verdicts, _) = super::report::verdicts(session)?;
    let of = |wanted: Verdict| verdicts.iter().filter(move |(_, own, _)| *own == wanted);
    let failed = of(Verdict::Failed).count();
    if session.arguments.runner == Runner::Cargo {
        session.failed_known = session.failed_known.max(failed);
        // A binary that was ended by one test has not told of the others.
        if of(Verdict::Cut).next().is_some() {
            return Ok(None);
        }
    }
    if !is_worth(failed, verdicts.len()) {
        return Ok(None);
    }
    let tests = of(Verdict::Failed).filter(|(_, _, took)| !is_too_long(*took, wall));
    Ok(Some(tests.map(|(key, ..)| key.clone()).collect()))
}

/// Whether it is some tests that fail, and not the suite.
fn is_worth(failed: usize, total: usize) -> bool {
    failed <= ALWAYS || failed * 10 <= total
}

/// Whether a test that took `took` would hold up the end of a run that took `wall`.
fn is_too_long(took: Duration, wall: Duration) -> bool {
    took >= LONG && took * 4 >= wall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_fails_is_not_tried_again() {
        let told = [(3, 4), (4, 39), (4, 40), (100, 1_000), (101, 1_000)];
        let worth = told.map(|(failed, total)| is_worth(failed, total));
        assert_eq!(worth, [true, false, true, true, false]);
    }

    #[test]
    fn a_test_that_is_most_of_the_run_is_not_tried_again() {
        let seconds = Duration::from_secs;
        let told = [(9, 9), (10, 40), (10, 41), (60, 600)];
        let too_long = told.map(|(took, wall)| is_too_long(seconds(took), seconds(wall)));
        assert_eq!(too_long, [false, true, false, false]);
    }
}
