//! What jobs have left behind, for whoever reads it: `cargo dagz`, or a tool of one's own.
//!
//! [`History`] lists the jobs of a state directory, [`Job`] is one of them, [`Log`] reads its events while
//! they are being written, and [`Summary`] says what they amount to. All of it is read as any version of dagz
//! left it: keys and kinds of events that are not known pass, lines that are torn or of a later format are
//! counted and passed over. [`Kept`] is a worker that is kept as a failed test left it, and [`Quiet`] keeps new
//! jobs from starting while something is removed.

mod log;
pub(crate) mod output;
mod quiet;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use self::{
    log::{Entry, Log},
    output::Output,
    quiet::{Hold, Quiet},
    summary::{Outcome, Summary, Test},
};
pub use crate::kept::Kept;
use crate::{
    Result, Settings, Worker,
    error::io_error,
    event,
    job::{Record, numbers},
    kept::stand_ins,
    lock::{self, Mode},
};

/// The file that says of a job that it was interrupted.
const INTERRUPTED: &str = "interrupted";

/// The jobs of one state directory.
#[derive(Clone, Debug)]
pub struct History {
    jobs: PathBuf,
}

impl History {
    /// Those of the state directory of `settings`, which need not be there.
    pub fn of(settings: &Settings) -> Self {
        Self {
            jobs: settings.state_dir().join("jobs"),
        }
    }

    /// The jobs, newest first; a job whose record is missing or torn was cut off while starting, and is none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the directory is there and cannot be read.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        if !self.jobs.exists() {
            return Ok(Vec::new());
        }
        let mut numbers = numbers(&self.jobs)?;
        numbers.sort_unstable_by(|left, right| right.cmp(left));
        let jobs = numbers.into_iter().map(|number| format!("j{number}"));
        Ok(jobs.filter_map(|id| self.read(&id)).collect())
    }

    /// The job called `id`, `j12`, or the newest for `latest`; `None` where there is no such job.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the directory is there and cannot be read.
    pub fn job(&self, id: &str) -> Result<Option<Job>> {
        let jobs = self.jobs()?;
        Ok(match id {
            "latest" => jobs.into_iter().next(),
            id => jobs.into_iter().find(|job| job.id() == id),
        })
    }

    /// How often each test was flaky, by its binary and its name, over all jobs that are on record.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where something is there and cannot be read.
    pub fn flakes(&self) -> Result<BTreeMap<(String, String), Flakes>> {
        let mut flakes: BTreeMap<_, Flakes> = BTreeMap::new();
        for job in self.jobs()? {
            for test in job.summary()?.tests {
                let known = flakes.entry((test.binary, test.name)).or_default();
                known.jobs += 1;
                known.flaky += usize::from(test.outcome == Outcome::Flaky);
            }
        }
        Ok(flakes)
    }

    fn read(&self, id: &str) -> Option<Job> {
        let directory = self.jobs.join(id);
        // The folder's name is what it is found by again, whatever the record says.
        let record = Record::read(&directory)?;
        Some(Job {
            id: id.to_owned(),
            directory,
            record,
        })
    }
}

/// How often a test was flaky, see [`History::flakes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flakes {
    /// In how many jobs it was flaky.
    pub flaky: usize,
    /// In how many it ran.
    pub jobs: usize,
}

/// A job as it is on disk.
#[derive(Clone, Debug)]
pub struct Job {
    id: String,
    directory: PathBuf,
    record: Record,
}

impl Job {
    /// Its id, `j12`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What its processes have in common, by which they found each other, such as `nextest:` and a run's id.
    pub fn key(&self) -> &str {
        &self.record.key
    }

    /// The project it ran for.
    pub fn project(&self) -> &str {
        &self.record.project
    }

    /// When it started, to the second.
    pub fn started(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.record.started)
    }

    /// How many workers each of its nodes had.
    pub fn workers(&self) -> u32 {
        self.record.workers
    }

    /// Which of its nodes this is, from 0.
    pub fn node_index(&self) -> u32 {
        self.record.node_index
    }

    /// How many nodes it had.
    pub fn node_total(&self) -> u32 {
        self.record.node_total
    }

    /// The id of the CI pipeline it ran in, if it did.
    pub fn pipeline(&self) -> Option<&str> {
        self.record.pipeline.as_deref()
    }

    /// The branch that was checked out when it started.
    pub fn branch(&self) -> Option<&str> {
        self.record.branch.as_deref()
    }

    /// The commit that was checked out when it started: its whole hash.
    pub fn commit(&self) -> Option<&str> {
        self.record.commit.as_deref()
    }

    /// Whether `worker` is one of this node's, or may stand in for one that is kept, so that the job may use it
    /// while it runs.
    pub fn has(&self, worker: Worker) -> bool {
        let first = self.record.node_index.saturating_mul(self.record.workers);
        let end = first.saturating_add(self.record.workers);
        let stand_ins = stand_ins(
            self.record.workers,
            self.record.node_index,
            self.record.node_total,
        );
        (first..end).contains(&worker.number()) || stand_ins.contains(&worker.number())
    }

    /// Whether it runs: a process of its own lives, or the one that starts them, `cargo` or nextest.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where its folder cannot be read.
    pub fn is_running(&self) -> Result<bool> {
        if self.record.runner.is_some_and(crate::job::Runner::is_alive) {
            return Ok(true);
        }
        let live = self.directory.join("live.lock");
        if !live.exists() {
            return Ok(false);
        }
        lock::is_held(&live)
    }

    /// Keeps it running until the answer is dropped, for a runner that starts more than one process after the
    /// other.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where its folder cannot be written.
    pub fn keep_running(&self) -> Result<Running> {
        let lock = lock::try_lock(&self.directory.join("live.lock"), Mode::Shared)?;
        Ok(Running { _lock: lock })
    }

    /// Puts on record that somebody ended it before its tests did.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where its folder cannot be written.
    pub fn set_interrupted(&self) -> Result<()> {
        let path = self.directory.join(INTERRUPTED);
        fs::write(&path, "").map_err(io_error("writing", &path))
    }

    /// Whether somebody ended it before its tests did, as far as that is on record.
    pub fn is_interrupted(&self) -> bool {
        self.directory.join(INTERRUPTED).exists()
    }

    /// What failed attempts wrote to their output, in the order in which they ended; where it was kept.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where it is there and cannot be read.
    pub fn outputs(&self) -> Result<Vec<Output>> {
        output::read(&self.directory)
    }

    /// Keeps what an attempt wrote to its output: as much of it as the bounds allow.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where its folder cannot be written.
    pub fn keep_output(&self, output: &Output) -> Result<()> {
        let limit = self.record.log_bytes.unwrap_or(u64::MAX) / 2;
        output::append(&self.directory, output, limit)
    }

    /// The file `name` in the job's folder, for what a runner has to keep; it goes when the job does.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether its log reached its bound, so that what is missing is not what did not happen.
    pub fn is_cut(&self) -> bool {
        let size = fs::metadata(self.log_path()).map_or(0, |metadata| metadata.len());
        // One event is some hundreds of bytes.
        self.record
            .log_bytes
            .is_some_and(|limit| size + 1_024 >= limit / 4 * 3)
    }

    /// Its events, from the first on.
    pub fn log(&self) -> Log {
        Log::open(self.log_path())
    }

    /// What its events amount to so far.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the log is there and cannot be read.
    pub fn summary(&self) -> Result<Summary> {
        let mut log = self.log();
        let entries = log.read()?;
        Ok(Summary::of(self, &entries, self.is_running()?))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join(event::FILE)
    }
}

/// Keeps a job running; made by [`Job::keep_running`].
#[derive(Debug)]
#[must_use = "the job may have ended when this is dropped"]
pub struct Running {
    _lock: Option<fs::File>,
}

/// The folder of the jobs of `settings`, made if it is missing.
fn made(settings: &Settings) -> Result<PathBuf> {
    let jobs = settings.state_dir().join("jobs");
    let by_key = jobs.join("by-key");
    fs::create_dir_all(&by_key).map_err(io_error("creating", &by_key))?;
    Ok(jobs)
}
