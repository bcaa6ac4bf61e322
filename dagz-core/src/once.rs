//! Work that is done once per worker and job, across processes: `worker_init` and the callbacks of
//! [`add_worker_init`].
//!
//! Under nextest every test is a process, and the second one on a worker must not migrate again.
//! The outcome is a file, `<job>/init/jw03/<key>`; a failure is written down like a success, so
//! that every test that needed the work fails at once with the one cause. A process that is killed
//! inside the work leaves no outcome, and the next one does the work again; so it is with a failure
//! that passes by itself, such as a server that was away.

use std::{
    fs,
    future::Future,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, ErrorKind, Result, Worker,
    error::io_error,
    event::Event,
    job::Job,
    lock::{self, Mode, Pauses},
    name,
};

/// How long one process waits for another that does the work.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct Outcome {
    /// `None` for success.
    failure: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
struct Failure {
    kind: String,
    message: String,
}

impl Outcome {
    fn read(path: &Path) -> Option<Result<()>> {
        let outcome: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        Some(match outcome.failure {
            None => Ok(()),
            Some(Failure { kind, message }) => {
                Err(Error::new(ErrorKind::from_word(&kind), message))
            }
        })
    }

    fn write(result: &Result<()>, path: &Path) -> Result<()> {
        let failure = result.as_ref().err().map(|error| Failure {
            kind: error.kind().word().to_owned(),
            message: error.report().to_string(),
        });
        let text = serde_json::to_vec(&Self { failure }).unwrap_or_default();
        // Renamed into place, so that a killed process leaves no half outcome.
        let new = path.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, path))
            .map_err(io_error("writing", path))
    }
}

/// Does `work` unless an earlier test of the job did it on this worker, and tells its outcome.
pub(crate) async fn once<F>(job: &Path, worker: Worker, key: &str, work: F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let directory = job.join("init").join(worker.to_string());
    let outcome = directory.join(name::short_hash(key));
    if let Some(done) = Outcome::read(&outcome) {
        return done;
    }
    fs::create_dir_all(&directory).map_err(io_error("creating", &directory))?;
    // The lease already keeps other tests off this worker; a child process that a test handed its
    // worker to is not kept off, and neither is a second task of this process.
    let lock_path = outcome.with_extension("lock");
    let pauses = Pauses::until(Instant::now() + PATIENCE);
    let _doing = loop {
        if let Some(lock) = lock::try_lock(&lock_path, Mode::Exclusive)? {
            break lock;
        }
        let Some(pause) = pauses.next() else {
            return Err(Error::new(
                ErrorKind::WorkerInit,
                format!(
                    "another process has been initialising {worker} for {PATIENCE:?}; see who holds `{}`",
                    lock_path.display()
                ),
            ));
        };
        tokio::time::sleep(pause).await;
    };
    if let Some(done) = Outcome::read(&outcome) {
        return done;
    }
    let result = work.await;
    if !result.as_ref().is_err_and(Error::is_retryable) {
        Outcome::write(&result, &outcome)?;
    }
    result
}

type Callback = Arc<dyn Fn(Worker) -> Result<()> + Send + Sync>;

static CALLBACKS: Mutex<Vec<(String, Callback)>> = Mutex::new(Vec::new());

/// Adds set-up for what is not a database: ports, directories, caches of a worker.
///
/// `work` is called once per worker and job, across processes, after the project's own set-up and
/// before the first test's body on that worker. `name` tells it apart from others and is shown in
/// errors. Register it in `#[dagz::setup]`; one registered later counts from the next test on.
///
/// ```
/// # use dagz_core::{Error, ErrorKind};
/// dagz_core::add_worker_init("upload directory", |worker| {
///     let directory = std::env::temp_dir().join(format!("uploads-{worker}"));
///     std::fs::create_dir_all(&directory).map_err(|error| {
///         Error::new(ErrorKind::WorkerInit, "creating it failed").with_source(error)
///     })
/// });
/// ```
pub fn add_worker_init(
    name: impl Into<String>,
    work: impl Fn(Worker) -> Result<()> + Send + Sync + 'static,
) {
    let mut callbacks = CALLBACKS.lock().unwrap_or_else(PoisonError::into_inner);
    callbacks.push((name.into(), Arc::new(work)));
}

/// Runs the callbacks that have not run on `worker` in this job, on the control runtime's thread
/// pool for blocking work, where they may block and start runtimes as they like.
pub(crate) fn run_callbacks(worker: Worker) -> Result<()> {
    let callbacks = CALLBACKS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if callbacks.is_empty() {
        return Ok(());
    }
    let job = Job::current()?;
    for (name, work) in callbacks {
        let key = format!("callback {name}");
        // The usual case is a file that says it is done; it needs no other thread.
        let outcome = job.directory().join("init").join(worker.to_string());
        let done = Outcome::read(&outcome.join(name::short_hash(&key)));
        let result = match done {
            Some(done) => done,
            None => {
                let shown = name.clone();
                crate::runtime::wait(async move {
                    once(job.directory(), worker, &key, async move {
                        let start = Instant::now();
                        let result = tokio::task::spawn_blocking(move || work(worker))
                            .await
                            .unwrap_or_else(|panic| {
                                Err(Error::new(ErrorKind::WorkerInit, "it panicked")
                                    .with_source(panic))
                            });
                        Event::new("init")
                            .detail(shown)
                            .duration(start.elapsed())
                            .record();
                        result
                    })
                    .await
                })?
            }
        };
        result.map_err(|error| {
            let message = format!("the worker initialisation `{name}` failed on {worker}");
            Error::new(ErrorKind::WorkerInit, message).with_source(error)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const WORKER: Worker = Worker::new(3);

    #[tokio::test]
    async fn work_is_done_once_and_a_failure_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let calls = AtomicUsize::new(0);
        let ok = || async {
            calls.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        once(dir.path(), WORKER, "a", ok()).await.unwrap();
        once(dir.path(), WORKER, "a", ok()).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        once(dir.path(), Worker::new(4), "a", ok()).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 2, "each worker has its own");

        let failing = async {
            let cause = Error::new(ErrorKind::Unreachable, "connection refused");
            Err(Error::new(ErrorKind::WorkerInit, "cloning failed").with_source(cause))
        };
        let first = once(dir.path(), WORKER, "b", failing).await.unwrap_err();
        let second = once(dir.path(), WORKER, "b", ok()).await.unwrap_err();
        assert_eq!(first.report().to_string(), second.report().to_string());
        assert_eq!(second.kind(), ErrorKind::WorkerInit);
        assert_eq!(
            calls.load(Ordering::SeqCst),
            2,
            "a failure is not tried again"
        );
    }

    #[tokio::test]
    async fn a_failure_that_passes_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let away = async { Err(Error::new(ErrorKind::Unreachable, "connection refused")) };
        let error = once(dir.path(), WORKER, "a", away).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        once(dir.path(), WORKER, "a", async { Ok(()) })
            .await
            .unwrap();
        let later = async { Err(Error::new(ErrorKind::Unreachable, "connection refused")) };
        once(dir.path(), WORKER, "a", later).await.unwrap();
    }

    #[tokio::test]
    async fn work_cut_off_in_the_middle_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let never = once(dir.path(), WORKER, "a", std::future::pending());
        tokio::time::timeout(Duration::from_millis(20), never)
            .await
            .unwrap_err();
        once(dir.path(), WORKER, "a", async { Ok(()) })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn two_at_once_do_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let calls = AtomicUsize::new(0);
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            calls.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let (first, second) = tokio::join!(
            once(dir.path(), WORKER, "a", slow()),
            once(dir.path(), WORKER, "a", slow())
        );
        first.and(second).unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}
