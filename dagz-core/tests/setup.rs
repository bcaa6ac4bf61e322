//! Set-up: once per process, before the first body; callbacks once per worker and job; what a
//! failing one says.

#[path = "common/state.rs"]
mod state;

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use dagz_core::{__private::Setup, Error, ErrorKind, Scope, Worker};

static RUNS: AtomicUsize = AtomicUsize::new(0);
static INITIALISED: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
static BREAK: AtomicBool = AtomicBool::new(false);

dagz_core::__private::inventory::submit! {
    Setup {
        name: "set_up",
        run: || {
            RUNS.fetch_add(1, Ordering::SeqCst);
            dagz_core::add_worker_init("remember", |worker| {
                INITIALISED.lock().unwrap().push(worker);
                Ok(())
            });
            dagz_core::add_worker_init("fragile", |_| {
                if BREAK.load(Ordering::SeqCst) {
                    return Err(Error::new(ErrorKind::WorkerInit, "port 8000 is taken"));
                }
                Ok(())
            });
            Ok(())
        },
    }
}

#[test]
fn set_up_and_callbacks_run_as_often_as_they_should() {
    state::settings().install().unwrap();
    for _ in 0..3 {
        let guard = Scope::builder("t").enter().unwrap();
        assert_eq!(guard.scope().worker(), Worker::new(0));
    }
    let first = Scope::builder("a").enter().unwrap();
    std::thread::spawn(|| {
        let second = Scope::builder("b").enter().unwrap();
        assert_eq!(second.scope().worker(), Worker::new(1));
        BREAK.store(true, Ordering::SeqCst);
        let third = std::thread::spawn(|| {
            let error = Scope::builder("c").enter().unwrap_err();
            insta::assert_snapshot!(error.report(), @"the worker initialisation `fragile` failed on jw02: port 8000 is taken");
            BREAK.store(false, Ordering::SeqCst);
            let again = Scope::builder("d").enter().unwrap_err();
            assert_eq!(again.report().to_string(), error.report().to_string(), "a failure is remembered");
        });
        third.join().unwrap();
    })
    .join()
    .unwrap();
    drop(first);
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
    assert_eq!(*INITIALISED.lock().unwrap(), [0, 1, 2].map(Worker::new));
}
