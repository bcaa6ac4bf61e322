//! What the code of a harness says of the settings: [`SettingsBuilder`].
//!
//! It resolves them against the environment and the file, which `settings/read.rs` reads, to the [`Settings`] of
//! `settings.rs`.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    sync::PoisonError,
    time::Duration,
};

use super::{
    FILE, Settings, current, pending,
    read::{
        File, Reader, parse_bool, parse_bytes, parse_duration, parse_number, parse_off, parse_path,
        parse_project, project_of, test_threads, workspace_root,
    },
};
use crate::{Error, ErrorKind, Result, handover, node};

/// Settings given in code; what is not given is left to the environment, the file, the default.
///
/// ```
/// use std::time::Duration;
/// let settings = dagz_core::Settings::builder()
///     .workers(4)
///     .lease_timeout(Duration::from_secs(20))
///     .load()?;
/// assert_eq!(settings.workers(), 4);
/// # Ok::<(), dagz_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SettingsBuilder {
    workspace: Option<PathBuf>,
    off: Option<bool>,
    workers: Option<u32>,
    state_dir: Option<PathBuf>,
    project: Option<String>,
    lease_timeout: Option<Duration>,
    strict: Option<bool>,
    keep_failed: Option<bool>,
}

impl SettingsBuilder {
    /// Sets the root of the workspace, whose `dagz.toml` is read.
    #[must_use]
    pub fn workspace(mut self, root: impl Into<PathBuf>) -> Self {
        self.workspace = Some(root.into());
        self
    }

    /// Sets how many workers this node has; zero switches dagz off.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Switches dagz off: every name passes unchanged.
    #[must_use]
    pub fn off(mut self, off: bool) -> Self {
        self.off = Some(off);
        self
    }

    /// Sets where leases, jobs and logs are kept.
    #[must_use]
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Sets the name under which databases are stamped.
    #[must_use]
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Sets how long a test waits for a worker.
    #[must_use]
    pub fn lease_timeout(mut self, timeout: Duration) -> Self {
        self.lease_timeout = Some(timeout);
        self
    }

    /// Sets whether an access outside a test is an error even while no test runs.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = Some(strict);
        self
    }

    /// Sets whether the worker of a test that failed is kept as that left it.
    #[must_use]
    pub fn keep_failed(mut self, keep: bool) -> Self {
        self.keep_failed = Some(keep);
        self
    }

    /// Makes these the process's settings.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] when the process has used its settings already, or a value, here or
    /// in the environment, cannot be read.
    pub fn install(self) -> Result<&'static Settings> {
        let late = || {
            Error::new(
                ErrorKind::Settings,
                "settings were installed after their first use; install them before the first test",
            )
        };
        if current().get().is_some() {
            return Err(late());
        }
        let mut slot = pending().lock().unwrap_or_else(PoisonError::into_inner);
        if slot.replace(self).is_some() {
            return Err(late());
        }
        drop(slot);
        Settings::current()
    }

    /// Resolves these against the environment and `dagz.toml` without making them the process's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] naming the setting, its origin and what it may be.
    pub fn load(mut self) -> Result<Settings> {
        if let Some((state_dir, workers, project)) = handover::inherited_settings() {
            // A child process that was handed a worker counts and stamps as its parent does.
            self.state_dir.get_or_insert(state_dir);
            self.workers.get_or_insert(workers);
            self.project.get_or_insert(project);
        }
        let root = self.workspace.unwrap_or_else(workspace_root);
        let file = File::read(&root.join(FILE))?;
        let mut read = Reader {
            file,
            origins: BTreeMap::new(),
        };
        let off = read
            .value("off", "DAGZ", self.off, parse_off)?
            .unwrap_or(false);
        let workers = match read.value("workers", "DAGZ_WORKERS", self.workers, parse_number)? {
            Some(workers) => workers,
            None => {
                let (threads, origin) = test_threads();
                read.origins.insert("workers", origin);
                threads
            }
        };
        let (seen_index, seen_total, origin) = node::detect(|name| env::var(name).ok());
        let node_total = read.value("node_total", "DAGZ_NODE_TOTAL", None, parse_number)?;
        let node_index = read.value("node_index", "DAGZ_NODE_INDEX", None, parse_number)?;
        for (name, given) in [("node_index", node_index), ("node_total", node_total)] {
            if given.is_none() {
                read.origins.insert(name, origin.clone());
            }
        }
        let node_total = node_total.unwrap_or(seen_total);
        let node_index = node_index.unwrap_or(seen_index);
        if node_index >= node_total {
            return Err(Error::new(
                ErrorKind::Settings,
                format!(
                    "node index {node_index} is not below the node total {node_total}; indices count from 0, see `DAGZ_NODE_INDEX` and `DAGZ_NODE_TOTAL`"
                ),
            ));
        }
        let state_dir = read
            .value("state_dir", "DAGZ_STATE_DIR", self.state_dir, parse_path)?
            .unwrap_or_else(|| Path::new("target").join("dagz"));
        let project = read
            .value("project", "DAGZ_PROJECT", self.project, parse_project)?
            .unwrap_or_else(|| project_of(&root));
        let lease_timeout = read
            .value(
                "lease_timeout",
                "DAGZ_LEASE_TIMEOUT",
                self.lease_timeout,
                parse_duration,
            )?
            .unwrap_or(Duration::from_secs(120));
        let strict = read
            .value("strict", "DAGZ_STRICT", self.strict, parse_bool)?
            .unwrap_or(false);
        let keep_failed = read
            .value(
                "keep_failed",
                "DAGZ_KEEP_FAILED",
                self.keep_failed,
                parse_bool,
            )?
            .unwrap_or(false);
        let jobs_kept = read
            .value("jobs_kept", "DAGZ_JOBS_KEPT", None, parse_number)?
            .unwrap_or(20) as usize;
        let jobs_age = read
            .value("jobs_age", "DAGZ_JOBS_AGE", None, parse_duration)?
            .unwrap_or(Duration::from_secs(30 * 86_400));
        let jobs_bytes = read
            .value("jobs_bytes", "DAGZ_JOBS_BYTES", None, parse_bytes)?
            .unwrap_or(256 << 20);
        let log_bytes = read
            .value("log_bytes", "DAGZ_LOG_BYTES", None, parse_bytes)?
            .unwrap_or(16 << 20);
        Ok(Settings {
            active: !off,
            workers,
            node_index,
            node_total,
            state_dir: root.join(state_dir),
            project,
            lease_timeout,
            strict,
            keep_failed,
            jobs_kept,
            jobs_age,
            jobs_bytes,
            log_bytes,
            workspace: root,
            sections: read.file.sections,
            origins: read.origins,
        })
    }
}
