//! `cargo dagz test`, on this very package, whose target `fixture` is the suite.
//!
//! nextest comes by `cargo xtask test --runner nextest`, and is looked for where that keeps it.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::support::{Site, assert_shown};

const FIXTURE: [&str; 5] = ["--", "--package", "cargo-dagz", "--test", "fixture"];

/// `PATH`, with the folder where xtask keeps the tools it installs.
fn path() -> String {
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
    let site = Site::new("nextest", 11).with("PATH", path());
    let words = [&["test", "--workers", "1"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    let (first, rest) = run.stdout.split_once('\n').unwrap();
    assert_shown!(first, @"dagz: j1 on 1 workers: 4 passed, 2 failed, 0 flaky, 0 cut; [took] spent on databases, over all workers");
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
            .starts_with("dagz: j2 on 1 workers: 1 passed, 0 failed")
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
    let site = Site::new("keepflag", 13).with("PATH", path());
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
    let site = Site::new("cargo", 12);
    let words = [&["test", "--runner", "cargo"], &FIXTURE[..]].concat();
    let run = site.dagz_here(&words);
    assert_eq!(run.code, Some(100), "{}", run.stderr);
    let (first, _) = run.stdout.split_once('\n').unwrap();
    assert_shown!(first, @"dagz: j1 on 1 workers: 4 passed, 2 failed, 0 flaky, 0 cut; [took] spent on databases, over all workers");
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

#[test]
fn ctrl_c_ends_the_tests_and_is_on_record() {
    let site = Site::new("interrupted", 14);
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site
        .with("PATH", path())
        .with("FIXTURE_PAUSE", pause.to_str().unwrap());
    let words = [&["test", "waits"], &FIXTURE[..]].concat();
    let mut command = site.here(&words);
    command.stderr(Stdio::null()).stdout(Stdio::piped());
    // A terminal sends the signal to the whole group.
    let running = command.process_group(0).spawn().unwrap();
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route postgres"));
    let group = format!("-{}", running.id());
    let signalled = Command::new("kill").args(["-INT", "--", &group]).status();
    assert!(signalled.unwrap().success());
    let output = running.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stdout}");
    assert!(
        stdout.contains("0 passed, 0 failed, 0 flaky, 1 cut"),
        "{stdout}"
    );
    // Its worker is free again.
    fs::remove_file(&pause).unwrap();
    assert_eq!(site.dagz_here(&words).code, Some(0));
}

#[test]
fn without_nextest_it_says_how_to_get_it() {
    let site = Site::new("without", 13);
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
