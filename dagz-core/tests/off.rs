//! Step 1: with dagz off, every name passes unchanged, configured or not, inside a test or outside.

mod common;

use common::open;
use dagz_core::{Scope, Worker};

#[test]
fn everything_passes_unchanged() {
    common::state::settings().off(true).install().unwrap();
    assert!(!dagz_core::active());
    assert_eq!(open("unconfigured", "myapp").unwrap().name(), "myapp");
    let folders = common::Folders::new("folders");
    let calls = folders.calls.clone();
    dagz_core::configure(folders).unwrap();
    let guard = Scope::builder("t").enter().unwrap();
    assert_eq!(guard.scope().worker(), Worker::new(0));
    assert_eq!(guard.scope().tag(), "off");
    assert_eq!(open("folders", "myapp").unwrap().name(), "myapp");
    assert_eq!(open("folders", "myapp_jw77").unwrap().name(), "myapp_jw77");
    dagz_core::assert_main_worker("anything");
    drop(guard);
    assert_eq!(calls.seen(), (0, 0, 0));
    let late = common::state::settings().install().unwrap_err();
    insta::assert_snapshot!(late, @"settings were installed after their first use; install them before the first test");
}
