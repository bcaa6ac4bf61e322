//! A keyspace whose making broke off is not taken for good, though it is to be made of the very same.

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dagz_cassandra::Config;
use dagz_core::{DbConfig as _, ErrorKind};
use support::{REPLICATION, Site, at_site, execute, plain, rows};
use tokio::sync::Notify;

/// The state of what was made half-way, to be told from what is made anew.
async fn is_half_made(site: &Site) {
    let session = site.connect().await;
    assert_eq!(rows(&session, "SELECT value FROM t").await, ["seed"]);
    execute(&session, "INSERT INTO t (id, value) VALUES (2, 'half')").await;
}

async fn is_whole(site: &Site, what: &str) {
    let session = site.connect().await;
    let found = rows(&session, "SELECT value FROM t").await;
    assert_eq!(found, ["seed"], "{what}");
    assert!(
        rows(&session, "SELECT value FROM u").await.is_empty(),
        "{what}"
    );
    // And that is what is restored.
    execute(&session, "DELETE FROM t WHERE id = 1").await;
    execute(&session, "INSERT INTO u (id, value) VALUES (1, 'x')").await;
    site.prepare().await;
    let found = rows(&session, "SELECT value FROM t").await;
    assert_eq!(found, ["seed"], "{what}");
    assert!(
        rows(&session, "SELECT value FROM u").await.is_empty(),
        "{what}"
    );
}

/// A file that needs a keyspace of somebody else's, which is not there at first.
#[test]
fn a_migration_that_failed_is_run_again_from_the_start() {
    let other = support::base("half_other");
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "CREATE TABLE t (id int PRIMARY KEY, value text); INSERT INTO t (id, value) VALUES (1, 'seed');
         INSERT INTO {other}.log (id) VALUES (1); CREATE TABLE u (id int PRIMARY KEY, value text)"
    );
    fs::write(directory.path().join("1_a.cql"), text).unwrap();
    let path = directory.path().to_owned();
    let config = |config: Config| config.migrations(path);
    at_site("half_failed", config, async |site| {
        let session = plain().await;
        let drop_other = format!("DROP KEYSPACE IF EXISTS {other}");
        execute(&session, &drop_other).await;
        for anew in ["by `worker_init`", "by `prepare`"] {
            for _ in 0..2 {
                let error = site.driver.worker_init(&site.target).await.unwrap_err();
                let said = error.report().to_string();
                assert_eq!(error.kind(), ErrorKind::WorkerInit, "{said}");
                assert!(said.contains("statement 3 of"), "{said}");
                is_half_made(site).await;
            }
            execute(
                &session,
                &format!("CREATE KEYSPACE {other} WITH {REPLICATION}; CREATE TABLE {other}.log (id int PRIMARY KEY)"),
            )
            .await;
            match anew {
                "by `worker_init`" => site.driver.worker_init(&site.target).await.unwrap(),
                _ => site.prepare().await,
            }
            is_whole(site, anew).await;
            // A test spoils it, and it is to be made anew.
            execute(&session, &drop_other).await;
            execute(&site.connect().await, "ALTER TABLE u ADD more int").await;
            let error = site.driver.prepare(&site.target).await.unwrap_err();
            let said = error.report().to_string();
            assert!(said.contains("statement 3 of"), "{said}");
        }
    });
}

/// What a process leaves that is killed where a user's function is half done.
#[test]
fn what_a_killed_process_was_making_is_made_anew() {
    let (is_first, begun) = (Arc::new(AtomicBool::new(true)), Arc::new(Notify::new()));
    let (shared, told) = (Arc::clone(&is_first), Arc::clone(&begun));
    let config = move |config: Config| {
        config.migrate_with("1", move |session| {
            let (is_first, told) = (Arc::clone(&shared), Arc::clone(&told));
            async move {
                let table = "CREATE TABLE t (id int PRIMARY KEY, value text)";
                execute(&session, table).await;
                execute(&session, "INSERT INTO t (id, value) VALUES (1, 'seed')").await;
                if is_first.swap(false, Ordering::SeqCst) {
                    told.notify_one();
                    std::future::pending::<()>().await;
                }
                let table = "CREATE TABLE u (id int PRIMARY KEY, value text)";
                execute(&session, table).await;
                Ok::<_, std::io::Error>(())
            }
        })
    };
    at_site("half_killed", config, async |site| {
        for anew in ["by `worker_init`", "by `prepare`"] {
            is_first.store(true, Ordering::SeqCst);
            let making = async {
                if anew == "by `worker_init`" {
                    return site.driver.worker_init(&site.target).await;
                }
                // A test spoils it, and it is to be made anew.
                execute(&site.connect().await, "DROP TABLE u").await;
                site.driver.prepare(&site.target).await
            };
            tokio::select! {
                made = making => panic!("it was made: {made:?}"),
                () = begun.notified() => {}
            }
            is_half_made(site).await;
            match anew {
                "by `worker_init`" => site.driver.worker_init(&site.target).await.unwrap(),
                _ => site.prepare().await,
            }
            is_whole(site, anew).await;
        }
    });
}

/// A killed process had asked for it, and the server is still at it when the next run looks.
#[test]
fn what_is_dropped_at_this_moment_is_made_anew() {
    let migrations = |config: Config| {
        config.migrate_with("1", async |session| {
            for table in ["t", "u"] {
                let table = format!("CREATE TABLE {table} (id int PRIMARY KEY, value text)");
                execute(&session, &table).await;
            }
            execute(&session, "INSERT INTO t (id, value) VALUES (1, 'seed')").await;
            Ok::<_, std::io::Error>(())
        })
    };
    at_site("half_dropped", migrations, async |site| {
        let killed = plain().await;
        for round in 0..12 {
            let drop = format!("DROP KEYSPACE IF EXISTS {}", site.target.name());
            let dropped = execute(&killed, &drop);
            let looked = async {
                tokio::time::sleep(Duration::from_millis(6 * round)).await;
                site.driver.worker_init(&site.target).await
            };
            let ((), looked) = futures_util::join!(dropped, looked);
            looked.unwrap_or_else(|error| panic!("round {round}: {}", error.report()));
            // What was complete when it was looked at is gone since.
            site.prepare().await;
            let session = site.connect().await;
            let found = rows(&session, "SELECT value FROM t").await;
            assert_eq!(found, ["seed"], "round {round}");
        }
    });
}
