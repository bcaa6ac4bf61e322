//! Settings, resolved in one order everywhere: code, environment, `dagz.toml`, default.
//!
//! Each value remembers its [`Origin`], so that `cargo dagz doctor` can print it. The main type is
//! [`Settings`]; the process has one, [`Settings::current`], fixed at its first use.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use crate::{Error, ErrorKind, Result, handover, name, node};

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
    jobs_kept: usize,
    log_bytes: u64,
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

    /// How many finished jobs keep their logs (`jobs_kept`, `DAGZ_JOBS_KEPT`).
    pub fn jobs_kept(&self) -> usize {
        self.jobs_kept
    }

    /// How many bytes one job's event log may have (`log_bytes`, `DAGZ_LOG_BYTES`).
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
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
    off: Option<bool>,
    workers: Option<u32>,
    state_dir: Option<PathBuf>,
    project: Option<String>,
    lease_timeout: Option<Duration>,
    strict: Option<bool>,
}

impl SettingsBuilder {
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
        let root = workspace_root();
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
        let jobs_kept = read
            .value("jobs_kept", "DAGZ_JOBS_KEPT", None, parse_number)?
            .unwrap_or(20) as usize;
        let log_bytes = read
            .value("log_bytes", "DAGZ_LOG_BYTES", None, |text| {
                text.parse().map_err(|_| "a number of bytes")
            })?
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
            jobs_kept,
            log_bytes,
            origins: read.origins,
        })
    }
}

/// `dagz.toml` as text values by key.
struct File {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let mut values = BTreeMap::new();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(crate::error::io_error("reading", path)(error)),
        };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let message = format!("`{}` is not valid TOML", path.display());
            Error::new(ErrorKind::Settings, message).with_source(error)
        })?;
        for (key, value) in table {
            if !KEYS.contains(&key.as_str()) {
                return Err(Error::new(
                    ErrorKind::Settings,
                    format!(
                        "`{}` has the unknown key `{key}`; known are `{}`",
                        path.display(),
                        KEYS.join("`, `")
                    ),
                ));
            }
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => {
                    return Err(Error::new(
                        ErrorKind::Settings,
                        format!(
                            "`{key}` in `{}` must be a string, a number or a boolean",
                            path.display()
                        ),
                    ));
                }
            };
            values.insert(key, value);
        }
        Ok(Self {
            path: path.to_owned(),
            values,
        })
    }
}

const KEYS: &[&str] = &[
    "off",
    "workers",
    "node_index",
    "node_total",
    "state_dir",
    "project",
    "lease_timeout",
    "strict",
    "jobs_kept",
    "log_bytes",
];

struct Reader {
    file: File,
    origins: BTreeMap<&'static str, Origin>,
}

impl Reader {
    fn value<T>(
        &mut self,
        key: &'static str,
        variable: &'static str,
        code: Option<T>,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>> {
        let from_environment = env::var(variable).ok().filter(|text| !text.is_empty());
        let (value, origin) = if code.is_some() {
            (code, Origin::Code)
        } else if let Some(text) = from_environment {
            let value = parse(&text).map_err(|wanted| unreadable(variable, &text, wanted))?;
            (Some(value), Origin::Environment(variable))
        } else if let Some(text) = self.file.values.get(key) {
            let shown = format!("{key}` in `{}", self.file.path.display());
            let value = parse(text).map_err(|wanted| unreadable(&shown, text, wanted))?;
            (Some(value), Origin::File(self.file.path.clone()))
        } else {
            (None, Origin::Default)
        };
        self.origins.insert(key, origin);
        Ok(value)
    }
}

fn unreadable(name: &str, text: &str, wanted: &str) -> Error {
    let message = format!("`{name}` is `{text}`, but must be {wanted}");
    Error::new(ErrorKind::Settings, message)
}

fn parse_number(text: &str) -> Result<u32, &'static str> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number <= 10_000)
        .ok_or("a whole number from 0 to 10000")
}

fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text.trim() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err("`true` or `false`"),
    }
}

/// `DAGZ=off` reads the other way round than `off = true` in a file; both mean off.
fn parse_off(text: &str) -> Result<bool, &'static str> {
    match text.trim() {
        "off" | "0" | "no" | "true" => Ok(true),
        "on" | "1" | "yes" | "false" => Ok(false),
        _ => Err("`on` or `off`"),
    }
}

fn parse_path(text: &str) -> Result<PathBuf, &'static str> {
    Ok(PathBuf::from(text))
}

fn parse_project(text: &str) -> Result<String, &'static str> {
    let fits = (1..=64).contains(&text.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if fits && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 of the characters `A-Z a-z 0-9 - _ .`")
    }
}

fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text.trim()).map_err(|_| "a duration such as `30s` or `2m`")
}

/// The folder of the nearest `dagz.toml`, else of the nearest `Cargo.lock`, at or above the package.
fn workspace_root() -> PathBuf {
    let start = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .or_else(|| env::current_dir().ok())
        .unwrap_or_else(|| PathBuf::from("."));
    let above = |file: &str| start.ancestors().find(|dir| dir.join(file).is_file());
    above(FILE)
        .or_else(|| above("Cargo.lock"))
        .unwrap_or(&start)
        .to_owned()
}

fn project_of(root: &Path) -> String {
    let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let folder: String = whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(40)
        .collect();
    format!("{folder}-{}", name::short_hash(&whole.to_string_lossy()))
}

/// As many workers as the harness runs tests at once.
fn test_threads() -> (u32, Origin) {
    let number = |text: String| text.parse().ok().filter(|threads| *threads > 0);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--test-threads") {
            Some("") => arguments.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        if let Some(threads) = value.and_then(number) {
            return (threads, Origin::Harness("--test-threads"));
        }
    }
    for variable in ["NEXTEST_TEST_THREADS", "RUST_TEST_THREADS"] {
        if let Some(threads) = env::var(variable).ok().and_then(number) {
            return (threads, Origin::Harness(variable));
        }
    }
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    (cores, Origin::Default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(result: Result<Settings>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        error.to_string()
    }

    #[test]
    fn code_wins_and_says_so() {
        let settings = Settings::builder()
            .workers(7)
            .project("mine")
            .load()
            .unwrap();
        assert_eq!(settings.workers(), 7);
        assert_eq!(settings.project(), "mine");
        let origins: BTreeMap<_, _> = settings.origins().collect();
        assert_eq!(origins["workers"], &Origin::Code);
    }

    #[test]
    fn zero_workers_is_off() {
        assert!(!Settings::builder().workers(0).load().unwrap().active());
        assert!(
            !Settings::builder()
                .off(true)
                .workers(2)
                .load()
                .unwrap()
                .active()
        );
        assert!(
            Settings::builder()
                .off(false)
                .workers(2)
                .load()
                .unwrap()
                .active()
        );
    }

    #[test]
    fn an_unknown_key_and_a_bad_value_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "worker = 4").unwrap();
        let error = File::read(&path).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().contains("unknown key `worker`"),
            "{error}"
        );

        let mut reader = Reader {
            file: File {
                path: FILE.into(),
                values: [("workers".to_owned(), "many".to_owned())].into(),
            },
            origins: BTreeMap::new(),
        };
        let error = reader
            .value("workers", "DAGZ_NOT_SET", None, parse_number)
            .unwrap_err();
        insta::assert_snapshot!(error, @"`workers` in `dagz.toml` is `many`, but must be a whole number from 0 to 10000");
        let error = reader
            .value("lease_timeout", "PATH", None, parse_duration)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("but must be a duration such as `30s` or `2m`")
        );
        let value = reader
            .value("workers", "DAGZ_NOT_SET", Some(3), parse_number)
            .unwrap();
        assert_eq!(value, Some(3), "code comes before the file");
    }

    #[test]
    fn a_file_gives_numbers_texts_and_durations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "workers = 4\nlease_timeout = \"90s\"\nstrict = true").unwrap();
        let mut reader = Reader {
            file: File::read(&path).unwrap(),
            origins: BTreeMap::new(),
        };
        let none = "DAGZ_NOT_SET";
        assert_eq!(
            reader.value("workers", none, None, parse_number).unwrap(),
            Some(4)
        );
        assert_eq!(
            reader
                .value("lease_timeout", none, None, parse_duration)
                .unwrap(),
            Some(Duration::from_secs(90))
        );
        assert_eq!(
            reader.value("strict", none, None, parse_bool).unwrap(),
            Some(true)
        );
        assert_eq!(reader.origins["strict"], Origin::File(path));
    }

    #[test]
    fn a_project_name_must_fit_a_stamp() {
        assert!(parse_project("shop-1.2_x").is_ok());
        assert!(parse_project("").is_err());
        assert!(parse_project("it's").is_err());
        let error = refused(Settings::builder().load().and_then(|_| {
            Err(unreadable(
                "DAGZ_PROJECT",
                "it's",
                parse_project("it's").unwrap_err(),
            ))
        }));
        assert!(error.starts_with("`DAGZ_PROJECT` is `it's`, but must be 1 to 64"));
    }
}
