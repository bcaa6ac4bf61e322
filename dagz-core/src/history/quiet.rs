//! A time in which no job of a state directory starts, for whoever removes what jobs have made.
//!
//! The main type is [`Quiet`].

use std::{fs, fs::File, path::PathBuf, time::Instant};

use super::{History, Job, made};
use crate::{
    Error, ErrorKind, Result, Settings, Worker,
    error::io_error,
    job, kept, lease,
    lock::{self, Mode},
};

/// While it lives, no job of the state directory starts, and none that has ended is taken up again.
///
/// Jobs that run go on; [`running`](Self::running) tells which those are, and what is theirs is to be left
/// alone.
#[derive(Debug)]
pub struct Quiet {
    settings: Settings,
    jobs: PathBuf,
    leases: PathBuf,
    running: Vec<Job>,
    ended: Vec<(Job, File)>,
    _starting: File,
}

impl Quiet {
    /// Begins, as soon as no job is just starting.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseTimeout`] where one was starting for the whole of the settings' lease timeout;
    /// [`ErrorKind::Io`].
    pub fn begin(settings: &Settings) -> Result<Self> {
        let jobs = made(settings)?;
        let path = jobs.join("jobs.lock");
        let deadline = Instant::now() + settings.lease_timeout();
        let starting = lock::poll(deadline, || lock::try_lock(&path, Mode::Exclusive))?
            .ok_or_else(|| {
                let text = format!(
                    "`{}` stayed locked by another process that starts a job; try again",
                    path.display()
                );
                Error::new(ErrorKind::LeaseTimeout, text)
            })?;
        let (mut running, mut ended) = (Vec::new(), Vec::new());
        for job in History::of(settings).jobs()? {
            let lock = match job.is_running()? {
                true => None,
                false => lock::try_lock(&job.directory().join("live.lock"), Mode::Exclusive)?,
            };
            match lock {
                Some(lock) => ended.push((job, lock)),
                None => running.push(job),
            }
        }
        Ok(Self {
            settings: settings.clone(),
            jobs,
            leases: lease::directory(settings)?,
            running,
            ended,
            _starting: starting,
        })
    }

    /// The jobs that run.
    pub fn running(&self) -> &[Job] {
        &self.running
    }

    /// The jobs that have ended.
    pub fn ended(&self) -> impl Iterator<Item = &Job> {
        self.ended.iter().map(|(job, _)| job)
    }

    /// Makes the jobs that have ended forget what they initialised on workers, since its databases are about to
    /// go: a job that is taken up again then makes them anew.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn forget_inits(&self) -> Result<()> {
        for (job, _) in &self.ended {
            let inits = job.directory().join("init");
            match fs::remove_dir_all(&inits) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("removing", &inits)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps `worker` from being leased until the answer is dropped; `None` while a test, of whatever job, has it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn hold(&self, worker: Worker) -> Result<Option<Hold>> {
        let lock = lock::try_lock(&self.leases.join(format!("{worker}.lock")), Mode::Exclusive)?;
        Ok(lock.map(|lock| Hold { _lock: lock }))
    }

    /// Lets tests take `worker` again, which is kept as a failed test left it; for when nothing of that is there
    /// any more.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn give_back(&self, worker: Worker, _held: &Hold) -> Result<()> {
        kept::give_back(&self.settings, worker)
    }

    /// Deletes what is on disk of `job`, unless it is none of those that have ended, or the newest of all, by
    /// whose number the next one's is chosen. Tells whether it did.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn remove(&mut self, job: &Job) -> Result<bool> {
        let newest = job::numbers(&self.jobs)?.into_iter().max();
        if newest.is_some_and(|number| format!("j{number}") == job.id()) {
            return Ok(false);
        }
        let Some(position) = self.ended.iter().position(|(own, _)| own.id() == job.id()) else {
            return Ok(false);
        };
        let (job, _lock) = self.ended.swap_remove(position);
        fs::remove_dir_all(job.directory()).map_err(io_error("removing", job.directory()))?;
        job::forget_keys(&self.jobs)?;
        Ok(true)
    }
}

/// A worker that no test can take meanwhile; made by [`Quiet::hold`].
#[derive(Debug)]
#[must_use = "the worker is free again when this is dropped"]
pub struct Hold {
    _lock: File,
}
