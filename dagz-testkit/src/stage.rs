//! What one case has for itself: a directory, names that nobody else uses, and its actors.
//!
//! The directory holds dagz's state, the actors' output, and the logs of hooks; it goes with the [`Stage`].

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::{Contract, Made, actor::Actor};

/// The longest that a case waits for something that another process does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A case's directory, names and actors.
#[derive(Debug)]
pub(crate) struct Stage<C> {
    contract: Arc<C>,
    driver: &'static str,
    runtime: Runtime,
    directory: TempDir,
    prefix: String,
    actors: AtomicUsize,
}

impl<C: Contract> Stage<C> {
    /// A stage for the case `name`, once the server is there.
    pub(crate) fn new(contract: Arc<C>, driver: &'static str, name: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(contract.server())?;
        let word: String = name
            .rsplit("::")
            .next()
            .unwrap_or(name)
            .chars()
            .take(12)
            .collect();
        // Process numbers repeat between containers that share a server.
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.subsec_nanos());
        // Short: what a case adds must fit into the shortest names that any server has, 48 bytes.
        let prefix = format!("dagz_{word}_{:x}_{:04x}", process::id(), time & 0xffff);
        Ok(Self {
            contract,
            driver,
            runtime,
            directory: TempDir::with_prefix("dagz-contract-")?,
            prefix,
            actors: AtomicUsize::new(0),
        })
    }

    /// The driver's word.
    pub(crate) fn driver(&self) -> &'static str {
        self.driver
    }

    /// The case's directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The usual base database.
    pub(crate) fn base(&self) -> String {
        self.contract.base(&self.prefix)
    }

    /// Another base database.
    pub(crate) fn other_base(&self, other: Other) -> String {
        self.contract.base(&other.wish(&self.prefix))
    }

    /// An actor for `role`, of the job `run`, on two workers, until said otherwise.
    pub(crate) fn actor(&self, role: &str) -> Actor {
        let number = self.actors.fetch_add(1, Ordering::Relaxed);
        Actor::new(role, number, self.path(), &self.prefix, &self.project())
    }

    /// Waits for a future of the contract.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Waits until an actor gives the signal `name`.
    pub(crate) fn wait_for(&self, name: &str) -> Result<()> {
        wait_for(self.path(), name)
    }

    /// Gives the signal `name` to actors.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        signal(self.path(), name)
    }

    /// The lines that hooks wrote.
    pub(crate) fn log(&self) -> Vec<String> {
        lines(&self.log_path())
    }

    /// Where hooks write.
    pub(crate) fn log_path(&self) -> PathBuf {
        log_path(self.path())
    }

    /// The events of all jobs that ran in the usual state directory, oldest first.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let jobs = self.path().join("state").join("jobs");
        let mut logs: Vec<_> = fs::read_dir(&jobs)
            .with_context(|| format!("reading `{}` failed", jobs.display()))?
            .filter_map(|entry| Some(entry.ok()?.path().join("events.jsonl")))
            .filter(|path| path.is_file())
            .collect();
        logs.sort();
        logs.iter()
            .flat_map(|path| lines(path))
            .map(|line| {
                serde_json::from_str(&line).with_context(|| format!("not an event: {line}"))
            })
            .collect()
    }

    /// Removes what the case made on the server.
    pub(crate) fn clean(&self) -> Result<()> {
        let others = Other::ALL.into_iter().map(|other| self.other_base(other));
        let made = Made {
            prefix: self.prefix.clone(),
            bases: [self.base()].into_iter().chain(others).collect(),
            project: self.project(),
        };
        self.wait(self.contract.clean(&made))
            .with_context(|| format!("cleaning up what begins with `{}` failed", self.prefix))
    }

    fn project(&self) -> String {
        self.prefix.replace('_', "-")
    }
}

/// The base databases that a case may use besides the usual one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Other {
    Second,
    Third,
    Fourth,
}

impl Other {
    pub(crate) const ALL: [Self; 3] = [Self::Second, Self::Third, Self::Fourth];

    /// The wish for it, in a case whose names begin with `prefix`.
    pub(crate) fn wish(self, prefix: &str) -> String {
        let suffix = match self {
            Self::Second => "second",
            Self::Third => "third",
            Self::Fourth => "fourth",
        };
        format!("{prefix}_{suffix}")
    }
}

/// Where hooks of the case in `stage` write.
pub(crate) fn log_path(stage: &Path) -> PathBuf {
    stage.join("hooks.log")
}

/// The lines of a file; none where there is no file.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Gives the signal `name` to the other processes of the case in `stage`.
pub(crate) fn signal(stage: &Path, name: &str) -> Result<()> {
    let path = stage.join(format!("signal-{name}"));
    fs::write(&path, "").with_context(|| format!("writing `{}` failed", path.display()))
}

/// Waits until another process of the case in `stage` gives the signal `name`.
pub(crate) fn wait_for(stage: &Path, name: &str) -> Result<()> {
    let path = stage.join(format!("signal-{name}"));
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        if Instant::now() > deadline {
            bail!("nobody gave the signal `{name}` within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
