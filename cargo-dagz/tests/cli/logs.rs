//! `cargo dagz logs`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
};

use crate::support::{Site, assert_shown};

#[test]
fn a_job_is_told_per_worker_and_test() {
    let site = Site::new("logs", 30);
    assert_eq!(site.suite(&[]), Some(101));
    let all = site.dagz(&["logs", "j1"]);
    assert_eq!((all.code, &*all.stderr), (Some(0), ""));
    assert_shown!(all.stdout, @r#"
    [clock] setup, [took]: fixture::databases
    jw00.t001 a_writes (fixture): passed after [took]
      [clock] lease, [took]
      [clock] template postgres cli_logs_jw00, [took]: cli_logs_dagz_[hash]
      [clock] clone postgres cli_logs_jw00, [took]: from `cli_logs_dagz_[hash]`
      [clock] init postgres cli_logs_jw00, [took]
      [clock] prepare postgres cli_logs_jw00, [took]
      [clock] route postgres cli_logs_jw00 for cli_logs
      [clock] leave, [took], passed
    jw00.t002 b_panics (fixture): failed after [took]
      [clock] lease, [took]
      [clock] prepare postgres cli_logs_jw00, [took]
      [clock] route postgres cli_logs_jw00 for cli_logs
      [clock] leave, [took], failed
    jw00.t003 c_returns_an_error (fixture): failed after [took]
      [clock] lease, [took]
      [clock] leave, [took], failed
    jw00.t004 d_uses_mysql (fixture): passed after [took]
      [clock] lease, [took]
      [clock] template mysql cli_logs_jw00, [took]: cli_logs_jw_[hash]
      [clock] clone mysql cli_logs_jw00, [took]: from `cli_logs_jw_[hash]`
      [clock] init mysql cli_logs_jw00, [took]
      [clock] prepare mysql cli_logs_jw00, [took]
      [clock] route mysql cli_logs_jw00 for cli_logs
      [clock] leave, [took], passed
    jw00.t005 e_uses_redis (fixture): passed after [took]
      [clock] lease, [took]
      [clock] init redis [index], [took]
      [clock] prepare redis [index], [took]
      [clock] route redis [index] for 0
      [clock] leave, [took], passed
    jw00.t006 waits (fixture): passed after [took]
      [clock] lease, [took]
      [clock] prepare postgres cli_logs_jw00, [took]
      [clock] route postgres cli_logs_jw00 for cli_logs
      [clock] leave, [took], passed
    "#);
    let failed = site.dagz(&["logs", "--failed", "--worker", "jw00"]);
    assert_shown!(failed.stdout, @r#"
    jw00.t002 b_panics (fixture): failed after [took]
      [clock] lease, [took]
      [clock] prepare postgres cli_logs_jw00, [took]
      [clock] route postgres cli_logs_jw00 for cli_logs
      [clock] leave, [took], failed
    jw00.t003 c_returns_an_error (fixture): failed after [took]
      [clock] lease, [took]
      [clock] leave, [took], failed
    "#);
    assert_eq!(site.dagz(&["logs", "--worker", "jw01"]).stdout, "");
    let none = site.dagz(&["logs", "--test", "nothing_of_this_name"]);
    assert_eq!(none.code, Some(2));
    assert_shown!(none.stderr, @"error: job `j1` has no test whose name contains `nothing_of_this_name`");
}

#[test]
fn an_error_is_told_with_its_whole_chain() {
    let site = Site::new("chain", 31).with("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/x");
    assert_eq!(site.suite(&["a_writes"]), Some(101));
    let logs = site.dagz(&["logs"]);
    assert!(!logs.stdout.contains("hunter2"), "{}", logs.stdout);
    assert_shown!(logs.stdout, @r#"
    [clock] setup, [took]: fixture::databases
    jw00.t001 a_writes (fixture): failed after [took]
      [clock] lease, [took]
      [clock] init postgres cli_chain_jw00, [took]
      [clock] error postgres cli_chain_jw00: initialising the postgres database `cli_chain_jw00` at `[server]` for `a_writes` on jw00 failed: cannot reach Postgres at `[server]` for database `postgres`: is it running?: error connecting to server: Connection refused (os error 111)
      [clock] leave, [took], failed
    "#);
}

#[test]
fn a_run_is_followed_to_its_end() {
    let site = Site::new("follow", 32);
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site.with("FIXTURE_PAUSE", pause.to_str().unwrap());
    let mut suite = site.start(&["waits"]);
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route postgres"));
    let jobs = site.dagz(&["jobs"]);
    assert!(jobs.stdout.contains("running"), "{}", jobs.stdout);
    let logs = site.dagz(&["logs"]);
    assert!(logs.stdout.contains(": running after"), "{}", logs.stdout);

    let mut follow = site.start_dagz(&["logs", "latest", "--follow", "--test", "waits"]);
    let mut lines = BufReader::new(follow.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("route postgres") {
        assert_ne!(lines.read_line(&mut seen).unwrap(), 0, "{seen}");
    }
    assert!(!seen.contains("leave"), "{seen}");
    fs::remove_file(&pause).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_shown!(rest, @"jw00.t001 waits [clock] leave, [took], passed");
    assert_eq!(follow.wait().unwrap().code(), Some(0));
    assert_eq!(suite.wait().unwrap().code(), Some(0));
}

#[test]
fn a_killed_test_is_cut_off() {
    let site = Site::new("killed", 33);
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site.with("FIXTURE_PAUSE", pause.to_str().unwrap());
    let mut suite = site.start(&["waits"]);
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route postgres"));
    suite.kill().unwrap();
    suite.wait().unwrap();
    let jobs = site.dagz(&["jobs"]);
    assert_shown!(jobs.stdout, @r#"
    job  started  branch  commit  took  workers  nodes  passed  failed  flaky  isolation  cut  state
    j1  [time]  try  012345678  [took]  1  1  0  0  0  0  1  ended
    "#);
    let logs = site.dagz(&["logs", "--failed"]);
    assert!(
        logs.stdout.contains("waits (fixture): cut off after"),
        "{}",
        logs.stdout
    );
}
