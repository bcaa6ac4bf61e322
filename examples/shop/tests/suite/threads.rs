//! Tasks and threads: how a test's database is found from elsewhere than the test's own thread.

use std::sync::mpsc;
use std::thread;

use dagz::{ErrorKind, Scope};
use postgres::{Client, NoTls};

use crate::app::TestApp;
use crate::support;

/// The test's database, as a piece of code finds it that knows only what it is configured with.
///
/// Without dagz nobody names the connection, so it gets the name of the test's other ones here.
fn open(name: &str) -> Client {
    let mut config = support::rerouted_blocking().unwrap();
    config.application_name(name);
    postgres::Config::from(config).connect(NoTls).unwrap()
}

fn name_of(app: &TestApp) -> String {
    app.config.get_application_name().unwrap().to_owned()
}

fn insert_brand(name: &str, brand: &str) {
    open(name)
        .execute("INSERT INTO brands (name) VALUES ($1)", &[&brand])
        .unwrap();
}

async fn brands(app: &TestApp) -> i64 {
    app.value("SELECT count(*) FROM brands").await
}

#[dagz::test]
async fn a_thread_joins_by_attaching(app: TestApp) {
    let (scope, name) = (dagz::current().unwrap(), name_of(&app));
    let writer = thread::spawn(move || {
        let _attached = scope.attach();
        insert_brand(&name, "Mercator");
    });
    writer.join().unwrap();
    assert_eq!(brands(&app).await, 1);
}

#[dagz::test]
async fn four_threads_write_into_one_database(app: TestApp) {
    let scope = dagz::current().unwrap();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (scope, name) = (scope.clone(), name_of(&app));
            thread::spawn(move || scope.run(|| insert_brand(&name, &format!("Brand {number}"))))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(brands(&app).await, 4);
}

#[dagz::test]
async fn a_thread_that_was_not_handed_the_scope_is_refused(app: TestApp) {
    let rerouted = thread::spawn(support::rerouted_blocking).join().unwrap();
    if dagz::active() {
        assert_eq!(rerouted.unwrap_err().kind(), ErrorKind::OutsideScope);
    } else {
        assert_eq!(rerouted.unwrap().get_dbname(), app.config.get_dbname());
    }
}

#[dagz::test]
async fn a_thread_leaves_the_scope_with_its_guard(app: TestApp) {
    let (scope, name) = (dagz::current().unwrap(), name_of(&app));
    let inside_then_outside = thread::spawn(move || {
        scope.run(|| insert_brand(&name, "Mercator"));
        dagz::current().is_none()
    });
    assert!(inside_then_outside.join().unwrap());
    assert_eq!(brands(&app).await, 1);
}

#[dagz::test]
async fn a_worker_thread_serves_many_jobs(app: TestApp) {
    let (scope, name) = (dagz::current().unwrap(), name_of(&app));
    let (jobs, queue) = mpsc::channel::<String>();
    let worker = thread::spawn(move || {
        let _attached = scope.attach();
        let mut client = open(&name);
        queue
            .iter()
            .map(|brand| {
                client
                    .execute("INSERT INTO brands (name) VALUES ($1)", &[&brand])
                    .unwrap()
            })
            .sum::<u64>()
    });
    for number in 0..10 {
        jobs.send(format!("Brand {number}")).unwrap();
    }
    drop(jobs);
    assert_eq!(worker.join().unwrap(), 10);
    assert_eq!(app.value::<i64>("SELECT max(id) FROM brands").await, 10);
}

#[dagz::test]
async fn a_thread_hands_over_to_its_own_thread(app: TestApp) {
    let (scope, name) = (dagz::current().unwrap(), name_of(&app));
    let outer = thread::spawn(move || {
        scope.run(|| {
            let here = dagz::current().unwrap();
            thread::spawn(move || here.run(|| insert_brand(&name, "Mercator")))
                .join()
                .unwrap();
        });
    });
    outer.join().unwrap();
    assert_eq!(brands(&app).await, 1);
}

#[dagz::test]
async fn scoped_threads_borrow_the_scope(app: TestApp) {
    let (scope, name) = (dagz::current().unwrap(), name_of(&app));
    thread::scope(|threads| {
        for brand in ["Mercator", "Ortelius"] {
            let (scope, name) = (&scope, &name);
            threads.spawn(move || scope.run(|| insert_brand(name, brand)));
        }
    });
    assert_eq!(brands(&app).await, 2);
}

#[dagz::test]
async fn blocking_tasks_are_in_the_scope(app: TestApp) {
    let name = name_of(&app);
    tokio::task::spawn_blocking(move || insert_brand(&name, "Mercator"))
        .await
        .unwrap();
    assert_eq!(brands(&app).await, 1);
}

#[dagz::test(flavor = "multi_thread", worker_threads = 3)]
async fn tasks_on_all_threads_are_in_the_scope(app: TestApp) {
    let own = dagz::current().unwrap().tag().to_owned();
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let pool = app.pool.clone();
            tokio::spawn(async move {
                let insert = "INSERT INTO brands (name) VALUES ($1)";
                pool.get()
                    .await
                    .unwrap()
                    .execute(insert, &[&format!("Brand {number}")])
                    .await
                    .unwrap();
                dagz::current().map(|scope| scope.tag().to_owned())
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().as_ref(), Some(&own));
    }
    assert_eq!(brands(&app).await, 12);
}

#[dagz::test]
async fn a_foreign_runtime_carries_the_scope(app: TestApp) {
    let (scope, config) = (dagz::current().unwrap(), app.config.clone());
    let carried = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(scope.carry(async move {
            let client = crate::today::connect(&config).await.unwrap();
            client
                .execute("INSERT INTO brands (name) VALUES ('Mercator')", &[])
                .await
                .unwrap();
            support::rerouted_blocking()
                .unwrap()
                .get_dbname()
                .map(str::to_owned)
        }))
    });
    assert_eq!(carried.join().unwrap().as_deref(), app.config.get_dbname());
    assert_eq!(brands(&app).await, 1);
}

#[dagz::test]
async fn a_test_may_ask_for_its_scope(scope: Scope, app: TestApp) {
    assert_eq!(scope.tag(), dagz::current().unwrap().tag());
    assert!(
        scope.test().contains("a_test_may_ask_for_its_scope"),
        "{}",
        scope.test()
    );
    app.get("/health").await.expect(200);
}
