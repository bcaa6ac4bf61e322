//! `cargo dagz clean` on RabbitMQ and Cassandra.

use std::fs;

use crate::support::{Site, assert_shown};

#[test]
fn all_five_are_cleaned_by_stamp() {
    let site = Site::new("five", 1).with_brokers();
    let stranger = Site::new("fivestranger", 2).with_brokers();
    assert_eq!(site.ailing(&["passes_on_all"]), Some(0));
    let theirs = stranger.dagz(&["clean"]);
    assert_eq!((theirs.code, &*theirs.stderr), (Some(0), ""));
    assert_shown!(theirs.stdout, @"nothing to clean");

    let would = site.dagz(&["clean", "--dry-run"]);
    assert_shown!(would.stdout, @r#"
    kind  name  what  of  made  state
    postgres  cli_five_dagz_[hash]  template  cli_five  [time]  would be dropped
    postgres  cli_five_jw00  worker jw00  cli_five  [time]  would be dropped
    mysql  cli_five_jw00  worker jw00  cli_five  [time]  would be dropped
    mysql  cli_five_jw_[hash]  template  cli_five  [time]  would be dropped
    redis  [index]  worker jw00  0  [time]  would be dropped
    amqp  cli_five_jw00  worker jw00  cli_five  [time]  would be dropped
    cassandra  cli_five_jw00  worker jw00  cli_five  [time]  would be dropped
    "#);
    let done = site.dagz(&["clean"]);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    assert_eq!(
        done.stdout.replace("dropped", "would be dropped"),
        would.stdout,
        "and the dry run dropped nothing"
    );
    assert_shown!(site.dagz(&["clean"]).stdout, @"nothing to clean");
}

#[test]
fn what_a_live_run_uses_stays_also_where_only_the_server_knows() {
    let site = Site::new("livebroker", 3).with_brokers();
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site.with("FIXTURE_PAUSE", pause.to_str().unwrap());
    let mut suite = site.start_ailing(&["brokers_wait"]);
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route cassandra"));
    let kept = site.dagz(&["clean"]);
    assert_shown!(kept.stdout, @r#"
    kind  name  what  of  made  state
    amqp  cli_livebroker_jw00  worker jw00  cli_livebroker  [time]  kept: job j1 runs
    cassandra  cli_livebroker_jw00  worker jw00  cli_livebroker  [time]  kept: job j1 runs
    "#);

    let elsewhere = Site::new("brokerelsewhere", 4)
        .with("DAGZ_PROJECT", "cli-livebroker")
        .with("DAGZ_STATE_DIR", site.path("other").to_str().unwrap())
        .with_brokers();
    let unknown = elsewhere.dagz(&["clean"]);
    assert_eq!(unknown.code, Some(0), "{}", unknown.stderr);
    for driver in ["amqp", "cassandra"] {
        let mut rows = unknown.stdout.lines();
        let row = rows.find(|row| row.starts_with(driver));
        assert!(
            row.is_some_and(|row| row.contains("kept: ")),
            "{driver}: {}",
            unknown.stdout
        );
    }

    fs::remove_file(&pause).unwrap();
    let ended = suite.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "it was not disturbed");
    let done = site.dagz(&["clean"]);
    assert!(!done.stdout.contains("kept"), "{}", done.stdout);
    assert!(done.stdout.contains("cassandra"), "{}", done.stdout);
}
