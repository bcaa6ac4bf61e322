//! The nine steps of the one path, each with what it does and what it says when misused.
//!
//! All tests share one process and its settings, so each configures a driver word of its own.

mod common;

use std::{fs, sync::Arc, thread, time::Duration};

use common::{Calls, Folders, access, open};
use dagz_core::{Error, ErrorKind, Scope, ScopeGuard, Worker};

fn enter(test: &str) -> ScopeGuard {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| {
        common::state::settings().install().unwrap();
    });
    Scope::builder(test).enter().unwrap()
}

fn configured(driver: &'static str) -> Arc<Calls> {
    configured_as(Folders::new(driver))
}

fn configured_as(folders: Folders) -> Arc<Calls> {
    let calls = folders.calls.clone();
    dagz_core::configure(folders).unwrap();
    calls
}

/// The text of an error with the worker, which differs from run to run, made `jwNN`.
fn text(error: &Error, worker: Worker) -> String {
    error
        .report()
        .to_string()
        .replace(&worker.to_string(), "jwNN")
}

#[test]
fn step_2_an_unconfigured_driver_is_an_error() {
    let _scope = enter("t");
    let error = open("unknown", "myapp").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfigured);
    insta::assert_snapshot!(error, @"connection attempted without configuration: call dagz::unknown::configure(..) first");
}

#[test]
fn step_2_configuring_twice_is_an_error() {
    configured("twice");
    let error = dagz_core::configure(Folders::new("twice")).unwrap_err();
    insta::assert_snapshot!(error, @"`dagz::twice::configure` was called twice in one process; call it once, in `#[dagz::setup]`");
}

#[test]
fn step_3_bypass_and_main_worker_keep_the_name() {
    let calls = configured("bypassed");
    {
        let scope = enter("t");
        let bypass = dagz_core::bypass();
        assert_eq!(open("bypassed", "myapp").unwrap().name(), "myapp");
        drop(bypass);
        let expected = format!("myapp_{}", scope.scope().worker());
        assert_eq!(open("bypassed", "myapp").unwrap().name(), expected);
    }
    let _main = Scope::builder("t").main_worker(true).enter().unwrap();
    assert_eq!(open("bypassed", "myapp").unwrap().name(), "myapp");
    assert_eq!(
        calls.seen(),
        (1, 1, 1),
        "only the rerouted access did anything"
    );
}

#[test]
fn step_3_a_driver_may_refuse_the_main_worker() {
    let mut folders = Folders::new("noexception");
    folders.options.main_worker_bypass = false;
    configured_as(folders);
    let scope = enter("t");
    drop(scope);
    let main = Scope::builder("t").main_worker(true).enter().unwrap();
    let name = format!("myapp_{}", main.scope().worker());
    assert_eq!(open("noexception", "myapp").unwrap().name(), name);
}

#[test]
fn step_4_what_is_not_rerouted_passes_unchanged() {
    let calls = configured("filtered");
    let scope = enter("t");
    let own = format!("myapp_{}", scope.scope().worker());
    for name in ["", "system", "shared", own.as_str()] {
        let route = open("filtered", name).unwrap();
        assert_eq!(route.name(), name);
        assert!(route.target().is_none());
    }
    assert_eq!(calls.seen(), (0, 0, 0));
}

#[test]
fn step_4_another_workers_name_is_an_error_that_names_both() {
    configured("foreign");
    let scope = enter("orders::places_one");
    let worker = scope.scope().worker();
    let error = open("foreign", "myapp_jw77").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignWorker);
    insta::assert_snapshot!(text(&error, worker), @"the foreign database `myapp_jw77` belongs to worker jw77, but `orders::places_one` runs on jwNN; open the base name instead, and see whether a pool or URL is kept from one test to the next");
}

#[test]
fn step_5_a_thread_outside_the_scope_is_an_error_and_one_inside_is_not() {
    configured("threads");
    let guard = enter("t");
    let scope = guard.scope().clone();
    thread::spawn(move || {
        let error = open("threads", "myapp").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutsideScope);
        insta::assert_snapshot!(error, @"the threads database `myapp` was opened outside a test while tests run in this process; carry the test's scope there: `let scope = dagz::current()` in the test, then `scope.run(..)` in the thread or `scope.carry(..)` around the task's future");
        let inside = scope.run(|| open("threads", "myapp")).unwrap();
        assert_eq!(inside.name(), format!("myapp_{}", scope.worker()));
        assert!(dagz_core::current().is_none(), "the thread has left the scope again");
    })
    .join()
    .unwrap();
}

#[test]
fn step_5_a_task_on_a_foreign_runtime_is_carried() {
    configured("tasks");
    let guard = enter("t");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let route = runtime.block_on(async {
        let outside = tokio::spawn(dagz_core::resolve("tasks", access("myapp")));
        assert_eq!(
            outside.await.unwrap().unwrap_err().kind(),
            ErrorKind::OutsideScope
        );
        let opening = async {
            tokio::task::yield_now().await;
            dagz_core::resolve("tasks", access("myapp")).await
        };
        tokio::spawn(guard.scope().carry(opening)).await.unwrap()
    });
    assert_eq!(
        route.unwrap().name(),
        format!("myapp_{}", guard.scope().worker())
    );
}

#[test]
fn step_5_a_thread_that_outlives_its_test_is_an_error() {
    configured("late");
    let guard = enter("orders::places_one");
    let scope = guard.scope().clone();
    scope.run(|| open("late", "myapp")).unwrap();
    drop(guard);
    let error = scope.run(|| open("late", "myapp")).unwrap_err();
    insta::assert_snapshot!(error, @"a thread or task of `orders::places_one` opened a database after that test had ended; join it before the test returns");
}

#[test]
fn step_6_long_names_are_shortened_and_stay_apart() {
    configured("long");
    let _scope = enter("t");
    let names = ["a", "b"].map(|end| {
        let base = format!("{}{end}", "x".repeat(40));
        open("long", &base).unwrap().name().to_owned()
    });
    assert_ne!(names[0], names[1]);
    assert!(names.iter().all(|name| name.len() <= 32), "{names:?}");
}

#[test]
fn step_6_a_rewrite_that_mixes_workers_or_bases_is_an_error() {
    let mut folders = Folders::new("careless");
    folders.rewrite = Some(|_, _| "test".to_owned());
    configured_as(folders);
    let mut folders = Folders::new("baseless");
    folders.rewrite = Some(|worker, _| format!("test_{}", worker.number()));
    configured_as(folders);

    let scope = enter("t");
    let worker = scope.scope().worker();
    let error = open("careless", "myapp").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    insta::assert_snapshot!(text(&error, worker), @"the careless database `myapp` cannot be rerouted for jwNN: `rewrite` gives `test` for other workers too; make the worker a part of it");
    open("baseless", "one").unwrap();
    let error = open("baseless", "two").unwrap_err();
    let text = text(&error, worker).replace(&worker.number().to_string(), "N");
    insta::assert_snapshot!(text, @"the baseless database `two` cannot be rerouted for jwNN: `rewrite` gives `test_N` for `one` too; make the base a part of it");
}

#[test]
fn step_7_a_failing_worker_init_is_reported_again_and_not_run_again() {
    let calls = configured("broken");
    let texts = [(); 2].map(|()| {
        let scope = enter("t");
        let error = open("broken", "broken").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerInit);
        (scope.scope().worker(), text(&error, scope.scope().worker()))
    });
    insta::assert_snapshot!(texts[0].1, @"initialising the broken database `broken_jwNN` at `disk` for `t` on jwNN failed: creating the folder `broken_jwNN` failed: disk full");
    assert_eq!(texts[0].1, texts[1].1);
    let workers = if texts[0].0 == texts[1].0 { 1 } else { 2 };
    assert_eq!(calls.seen().0, workers, "once per worker");
}

#[test]
fn step_8_prepare_runs_once_per_scope_however_many_ask_at_once() {
    let mut folders = Folders::new("crowd");
    folders.slow = Duration::from_millis(30);
    let root = folders.root.clone();
    let calls = configured_as(folders);
    for round in 1..=2 {
        let guard = enter("t");
        let scope = guard.scope();
        thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| scope.run(|| open("crowd", "myapp")).unwrap());
            }
        });
        assert_eq!(calls.seen().1, round);
        let folder = root.join(format!("myapp_{}", scope.worker()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::write(folder.join("row"), "of this test").unwrap();
        open("crowd", "myapp").unwrap();
        assert!(
            folder.join("row").exists(),
            "a second access prepares nothing"
        );
    }
    assert_eq!(calls.seen().2, 2, "each scope released what it prepared");
}

#[test]
fn step_8_what_takes_long_is_told_of_while_it_does() {
    let mut folders = Folders::new("patient");
    folders.slow = Duration::from_millis(5_300);
    configured_as(folders);
    let guard = enter("t");
    let worker = guard.scope().worker();
    open("patient", "myapp").unwrap();
    let settings = dagz_core::Settings::current().unwrap();
    let log = settings.state_dir().join("jobs/j1/events.jsonl");
    let log = fs::read_to_string(log).unwrap();
    let told = |line: &&str| line.contains("\"warning\"") && line.contains("patient");
    let told: Vec<_> = log.lines().filter(told).collect();
    let expected = format!(
        "preparing the patient database `myapp_{worker}` at `disk` for `t` on {worker} has taken 5s so far"
    );
    assert!(told.len() == 1 && told[0].contains(&expected), "{told:?}");
}

#[test]
fn step_8_a_scope_is_not_left_while_a_preparation_runs() {
    let mut folders = Folders::new("slow");
    folders.slow = Duration::from_millis(100);
    let calls = configured_as(folders);
    let guard = enter("t");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let given_up = runtime.block_on(async {
        let opening = dagz_core::resolve("slow", access("myapp"));
        tokio::time::timeout(Duration::from_millis(5), opening).await
    });
    assert!(given_up.is_err());
    drop(guard);
    assert_eq!(
        calls.seen(),
        (1, 1, 1),
        "what the test gave up on was finished before it was left"
    );
}

#[test]
fn step_8_manual_init_skips_the_preparation_of_that_name_only() {
    let calls = configured("manual");
    let _scope = enter("t");
    dagz_core::manual_init("manual", "mine").unwrap();
    open("manual", "mine").unwrap();
    assert_eq!(calls.seen(), (1, 0, 0));
    open("manual", "other").unwrap();
    assert_eq!(calls.seen(), (2, 1, 0));
    let late = dagz_core::manual_init("manual", "other").unwrap_err();
    insta::assert_snapshot!(late, @"`manual_init` of the manual database `other` comes too late in `t`: it was opened before");
}

#[test]
fn a_scope_inside_a_scope_is_an_error() {
    let _outer = enter("outer");
    let error = Scope::builder("inner").enter().unwrap_err();
    insta::assert_snapshot!(error, @"`inner` was entered inside `outer`, on the same thread; a test has one scope: use the outer one, `dagz::current()`");
}

#[test]
fn marks_are_asserted_by_the_flows_that_need_them() {
    let said = |body: fn()| {
        let panic = std::panic::catch_unwind(body).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    {
        let _scope = enter("orders::exports");
        insta::assert_snapshot!(said(|| dagz_core::assert_main_worker("nightly export")), @"`nightly export` needs a test marked `main_worker`, and `orders::exports` is not: write `#[dagz::test(main_worker)]`");
        insta::assert_snapshot!(said(|| dagz_core::assert_exclusive("load test")), @"`load test` needs a test marked `exclusive`, and `orders::exports` is not: write `#[dagz::test(exclusive)]`");
    }
    insta::assert_snapshot!(said(|| dagz_core::assert_exclusive("load test")), @"`load test` needs a test marked `exclusive`, and runs outside any: call it from one, `#[dagz::test(exclusive)]`");
    let _marked = Scope::builder("t").main_worker(true).enter().unwrap();
    dagz_core::assert_main_worker("nightly export");
}
