//! `cargo dagz test`, on this very package, whose target `fixture` is the suite.
//!
//! nextest comes by `cargo xtask test --runner nextest`, and is looked for where that keeps it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::support::{Site, assert_shown};

const FIXTURE: [&str; 5] = ["--", "--package", "cargo-dagz", "--test", "fixture"];

/// `PATH`, with the folder where xtask keeps the tools it installs.
pub(crate) fn path() -> String {
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let tools = cache.join("dagz/tools/bin");
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:{}", tools.display())
}

#[test]
fn nextest_runs_the_suite_as_one_job() {
    let site = Site::new("nextest", 42).with("PATH", path());
    let words = [&["test", "--workers", "1"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    let (first, rest) = run.stdout.split_once('\n').unwrap();
    assert_shown!(first, @"dagz: j1 on 1 worker: 4 passed, 2 failed, 0 flaky, 0 isolation bugs, 0 cut, 0 skipped; [took] spent on databases, over all workers");
    assert_eq!(rest.matches("dagz: slow: ").count(), 3, "{rest}");
    assert!(
        rest.ends_with("dagz: see `cargo dagz logs j1 --failed`"),
        "{rest}"
    );
    let words = [&["test", "e_uses"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout
            .starts_with("dagz: j2 on 1 worker: 1 passed, 0 failed")
    );
    let words = [&["test", "no_such_test"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(
        (run.code, &*run.stdout),
        (Some(4), "dagz: no test used it"),
        "{}",
        run.stderr
    );
}

#[test]
fn failed_state_is_kept_on_request() {
    let site = Site::new("keepflag", 43).with("PATH", path());
    let words = [&["test", "--keep-failed", "b_panics"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    let logs = site.dagz(&["logs", "--failed"]).stdout;
    assert!(
        logs.contains("kept postgres cli_keepflag_jw00: psql "),
        "{logs}"
    );
}

#[test]
fn cargo_runs_the_suite_as_one_job() {
    let site = Site::new("cargo", 44);
    let words = [&["test", "--runner", "cargo"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    let (first, _) = run.stdout.split_once('\n').unwrap();
    assert_shown!(first, @"dagz: j1 on 1 worker: 4 passed, 2 failed, 0 flaky, 0 isolation bugs, 0 cut, 0 skipped; [took] spent on databases, over all workers");
    let words = [&["test", "--runner", "cargo", "a_writes"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let words = [
        "test",
        "--runner",
        "cargo",
        "--",
        "--test",
        "no_such_target",
    ];
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(5), "{}", run.stderr);
}

const UNSTEADY: [&str; 5] = ["--", "--package", "cargo-dagz", "--test", "unsteady"];

#[test]
fn what_fails_is_tried_again_and_told_apart() {
    let site = Site::new("unsteady", 45).with("PATH", path());
    let run = site.dagz_here(&[&["test", "--workers", "1"], &UNSTEADY[..]].concat());
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    let told: Vec<_> = run
        .stdout
        .lines()
        .filter(|line| !line.contains("slow: "))
        .collect();
    assert_shown!(told.join("\n"), @r#"
    dagz: j1 on 1 worker: 3 passed, 1 failed, 1 flaky, 1 isolation bugs, 0 cut, 0 skipped; [took] spent on databases, over all workers
    dagz: isolation bug: b_expects_no_item (cargo-dagz::unsteady) failed on databases that other tests had used, and passed on fresh ones
    dagz: failed: c_never_passes (cargo-dagz::unsteady)
    dagz: flaky: d_passes_the_second_time (cargo-dagz::unsteady), in 1 of 1 jobs on record
    dagz: see `cargo dagz logs j1 --failed`
    "#);
    let logs = site.dagz(&["logs", "--test", "b_expects"]);
    assert_shown!(logs.stdout, @r#"
    jw00.t002 b_expects_no_item (cargo-dagz::unsteady): failed after [took]
      [clock] lease, [took]
      [clock] prepare postgres cli_unsteady_jw00, [took]
      [clock] route postgres cli_unsteady_jw00 for cli_unsteady
      [clock] prepare redis [index], [took]
      [clock] route redis [index] for 0
      [clock] leave, [took], failed
      | thread 'b_expects_no_item' panicked at cargo-dagz/tests/unsteady/main.rs:54:5:
      | assertion `left == right` failed: somebody left an item
      |  left: (1, 1)
      |  right: (0, 0)
      | note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
    jw00.t007 b_expects_no_item (cargo-dagz::unsteady): failed after [took]
      [clock] lease, [took], tried again on the worker it had
      [clock] prepare postgres cli_unsteady_jw00, [took]
      [clock] route postgres cli_unsteady_jw00 for cli_unsteady
      [clock] prepare redis [index], [took]
      [clock] route redis [index] for 0
      [clock] leave, [took], failed
      | thread 'b_expects_no_item' panicked at cargo-dagz/tests/unsteady/main.rs:54:5:
      | assertion `left == right` failed: somebody left an item
      |  left: (1, 1)
      |  right: (0, 0)
      | note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
    jw00.t010 b_expects_no_item (cargo-dagz::unsteady): passed after [took]
      [clock] lease, [took], tried again on databases made anew
      [clock] clone postgres cli_unsteady_jw00, [took]: from `cli_unsteady_dagz_[hash]`
      [clock] init postgres cli_unsteady_jw00, [took]
      [clock] prepare postgres cli_unsteady_jw00, [took]
      [clock] route postgres cli_unsteady_jw00 for cli_unsteady
      [clock] init redis [index], [took]
      [clock] prepare redis [index], [took]
      [clock] route redis [index] for 0
      [clock] leave, [took], passed
    b_expects_no_item (cargo-dagz::unsteady) was flaky in 0 of 1 jobs on record
    "#);
    let jobs = site.dagz(&["jobs"]);
    let columns: Vec<_> = jobs.stdout.split_whitespace().rev().take(8).collect();
    assert_eq!(columns.join(" "), "ended 0 1 1 1 3 1 1", "{}", jobs.stdout);

    // A job passes in which a test is flaky and no more.
    fs::remove_file(site.path("has-run")).unwrap();
    let run = site.dagz_here(&[&["test", "--json", "d_passes"], &UNSTEADY[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_shown!(run.all, @r#"
    {
      "job": "j2",
      "workers": 1,
      "interrupted": false,
      "passed": 0,
      "failed": 0,
      "flaky": 1,
      "isolation": 0,
      "cut": 0,
      "skipped": 5,
      "preparing_seconds": "[took]",
      "tests": [
      {
      "binary": "cargo-dagz::unsteady",
      "test": "d_passes_the_second_time",
      "verdict": "flaky",
      "seconds": "[took]",
      "flaky_jobs": 2,
      "jobs": 2
      }
      ],
      "slowest": [
      {
      "binary": "cargo-dagz::unsteady",
      "test": "d_passes_the_second_time",
      "verdict": "flaky",
      "seconds": "[took]",
      "flaky_jobs": 2,
      "jobs": 2
      }
      ]
    }
    "#);

    // Once only, and nobody knows which it is.
    fs::remove_file(site.path("has-run")).unwrap();
    let run =
        site.dagz_here(&[&["test", "--workers", "1", "--tries", "1"], &UNSTEADY[..]].concat());
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    assert!(
        run.stdout
            .starts_with("dagz: j3 on 1 worker: 3 passed, 3 failed, 0 flaky, 0 isolation bugs"),
        "{}",
        run.stdout
    );
}

#[test]
fn with_cargo_what_fails_is_told_apart_too() {
    let site = Site::new("unsteady_cargo", 46);
    let words = [
        &["test", "--runner", "cargo", "--workers", "1"],
        &UNSTEADY[..],
    ]
    .concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    let (first, _) = run.stdout.split_once('\n').unwrap();
    assert_shown!(first, @"dagz: j1 on 1 worker: 3 passed, 1 failed, 1 flaky, 1 isolation bugs, 0 cut, 0 skipped; [took] spent on databases, over all workers");
    fs::remove_file(site.path("has-run")).unwrap();
    let words = [&["test", "--runner", "cargo", "d_passes"], &UNSTEADY[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn each_machine_runs_its_part() {
    let site = Site::new("nodes", 47).with("PATH", path());
    // Not those that use Redis, of which the second machine would have the next index.
    let filters = [
        "test",
        "--json",
        "a_writes",
        "b_panics",
        "c_returns",
        "d_uses",
    ];
    let words = [&filters[..], &FIXTURE[..]].concat();
    let mut tests = 0;
    for index in ["0", "1"] {
        let mut command = site.here(&words);
        let output = command
            .env("DAGZ_NODE_INDEX", index)
            .env("DAGZ_NODE_TOTAL", "2")
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |key: &str| report[key].as_u64().unwrap();
        let own = count("passed") + count("failed");
        assert_eq!(own, 2, "{report}");
        tests += own;
    }
    assert_eq!(tests, 4);
}

#[test]
fn how_far_it_is_is_told_on_demand_and_now_and_then() {
    let site = Site::new("progress", 48);
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site
        .with("PATH", path())
        .with("FIXTURE_PAUSE", pause.to_str().unwrap());
    let words = [&["test", "--every", "1h", "waits"], &FIXTURE[..]].concat();
    let mut command = site.here(&words);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut running = command.spawn().unwrap();
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route postgres"));
    let signalled = Command::new("kill")
        .args(["-USR1", &running.id().to_string()])
        .status();
    assert!(signalled.unwrap().success());
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines();
    let mut told = lines
        .by_ref()
        .map(Result::unwrap)
        .skip_while(|line| !line.starts_with("dagz: "));
    let told = [told.next().unwrap(), told.next().unwrap()].join("\n");
    assert_shown!(told, @r#"
    dagz: 0 done, 0 failed, 1 left
    dagz:  jw00 waits for [took] (route), 0 done
    "#);
    fs::remove_file(&pause).unwrap();
    for line in lines {
        line.unwrap();
    }
    assert_eq!(running.wait().unwrap().code(), Some(0));

    fs::write(&pause, "").unwrap();
    let words = [&["test", "--every", "300ms", "waits"], &FIXTURE[..]].concat();
    let mut command = site.here(&words);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut running = command.spawn().unwrap();
    let lines = BufReader::new(running.stderr.take().unwrap()).lines();
    let mut reports = 0;
    for line in lines {
        if line.unwrap().contains("jw00 waits for ") {
            reports += 1;
            if reports == 2 {
                fs::remove_file(&pause).unwrap();
            }
        }
    }
    assert!(reports >= 2);
    assert_eq!(running.wait().unwrap().code(), Some(0));
}

#[test]
fn ctrl_c_ends_the_tests_and_is_on_record() {
    let site = Site::new("interrupted", 49);
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site
        .with("PATH", path())
        .with("FIXTURE_PAUSE", pause.to_str().unwrap());
    let words = [&["test", "waits"], &FIXTURE[..]].concat();
    let mut command = site.here(&words);
    command.stderr(Stdio::null()).stdout(Stdio::piped());
    let running = command.spawn().unwrap();
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route postgres"));
    // To the command alone, which passes it on; a terminal sends it to the whole group.
    let signalled = Command::new("kill")
        .args(["-INT", &running.id().to_string()])
        .status();
    assert!(signalled.unwrap().success());
    let output = running.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stdout}");
    assert!(
        stdout.contains(
            "j1 on 1 worker was interrupted: 0 passed, 0 failed, 0 flaky, 0 isolation bugs, 1 cut"
        ),
        "{stdout}"
    );
    let jobs = site.dagz(&["jobs"]);
    assert!(
        jobs.stdout.trim_end().ends_with("1    interrupted"),
        "{}",
        jobs.stdout
    );
    // Its worker is free again.
    fs::remove_file(&pause).unwrap();
    assert_eq!(site.dagz_here(&words).code, Some(0));
}

#[test]
fn without_nextest_it_says_how_to_get_it() {
    let site = Site::new("without", 50);
    // A cargo that has no nextest: it finds none of its subcommands outside of its own.
    let bin = site.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let site = site
        .with("PATH", bin.to_str().unwrap())
        .with("CARGO_HOME", bin.to_str().unwrap());
    let run = site.dagz(&["test"]);
    assert_eq!((run.code, &*run.stdout), (Some(2), ""));
    assert_shown!(run.stderr, @"error: `cargo nextest` is missing; install it by `cargo install --locked cargo-nextest`, or say `--runner cargo`");
}
