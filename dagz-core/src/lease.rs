//! Leases: who holds which worker.
//!
//! A [`Lease`] is an OS lock on `<state>/leases/jw03.lock`. Every thread, process and run that
//! shares the state directory takes its worker here, so none is ever held twice. Beside each lock
//! lies `jw03.json`, a [`Holder`] record that only serves to name who holds what; it is believed
//! while the lock is held and ignored otherwise. The turn of a marked test is taken in `turn.rs`,
//! before the lease.

use std::{
    fmt, fs,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, ErrorKind, Result, Settings, Worker,
    error::io_error,
    kept,
    lock::{self, Mode},
};

/// The length of a record, which a whole one never exceeds: a character takes at most four bytes,
/// or six where JSON escapes it.
const RECORD_BYTES: usize = 2_048;
const LONGEST_TEST: usize = 256;

/// How many other jobs' counts a record keeps: so many may take turns on a worker, and none gives a number twice.
const OTHER_JOBS: usize = 4;

/// Who holds a worker or a turn, for the error messages of those who wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    pub(crate) job: String,
    pub(crate) test: String,
    /// How many tests of this job the worker has run, this one included.
    pub(crate) count: u32,
    /// The same of other jobs that had it, the latest first.
    #[serde(default)]
    other_jobs: Vec<(String, u32)>,
    /// Seconds since the epoch.
    pub(crate) since: u64,
}

impl Holder {
    pub(crate) fn new(job: &str, test: &str, count: u32) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs());
        Self {
            pid: process::id(),
            job: job.to_owned(),
            test: test.chars().take(LONGEST_TEST).collect(),
            count,
            other_jobs: Vec::new(),
            since,
        }
    }

    /// The one after `before`, whose job may be another one, for a test of `job`.
    fn after(before: Option<Self>, job: &str, test: &str) -> Self {
        let mut counts = Vec::new();
        if let Some(before) = before {
            counts.push((before.job, before.count));
            counts.extend(before.other_jobs);
        }
        let own = counts.iter().position(|(other, _)| other == job);
        let count = own.map_or(0, |own| counts.remove(own).1);
        counts.truncate(OTHER_JOBS);
        Self {
            other_jobs: counts,
            ..Self::new(job, test, count.saturating_add(1))
        }
    }

    /// Reads a record; a torn or missing one is nobody's.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        if text.len() > RECORD_BYTES {
            let other_jobs = Vec::new();
            let shorter = Self {
                other_jobs,
                ..self.clone()
            };
            text = serde_json::to_vec(&shorter).unwrap_or_default();
        }
        // Written over the record before it, in place and at one length: truncating a file makes
        // some file systems flush it when it is closed, and that is slower than all the rest.
        text.resize(text.len().max(RECORD_BYTES), b' ');
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(&text))
            .map_err(io_error("writing", path))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs());
        let Self { pid, test, .. } = self;
        let seconds = now.saturating_sub(self.since);
        write!(f, "`{test}` of process {pid} for {seconds}s")
    }
}

/// Describes the holder recorded at `path` to those who wait.
pub(crate) fn held_by(path: &Path) -> String {
    Holder::read(path).map_or_else(|| "an unknown process".to_owned(), |who| who.to_string())
}

/// A crash-safe hold on a worker, given back when dropped.
#[derive(Debug)]
pub struct Lease {
    worker: Worker,
    count: u32,
    // Held, not read: closing the handle is what frees the worker.
    _lock: File,
}

impl Lease {
    /// Takes the first free worker of this node, waiting for one up to the settings' lease
    /// timeout. `job` and `test` are recorded for those who wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LeaseTimeout`] naming who holds which worker; [`ErrorKind::Settings`] when
    /// there are no workers; [`ErrorKind::Io`] when the state directory cannot be written.
    pub fn acquire(settings: &Settings, job: &str, test: &str) -> Result<Self> {
        if settings.workers() == 0 {
            return Err(Error::new(
                ErrorKind::Settings,
                "a lease was asked for with zero workers; raise `DAGZ_WORKERS`",
            ));
        }
        let directory = directory(settings)?;
        let deadline = Instant::now() + settings.lease_timeout();
        // One waits at the front, and whoever has just given a worker back queues behind it: a
        // thread that comes again at once would otherwise always win against one that polls.
        let front = directory.join("front.lock");
        let _front = lock::poll(deadline, || lock::try_lock(&front, Mode::Exclusive))?
            .ok_or_else(|| Self::timeout(settings, &directory))?;
        lock::poll(deadline, || {
            Self::first_free(settings, &directory, job, test)
        })?
        .ok_or_else(|| Self::timeout(settings, &directory))
    }

    /// Takes `worker`, waiting for it up to the settings' lease timeout.
    pub(crate) fn acquire_worker(
        settings: &Settings,
        worker: Worker,
        job: &str,
        test: &str,
    ) -> Result<Self> {
        let directory = directory(settings)?;
        let deadline = Instant::now() + settings.lease_timeout();
        // Not at the front: those who take any worker need not wait for this one.
        lock::poll(deadline, || {
            Self::take(&directory, settings, worker, job, test)
        })?
        .ok_or_else(|| Self::timeout(settings, &directory))
    }

    /// The worker that is held.
    pub fn worker(&self) -> Worker {
        self.worker
    }

    /// How many tests of this job the worker has run, the holder's included.
    pub fn count(&self) -> u32 {
        self.count
    }

    fn first_free(
        settings: &Settings,
        directory: &Path,
        job: &str,
        test: &str,
    ) -> Result<Option<Self>> {
        for worker in kept::pool(settings)? {
            if let Some(lease) = Self::take(directory, settings, worker, job, test)? {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// Takes `worker` if it is free.
    fn take(
        directory: &Path,
        settings: &Settings,
        worker: Worker,
        job: &str,
        test: &str,
    ) -> Result<Option<Self>> {
        let path = directory.join(format!("{worker}.lock"));
        let Some(lock) = lock::try_lock(&path, Mode::Exclusive)? else {
            return Ok(None);
        };
        // Whoever held it may have kept it as it was given back.
        if kept::is_kept(settings, worker) {
            return Ok(None);
        }
        let record = record(directory, worker);
        let holder = Holder::after(Holder::read(&record), job, test);
        holder.write(&record)?;
        Ok(Some(Self {
            worker,
            count: holder.count,
            _lock: lock,
        }))
    }

    fn timeout(settings: &Settings, directory: &Path) -> Error {
        let mut holders: Vec<String> = kept::pool(settings)
            .unwrap_or_default()
            .into_iter()
            .map(|worker| format!("{worker} by {}", held_by(&record(directory, worker))))
            .collect();
        if holders.len() > 8 {
            let more = holders.len() - 8;
            holders.truncate(8);
            holders.push(format!("and {more} more"));
        }
        Error::new(
            ErrorKind::LeaseTimeout,
            format!(
                "no worker became free within {:?}; held: {}; raise `DAGZ_WORKERS` or `DAGZ_LEASE_TIMEOUT`",
                settings.lease_timeout(),
                holders.join(", ")
            ),
        )
    }
}

/// The record of who holds `worker`.
pub(crate) fn record(directory: &Path, worker: Worker) -> PathBuf {
    directory.join(format!("{worker}.json"))
}

/// The folder of leases and turns, made if it is missing.
pub(crate) fn directory(settings: &Settings) -> Result<PathBuf> {
    let directory = settings.state_dir().join("leases");
    if !directory.is_dir() {
        fs::create_dir_all(&directory).map_err(io_error("creating", &directory))?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Mutex, thread, time::Duration};

    use super::*;

    fn settings(dir: &tempfile::TempDir, workers: u32) -> Settings {
        Settings::builder()
            .workers(workers)
            .state_dir(dir.path())
            .lease_timeout(Duration::from_millis(30))
            .load()
            .unwrap()
    }

    #[test]
    fn the_first_free_worker_is_taken_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 2);
        let first = Lease::acquire(&settings, "j1", "a").unwrap();
        let second = Lease::acquire(&settings, "j1", "b").unwrap();
        assert_eq!((first.worker().number(), second.worker().number()), (0, 1));
        drop(first);
        let again = Lease::acquire(&settings, "j1", "c").unwrap();
        assert_eq!((again.worker().number(), again.count()), (0, 2));
        drop(again);
        let other_job = Lease::acquire(&settings, "j2", "d").unwrap();
        assert_eq!(other_job.count(), 1, "each job counts its own tests");
        drop(other_job);
        let again = Lease::acquire(&settings, "j1", "e").unwrap();
        assert_eq!(again.count(), 3, "and goes on when others had the worker");
    }

    #[test]
    fn as_many_jobs_as_take_turns_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 1);
        let test = "\u{1}".repeat(LONGEST_TEST);
        for round in 1..4 {
            for job in 0..=OTHER_JOBS {
                let job = format!("20261128-120000-{job:08}");
                let lease = Lease::acquire(&settings, &job, &test).unwrap();
                assert_eq!(lease.count(), round, "{job}");
            }
        }
        for job in 0..OTHER_JOBS {
            let job = format!("{job}-{}", "long".repeat(50));
            Lease::acquire(&settings, &job, &test).unwrap();
        }
        let record = record(&directory(&settings).unwrap(), Worker::new(0));
        assert_eq!(fs::read(record).unwrap().len(), RECORD_BYTES);
    }

    #[test]
    fn one_worker_can_be_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 3);
        let wanted = Worker::new(2);
        let lease = Lease::acquire_worker(&settings, wanted, "j1", "a").unwrap();
        assert_eq!(lease.worker(), wanted);
        let error = Lease::acquire_worker(&settings, wanted, "j1", "b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseTimeout, "the others are free");
    }

    #[test]
    fn waiting_is_bounded_and_names_the_holders() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, 1);
        let _held = Lease::acquire(&settings, "j1", "shop::orders").unwrap();
        let error = Lease::acquire(&settings, "j1", "other").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseTimeout);
        // The clock may tick over between the two.
        let text = error
            .to_string()
            .replace(&process::id().to_string(), "PID")
            .replace("for 1s", "for 0s");
        insta::assert_snapshot!(text, @"no worker became free within 30ms; held: jw00 by `shop::orders` of process PID for 0s; raise `DAGZ_WORKERS` or `DAGZ_LEASE_TIMEOUT`");
    }

    #[test]
    fn whoever_waits_gets_a_turn() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::builder()
            .workers(1)
            .state_dir(dir.path())
            .lease_timeout(Duration::from_secs(30))
            .load()
            .unwrap();
        let rounds = thread::scope(|scope| {
            let greedy = || {
                let start = Instant::now();
                let mut rounds = 0;
                while start.elapsed() < Duration::from_millis(600) {
                    let _lease = Lease::acquire(&settings, "j1", "t").unwrap();
                    thread::sleep(Duration::from_millis(10));
                    rounds += 1;
                }
                rounds
            };
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(greedy)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(rounds.iter().all(|own| *own >= 4), "{rounds:?}");
    }

    #[test]
    fn threads_never_share_a_worker() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::builder()
            .workers(3)
            .state_dir(dir.path())
            .lease_timeout(Duration::from_secs(30))
            .load()
            .unwrap();
        let held = Mutex::new(HashSet::new());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lease = Lease::acquire(&settings, "j1", "t").unwrap();
                        assert!(held.lock().unwrap().insert(lease.worker()), "held twice");
                        thread::yield_now();
                        held.lock().unwrap().remove(&lease.worker());
                    }
                });
            }
        });
    }
}
