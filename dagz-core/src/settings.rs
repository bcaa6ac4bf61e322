//! Settings, resolved in one order everywhere: code, environment, `dagz.toml`, default.
//!
//! Each value remembers its [`Origin`], so that `cargo dagz doctor` can print it. The main type is
//! [`Settings`]; the process has one, [`Settings::current`], fixed at its first use. `settings/builder.rs` takes what the
//! code gives, `settings/read.rs` reads the rest.

mod builder;
mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

pub use self::{builder::SettingsBuilder, read::Section};
use crate::{Result, kept};

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
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when a value cannot be read; the same error at every call.
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
