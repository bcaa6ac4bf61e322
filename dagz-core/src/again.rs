//! Running a test of a job again: on the worker that it had, or on databases made anew.
//!
//! `cargo dagz test` asks for it by `DAGZ_AGAIN`, to tell a flaky test from one that depends on what other tests
//! left behind; `scope.rs` looks here before it takes a lease. The main type is [`Again`].

use std::env;

use crate::{Error, ErrorKind, Result, Worker, event, history::Log, job::Job};

/// The variable that asks for it, of all tests of a process.
pub(crate) const VARIABLE: &str = "DAGZ_AGAIN";

/// How a test is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// On the worker that it had last in the job, whose databases are as other tests left them; on any if that
    /// one is kept.
    Worker,
    /// On any worker, whose databases are made anew at the first access.
    Fresh,
}

impl Again {
    /// What this process was asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] for a word that is none.
    pub(crate) fn of_this_process() -> Result<Option<Self>> {
        match env::var(VARIABLE).ok().as_deref() {
            None | Some("") => Ok(None),
            Some(word) => Self::read(word).map(Some),
        }
    }

    fn read(word: &str) -> Result<Self> {
        match word {
            "worker" => Ok(Self::Worker),
            "fresh" => Ok(Self::Fresh),
            other => Err(Error::new(
                ErrorKind::Settings,
                format!("`{VARIABLE}` is `{other}`, but must be `worker` or `fresh`"),
            )),
        }
    }

    /// The word by which the job's log tells of it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Fresh => "fresh",
        }
    }
}

/// The worker that `test` of this binary had last in `job`, if the job's log tells of one.
pub(crate) fn last_worker(job: &Job, test: &str) -> Result<Option<Worker>> {
    let mut log = Log::open(job.directory().join(event::FILE));
    let entries = log.read()?;
    let own = event::binary();
    let last = entries.iter().rev().find(|entry| {
        entry.kind == "lease"
            && entry.test.as_deref() == Some(test)
            && entry.binary.as_deref() == own
    });
    Ok(last.and_then(|entry| entry.worker()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_none_is_refused() {
        assert_eq!(Again::read("fresh").unwrap(), Again::Fresh);
        assert_eq!(Again::read("worker").unwrap(), Again::Worker);
        let error = Again::read("often").unwrap_err();
        insta::assert_snapshot!(error, @"`DAGZ_AGAIN` is `often`, but must be `worker` or `fresh`");
    }
}
