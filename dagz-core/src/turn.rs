//! Turns: whether a test may run now, beside or instead of others of the node.
//!
//! Most tests share the run; a test marked `exclusive` has it alone, and one marked `main_worker`
//! keeps other such tests off the base databases. A turn is taken before the lease (`lease.rs`),
//! so that whoever waits for one does not keep a worker from the others. The main type is [`Turn`].

use std::{fs::File, path::Path, time::Instant};

use crate::{
    Error, ErrorKind, Result, Settings,
    lease::{Holder, directory, held_by},
    lock::{self, Mode},
};

/// What a test asks for beyond a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Runs un-rerouted on the base databases, one such test at a time over the node.
    pub(crate) main_worker: bool,
    /// Runs while no other test of the node runs.
    pub(crate) exclusive: bool,
}

impl Marks {
    /// Its words, as in `#[dagz::test(..)]`.
    pub(crate) fn words(self) -> impl Iterator<Item = &'static str> {
        let words = [
            (self.main_worker, "main_worker"),
            (self.exclusive, "exclusive"),
        ];
        words
            .into_iter()
            .filter_map(|(is_set, word)| is_set.then_some(word))
    }
}

/// The right to run now; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _main: Option<File>,
    _run: File,
}

impl Turn {
    /// Waits for the turn that `marks` ask for, up to the settings' lease timeout.
    pub(crate) fn take(settings: &Settings, marks: Marks, job: &str, test: &str) -> Result<Self> {
        let directory = directory(settings)?;
        let deadline = Instant::now() + settings.lease_timeout();
        let holder = Holder::new(job, test, 0);

        let main = if marks.main_worker {
            let lock = directory.join("main.lock");
            let record = directory.join("main.json");
            let main = lock::poll(deadline, || lock::try_lock(&lock, Mode::Exclusive))?
                .ok_or_else(|| timeout(settings, test, "`main_worker`", &record))?;
            holder.write(&record)?;
            Some(main)
        } else {
            None
        };

        // Everybody passes the gate. Who wants to run alone keeps it while waiting, so that the
        // run empties instead of being kept busy for ever by tests that come later.
        let gate = directory.join("gate.lock");
        let run = directory.join("run.lock");
        let record = directory.join("run.json");
        let mode = if marks.exclusive {
            Mode::Exclusive
        } else {
            Mode::Shared
        };
        let passing = lock::poll(deadline, || lock::try_lock(&gate, mode))?
            .ok_or_else(|| timeout(settings, test, "`exclusive`", &record))?;
        if marks.exclusive {
            holder.write(&record)?;
        }
        let run = lock::poll(deadline, || lock::try_lock(&run, mode))?.ok_or_else(|| {
            if marks.exclusive {
                Error::new(
                    ErrorKind::LeaseTimeout,
                    format!(
                        "`{test}` is marked `exclusive`, and other tests of the node still ran after {:?}; raise `DAGZ_LEASE_TIMEOUT`",
                        settings.lease_timeout()
                    ),
                )
            } else {
                timeout(settings, test, "`exclusive`", &record)
            }
        })?;
        drop(passing);
        Ok(Self {
            _main: main,
            _run: run,
        })
    }
}

fn timeout(settings: &Settings, test: &str, mark: &str, record: &Path) -> Error {
    Error::new(
        ErrorKind::LeaseTimeout,
        format!(
            "`{test}` waited {:?} for a test marked {mark}: {}; raise `DAGZ_LEASE_TIMEOUT`",
            settings.lease_timeout(),
            held_by(record)
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
        time::Duration,
    };

    use super::*;

    const NORMAL: Marks = Marks {
        main_worker: false,
        exclusive: false,
    };
    const EXCLUSIVE: Marks = Marks {
        main_worker: false,
        exclusive: true,
    };
    const MAIN: Marks = Marks {
        main_worker: true,
        exclusive: false,
    };

    fn settings(dir: &tempfile::TempDir, timeout: Duration) -> Settings {
        Settings::builder()
            .workers(4)
            .state_dir(dir.path())
            .lease_timeout(timeout)
            .load()
            .unwrap()
    }

    #[test]
    fn marks_exclude_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, Duration::from_millis(20));
        let take = |marks| Turn::take(&settings, marks, "j1", "t");
        let normal = take(NORMAL).unwrap();
        let main = take(MAIN).unwrap();
        take(NORMAL).expect("a second normal test runs beside both");
        assert!(
            take(MAIN)
                .unwrap_err()
                .to_string()
                .contains("waited 20ms for a test marked `main_worker`: `t`")
        );
        assert!(
            take(EXCLUSIVE)
                .unwrap_err()
                .to_string()
                .contains("is marked `exclusive`, and other tests")
        );
        drop((normal, main));
        let alone = take(EXCLUSIVE).unwrap();
        assert!(
            take(NORMAL)
                .unwrap_err()
                .to_string()
                .contains("for a test marked `exclusive`: `t`")
        );
        drop(alone);
        take(NORMAL).unwrap();
    }

    #[test]
    fn an_exclusive_test_is_not_starved_and_runs_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, Duration::from_secs(30));
        let running = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..6 {
                let (settings, running) = (&settings, &running);
                scope.spawn(move || {
                    for round in 0..30 {
                        let exclusive = number == 0 && round % 5 == 0;
                        let marks = Marks {
                            main_worker: false,
                            exclusive,
                        };
                        let _turn = Turn::take(settings, marks, "j1", "t").unwrap();
                        let others = running.fetch_add(1, Ordering::SeqCst);
                        assert!(!exclusive || others == 0, "an exclusive test had company");
                        thread::sleep(Duration::from_micros(300));
                        running.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
