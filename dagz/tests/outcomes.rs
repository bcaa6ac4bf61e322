//! A whole suite, from outside: exit codes, names, order, and that every worker is given back.
//!
//! The suite is `fixture/main.rs`. It fails on purpose, so cargo builds it here and this runs it,
//! with one worker only: a test that kept it would stop the next.

mod nested;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// The suite's executable.
static FIXTURE: LazyLock<PathBuf> = LazyLock::new(|| nested::build("fixture", &[]));

/// One run of the suite.
struct Run {
    output: Output,
    stdout: String,
    /// What the suite's functions logged.
    log: Vec<String>,
    state: TempDir,
}

/// Runs the suite with one worker, one test after the other.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let state = TempDir::new().unwrap();
    let log = state.path().join("fixture.log");
    let mut command = Command::new(&*FIXTURE);
    for (name, _) in std::env::vars() {
        // The worker, the job and the settings of this very test are not the suite's.
        if name.starts_with("DAGZ_") || name.starts_with("NEXTEST") || name == "RUST_TEST_THREADS" {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUST_BACKTRACE", "0")
        .env("FIXTURE_LOG", &log)
        .env("DAGZ_STATE_DIR", state.path().join("dagz"))
        .env("DAGZ_WORKERS", "1")
        .env("DAGZ_LEASE_TIMEOUT", "10s")
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    let stdout = text(&output.stdout);
    let log = std::fs::read_to_string(log).unwrap_or_default();
    Run {
        output,
        stdout,
        log: log.lines().map(str::to_owned).collect(),
        state,
    }
}

impl Run {
    /// How libtest says that the test `name` ended: `ok`, `FAILED`, `ignored, ..`.
    #[track_caller]
    fn outcome(&self, name: &str) -> &str {
        let line = |line: &&str| line.starts_with(&format!("test {name} "));
        let found = self.stdout.lines().find(line);
        let Some((_, outcome)) = found.and_then(|line| line.split_once(" ... ")) else {
            panic!("no outcome of `{name}` in\n{}", self.stdout);
        };
        outcome
    }

    /// What libtest shows of the failed test `name`.
    #[track_caller]
    fn failure(&self, name: &str) -> &str {
        let heading = format!("---- {name} stdout ----\n");
        let (_, rest) = self
            .stdout
            .split_once(&heading)
            .unwrap_or_else(|| panic!("no failure of `{name}` in\n{}", self.stdout));
        rest.split_once("\n---- ")
            .map_or(rest, |(failure, _)| failure)
    }

    /// The tests named by the job's events of this kind, in order.
    fn tests_of(&self, kind: &str) -> Vec<String> {
        let events = self.events();
        let named = events.iter().filter(|event| event["kind"] == kind);
        named
            .map(|event| event["test"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The job's events, in order.
    fn events(&self) -> Vec<Value> {
        let jobs = self.state.path().join("dagz").join("jobs");
        let mut all = Vec::new();
        for job in std::fs::read_dir(jobs).unwrap() {
            let events = job.unwrap().path().join("events.jsonl");
            for line in std::fs::read_to_string(events).unwrap_or_default().lines() {
                all.push(serde_json::from_str(line).unwrap());
            }
        }
        all
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The tests whose bodies run, in libtest's order.
const BODIES: [&str; 7] = [
    "a_passes",
    "b_should_panic",
    "c_panics",
    "d_returns_an_error",
    "e_returns_an_error",
    "g_leaves_work_behind",
    "nested::h_comes_after_all",
];

#[test]
fn each_outcome_is_the_harness_own() {
    let run = run(&["--test-threads", "1"], &[]);
    assert_eq!(run.output.status.code(), Some(101), "{}", run.stdout);

    assert_eq!(run.outcome("a_passes"), "ok");
    assert_eq!(run.outcome("b_should_panic - should panic"), "ok");
    assert_eq!(run.outcome("f_is_ignored"), "ignored, only when asked for");
    assert_eq!(run.outcome("g_leaves_work_behind"), "ok");
    assert_eq!(run.outcome("nested::h_comes_after_all"), "ok");
    for (name, cause) in [
        ("c_panics", "the body of c panics"),
        ("d_returns_an_error", "the error that d returns"),
        ("e_returns_an_error", "the error that e returns"),
    ] {
        assert_eq!(run.outcome(name), "FAILED");
        let failure = run.failure(name);
        assert!(failure.contains(cause), "{failure}");
    }
}

#[test]
fn the_job_knows_each_outcome_too() {
    let run = run(&["--test-threads", "1"], &[]);
    let events = run.events();
    let leaves: Vec<_> = events
        .iter()
        .filter(|event| event["kind"] == "leave")
        .collect();
    let outcomes: Vec<_> = leaves
        .iter()
        .map(|event| event["outcome"].as_str().unwrap())
        .collect();
    // `b_should_panic` passes by panicking, and `d` and `e` fail without.
    let expected = [
        "passed", "passed", "failed", "failed", "failed", "passed", "passed",
    ];
    assert_eq!(outcomes, expected, "{leaves:#?}");
    let leased = events
        .iter()
        .find(|event| event["kind"] == "lease")
        .unwrap();
    assert_eq!(leased["binary"], "fixture");
}

#[test]
fn whatever_happens_the_worker_is_given_back() {
    // Several threads, so that tests wait for the one worker.
    for threads in ["1", "4"] {
        let run = run(&["--test-threads", threads], &[]);
        let mut bodies: Vec<_> = run
            .log
            .iter()
            .filter_map(|line| line.strip_prefix("body "))
            .collect();
        bodies.sort_unstable();
        assert_eq!(bodies.len(), BODIES.len(), "{bodies:?}\n{}", run.stdout);
        for (body, name) in bodies.iter().zip(BODIES) {
            assert!(body.contains(name), "{body} is not {name}");
            assert!(body.ends_with(" jw00"), "{body}");
        }
        assert_eq!(run.tests_of("lease").len(), BODIES.len());
        assert_eq!(run.tests_of("leave").len(), BODIES.len());
    }
}

#[test]
fn the_runtime_ends_before_the_worker_is_given_back() {
    for threads in ["1", "4"] {
        let run = run(&["--test-threads", threads], &[]);
        let begin = run
            .log
            .iter()
            .position(|line| line.starts_with("begin "))
            .unwrap();
        let end = run
            .log
            .iter()
            .position(|line| line.starts_with("end "))
            .unwrap();
        let between: Vec<_> = run.log[begin..=end].iter().collect();
        let foreign = between
            .iter()
            .find(|line| !line.contains("g_leaves_work_behind"));
        assert_eq!(foreign, None, "{between:?}");
        assert_eq!(between.len(), 3, "{between:?}");
    }
}

#[test]
fn set_up_runs_once_and_first() {
    for threads in ["1", "4"] {
        let run = run(&["--test-threads", threads], &[]);
        let (first, rest) = run.log.split_at(2);
        let mut first = first.to_vec();
        first.sort_unstable();
        assert_eq!(first, ["async setup", "setup"]);
        assert!(rest.iter().all(|line| !line.ends_with("setup")), "{rest:?}");
    }
}

#[test]
fn a_failing_set_up_fails_every_test_with_its_cause() {
    let run = run(
        &["--test-threads", "1"],
        &[("FIXTURE_SETUP", "no server at this address")],
    );
    assert_eq!(run.output.status.code(), Some(101), "{}", run.stdout);
    for name in BODIES {
        // What panics with another message than the expected is a failure too.
        let shown = if name == "b_should_panic" {
            "b_should_panic - should panic"
        } else {
            name
        };
        assert_eq!(run.outcome(shown), "FAILED");
        let failure = run.failure(name);
        assert!(failure.contains("no server at this address"), "{failure}");
    }
    let bodies: Vec<_> = run
        .log
        .iter()
        .filter(|line| line.starts_with("body"))
        .collect();
    assert!(bodies.is_empty(), "{bodies:?}");
    let attempts = run.log.iter().filter(|line| *line == "setup").count();
    assert_eq!(attempts, 1, "{:?}", run.log);
}

#[test]
fn an_ignored_test_runs_when_asked_for() {
    let run = run(&["--exact", "f_is_ignored", "--include-ignored"], &[]);
    assert_eq!(run.output.status.code(), Some(0), "{}", run.stdout);
    assert_eq!(run.outcome("f_is_ignored"), "ok");
    assert!(
        run.log.iter().any(|line| line.contains("f_is_ignored")),
        "{:?}",
        run.log
    );
}

#[test]
fn a_test_is_known_by_its_full_name() {
    let name = "nested::h_comes_after_all";
    // With one thread libtest may run tests on its main thread, whose name is nobody's.
    for threads in ["1", "2"] {
        let run = run(&["--exact", name, "--test-threads", threads], &[]);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.stdout);
        let tests = run.tests_of("lease");
        assert_eq!(tests.len(), 1, "{tests:?}");
        assert!(tests[0].ends_with(name), "{tests:?}");
    }
}

#[test]
fn off_runs_the_suite_without_workers() {
    let run = run(&["--test-threads", "1"], &[("DAGZ", "off")]);
    assert_eq!(run.outcome("a_passes"), "ok");
    assert_eq!(run.outcome("c_panics"), "FAILED");
    assert_eq!(run.outcome("nested::h_comes_after_all"), "ok");
    assert!(!Path::new(&run.state.path().join("dagz").join("leases")).exists());
}
