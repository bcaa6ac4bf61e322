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
    let site = Site::new("symptomless", 22);
    assert_eq!(site.ailing(&["idles"]), Some(0));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_shown!(diagnosis(&ended), @"");
}

#[test]
fn idle_workers() {
    let site = Site::new("idle", 22).with("DAGZ_WORKERS", "3");
    assert_eq!(site.ailing(&["idles"]), Some(0));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_shown!(diagnosis(&ended), @"");
}

#[test]
fn tests_that_pass_alone_and_fail_under_load() {
    let site = Site::new("shared", 22);
    let _ = sql(&format!("DROP DATABASE IF EXISTS {}", site.base()));
    sql(&format!("CREATE DATABASE {}", site.base())).unwrap();
    assert_eq!(site.ailing(&["shares_one"]), Some(0));
    assert_shown!(diagnosis(&site.dagz(&["doctor"])), @"");
    fs::remove_dir_all(site.path("target/dagz/jobs")).unwrap();
    assert_eq!(site.ailing(&["shares_"]), Some(0));
    let ended = site.dagz(&["doctor"]);
    sql(&format!("DROP DATABASE {}", site.base())).unwrap();
    assert_shown!(diagnosis(&ended), @"");
}

#[test]
fn already_exists() {
    let site = Site::new("twice", 22).with("FIXTURE_TWICE", "1");
    assert_eq!(site.ailing(&["waits"]), Some(101));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(3));
    assert_shown!(diagnosis(&ended), @"");
}

#[test]
fn no_worker_in_time() {
    let site = Site::new("invain", 22).with("DAGZ_LEASE_TIMEOUT", "300ms");
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
    let site = Site::new("narrow", 22)
        .with("DATABASE_URL", narrow.clone())
        .with("DAGZ_POSTGRES_URL", narrow);
    assert_eq!(site.ailing(&["waits"]), Some(101));
    let ended = site.dagz(&["doctor"]);
    site.dagz(&["clean"]);
    sql(&format!("DROP OWNED BY {role}")).unwrap();
    sql(&format!("DROP ROLE {role}")).unwrap();
    assert_eq!(ended.code, Some(3));
    assert_shown!(diagnosis(&ended), @"");
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
    let site = Site::new("foreign", 22);
    assert_eq!(site.ailing(&["opens_anothers"]), Some(101));
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(3));
    assert_shown!(diagnosis(&ended), @"");
    let logs = site.dagz(&["logs"]);
    assert!(
        logs.stdout.contains("error postgres cli_foreign_jw01: "),
        "{}",
        logs.stdout
    );
}
