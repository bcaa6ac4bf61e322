//! Handing a scope over to a child process.
//!
//! [`HandOver::hand_over`] puts the scope into the child's environment; in the child, every thread
//! is then in it ([`inherited`]). The lease stays with the parent. What one of them has prepared the
//! other must not prepare again, so from the hand-over on both keep it in a file of the job.

use std::{
    env, fs,
    fs::OpenOptions,
    future::Future,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, ErrorKind, Result, Scope, Settings, Worker,
    error::io_error,
    event,
    job::Job,
    lease::{self, Holder},
    lock::{self, Mode, Pauses},
    name,
    progress::Key,
    scope,
    turn::Marks,
};

/// The variable by which a child process knows its scope.
const VARIABLE: &str = "DAGZ_SCOPE";

/// How long parent or child wait for the other's preparation.
const PATIENCE: Duration = Duration::from_secs(120);

/// A scope on its way to a child process.
#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    worker: u32,
    tag: String,
    test: String,
    main_worker: bool,
    exclusive: bool,
    bypassed: bool,
    job: String,
    #[serde(default)]
    fresh: bool,
    workers: u32,
    project: String,
    state_dir: PathBuf,
    /// The parent, whose lease it is.
    pid: u32,
    prepared: PathBuf,
}

/// What makes a scope shared with child processes.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Lists the databases that parent or children have prepared.
    prepared: PathBuf,
    /// In a child: the record that says whether the parent still holds the worker.
    lease: Option<(PathBuf, u32, String)>,
}

/// Gives a child process the worker of the current test.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dagz_core::HandOver;
/// let status = std::process::Command::new("target/debug/import").hand_over()?.status()?;
/// # Ok(())
/// # }
/// ```
///
/// Where the child uses dagz, its first access finds the scope. Where it does not, give it a
/// rerouted URL instead. The child must end before the test does.
pub trait HandOver {
    /// Puts the current scope into the child's environment; without effect while dagz is off.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutsideScope`] when the thread is in no scope; [`ErrorKind::Io`] when the
    /// job's folder cannot be written.
    fn hand_over(&mut self) -> Result<&mut Self>;
}

impl HandOver for Command {
    fn hand_over(&mut self) -> Result<&mut Self> {
        if let Some(parcel) = parcel()? {
            self.env(VARIABLE, parcel);
        }
        Ok(self)
    }
}

#[cfg(feature = "tokio-process")]
impl HandOver for tokio::process::Command {
    fn hand_over(&mut self) -> Result<&mut Self> {
        if let Some(parcel) = parcel()? {
            self.env(VARIABLE, parcel);
        }
        Ok(self)
    }
}

fn parcel() -> Result<Option<String>> {
    let settings = Settings::current()?;
    if !settings.active() {
        return Ok(None);
    }
    let scope = scope::current().ok_or_else(|| {
        Error::new(
            ErrorKind::OutsideScope,
            "a child process was to be given the test's worker outside a test; call `hand_over` on the test's own thread",
        )
    })?;
    let shared = share(&scope)?;
    let parcel = Parcel {
        worker: scope.worker().number(),
        tag: scope.tag().to_owned(),
        test: scope.test().to_owned(),
        main_worker: scope.is_main_worker(),
        exclusive: scope.is_exclusive(),
        bypassed: scope
            .inner
            .bypassed
            .load(std::sync::atomic::Ordering::SeqCst)
            > 0,
        job: scope.inner.job.clone(),
        fresh: scope.inner.is_fresh,
        workers: settings.workers(),
        project: settings.project().to_owned(),
        state_dir: settings.state_dir().to_owned(),
        pid: std::process::id(),
        prepared: shared.prepared.clone(),
    };
    serde_json::to_string(&parcel).map(Some).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "writing the scope for a child process failed",
        )
        .with_source(error)
    })
}

/// Starts the list of what was prepared, if the scope is not shared yet.
fn share(scope: &Scope) -> Result<&Shared> {
    if let Some(shared) = scope.inner.handed_over.get() {
        return Ok(shared);
    }
    let directory = Job::current()?.directory().join("scopes");
    fs::create_dir_all(&directory).map_err(io_error("creating", &directory))?;
    let prepared = directory.join(format!("{}-{}", scope.tag(), std::process::id()));
    for key in scope.inner.progress.prepared_keys() {
        append(&prepared, &key)?;
    }
    Ok(scope.inner.handed_over.get_or_init(|| Shared {
        prepared,
        lease: None,
    }))
}

fn line(key: &Key) -> String {
    let (driver, endpoint, name) = key;
    name::short_hash(&format!("{driver}\n{}\n{name}", endpoint.id()))
}

fn append(path: &Path, key: &Key) -> Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{}\n", line(key)).as_bytes()))
        .map_err(io_error("writing", path))
}

/// Prepares unless another process that shares the scope did.
pub(crate) async fn prepare_once<F>(scope: &Scope, key: &Key, prepare: F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let Some(shared) = scope.inner.handed_over.get() else {
        prepare.await?;
        // Handed over while this ran: the child must hear of it.
        return match scope.inner.handed_over.get() {
            Some(shared) => append(&shared.prepared, key),
            None => Ok(()),
        };
    };
    let path = shared.prepared.with_extension("lock");
    let pauses = Pauses::until(Instant::now() + PATIENCE);
    let _preparing = loop {
        if let Some(lock) = lock::try_lock(&path, Mode::Exclusive)? {
            break lock;
        }
        let Some(pause) = pauses.next() else {
            return Err(Error::new(
                ErrorKind::Prepare,
                format!(
                    "another process of `{}` has been preparing for {PATIENCE:?}",
                    scope.test()
                ),
            ));
        };
        tokio::time::sleep(pause).await;
    };
    let done = fs::read_to_string(&shared.prepared).unwrap_or_default();
    if done.lines().any(|done| done == line(key)) {
        return Ok(());
    }
    prepare.await?;
    append(&shared.prepared, key)
}

/// In a child, makes sure that the test which handed its worker over still has it.
pub(crate) fn still_ours(scope: &Scope) -> Result<()> {
    let Some(Shared {
        lease: Some((record, pid, job)),
        ..
    }) = scope.inner.handed_over.get()
    else {
        return Ok(());
    };
    let held = Holder::read(record).is_some_and(|holder| {
        let tag = format!("{}.t{:03}", scope.worker(), holder.count);
        holder.pid == *pid && holder.job == *job && tag == scope.tag()
    });
    // The record outlives the lease, so that a parent which has just ended is only noticed here.
    let lock = record.with_extension("lock");
    if held && lock::try_lock(&lock, Mode::Exclusive)?.is_none() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::OutsideScope,
        format!(
            "`{}` has ended, and its worker {} with it, while this child process goes on; wait for the child in the test",
            scope.test(),
            scope.worker()
        ),
    ))
}

/// The scope that a parent process handed over to this one.
pub(crate) fn inherited() -> Option<Scope> {
    arrived().as_ref().map(|(scope, _)| scope.clone())
}

/// The job of an inherited scope: its id and its folder.
pub(crate) fn inherited_job() -> Option<(String, PathBuf)> {
    let (_, parcel) = arrived().as_ref()?;
    let directory = parcel.state_dir.join("jobs").join(&parcel.job);
    Some((parcel.job.clone(), directory))
}

/// The settings that come with an inherited scope: state directory, workers, project.
pub(crate) fn inherited_settings() -> Option<(PathBuf, u32, String)> {
    let parcel = read()?;
    Some((parcel.state_dir, parcel.workers, parcel.project))
}

fn read() -> Option<Parcel> {
    let text = env::var(VARIABLE).ok()?;
    serde_json::from_str(&text).ok()
}

fn arrived() -> &'static Option<(Scope, Parcel)> {
    static ARRIVED: OnceLock<Option<(Scope, Parcel)>> = OnceLock::new();
    ARRIVED.get_or_init(|| {
        env::var_os(VARIABLE)?;
        let Some(parcel) = read() else {
            // Not an event: recording one asks for the scope, which is what is being made.
            event::complain(&format!(
                "`{VARIABLE}` is not readable; was it made by another version of dagz?"
            ));
            return None;
        };
        let marks = Marks {
            main_worker: parcel.main_worker,
            exclusive: parcel.exclusive,
        };
        let worker = Worker::new(parcel.worker);
        let (tag, test) = (parcel.tag.clone(), parcel.test.clone());
        let job = parcel.job.clone();
        let scope = Scope::new(worker, tag, test, marks, job, parcel.fresh);
        if parcel.bypassed {
            scope
                .inner
                .bypassed
                .store(1, std::sync::atomic::Ordering::SeqCst);
        }
        let leases = parcel.state_dir.join("leases");
        let shared = Shared {
            prepared: parcel.prepared.clone(),
            lease: Some((
                lease::record(&leases, worker),
                parcel.pid,
                parcel.job.clone(),
            )),
        };
        // Freshly made, so it is empty.
        drop(scope.inner.handed_over.set(shared));
        Some((scope, parcel))
    })
}
