//! The example's suite: built once, run in three ways, its output and its audit read.
//!
//! The suite audits itself: each test that writes looks afterwards for rows that another worker wrote, and adds a
//! line to the file named by `SHOP_AUDIT_FILE`. The demo counts those lines; it does not believe, it reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::databases::{Databases, Made};
use super::events::{self, Events};
use crate::process::{self, Stream};
use crate::progress::Progress;
use crate::workspace;

const PACKAGE: &str = "shop";
const TEST: &str = "suite";

/// How the suite runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Without dagz: one test at a time, all tables truncated before each.
    Today,
    /// With dagz, one test at a time.
    Serial,
    /// With dagz, on so many workers.
    Parallel(u32),
}

impl Mode {
    /// One word for names of files and databases.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Today => "today",
            Self::Serial => "serial",
            Self::Parallel(_) => "parallel",
        }
    }

    /// For people.
    pub(super) fn title(self) -> String {
        match self {
            Self::Today => "today: serial, TRUNCATE all".to_owned(),
            Self::Serial => "dagz, serial".to_owned(),
            Self::Parallel(workers) => format!("dagz, {workers} workers"),
        }
    }

    fn threads(self) -> u32 {
        match self {
            Self::Today | Self::Serial => 1,
            Self::Parallel(workers) => workers,
        }
    }
}

/// What came of one run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) mode: Mode,
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) wall: Duration,
    pub(super) audit: Audit,
    pub(super) events: Events,
    pub(super) databases: Made,
}

/// The suite's own findings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Audit {
    /// Tests that looked.
    pub(super) tests: u64,
    /// Rows they wrote themselves.
    pub(super) writes: u64,
    /// Rows they saw that another worker wrote.
    pub(super) foreign: u64,
}

/// The built suite.
#[derive(Debug)]
pub(super) struct Suite {
    executable: PathBuf,
    folder: PathBuf,
}

/// A message of `cargo test --message-format=json`; what else it says does not matter here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Suite {
    /// Builds the suite with cargo and finds its executable.
    pub(super) fn build(root: &Path) -> Result<Self> {
        let members = workspace::members(root)?;
        let member = members
            .iter()
            .find(|member| member.name == PACKAGE)
            .with_context(|| format!("the example `{PACKAGE}` is not in this workspace"))?;
        let mut command = workspace::cargo(root);
        command.args(["test", "-p", PACKAGE, "--test", TEST, "--no-run"]);
        command.args(["--message-format=json-render-diagnostics"]);
        let mut progress = Progress::new("building the example");
        let mut executable = None;
        let mut said = Vec::new();
        let status = process::run_lines(&mut command, |stream, line| {
            if stream == Stream::Err {
                progress.advance(line.trim());
                said.push(line.to_owned());
            } else if let Some(found) = executable_in(line) {
                executable = Some(found);
            }
        })?;
        drop(progress);
        ensure!(
            status.success(),
            "the example does not build:\n{}",
            tail(&said)
        );
        Ok(Self {
            executable: executable.context("cargo built the suite but named no executable")?,
            folder: member.folder().to_path_buf(),
        })
    }

    /// Runs the suite once; what it leaves behind is in `folder`, of this run alone.
    /// `stores`: how it finds its other servers.
    pub(super) fn run(
        &self,
        mode: Mode,
        databases: &Databases,
        stores: &[(String, String)],
        folder: &Path,
    ) -> Result<Run> {
        let audit = folder.join("audit.jsonl");
        let state = folder.join("dagz");
        fs::create_dir_all(&state)
            .with_context(|| format!("failed to make `{}`", state.display()))?;
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.folder);
        forget_settings(&mut command);
        workspace::forget_own_package(&mut command);
        command
            .arg(format!("--test-threads={}", mode.threads()))
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("DATABASE_URL", databases.url())
            .envs(stores.iter().map(|(name, url)| (name, url)))
            .env("SHOP_AUDIT_FILE", &audit)
            .env("DAGZ_STATE_DIR", &state)
            .env("DAGZ_PROJECT", databases.project())
            .env("DAGZ_JOB", format!("demo-{}", mode.word()));
        match mode {
            Mode::Today => command.env("DAGZ", "off"),
            Mode::Serial | Mode::Parallel(_) => {
                command.env("DAGZ_WORKERS", mode.threads().to_string())
            }
        };
        let mut progress = Progress::new(mode.title());
        let mut output = Vec::new();
        let mut counts = None;
        let begun = Instant::now();
        let status = process::run_lines(&mut command, |_, line| {
            if let Some(total) = announced(line) {
                progress.expect(total);
            } else if let Some(name) = finished(line) {
                progress.advance(name);
            } else if let Some(found) = summary(line) {
                counts = Some(found);
            }
            output.push(line.to_owned());
        })?;
        let wall = begun.elapsed();
        drop(progress);
        let log = folder.join("output.txt");
        fs::write(&log, output.join("\n"))
            .with_context(|| format!("failed to write `{}`", log.display()))?;
        let (title, log) = (mode.title(), log.display());
        let Some((passed, failed)) = counts else {
            bail!(
                "the suite ({title}) ended without a summary ({status}); its output, all of it in `{log}`, ends:\n{}",
                tail(&output)
            );
        };
        if failed > 0 {
            eprintln!(
                "{failed} tests failed ({title}); of the output, all of it in `{log}`:\n{}",
                first_failures(&output)
            );
        }
        let events = match mode {
            Mode::Today => Events::default(),
            Mode::Serial | Mode::Parallel(_) => events::read(&state)?,
        };
        Ok(Run {
            mode,
            passed,
            failed,
            wall,
            audit: read_audit(&audit)?,
            events,
            databases: Made::default(),
        })
    }
}

/// Settings of the caller's own that would make the three runs differ from what their titles say.
fn forget_settings(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        let Some(name) = key.to_str() else { continue };
        if name == "DAGZ"
            || name.starts_with("DAGZ_")
            || name.starts_with("SHOP_")
            || name.starts_with("RUST_TEST_")
            || name.starts_with("NEXTEST")
        {
            command.env_remove(name);
        }
    }
}

fn executable_in(line: &str) -> Option<PathBuf> {
    let message: Message = serde_json::from_str(line).ok()?;
    let target = message.target?;
    let is_suite = message.reason == "compiler-artifact"
        && target.name == TEST
        && target.kind.iter().any(|kind| kind == "test");
    message.executable.filter(|_| is_suite)
}

/// 120 of `running 120 tests`.
fn announced(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("running ")?;
    let (count, rest) = rest.split_once(' ')?;
    rest.starts_with("test").then(|| count.parse().ok())?
}

/// The test's name of `test orders::total ... ok`.
fn finished(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some(name)
}

/// Passed and failed of `test result: ok. 120 passed; 0 failed; …`.
fn summary(line: &str) -> Option<(u64, u64)> {
    line.strip_prefix("test result: ")?;
    let mut totals = crate::test::Totals::default();
    totals.read(line);
    Some((totals.passed, totals.failed))
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// What the first failing tests said: libtest shows each one's output after the first line `failures:`.
fn first_failures(lines: &[String]) -> String {
    let from = lines.iter().position(|line| line == "failures:");
    let shown = &lines[from.unwrap_or(0)..];
    let mut text = shown[..shown.len().min(60)].join("\n");
    if shown.len() > 60 {
        text.push_str("\n…");
    }
    text
}

#[derive(Deserialize)]
struct AuditLine {
    foreign: u64,
    writes: u64,
}

/// Nothing, where no test came as far as its audit; that is an error for who judges.
fn read_audit(path: &Path) -> Result<Audit> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read `{}`", path.display()));
        }
    };
    let mut audit = Audit::default();
    for line in text.lines() {
        let line: AuditLine = serde_json::from_str(line).with_context(|| {
            format!("`{}` has a line that is no finding: {line}", path.display())
        })?;
        audit.tests += 1;
        audit.writes += line.writes;
        audit.foreign += line.foreign;
    }
    Ok(audit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_libtest() {
        assert_eq!(announced("running 120 tests"), Some(120));
        assert_eq!(announced("running 1 test"), Some(1));
        assert_eq!(announced("running late"), None);
        assert_eq!(finished("test orders::total ... ok"), Some("orders::total"));
        assert_eq!(finished("test result: ok. 1 passed; 0 failed"), None);
        let line = "test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.25s";
        assert_eq!(summary(line), Some((7, 1)));
    }

    #[test]
    fn the_suites_executable_among_cargos_messages() {
        let artifact = |kind: &str, name: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}","kind":["{kind}"]}},"executable":"/t/suite-1"}}"#
            )
        };
        assert_eq!(
            executable_in(&artifact("test", "suite")),
            Some("/t/suite-1".into())
        );
        assert_eq!(executable_in(&artifact("bin", "suite")), None);
        assert_eq!(executable_in(&artifact("test", "other")), None);
        assert_eq!(
            executable_in(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }

    #[test]
    fn findings_are_summed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        assert_eq!(read_audit(&path).unwrap(), Audit::default());
        fs::write(
            &path,
            "{\"test\":\"a\",\"foreign\":0,\"writes\":3}\n{\"test\":\"b\",\"foreign\":2,\"writes\":1}\n",
        )
        .unwrap();
        let expected = Audit {
            tests: 2,
            writes: 4,
            foreign: 2,
        };
        assert_eq!(read_audit(&path).unwrap(), expected);
    }
}
