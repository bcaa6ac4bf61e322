//! `cargo dagz clean`: what goes, and what stays.

use std::fs;

use crate::support::{Ended, Site, assert_shown, sql};

#[track_caller]
fn assert_clean(ended: &Ended) {
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn what_dagz_made_for_the_project_goes() {
    let site = Site::new("goes", 5);
    for _ in 0..2 {
        assert_eq!(site.suite(&[]), Some(101));
    }
    let would = site.dagz(&["clean", "--dry-run"]);
    assert_clean(&would);
    assert_shown!(would.stdout, @r#"
    kind  name  what  of  made  state
    postgres  cli_goes_dagz_[hash]  template  cli_goes  [time]  would be dropped
    postgres  cli_goes_jw00  worker jw00  cli_goes  [time]  would be dropped
    mysql  cli_goes_jw00  worker jw00  cli_goes  [time]  would be dropped
    mysql  cli_goes_jw_[hash]  template  cli_goes  [time]  would be dropped
    redis  [index]  worker jw00  0  [time]  would be dropped
    job  j1  record  -  [time]  would be dropped
    "#);
    let done = site.dagz(&["clean"]);
    assert_clean(&done);
    assert_eq!(
        done.stdout.replace("dropped", "would be dropped"),
        would.stdout,
        "and the dry run dropped nothing"
    );
    let again = site.dagz(&["clean"]);
    assert_clean(&again);
    assert_shown!(again.stdout, @"nothing to clean");
    // What was forgotten is made anew.
    assert_eq!(site.suite(&["a_writes", "e_uses_redis"]), Some(0));
    let json = site.dagz(&["clean", "--keep-jobs", "--json"]);
    assert_clean(&json);
    let rows: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let told: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["state"])
        .collect();
    assert_eq!(told, ["dropped"; 3], "{}", json.stdout);
}

#[test]
fn a_live_run_keeps_what_is_its_own() {
    let site = Site::new("live", 6);
    assert_eq!(site.suite(&[]), Some(101));
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site.with("FIXTURE_PAUSE", pause.to_str().unwrap());
    let mut suite = site.start(&["waits"]);
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route postgres"));
    let kept = site.dagz(&["clean"]);
    assert_clean(&kept);
    assert_shown!(kept.stdout, @r#"
    kind  name  what  of  made  state
    postgres  cli_live_dagz_[hash]  template  cli_live  [time]  kept: job j2 runs
    postgres  cli_live_jw00  worker jw00  cli_live  [time]  kept: job j2 runs
    mysql  cli_live_jw00  worker jw00  cli_live  [time]  kept: job j2 runs
    mysql  cli_live_jw_[hash]  template  cli_live  [time]  kept: job j2 runs
    redis  [index]  worker jw00  0  [time]  kept: job j2 runs
    job  j1  record  -  [time]  dropped
    "#);

    // As another checkout, or machine, that knows nothing of the job: the server tells.
    let elsewhere = Site::new("elsewhere", 7)
        .with("DAGZ_PROJECT", "cli-live")
        .with("DAGZ_STATE_DIR", site.path("other").to_str().unwrap());
    let unknown = elsewhere.dagz(&["clean"]);
    assert_clean(&unknown);
    let row = unknown
        .stdout
        .lines()
        .find(|line| line.contains("cli_live_jw00") && line.starts_with("postgres"));
    assert!(row.unwrap().contains("kept: "), "{}", unknown.stdout);

    fs::remove_file(&pause).unwrap();
    assert_eq!(
        suite.wait().unwrap().code(),
        Some(0),
        "it was not disturbed"
    );
    let done = site.dagz(&["clean"]);
    assert_clean(&done);
    assert!(done.stdout.contains("cli_live_jw00"), "{}", done.stdout);
    assert!(!done.stdout.contains("kept"), "{}", done.stdout);
}

#[test]
fn what_is_a_strangers_stays() {
    let stranger = Site::new("stranger", 8);
    let site = Site::new("honest", 9);
    assert_eq!(stranger.suite(&[]), Some(101));
    // Called as if it were a worker's of ours, and without any stamp.
    let unstamped = format!("{}_jw00", site.base());
    let _ = sql(&format!("DROP DATABASE IF EXISTS {unstamped}"));
    sql(&format!("CREATE DATABASE {unstamped}")).unwrap();
    let ours = site.dagz(&["clean"]);
    assert_clean(&ours);
    assert_shown!(ours.stdout, @"nothing to clean");
    sql(&format!("DROP DATABASE {unstamped}")).expect("it is there still");
    let theirs = stranger.dagz(&["clean"]);
    assert_clean(&theirs);
    assert_shown!(theirs.stdout, @r#"
    kind  name  what  of  made  state
    postgres  cli_stranger_dagz_[hash]  template  cli_stranger  [time]  dropped
    postgres  cli_stranger_jw00  worker jw00  cli_stranger  [time]  dropped
    mysql  cli_stranger_jw00  worker jw00  cli_stranger  [time]  dropped
    mysql  cli_stranger_jw_[hash]  template  cli_stranger  [time]  dropped
    redis  [index]  worker jw00  0  [time]  dropped
    "#);
}

#[test]
fn a_server_that_is_away_is_one_line_and_keeps_nobody_from_the_others() {
    let site =
        Site::new("away", 10).with("DAGZ_POSTGRES_URL", "postgres://me:hunter2@127.0.0.1:1/x");
    assert_eq!(site.suite(&["e_uses_redis"]), Some(0));
    let ended = site.dagz(&["clean"]);
    assert_eq!(ended.code, Some(3));
    assert!(!ended.stderr.contains("hunter2"));
    assert_shown!(ended.stderr, @"error: postgres at postgres://[server] (DAGZ_POSTGRES_URL): cannot reach Postgres at `[server]` for database `postgres`: is it running?: error connecting to server: Connection refused (os error 111)");
    assert_shown!(ended.stdout, @r#"
    kind  name  what  of  made  state
    redis  [index]  worker jw00  0  [time]  dropped
    "#);
    let nothing = site
        .with("DAGZ_POSTGRES_URL", "")
        .with("DAGZ_MYSQL_URL", "")
        .with("DAGZ_REDIS_URL", "")
        .with("DATABASE_URL", "")
        .with("MYSQL_URL", "")
        .with("REDIS_URL", "");
    let ended = nothing.dagz(&["clean"]);
    assert_eq!(ended.code, Some(0));
    assert_shown!(ended.stderr, @"note: no server is known, so none was looked at; set `DAGZ_POSTGRES_URL`, `DAGZ_MYSQL_URL`, `DAGZ_REDIS_URL`, `DAGZ_AMQP_URL` or `DAGZ_CASSANDRA_URL`, or say `url` under `[postgres]`, `[mysql]`, `[redis]`, `[amqp]` or `[cassandra]` in `dagz.toml`");
}
