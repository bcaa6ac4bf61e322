//! Jobs: one execution of a test suite, over however many processes.
//!
//! A job is a folder, `<state>/jobs/j12`, that every process of one execution finds by the same
//! key: `DAGZ_JOB`, nextest's run id, the `cargo` process that started the test binary, or, for a
//! binary started by hand, the process itself. It holds `job.json`, the event log (`event.rs`) and
//! what was initialised (`once.rs`). `job/record.rs` is what `job.json` says, `job/prune.rs` bounds what is
//! kept; `history.rs` reads it all. The main type is [`Job`].

mod prune;
mod record;
mod revision;

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
    time::Instant,
};

use self::{prune::prune, record::look, revision::Revision};
pub(crate) use self::{
    prune::{forget_keys, numbers},
    record::{Record, Runner},
};
use crate::{
    Error, ErrorKind, Result, Settings,
    error::io_error,
    handover,
    lock::{self, Mode},
    name,
};

/// The job this process belongs to.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    directory: PathBuf,
    // Shared while the process lives, so that no other process prunes the job.
    _live: File,
}

impl Job {
    /// The job of this process, found or started at the first call.
    pub(crate) fn current() -> Result<&'static Self> {
        static CURRENT: OnceLock<Result<Job>> = OnceLock::new();
        CURRENT
            .get_or_init(|| {
                if let Some((id, directory)) = handover::inherited_job()
                    && let Some(job) = Self::live(id, directory)?
                {
                    return Ok(job);
                }
                Self::join(Settings::current()?, &key(|name| env::var(name).ok()))
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Its id, `j12`.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Finds the job of `key`, or starts it.
    pub(crate) fn join(settings: &Settings, key: &str) -> Result<Self> {
        let jobs = settings.state_dir().join("jobs");
        let by_key = jobs.join("by-key");
        fs::create_dir_all(&by_key).map_err(io_error("creating", &by_key))?;
        let link = by_key.join(name::short_hash(key));
        // Without the lock first: under nextest every test is a process and comes through here.
        if let Some(job) = Self::open(&jobs, &link, key)? {
            return Ok(job);
        }
        let lock = jobs.join("jobs.lock");
        let deadline = Instant::now() + settings.lease_timeout();
        let _starting = lock::poll(deadline, || lock::try_lock(&lock, Mode::Exclusive))?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::LeaseTimeout,
                    format!(
                        "`{}` stayed locked by another process that starts a job",
                        lock.display()
                    ),
                )
            })?;
        if let Some(job) = Self::open(&jobs, &link, key)? {
            return Ok(job);
        }
        prune(&jobs, settings)?;
        Self::start(&jobs, &link, key, settings)
    }

    fn open(jobs: &Path, link: &Path, key: &str) -> Result<Option<Self>> {
        let Ok(id) = fs::read_to_string(link) else {
            return Ok(None);
        };
        let directory = jobs.join(&id);
        match Record::read(&directory) {
            Some(record) if record.key == key => Self::live(id, directory),
            // Pruned, cut off while starting, or another key with the same hash.
            _ => Ok(None),
        }
    }

    fn live(id: String, directory: PathBuf) -> Result<Option<Self>> {
        let live = lock::try_lock(&directory.join("live.lock"), Mode::Shared)?;
        Ok(live.map(|live| Self {
            id,
            directory,
            _live: live,
        }))
    }

    fn start(jobs: &Path, link: &Path, key: &str, settings: &Settings) -> Result<Self> {
        let number = numbers(jobs)?.into_iter().max().unwrap_or(0) + 1;
        let id = format!("j{number}");
        let directory = jobs.join(&id);
        fs::create_dir_all(&directory).map_err(io_error("creating", &directory))?;
        let Revision { branch, commit } = Revision::of(settings.workspace());
        let record = Record {
            project: settings.project().to_owned(),
            workers: settings.workers(),
            node_index: settings.node_index(),
            node_total: settings.node_total(),
            pipeline: pipeline(|name| env::var(name).ok()),
            branch,
            commit,
            runner: Runner::of_this_process(),
            log_bytes: Some(settings.log_bytes()),
            ..Record::new(&id, key)
        };
        let job = Self::live(id.clone(), directory.clone())?.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the new job `{id}` is locked"))
        })?;
        let path = directory.join("job.json");
        fs::write(
            &path,
            serde_json::to_vec_pretty(&record).unwrap_or_default(),
        )
        .map_err(io_error("writing", &path))?;
        // The link comes last: whoever finds it finds a whole job.
        fs::write(link, &id).map_err(io_error("writing", link))?;
        Ok(job)
    }
}

/// What all processes of one execution have in common.
fn key(variable: impl Fn(&str) -> Option<String>) -> String {
    if let Some(job) = variable("DAGZ_JOB").filter(|job| !job.is_empty()) {
        return format!("given:{job}");
    }
    if let Some(run) = variable("NEXTEST_RUN_ID") {
        return format!("nextest:{run}");
    }
    let own = process::id();
    let myself = look(own);
    if let Some(parent) = myself.as_ref().and_then(|process| process.parent)
        && let Some(runner) = look(parent)
        && runner.name.trim_end_matches(".exe") == "cargo"
    {
        return format!("cargo:{parent}:{}", runner.started);
    }
    if let Some(pipeline) = pipeline(variable) {
        return format!("pipeline:{pipeline}");
    }
    let started = myself.map_or(0, |process| process.started);
    format!("process:{own}:{started}")
}

/// The id that a CI system gives to all machines of one execution.
fn pipeline(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    const PIPELINES: &[&str] = &[
        "CI_PIPELINE_ID",
        "GITHUB_RUN_ID",
        "CIRCLE_WORKFLOW_ID",
        "BUILDKITE_BUILD_ID",
        "SEMAPHORE_WORKFLOW_ID",
        "BUILD_BUILDID",
    ];
    PIPELINES.iter().find_map(|name| variable(name))
}

/// Ends a job for a test, also in its record: as if a process that has ended had started it.
#[cfg(test)]
pub(crate) fn end(job: Job) {
    let path = job.directory().join("job.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["runner"]["started"] = 1.into();
    fs::write(&path, record.to_string()).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &tempfile::TempDir) -> Settings {
        Settings::builder()
            .workers(2)
            .state_dir(dir.path())
            .load()
            .unwrap()
    }

    #[test]
    fn one_key_is_one_job_and_numbers_rise() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir);
        let first = Job::join(&settings, "nextest:a").unwrap();
        let same = Job::join(&settings, "nextest:a").unwrap();
        let other = Job::join(&settings, "nextest:b").unwrap();
        assert_eq!((first.id(), same.id(), other.id()), ("j1", "j1", "j2"));
        let record: Record =
            serde_json::from_slice(&fs::read(first.directory().join("job.json")).unwrap()).unwrap();
        assert_eq!((record.workers, record.key.as_str()), (2, "nextest:a"));
    }

    #[test]
    fn old_jobs_are_pruned_and_live_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir);
        let live = Job::join(&settings, "live").unwrap();
        for number in 0..settings.jobs_kept() + 5 {
            end(Job::join(&settings, &format!("run {number}")).unwrap());
        }
        let mut left = numbers(&dir.path().join("jobs")).unwrap();
        left.sort_unstable();
        assert!(left.len() <= settings.jobs_kept() + 2, "{left:?}");
        assert_eq!(left[0], 1, "the live job stays");
        assert!(live.directory().join("job.json").is_file());
        assert_eq!(Job::join(&settings, "live").unwrap().id(), "j1");
    }

    #[test]
    fn a_job_cut_off_while_starting_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir);
        let job = Job::join(&settings, "a").unwrap();
        fs::write(job.directory().join("job.json"), "{\"version\":1,").unwrap();
        drop(job);
        assert_eq!(Job::join(&settings, "a").unwrap().id(), "j2");
    }

    #[test]
    fn the_key_is_the_nearest_thing_all_processes_share() {
        let with = |pairs: &'static [(&'static str, &'static str)]| {
            key(move |name| {
                pairs
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(
            with(&[("DAGZ_JOB", "x"), ("NEXTEST_RUN_ID", "y")]),
            "given:x"
        );
        assert_eq!(with(&[("NEXTEST_RUN_ID", "y")]), "nextest:y");
        let neither = with(&[]);
        assert!(
            neither.starts_with("cargo:") || neither.starts_with("process:"),
            "{neither}"
        );
        assert_eq!(neither, with(&[]), "the key is stable");
    }
}
