//! What tests take as arguments: kept clients come back clean, fresh ones are on the test's runtime.

mod support;

use std::{sync::Once, time::Duration};

use dagz_core::{FromScope, Scope, ScopeGuard, Worker};
use dagz_postgres::{Client, Config, Postgres, configure};
use dagz_testkit::site::enter_on;
use support::{base, config, rows, run};

const SCHEMA: &str = "CREATE TABLE item (id serial PRIMARY KEY)";

/// Runs `body` as a test would be run, on a worker.
fn in_scope(test: &str, body: impl AsyncFnOnce(&Scope)) {
    configured();
    in_guarded(&Scope::builder(test).enter().unwrap(), body);
}

/// The same on `worker`, once no other test uses it.
fn in_scope_on(worker: Worker, test: &str, body: impl AsyncFnOnce(&Scope)) {
    configured();
    in_guarded(&enter_on(worker, test), body);
}

fn in_guarded(guard: &ScopeGuard, body: impl AsyncFnOnce(&Scope)) {
    run(body(guard.scope()));
}

fn configured() {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let base = config(&base("arguments"));
        let config = Config::from_config(base).migrate_with("1", |config| async move {
            support::connect(&config).await.batch_execute(SCHEMA).await
        });
        configure(config).unwrap();
    });
}

async fn argument<T: FromScope<Postgres>>(scope: &Scope) -> T {
    T::from_scope(scope)
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

const PID: &str = "SELECT pg_backend_pid()";

const UNUSUAL: &str = "SELECT '{1}'::information_schema.cardinal_number[]";

/// What a test may leave in a session.
const SESSION: &str = "SELECT current_setting('work_mem'), current_user, \
    (SELECT count(*) FROM pg_class WHERE relname = 'scratch'), (SELECT count(*) FROM pg_listening_channels()), \
    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'), \
    (SELECT count(*) FROM pg_cursors WHERE name = 'held'), \
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), now() = statement_timestamp()";

#[test]
fn kept_clients_are_clean() {
    let (mut pid, mut first, mut worker) = (String::new(), String::new(), Worker::new(0));
    in_scope("arguments::first", async |scope| {
        worker = scope.worker();
        let client: Client = argument(scope).await;
        // A type that the client library looks up and keeps statements for.
        client.query(UNUSUAL, &[]).await.unwrap();
        pid = rows(&client, PID).await.remove(0);
        first = rows(&client, SESSION).await.remove(0);
        client
            .batch_execute(
                "CREATE TEMP TABLE scratch (id integer); SET work_mem = '7MB'; LISTEN channel;
                 PREPARE \"of mine\" AS SELECT 1; SELECT nextval('item_id_seq');
                 SELECT pg_advisory_lock(1); DECLARE held CURSOR WITH HOLD FOR SELECT 1;
                 SET ROLE pg_monitor",
            )
            .await
            .unwrap();
        assert_ne!(rows(&client, SESSION).await, [first.as_str()]);
        client.batch_execute("BEGIN; SELECT 1").await.unwrap();
    });
    in_scope_on(worker, "arguments::second", async |scope| {
        let mut others = Vec::new();
        // Other tests on the worker may have left theirs on top of it.
        let client = loop {
            assert!(others.len() < 5, "the first test's session was not kept");
            let client: Client = argument(scope).await;
            if rows(&client, PID).await == [pid.as_str()] {
                break client;
            }
            others.push(client);
        };
        assert_eq!(rows(&client, SESSION).await, [first.as_str()]);
        client.query(UNUSUAL, &[]).await.unwrap();
        let name = rows(&client, "SELECT current_setting('application_name')").await;
        assert_eq!(name, [format!("{} arguments::second", scope.tag())]);
        client
            .batch_execute("SELECT currval('item_id_seq')")
            .await
            .expect_err("the session has no current value any more");
        let id = "INSERT INTO item DEFAULT VALUES RETURNING id";
        assert_eq!(rows(&client, id).await, ["1"]);
    });
}

#[test]
fn a_client_that_is_stuck_is_not_kept() {
    let (mut pid, mut worker) = (String::new(), Worker::new(0));
    in_scope("arguments::stuck", async |scope| {
        worker = scope.worker();
        let client: Client = argument(scope).await;
        pid = rows(&client, PID).await.remove(0);
        // The row is there for all to see while the session sleeps.
        let sleeping =
            client.batch_execute("INSERT INTO item DEFAULT VALUES; COMMIT; SELECT pg_sleep(60)");
        let slept = tokio::time::timeout(Duration::from_millis(50), sleeping).await;
        assert!(slept.is_err());
        let other: Client = argument(scope).await;
        assert_eq!(rows(&other, "SELECT count(*) FROM item").await, ["1"]);
    });
    in_scope_on(worker, "arguments::after", async |scope| {
        let client: Client = argument(scope).await;
        assert_eq!(rows(&client, "SELECT count(*) FROM item").await, ["0"]);
        let stuck = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        assert_eq!(rows(&client, &stuck).await, ["0"], "the session lives on");
    });
}

#[test]
fn several_at_once_are_different_sessions_of_one_database() {
    in_scope("arguments::several", async |scope| {
        let one: Client = argument(scope).await;
        let two: Client = argument(scope).await;
        let fresh: tokio_postgres::Client = argument(scope).await;
        let settings: tokio_postgres::Config = argument(scope).await;
        let mut pids = Vec::new();
        for client in [&*one, &*two, &fresh] {
            pids.push(rows(client, "SELECT pg_backend_pid()").await.remove(0));
            let database = rows(client, "SELECT current_database()").await.remove(0);
            assert_eq!(Some(database.as_str()), settings.get_dbname());
            assert!(
                database.ends_with(&format!("_{}", scope.worker())),
                "{database}"
            );
        }
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), 3);
        let name = rows(&fresh, "SELECT current_setting('application_name')").await;
        assert_eq!(name, [format!("{} arguments::several", scope.tag())]);
        one.batch_execute("INSERT INTO item DEFAULT VALUES")
            .await
            .unwrap();
        assert_eq!(rows(&fresh, "SELECT count(*) FROM item").await, ["1"]);
        drop(two);
    });
}

#[test]
fn transactions_of_kept_clients_work() {
    in_scope("arguments::transactions", async |scope| {
        let mut client: Client = argument(scope).await;
        let transaction = client.transaction().await.unwrap();
        transaction
            .batch_execute("INSERT INTO item DEFAULT VALUES")
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(rows(&client, "SELECT count(*) FROM item").await, ["1"]);
    });
}

#[test]
fn a_base_database_is_reached_where_nothing_is_rerouted() {
    in_scope("arguments::bypassed", async |scope| {
        let _bypassed = dagz_core::bypass();
        let settings: tokio_postgres::Config = argument(scope).await;
        assert_eq!(settings.get_dbname(), Some(base("arguments").as_str()));
        let error = Client::from_scope(scope)
            .await
            .unwrap_err()
            .report()
            .to_string();
        assert!(error.contains("does not exist"), "{error}");
    });
}
