//! `#[dagz::test]` in every company: sync, async, each flavour, other attributes above and below.
//!
//! Each test here passes. What fails, panics or is ignored on purpose is in `outcomes.rs`.

// Registering set-up functions takes a linker section; users who forbid unsafe code can have it.
#![forbid(unsafe_code)]

use std::num::ParseIntError;
use std::process::Termination;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dagz::{Scope, Worker};
use rstest::rstest;

/// How often the set-up functions ran.
static SETUPS: AtomicUsize = AtomicUsize::new(0);

#[dagz::setup]
fn set_up() -> dagz::Result<()> {
    SETUPS.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

#[dagz::setup]
async fn set_up_async() -> dagz::Result<()> {
    tokio::task::yield_now().await;
    SETUPS.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// The scope of this thread, which has to be that of the test whose name ends in `name`.
#[track_caller]
fn here(name: &str) -> Scope {
    let scope = dagz::current().expect("the thread is in the test's scope");
    assert!(
        scope.test().ends_with(name),
        "{} is not {name}",
        scope.test()
    );
    assert_eq!(SETUPS.load(Ordering::SeqCst), 2);
    scope
}

/// What tells one scope from every other.
fn identity(scope: &Scope) -> (Worker, String) {
    (scope.worker(), scope.tag().to_owned())
}

/// Checks that tasks and blocking threads of this runtime are where the test is.
async fn check_other_threads(name: &'static str) {
    let expected = identity(&here(name));
    let mut elsewhere = Vec::new();
    for _ in 0..16 {
        elsewhere.push(tokio::spawn(async move {
            tokio::task::yield_now().await;
            identity(&here(name))
        }));
        elsewhere.push(tokio::task::spawn_blocking(move || identity(&here(name))));
    }
    for found in elsewhere {
        assert_eq!(found.await.unwrap(), expected);
    }
}

#[dagz::test]
fn sync() {
    let scope = here("sync");
    assert!(!scope.is_main_worker());
    assert!(!scope.is_exclusive());
}

#[dagz::test]
async fn current_thread() {
    check_other_threads("current_thread").await;
}

#[dagz::test(flavor = "multi_thread", worker_threads = 3)]
async fn multi_thread() {
    assert_eq!(tokio::runtime::Handle::current().metrics().num_workers(), 3);
    check_other_threads("multi_thread").await;
}

#[dagz::test(start_paused = true)]
async fn paused_clock() {
    here("paused_clock");
    let start = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(start.elapsed() < Duration::from_secs(600));
}

#[dagz::test]
async fn arguments(scope: Scope, mut worker: Worker) {
    assert_eq!(identity(&scope), identity(&here("arguments")));
    assert_eq!(worker, scope.worker());
    worker = Worker::new(worker.number() + 1);
    assert_ne!(worker, scope.worker());
}

#[dagz::test]
async fn arguments_named_like_the_macro_s_own(argument_1: Scope, argument_0: Worker) {
    fn scope() {}
    scope();
    assert_eq!(argument_1.worker(), argument_0);
}

#[dagz::test(main_worker)]
fn main_worker() {
    assert!(here("main_worker").is_main_worker());
    dagz::assert_main_worker("the test of the mark");
}

#[dagz::test(exclusive)]
async fn exclusive() {
    assert!(here("exclusive").is_exclusive());
    dagz::assert_exclusive("the test of the mark");
}

#[dagz::test(main_worker, exclusive)]
fn both_marks() {
    let scope = here("both_marks");
    assert!(scope.is_main_worker() && scope.is_exclusive());
}

#[dagz::test]
fn result() -> Result<(), ParseIntError> {
    here("result");
    let number: u32 = "1".parse()?;
    assert_eq!(number, 1);
    Ok(())
}

#[dagz::test]
async fn async_result() -> Result<(), ParseIntError> {
    here("async_result");
    let number: u32 = "1".parse()?;
    assert_eq!(number, 1);
    Ok(())
}

#[dagz::test]
async fn any_termination() -> impl Termination {
    here("any_termination");
}

#[dagz::test]
#[should_panic(expected = "in the scope of")]
fn should_panic() {
    panic!("in the scope of {}", here("should_panic").worker());
}

#[tokio::test]
#[dagz::test]
async fn tokio_above() {
    here("tokio_above");
    tokio::time::sleep(Duration::from_millis(1)).await;
    here("tokio_above");
}

#[dagz::test]
#[tokio::test]
async fn tokio_below() {
    check_other_threads("tokio_below").await;
}

#[dagz::test(flavor = "multi_thread")]
#[tokio::test(worker_threads = 2)]
async fn tokio_below_with_options() {
    assert_eq!(tokio::runtime::Handle::current().metrics().num_workers(), 2);
    check_other_threads("tokio_below_with_options").await;
}

#[dagz::test]
#[test]
fn test_below() {
    here("test_below");
}

#[rstest]
#[case(1)]
#[case::second(2)]
#[dagz::test]
fn cases(#[case] number: u32) {
    let name = if number == 1 {
        "cases::case_1"
    } else {
        "cases::case_2_second"
    };
    here(name);
}

#[rstest]
#[case(1)]
#[case(2)]
#[dagz::test(flavor = "multi_thread")]
async fn async_cases(#[case] number: u32, #[ignore] scope: Scope) {
    let name = if number == 1 {
        "async_cases::case_1"
    } else {
        "async_cases::case_2"
    };
    assert_eq!(identity(&scope), identity(&here(name)));
    check_other_threads(name).await;
}

#[rstest]
#[dagz::test]
#[tokio::test]
async fn values(#[values(1, 2)] first: u32, #[values(10, 20)] second: u32) {
    assert_eq!((first + second) % 10, first);
    here(if second == 10 {
        "second_1_10"
    } else {
        "second_2_20"
    });
}

#[dagz::test]
async fn a_thread_that_the_scope_is_handed_to(scope: Scope) {
    let expected = identity(&scope);
    let (outside, inside) = std::thread::spawn(move || {
        let outside = dagz::current().is_some();
        (outside, scope.run(|| identity(&here("handed_to"))))
    })
    .join()
    .unwrap();
    assert!(!outside);
    assert_eq!(inside, expected);
}
