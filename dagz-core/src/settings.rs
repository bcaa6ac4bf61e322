//! Settings, resolved in one order everywhere: code, environment, `dagz.toml`, default.
//!
//! Each value remembers its [`Origin`], so that `cargo dagz doctor` can print it. The main type is
//! [`Settings`]; the process has one, [`Settings::current`], fixed at its first use. `settings/read.rs` reads
//! what the code does not give.

mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    env, fmt,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

pub use self::read::Section;
use self::read::{
    File, Reader, parse_bool, parse_bytes, parse_duration, parse_number, parse_off, parse_path,
    parse_project, project_of, test_threads, workspace_root,
};
use crate::{Error, ErrorKind, Result, handover, kept, node};

/// The file at the workspace root that holds settings for everybody.
const FILE: &str = "dagz.toml";

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// [`SettingsBuilder`], in the code of the harness.
    Code,
    /// The environment variable of this name.
    Environment(&'static str),
    /// This `dagz.toml`.
    File(PathBuf),
    /// What the test harness was asked for, such as `--test-threads`.
    Harness(&'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("code"),
            Self::Environment(name) | Self::Harness(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Everything about a process that can be set, with where each value came from.
#[derive(Clone, Debug)]
pub struct Settings {
    active: bool,
    workers: u32,
    node_index: u32,
    node_total: u32,
    state_dir: PathBuf,
    project: String,
    lease_timeout: Duration,
    strict: bool,
    keep_failed: bool,
    jobs_kept: usize,
    jobs_age: Duration,
    jobs_bytes: u64,
    log_bytes: u64,
    workspace: PathBuf,
    sections: BTreeMap<String, Section>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Settings {
    /// Values to be set in code, which win over everything else.
    pub fn builder() -> SettingsBuilder {
        SettingsBuilder::default()
    }

    /// The settings of this process, read at the first call and fixed from then on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] when a value cannot be read; the same error at every call.
    pub fn current() -> Result<&'static Self> {
        current()
            .get_or_init(|| {
                let code = pending()
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                code.unwrap_or_default().load()
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Whether dagz reroutes at all: `false` with `DAGZ=off` or zero workers.
    pub fn active(&self) -> bool {
        self.active && self.workers > 0
    }

    /// How many workers this node has (`workers`, `DAGZ_WORKERS`).
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// Which machine of the job this is, from 0 (`node_index`, `DAGZ_NODE_INDEX`).
    pub fn node_index(&self) -> u32 {
        self.node_index
    }

    /// How many machines the job has (`node_total`, `DAGZ_NODE_TOTAL`).
    pub fn node_total(&self) -> u32 {
        self.node_total
    }

    /// Where leases, jobs and logs are kept (`state_dir`, `DAGZ_STATE_DIR`); default
    /// `target/dagz` at the workspace root. Checkouts that share it share one pool of workers.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The name under which databases are stamped (`project`, `DAGZ_PROJECT`); default: the
    /// workspace's folder and a hash of its path.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// How long a test waits for a worker or for its turn (`lease_timeout`, `DAGZ_LEASE_TIMEOUT`).
    pub fn lease_timeout(&self) -> Duration {
        self.lease_timeout
    }

    /// Whether an access outside a test is an error even while no test runs (`strict`).
    pub fn strict(&self) -> bool {
        self.strict
    }

    /// Whether the worker of a test that failed is kept as that left it, and another one takes its place
    /// (`keep_failed`, `DAGZ_KEEP_FAILED`); of ten tests at most.
    pub fn keep_failed(&self) -> bool {
        self.keep_failed
    }

    /// A number above those of all workers on all nodes, also of those that stand in for workers that are kept.
    pub fn worker_bound(&self) -> u32 {
        let last = self.node_total.saturating_sub(1);
        kept::stand_ins(self.workers, last, self.node_total).end
    }

    /// How many finished jobs keep their logs (`jobs_kept`, `DAGZ_JOBS_KEPT`).
    pub fn jobs_kept(&self) -> usize {
        self.jobs_kept
    }

    /// How long a finished job keeps its log (`jobs_age`, `DAGZ_JOBS_AGE`).
    pub fn jobs_age(&self) -> Duration {
        self.jobs_age
    }

    /// How many bytes the logs of all jobs may have together before the oldest go (`jobs_bytes`,
    /// `DAGZ_JOBS_BYTES`).
    pub fn jobs_bytes(&self) -> u64 {
        self.jobs_bytes
    }

    /// How many bytes one job's event log may have (`log_bytes`, `DAGZ_LOG_BYTES`).
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// The root of the workspace: the folder of the nearest `dagz.toml`, else of the nearest `Cargo.lock`, at or
    /// above the package or the current directory.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// What `dagz.toml` says under `[name]`, the word of a driver, if it has such a section.
    ///
    /// The core knows no driver, so what a section may hold is for its reader to say.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(name)
    }

    /// The sections of `dagz.toml`, by name.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.sections
            .iter()
            .map(|(name, section)| (name.as_str(), section))
    }

    /// Each setting with where its value came from, by name.
    pub fn origins(&self) -> impl Iterator<Item = (&'static str, &Origin)> {
        self.origins.iter().map(|(name, origin)| (*name, origin))
    }
}

fn current() -> &'static OnceLock<Result<Settings>> {
    static CURRENT: OnceLock<Result<Settings>> = OnceLock::new();
    &CURRENT
}

fn pending() -> &'static Mutex<Option<SettingsBuilder>> {
    static PENDING: Mutex<Option<SettingsBuilder>> = Mutex::new(None);
    &PENDING
}

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
