//! Events: what dagz did, to `tracing` and to the job's log on disk.
//!
//! The log, `<state>/jobs/j12/events.jsonl`, is one JSON object per line, appended by all processes
//! of the job in one write each, so that lines never mix and a killed process leaves at most a torn
//! last line. It stops growing at a bound. `history.rs` reads it. The main type is [`Event`].

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{Error, Scope, Settings, Target, again::Again, job::Job, scope, turn::Marks};

/// The file of a job that events are appended to.
pub(crate) const FILE: &str = "events.jsonl";

/// Version of the line's format; readers skip lines of a version they do not know.
const VERSION: u32 = 1;

/// One thing that happened, on its way to `tracing` (level debug) and to the job's log.
///
/// ```no_run
/// use std::time::Duration;
/// dagz_core::event::Event::new("clone")
///     .driver("postgres")
///     .database("myapp_jw03")
///     .duration(Duration::from_millis(80))
///     .record();
/// ```
#[derive(Clone, Debug, Serialize)]
#[must_use = "an event is only seen once it is recorded"]
pub struct Event {
    v: u32,
    /// Microseconds since the epoch.
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<u32>,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The kind of the error, of an event that is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// How the test ended, of the event that ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// The test binary, of the event that begins a test: names of tests are not unique over binaries.
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<&'static str>,
    /// The test's marks, of the event that begins it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    marks: Vec<&'static str>,
    /// How the test is run again, of the event that begins it.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<&'static str>,
}

impl Event {
    /// An event of `kind`, one lowercase word, in the scope of this thread if it has one.
    pub fn new(kind: &'static str) -> Self {
        let event = Self {
            v: VERSION,
            at: 0,
            tag: None,
            worker: None,
            pid: process::id(),
            test: None,
            kind,
            driver: None,
            database: None,
            micros: None,
            detail: None,
            cause: None,
            outcome: None,
            binary: None,
            marks: Vec::new(),
            again: None,
        };
        match scope::current() {
            Some(scope) => event.scope(&scope),
            None => event,
        }
    }

    /// That of an error, which is told with all its causes.
    pub(crate) fn of(error: &Error) -> Self {
        let mut event = Self::new("error").detail(error.report().to_string());
        event.cause = Some(error.kind().word());
        event
    }

    /// Says that the test ends with it, and how.
    pub(crate) fn outcome(mut self, passed: bool) -> Self {
        self.outcome = Some(if passed { "passed" } else { "failed" });
        self
    }

    /// Says which test binary this is.
    pub(crate) fn binary(mut self) -> Self {
        self.binary = binary();
        self
    }

    /// Says how the test is marked, and whether it is run again.
    pub(crate) fn begins(mut self, marks: Marks, again: Option<Again>) -> Self {
        self.marks = marks.words().collect();
        self.again = again.map(Again::word);
        self.binary()
    }

    /// Says which test it concerns, where that has no scope.
    pub(crate) fn test(mut self, test: &str) -> Self {
        self.test = Some(test.to_owned());
        self
    }

    pub(crate) fn scope(mut self, scope: &Scope) -> Self {
        self.tag = Some(scope.tag().to_owned());
        self.worker = Some(scope.worker().number());
        self.test = Some(scope.test().to_owned());
        self
    }

    /// Says which worker's database it concerns, and with it the test and the worker.
    pub fn target(mut self, target: &Target) -> Self {
        self.tag = Some(target.tag().to_owned());
        self.worker = Some(target.worker().number());
        self.test = Some(target.test().to_owned());
        self.driver = Some(target.driver().to_owned());
        self.database = Some(target.name().to_owned());
        self
    }

    /// Says which driver it comes from.
    pub fn driver(mut self, driver: &str) -> Self {
        self.driver = Some(driver.to_owned());
        self
    }

    /// Says which database it concerns.
    pub fn database(mut self, database: &str) -> Self {
        self.database = Some(database.to_owned());
        self
    }

    /// Says how long it took; kept in microseconds.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.micros = Some(duration.as_micros().try_into().unwrap_or(u64::MAX));
        self
    }

    /// Adds what a person wants to know; never a secret.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sends the event to `tracing` and appends it to the job's log.
    ///
    /// A log that cannot be written is no reason to fail a test, so this never fails.
    pub fn record(mut self) {
        self.at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| {
                elapsed.as_micros().try_into().unwrap_or(u64::MAX)
            });
        tracing::debug!(
            target: "dagz",
            tag = self.tag,
            test = self.test,
            kind = self.kind,
            driver = self.driver,
            database = self.database,
            micros = self.micros,
            detail = self.detail,
        );
        if let Some(log) = Log::of_this_job() {
            log.append(&self);
        }
    }
}

/// Warns a person of `text`, which comes from `driver` if it comes from one: to `tracing`, or to
/// standard error while nobody subscribes, and to the job's log.
pub fn warn(driver: Option<&str>, text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!(target: "dagz", driver, "{text}");
    } else {
        complain(text);
    }
    let mut event = Event::new("warning").detail(text);
    event.driver = driver.map(str::to_owned);
    event.record();
}

#[expect(
    clippy::print_stderr,
    reason = "most test binaries have no tracing subscriber, and a warning must be seen"
)]
pub(crate) fn complain(text: &str) {
    eprintln!("dagz: warning: {text}");
}

/// The name of this test binary: nextest's for it, else the file's without the hash that cargo appends.
pub(crate) fn binary() -> Option<&'static str> {
    static BINARY: OnceLock<Option<String>> = OnceLock::new();
    let name = BINARY.get_or_init(|| {
        if let Ok(id) = env::var("NEXTEST_BINARY_ID") {
            return Some(id);
        }
        let path = env::current_exe().ok()?;
        let stem = path.file_stem()?.to_str()?;
        let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        Some(match stem.rsplit_once('-') {
            Some((name, hash)) if is_hash(hash) => name.to_owned(),
            _ => stem.to_owned(),
        })
    });
    name.as_deref()
}

/// The event log of the job this process belongs to.
struct Log {
    file: File,
    size: AtomicU64,
    limit: u64,
}

impl Log {
    fn of_this_job() -> Option<&'static Self> {
        static LOG: OnceLock<Option<Log>> = OnceLock::new();
        LOG.get_or_init(|| {
            let job = Job::current().ok()?;
            let limit = Settings::current().ok()?.log_bytes();
            Self::open(&job.directory().join(FILE), limit)
        })
        .as_ref()
    }

    fn open(path: &std::path::Path, limit: u64) -> Option<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .ok()?;
        let size = AtomicU64::new(file.metadata().ok()?.len());
        Some(Self { file, size, limit })
    }

    fn append(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        let length = line.len() as u64;
        let before = self.size.fetch_add(length, Ordering::Relaxed);
        // Other processes write too; what the file has now is asked rarely.
        if before / 65_536 != (before + length) / 65_536
            && let Ok(metadata) = self.file.metadata()
        {
            self.size.store(metadata.len(), Ordering::Relaxed);
        }
        // The last quarter is kept for what begins and ends tests, so that a log full of routes still
        // tells how each test ended and where its state is.
        let is_vital = event.outcome.is_some() || event.binary.is_some() || event.kind == "kept";
        let limit = match is_vital {
            true => self.limit,
            false => self.limit / 4 * 3,
        };
        if before + length <= limit {
            drop((&self.file).write_all(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn lines_of_many_writers_stay_whole_and_the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let limit = 200_000;
        thread::scope(|scope| {
            for _ in 0..4 {
                let log = Log::open(&path, limit).unwrap();
                scope.spawn(move || {
                    for _ in 0..1_000 {
                        log.append(&Event::new("route").database("myapp_jw00"));
                    }
                });
            }
        });
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() as u64 <= limit + 4 * 65_536, "{}", text.len());
        assert!(text.len() > 100_000);
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (event["v"].as_u64(), event["kind"].as_str()),
                (Some(1), Some("route"))
            );
            assert!(event.get("micros").is_none(), "absent fields are left out");
        }
    }

    #[test]
    fn a_full_log_still_takes_how_tests_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = Log::open(&path, 10_000).unwrap();
        for _ in 0..1_000 {
            log.append(&Event::new("route").database("myapp_jw00"));
        }
        let full = fs::read_to_string(&path).unwrap();
        assert!((7_000..=7_500).contains(&full.len()), "{}", full.len());
        let log = Log::open(&path, 10_000).unwrap();
        log.append(&Event::new("leave").test("orders").outcome(false));
        let text = fs::read_to_string(&path).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["outcome"], "failed");
    }
}
