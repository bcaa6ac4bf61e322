//! Jobs that run and jobs that have ended, as they are read back.

use std::io::Write as _;

use super::*;
use crate::{
    ErrorKind, Lease,
    job::{self, end},
};

fn settings(dir: &tempfile::TempDir) -> Settings {
    Settings::builder()
        .workers(2)
        .project("shop")
        .state_dir(dir.path())
        .lease_timeout(Duration::from_millis(30))
        .load()
        .unwrap()
}

/// Writes `lines` as the events of a job that `settings` starts under `key`.
fn job(settings: &Settings, key: &str, lines: &str) -> job::Job {
    let job = job::Job::join(settings, key).unwrap();
    let path = job.directory().join("events.jsonl");
    fs::write(path, lines).unwrap();
    job
}

const LINES: &str = r#"{"v":1,"at":1,"pid":7,"tag":"jw00.t001","worker":0,"test":"a","kind":"lease","binary":"x"}
{"v":1,"at":2,"pid":7,"tag":"jw01.t001","worker":1,"test":"b","kind":"lease","binary":"x"}
{"v":1,"at":3,"pid":7,"tag":"jw01.t001","worker":1,"test":"b","kind":"prepare","micros":250}
{"v":1,"at":9,"pid":7,"tag":"jw00.t001","worker":0,"test":"a","kind":"leave","outcome":"failed"}
{"v":1,"at":9,"pid":7,"tag":"jw01.t001","worker":1,"test":"b","kind":"leave","outcome":"passed"}
{"v":1,"at":10,"pid":8,"tag":"jw00.t002","worker":0,"test":"a","kind":"lease","binary":"x"}
{"v":1,"at":11,"pid":9,"tag":"jw01.t002","worker":1,"test":"a","kind":"lease","binary":"y"}
{"v":1,"at":15,"pid":8,"tag":"jw00.t002","worker":0,"test":"a","kind":"leave","outcome":"passed"}
{"v":1,"at":16,"pid":5,"test":"c","kind":"error","outcome":"failed","binary":"x","detail":"no worker"}
"#;

/// `a` fails twice and passes on fresh databases, `b` as well but has no database, `c` fails three times.
const AGAIN: &str = r#"{"v":1,"at":1,"pid":1,"tag":"jw00.t001","worker":0,"test":"a","kind":"lease","binary":"x"}
{"v":1,"at":2,"pid":1,"tag":"jw00.t001","worker":0,"test":"a","kind":"route","database":"shop_jw00"}
{"v":1,"at":3,"pid":1,"tag":"jw00.t001","worker":0,"test":"a","kind":"leave","outcome":"failed"}
{"v":1,"at":4,"pid":2,"tag":"jw00.t002","worker":0,"test":"b","kind":"lease","binary":"x"}
{"v":1,"at":5,"pid":2,"tag":"jw00.t002","worker":0,"test":"b","kind":"leave","outcome":"failed"}
{"v":1,"at":6,"pid":3,"tag":"jw00.t003","worker":0,"test":"a","kind":"lease","binary":"x","again":"worker"}
{"v":1,"at":7,"pid":3,"tag":"jw00.t003","worker":0,"test":"a","kind":"leave","outcome":"failed"}
{"v":1,"at":8,"pid":4,"tag":"jw00.t004","worker":0,"test":"a","kind":"lease","binary":"x","again":"fresh"}
{"v":1,"at":9,"pid":4,"tag":"jw00.t004","worker":0,"test":"a","kind":"leave","outcome":"passed"}
{"v":1,"at":10,"pid":5,"tag":"jw00.t005","worker":0,"test":"b","kind":"lease","binary":"x","again":"fresh"}
{"v":1,"at":11,"pid":5,"tag":"jw00.t005","worker":0,"test":"b","kind":"leave","outcome":"passed"}
{"v":1,"at":12,"pid":6,"tag":"jw00.t006","worker":0,"test":"c","kind":"lease","binary":"x","marks":["exclusive"]}
{"v":1,"at":13,"pid":6,"tag":"jw00.t006","worker":0,"test":"c","kind":"leave","outcome":"failed"}
{"v":1,"at":14,"pid":7,"tag":"jw00.t007","worker":0,"test":"c","kind":"lease","binary":"x","again":"fresh"}
{"v":1,"at":15,"pid":7,"tag":"jw00.t007","worker":0,"test":"c","kind":"leave","outcome":"failed"}
"#;

#[test]
fn what_passes_on_a_fresh_database_only_is_no_flake() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    end(job(&settings, "given:a", AGAIN));
    let history = History::of(&settings);
    let job = history.job("latest").unwrap().unwrap();
    let tests = job.summary().unwrap().tests;
    let told: Vec<_> = tests
        .iter()
        .map(|test| (&*test.name, test.outcome, test.attempts, test.has_database))
        .collect();
    assert_eq!(
        told,
        [
            ("a", Outcome::Isolation, 3, true),
            ("b", Outcome::Flaky, 2, false),
            ("c", Outcome::Failed, 2, false),
        ]
    );
    assert_eq!(tests[2].marks, ["exclusive"]);
    let flakes = history.flakes().unwrap();
    let of = |name: &str| flakes[&("x".to_owned(), name.to_owned())];
    assert_eq!(of("b"), Flakes { flaky: 1, jobs: 1 });
    assert_eq!(of("a"), Flakes { flaky: 0, jobs: 1 });
    assert!(!job.is_interrupted());
    job.set_interrupted().unwrap();
    assert!(job.is_interrupted());
    let _running = job.keep_running().unwrap();
    assert!(job.is_running().unwrap());
}

#[test]
fn a_job_amounts_to_its_tests() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    end(job(&settings, "nextest:a", LINES));
    let job = History::of(&settings).job("latest").unwrap().unwrap();
    assert_eq!(
        (job.id(), job.key(), job.project()),
        ("j1", "nextest:a", "shop")
    );
    let summary = job.summary().unwrap();
    let told: Vec<_> = summary
        .tests
        .iter()
        .map(|test| (&*test.binary, &*test.name, test.outcome, test.attempts))
        .collect();
    assert_eq!(
        told,
        [
            ("x", "a", Outcome::Flaky, 2),
            ("x", "b", Outcome::Passed, 1),
            ("y", "a", Outcome::Cut, 1),
            ("x", "c", Outcome::Failed, 1),
        ]
    );
    assert_eq!(summary.tests[1].took, Duration::from_micros(7));
    assert_eq!(summary.preparing, Duration::from_micros(250));
    assert_eq!(summary.count(Outcome::Failed), 1);
}

#[test]
fn a_job_runs_as_long_as_one_of_its_processes_or_its_runner() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let history = History::of(&settings);
    assert!(history.jobs().unwrap().is_empty(), "there is no folder yet");
    let running = job(&settings, "given:a", LINES);
    let read = || history.job("j1").unwrap().unwrap();
    assert!(read().is_running().unwrap());
    assert_eq!(read().summary().unwrap().count(Outcome::Running), 1);
    // As between two tests of nextest: its process lives, and none of dagz's.
    drop(running);
    assert!(read().is_running().unwrap());
    let again = job::Job::join(&settings, "given:a").unwrap();
    let path = again.directory().to_owned();
    end(again);
    assert!(!read().is_running().unwrap());
    assert!(history.job("j2").unwrap().is_none());
    assert!(history.job("../jobs/j1").unwrap().is_none());
    // A record that was cut off is no job, and harms no other.
    fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path.join("job.json"))
        .unwrap()
        .write_all(b"{\"version\":1")
        .unwrap();
    assert!(history.jobs().unwrap().is_empty());
}

#[test]
fn while_it_is_quiet_no_job_starts_and_none_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    end(job(&settings, "given:ended", ""));
    end(job(&settings, "given:last", ""));
    let inits = dir.path().join("jobs/j1/init/jw00");
    fs::create_dir_all(&inits).unwrap();
    let running = job(&settings, "given:running", "");
    let mut quiet = Quiet::begin(&settings).unwrap();
    let ids = |jobs: &[Job]| {
        jobs.iter()
            .map(|job| job.id().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(quiet.running()), ["j3"]);
    let ended: Vec<_> = quiet.ended().cloned().collect();
    assert_eq!(ids(&ended), ["j2", "j1"]);
    assert!(quiet.running()[0].has(Worker::new(1)));
    assert!(quiet.running()[0].has(Worker::new(2)), "it may stand in");
    assert!(quiet.running()[0].has(Worker::new(11)));
    assert!(!quiet.running()[0].has(Worker::new(12)));

    for key in ["given:new", "given:ended"] {
        let error = job::Job::join(&settings, key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseTimeout, "{key}");
    }
    job::Job::join(&settings, "given:running").expect("a job that runs goes on");

    quiet.forget_inits().unwrap();
    assert!(!inits.exists());
    let held = quiet.hold(Worker::new(0)).unwrap().expect("nobody has it");
    let lease = Lease::acquire(&settings, "j3", "a").unwrap();
    assert_eq!(lease.worker(), Worker::new(1), "the other one is held");
    assert!(quiet.hold(Worker::new(1)).unwrap().is_none());
    drop(held);

    assert!(quiet.remove(&ended[1]).unwrap());
    let live = quiet.running()[0].clone();
    assert!(!quiet.remove(&live).unwrap());
    drop(quiet);
    drop(running);
    assert_eq!(ids(&History::of(&settings).jobs().unwrap()), ["j3", "j2"]);
}
