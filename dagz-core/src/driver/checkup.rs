//! What a driver's `doctor` is asked, and what it answers, for `cargo dagz doctor`.
//!
//! A [`Checkup`] is filled in with [`Finding`]s, the first of which is whether the server can be reached.

use std::process;

use crate::{Error, Result, Worker, name};

/// Above the number of any worker that a run has.
const BEYOND_RUNS: u32 = 900_000;

/// What is to be looked at, and what was found so far.
#[derive(Debug)]
pub struct Checkup {
    project: String,
    workers: u32,
    connections: u32,
    findings: Vec<Finding>,
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is to be done.
    Good,
    /// Tests may run into it.
    Odd,
    /// Tests will run into it.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub what: &'static str,
    /// How it is to be taken.
    pub state: State,
    /// What was found; never a secret.
    pub found: String,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
}

impl Checkup {
    /// For `workers` on all nodes together, whose tests have `connections` each, of the project `project`.
    pub fn new(project: &str, workers: u32, connections: u32) -> Self {
        Self {
            project: project.to_owned(),
            workers,
            connections,
            findings: Vec::new(),
        }
    }

    /// The project under which what is made is stamped.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// How many workers a run has, on all nodes together.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// The name of a worker's database of `base` that no run has, to be made and dropped again.
    ///
    /// # Errors
    /// Those of [`name::rewrite`].
    pub fn trial(&self, base: &str, limit: usize) -> Result<String> {
        let worker = Worker::new(BEYOND_RUNS + process::id() % 99_999);
        let base = if base.is_empty() { "dagz_doctor" } else { base };
        name::rewrite(worker, base, limit)
    }

    /// Notes that nothing is to be done about `what`.
    pub fn good(&mut self, what: &'static str, found: impl Into<String>) {
        self.note(what, State::Good, found.into(), None);
    }

    /// Notes that tests may run into `what`.
    pub fn odd(&mut self, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.note(what, State::Odd, found.into(), Some(remedy.into()));
    }

    /// Notes that tests will run into `what`.
    pub fn bad(&mut self, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.note(what, State::Bad, found.into(), Some(remedy.into()));
    }

    /// Notes how trying `what` ended: well, as `found` says, or with an error, which says what to do itself.
    pub fn tried(&mut self, what: &'static str, tried: Result<impl Into<String>>) {
        match tried {
            Ok(found) => self.good(what, found),
            Err(error) => self.failed(what, &error),
        }
    }

    /// Notes that `what` failed; dagz's errors begin with what is wrong and what to do, and end with the server's
    /// own words.
    pub fn failed(&mut self, what: &'static str, error: &Error) {
        // The innermost is the server's, or the system's.
        let mut innermost = std::error::Error::source(error);
        while let Some(within) = innermost.and_then(std::error::Error::source) {
            innermost = Some(within);
        }
        let found = match innermost {
            Some(cause) => cause.to_string(),
            None => error.kind().word().replace('-', " "),
        };
        self.bad(what, found, error.to_string());
    }

    /// Notes whether the server lets in what a run needs beside the `used` connections that are open now; `most` is
    /// its limit, and `setting` what is to be raised to a number.
    pub fn connections(&mut self, used: i64, most: i64, setting: &str) {
        let needed = i64::from(self.workers).saturating_mul(i64::from(self.connections));
        let found = format!(
            "{most} allowed, {used} in use, {needed} needed: {} workers with {} each",
            self.workers, self.connections
        );
        let missing = used.saturating_add(needed) - most;
        if missing <= 0 {
            self.good("connections", found);
        } else {
            self.bad(
                "connections",
                found,
                format!(
                    "raise {setting} to {} at least, or run with fewer workers (`DAGZ_WORKERS`)",
                    most.saturating_add(missing)
                ),
            );
        }
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn note(&mut self, what: &'static str, state: State, found: String, remedy: Option<String>) {
        self.findings.push(Finding {
            what,
            state,
            found,
            remedy,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn connections_are_counted_over_all_workers() {
        let mut checkup = Checkup::new("p", 4, 5);
        checkup.connections(80, 100, "`max_connections`");
        checkup.connections(81, 100, "`max_connections`");
        let [fits, lacks] = checkup.findings() else {
            panic!("two were noted")
        };
        assert_eq!((fits.state, &fits.remedy), (State::Good, &None));
        assert_eq!(lacks.state, State::Bad);
        assert_eq!(
            lacks.remedy.as_deref(),
            Some(
                "raise `max_connections` to 101 at least, or run with fewer workers (`DAGZ_WORKERS`)"
            )
        );
    }

    #[test]
    fn an_error_is_taken_apart_into_what_to_do_and_what_was_said() {
        let mut checkup = Checkup::new("p", 1, 1);
        let cause = std::io::Error::other("connection refused");
        let cause = Error::new(ErrorKind::Io, "opening failed").with_source(cause);
        let error = Error::new(ErrorKind::Unreachable, "cannot reach it: is it running?");
        checkup.failed("reachable", &error.with_source(cause));
        checkup.failed("reachable", &Error::new(ErrorKind::Unsupported, "too old"));
        let told: Vec<_> = checkup
            .findings()
            .iter()
            .map(|finding| (&*finding.found, finding.remedy.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "connection refused",
                    Some("cannot reach it: is it running?")
                ),
                ("unsupported", Some("too old"))
            ]
        );
    }

    #[test]
    fn a_trial_is_no_workers() {
        let checkup = Checkup::new("p", 4, 5);
        let trial = checkup.trial("shop", 63).unwrap();
        let worker = name::worker(&trial).unwrap();
        assert!(worker.number() >= BEYOND_RUNS, "{trial}");
        assert!(checkup.trial("", 63).unwrap().starts_with("dagz_doctor_"));
    }
}
