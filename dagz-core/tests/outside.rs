//! Step 5 while no test runs: a warning once per name and the name unchanged; with `strict` an error.

mod common;

use common::{Folders, open};
use dagz_core::{ErrorKind, Scope};

/// One test, since another one's scope would be a test that runs.
#[test]
fn before_the_first_test_the_name_passes_with_a_warning() {
    let settings = common::state::settings().workers(1).install().unwrap();
    let folders = Folders::new("folders");
    let calls = folders.calls.clone();
    dagz_core::configure(folders).unwrap();
    let mut folders = Folders::new("strict");
    folders.options.strict = true;
    dagz_core::configure(folders).unwrap();
    let mut folders = Folders::new("single");
    folders.options.single_worker_disable = true;
    dagz_core::configure(folders).unwrap();

    for _ in 0..3 {
        assert_eq!(open("folders", "myapp").unwrap().name(), "myapp");
    }
    open("folders", "other").unwrap();
    let error = open("strict", "myapp").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutsideScope);
    insta::assert_snapshot!(error, @"the strict database `myapp` was opened outside a test, and `strict` is on; open it inside `#[dagz::test]`");

    let guard = Scope::builder("t").enter().unwrap();
    assert_eq!(
        open("single", "myapp").unwrap().name(),
        "myapp",
        "the only worker needs no other name"
    );
    assert_eq!(open("folders", "myapp").unwrap().name(), "myapp_jw00");
    drop(guard);
    assert_eq!(calls.seen(), (1, 1, 1));

    let log = settings.state_dir().join("jobs/j1/events.jsonl");
    let log = std::fs::read_to_string(log).unwrap();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"warning\""))
        .collect();
    assert_eq!(warnings.len(), 2, "once per name: {warnings:?}");
    assert!(warnings[0].contains("accessing dagz_folders database outside a test worker: myapp"));
}
