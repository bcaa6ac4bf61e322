//! `cargo dagz jobs`.

use std::fs;

use crate::support::{Site, assert_shown};

#[test]
fn a_plain_run_is_listed_with_its_outcomes() {
    let site = Site::new("jobs", 22);
    let none = site.dagz(&["jobs"]);
    assert_eq!(none.code, Some(0));
    assert_shown!(none.stdout, @"no job yet: none is recorded in `[workspace]/target/dagz`");

    assert_eq!(site.suite(&[]), Some(101));
    assert_eq!(site.suite(&["a_writes"]), Some(0));
    let jobs = site.dagz(&["jobs"]);
    assert_eq!((jobs.code, &*jobs.stderr), (Some(0), ""));
    assert_shown!(jobs.stdout, @r#"
    job  started  branch  commit  took  workers  nodes  passed  failed  flaky  isolation  cut  state
    j2  [time]  try  012345678  [took]  1  1  1  0  0  0  0  ended
    j1  [time]  try  012345678  [took]  1  1  4  2  0  0  0  ended
    "#);
    let json = site.dagz(&["jobs", "--json"]);
    assert_eq!(json.code, Some(0));
    assert_shown!(json.stdout, @r#"
    [
      {
      "id": "j2",
      "started": "[time]",
      "seconds": "[took]",
      "running": false,
      "interrupted": false,
      "branch": "try",
      "commit": "0123456789012345678901234567890123456789",
      "workers": 1,
      "nodes": 1,
      "passed": 1,
      "failed": 0,
      "flaky": 0,
      "isolation": 0,
      "cut": 0,
      "preparing_seconds": "[took]"
      },
      {
      "id": "j1",
      "started": "[time]",
      "seconds": "[took]",
      "running": false,
      "interrupted": false,
      "branch": "try",
      "commit": "0123456789012345678901234567890123456789",
      "workers": 1,
      "nodes": 1,
      "passed": 4,
      "failed": 2,
      "flaky": 0,
      "isolation": 0,
      "cut": 0,
      "preparing_seconds": "[took]"
      }
    ]
    "#);
}

#[test]
fn who_has_seen_enough_ends_it_in_silence() {
    let site = Site::new("pipe", 23);
    let mut jobs = site.start_dagz(&["jobs"]);
    drop(jobs.stdout.take());
    let ended = jobs.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn a_store_that_is_damaged_is_read_as_far_as_it_goes() {
    let site = Site::new("damaged", 24);
    for _ in 0..2 {
        assert_eq!(site.suite(&["c_returns"]), Some(101));
    }
    let jobs = site.path("target/dagz/jobs");
    fs::write(jobs.join("j1/job.json"), "{\"version\":1,").unwrap();
    let events = jobs.join("j2/events.jsonl");
    let mut text = fs::read_to_string(&events).unwrap();
    text.push_str("{\"v\":7,\"at\":\"noon\"}\n{\"v\":1,\"at\":1,\"ki");
    fs::write(&events, text).unwrap();
    let shown = site.dagz(&["jobs"]);
    assert_eq!(shown.code, Some(0));
    assert_shown!(shown.stdout, @r#"
    job  started  branch  commit  took  workers  nodes  passed  failed  flaky  isolation  cut  state
    j2  [time]  try  012345678  [took]  1  1  0  1  0  0  0  ended
    "#);
    let logs = site.dagz(&["logs", "j2"]);
    assert_eq!(logs.code, Some(0));
    assert_shown!(logs.stderr, @"note: 1 lines were passed over: cut off while being written, or of a later dagz");

    fs::remove_dir_all(&jobs).unwrap();
    fs::write(&jobs, "no folder").unwrap();
    let unreadable = site.dagz(&["jobs"]);
    assert_eq!((unreadable.code, &*unreadable.stdout), (Some(3), ""));
    assert_shown!(unreadable.stderr, @"error: reading `[workspace]/target/dagz/jobs` failed; check its permissions, or point `DAGZ_STATE_DIR` elsewhere: Not a directory (os error 20)");
    fs::remove_file(&jobs).unwrap();
}

#[test]
fn what_cannot_be_used_is_one_line_and_exit_code_2() {
    let site = Site::new("usage", 25);
    let unknown = site.dagz(&["logs", "j9"]);
    assert_eq!((unknown.code, &*unknown.stdout), (Some(2), ""));
    assert_shown!(unknown.stderr, @"error: there is no job `j9`, and no other: no test with dagz has run yet, or its record is not in `[workspace]/target/dagz`");
    let word = site.dagz(&["logs", "--worker", "three"]);
    assert_eq!(word.code, Some(2));
    assert_shown!(word.stderr, @r#"
    error: invalid value 'three' for '--worker <WORKER>': a worker is written `jw03`

    For more information, try '--help'.
    "#);

    let wrong = Site::new("setting", 26).with("DAGZ_WORKERS", "many");
    let setting = wrong.dagz(&["jobs"]);
    assert_eq!(setting.code, Some(2));
    assert_shown!(setting.stderr, @"error: `DAGZ_WORKERS` is `many`, but must be a whole number from 0 to 10000");

    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::remove_file(site.path(file)).unwrap();
    }
    let nowhere = site.dagz(&["jobs"]);
    assert_eq!(nowhere.code, Some(2));
    assert_shown!(nowhere.stderr, @"error: `[workspace]` is in no Cargo workspace; call `cargo dagz` inside of one");
}
