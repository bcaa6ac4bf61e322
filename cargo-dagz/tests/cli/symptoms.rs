//! The symptoms of the playbook: each is brought about on real servers, and `cargo dagz doctor` names it.

use std::fs;

use crate::support::{Ended, Site, assert_shown, server, sql};

/// What the command says of the last job.
fn diagnosis(ended: &Ended) -> String {
    let found = ended.stdout.lines().filter(|line| line.starts_with("j1 "));
    found.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_job_that_is_well_has_none() {
    let site = Site::new("symptomless", 35);
    assert_eq!(site.ailing(&["idles"]), Some(0));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_shown!(diagnosis(&ended), @"j1  symptoms  good  none that is known");
}

#[test]
fn idle_workers() {
    let site = Site::new("idle", 36).with("DAGZ_WORKERS", "3");
    assert_eq!(site.ailing(&["idles"]), Some(0));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_shown!(diagnosis(&ended), @"j1  idle workers  odd  1 of 3 were used by 3 tests  fewer tests ran at once than there are workers: `cargo dagz test --workers 3` runs as many; a mark (`exclusive`, `main_worker`), `--test-threads` or a group of nextest keeps tests waiting");
}

#[test]
fn tests_that_pass_alone_and_fail_under_load() {
    let site = Site::new("shared", 37);
    let _ = sql(&format!("DROP DATABASE IF EXISTS {}", site.base()));
    sql(&format!("CREATE DATABASE {}", site.base())).unwrap();
    assert_eq!(site.ailing(&["shares_one"]), Some(0));
    assert_shown!(diagnosis(&site.dagz(&["doctor"])), @"j1  symptoms  good  none that is known");
    fs::remove_dir_all(site.path("target/dagz/jobs")).unwrap();
    assert_eq!(site.ailing(&["shares_"]), Some(0));
    let ended = site.dagz(&["doctor"]);
    sql(&format!("DROP DATABASE {}", site.base())).unwrap();
    assert_shown!(diagnosis(&ended), @"j1  shared database  odd  postgres `cli_shared` was used as it is by `shares_one` and `shares_two`  tests that share a base database pass alone and fail under load: take out the `bypass()` or the `reroute_if` that lets them, or mark them `main_worker`, so that they run one at a time");
}

#[test]
fn already_exists() {
    let site = Site::new("twice", 38).with("FIXTURE_TWICE", "1");
    assert_eq!(site.ailing(&["waits"]), Some(101));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(3));
    assert_shown!(diagnosis(&ended), @r#"j1  already exists  bad  initialising the postgres database `cli_twice_jw00` at `[server]` for `waits` on jw00 failed: the `migrate_with` function failed in database `cli_twice_dagz_[hash]`: db error: ERROR: relation "item" already exists, in `waits`  the set-up ran on what was there: make the schema in one place, `migrations`, `migrate_with` or `worker_init`, which dagz runs once per worker, and take it out of tests and helpers; what a killed run left goes by `cargo dagz clean`"#);
}

#[test]
fn no_worker_in_time() {
    let site = Site::new("invain", 39).with("DAGZ_LEASE_TIMEOUT", "300ms");
    let pause = site.path("pause");
    fs::write(&pause, "").unwrap();
    let site = site
        .with("FIXTURE_PAUSE", pause.to_str().unwrap())
        .with("DAGZ_JOB", "one");
    let mut first = site.start_ailing(&["waits", "--exact"]);
    site.dagz_until(&["logs"], |ended| ended.stdout.contains("route postgres"));
    assert_eq!(site.ailing(&["idles_one"]), Some(101));
    fs::remove_file(&pause).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(3));
    let told = diagnosis(&ended);
    assert!(told.contains("no worker in time"), "{told}");
    assert!(
        told.contains("held: jw00 by `waits`") && told.contains("in `idles_one`"),
        "{told}"
    );
    assert!(told.contains("raise `DAGZ_WORKERS`"), "{told}");
}

#[test]
fn time_outs_under_load() {
    let role = "cli_symptom_narrow";
    let _ = sql(&format!("DROP ROLE IF EXISTS {role}"));
    sql(&format!(
        "CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'hunter2' CONNECTION LIMIT 1"
    ))
    .unwrap();
    let url = server("DATABASE_URL");
    let (_, host) = url.rsplit_once('@').unwrap();
    let narrow = format!("postgres://{role}:hunter2@{host}");
    let site = Site::new("narrow", 40)
        .with("DATABASE_URL", narrow.clone())
        .with("DAGZ_POSTGRES_URL", narrow);
    assert_eq!(site.ailing(&["waits"]), Some(101));
    let ended = site.dagz(&["doctor"]);
    site.dagz(&["clean"]);
    sql(&format!("DROP OWNED BY {role}")).unwrap();
    sql(&format!("DROP ROLE {role}")).unwrap();
    assert_eq!(ended.code, Some(3));
    assert_shown!(diagnosis(&ended), @r#"j1  time-outs  bad  initialising the postgres database `cli_narrow_jw00` at `[server]` for `waits` on jw00 failed: the `migrate_with` function failed in database `cli_narrow_dagz_[hash]`: db error: FATAL: too many connections for role "cli_symptom_narrow", in `waits`  the server did not keep up with so many at once: see its rows `connections` and `time-outs`, make the tests' pools smaller, or run with fewer workers (`DAGZ_WORKERS`)"#);
    let mut lines = ended.stdout.lines();
    let limit = lines.find(|line| line.starts_with("postgres") && line.contains("connections"));
    assert!(
        limit.is_some_and(|line| line.contains("raise ")),
        "{}",
        ended.stdout
    );
}

#[test]
fn two_workers_on_one_database() {
    let site = Site::new("foreign", 41);
    assert_eq!(site.ailing(&["opens_anothers"]), Some(101));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(3));
    assert_shown!(diagnosis(&ended), @"j1  one database for two  bad  the postgres database `cli_foreign_jw01` belongs to worker jw01, but `opens_anothers` runs on jw00; open the base name instead, and see whether a pool or URL is kept from one test to the next, in `opens_anothers`  a pool or an address is kept from one test to the next, as in a `static`: open the base name in each test; if it is another run's, give each checkout its own `DAGZ_PROJECT` and each machine its `DAGZ_NODE_INDEX`");
    let logs = site.dagz(&["logs"]);
    assert!(
        logs.stdout.contains("error postgres cli_foreign_jw01: "),
        "{}",
        logs.stdout
    );
}
