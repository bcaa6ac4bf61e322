//! A kept client that a test leaks is ended before the next test, however often it was found harmless on its shelf.

mod support;

use std::time::Duration;

use dagz_core::{FromScope as _, Scope, ScopeGuard, Worker, runtime};
use dagz_postgres::{Client, Config, configure};
use dagz_testkit::site::enter_on;
use support::{base, config, rows, run};

const PID: &str = "SELECT pg_backend_pid()";

async fn client(guard: &ScopeGuard) -> Client {
    Client::from_scope(guard.scope())
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

/// A test that takes a client and gives it back; which session that was. The next one begins after `rest`, and meets
/// another session of nobody's, which has it find out whom it may spare.
fn test(worker: Worker, rest: Duration) -> (String, tokio_postgres::Client) {
    let guard = enter_on(worker, "leaked::test");
    let found = run(async {
        let client = client(&guard).await;
        let mut config = tokio_postgres::Config::from_scope(guard.scope())
            .await
            .unwrap();
        config.application_name("app");
        // On a runtime that outlives this one.
        let other = runtime::run(async move { support::connect(&config).await });
        let other = other.await.unwrap();
        (rows(&client, PID).await.remove(0), other)
    });
    drop(guard);
    std::thread::sleep(rest);
    found
}

#[test]
fn a_kept_client_that_is_leaked_does_not_reach_the_next_test() {
    let config =
        Config::from_config(config(&base("leaked"))).migrate_with("1", |config| async move {
            let schema = "CREATE TABLE item (id serial PRIMARY KEY)";
            support::connect(&config).await.batch_execute(schema).await
        });
    configure(config).unwrap();
    let first = Scope::builder("leaked::first").enter().unwrap();
    let worker = first.scope().worker();
    drop(first);
    // The next test comes at once, or after what is found out behind a test.
    for rest in [Duration::ZERO, Duration::from_millis(100)] {
        let (pids, _others): (Vec<_>, Vec<_>) = (0..3).map(|_| test(worker, rest)).unzip();
        let guard = enter_on(worker, "leaked::leaks");
        let (leaked, pid): (&'static Client, _) = run(async {
            let client = client(&guard).await;
            let pid = rows(&client, PID).await.remove(0);
            (&*Box::leak(Box::new(client)), pid)
        });
        assert!(
            pids.iter().all(|kept| *kept == pid),
            "it was on the shelf: {pids:?}, {pid}"
        );
        let tag = guard.scope().tag().to_owned();
        drop(guard);
        std::thread::sleep(rest);
        let mut guard = enter_on(worker, "leaked::next");
        // Where another job had the worker in between, its tests are counted anew.
        while guard.scope().tag() == tag {
            drop(guard);
            guard = enter_on(worker, "leaked::next");
        }
        run(async {
            let client = client(&guard).await;
            let insert = "INSERT INTO item DEFAULT VALUES";
            leaked
                .batch_execute(insert)
                .await
                .expect_err("the session has ended");
            let left = rows(&client, "SELECT count(*) FROM item").await;
            assert_eq!(left, ["0"], "after {rest:?}");
        });
    }
}
