//! What a test changes and no look at the rows shows: the next test would see it by what its own writes do.

mod support;

use dagz_cassandra::{Config, Driver, truncate_session};
use support::{Site, at_site, dump, execute, made_by, plain, rows, url};

/// Another process at the same keyspace, which knows nothing.
fn another(site: &Site, schema: &'static str) -> Site {
    let config = Config::new(&url(&site.base)).expect("the URL is one");
    Site {
        driver: Driver::new(made_by(config, schema)),
        target: site.target.clone(),
        base: site.base.clone(),
        scope: None,
    }
}

const COUNTED: &str = "
    CREATE TABLE counted (id int, at int, hits counter, PRIMARY KEY (id, at));
    CREATE TABLE shared (id int, at int, hits counter static, more counter, PRIMARY KEY (id, at))";

/// Each counts, and leaves no counter that is to be seen.
const UNCOUNTED: [&str; 5] = [
    "UPDATE counted SET hits = hits + 5 WHERE id = 1 AND at = 1; DELETE FROM counted WHERE id = 1",
    "UPDATE counted SET hits = hits + 5 WHERE id = 1 AND at = 1; DELETE FROM counted WHERE id = 1 AND at = 1",
    "UPDATE counted SET hits = hits + 5 WHERE id = 1 AND at = 1; DELETE hits FROM counted WHERE id = 1 AND at = 1",
    "DELETE hits FROM counted WHERE id = 1 AND at = 1",
    "UPDATE shared SET hits = hits + 5 WHERE id = 1; DELETE hits FROM shared WHERE id = 1",
];

/// Counts once, and tells how far that is.
const COUNT: &str = "UPDATE counted SET hits = hits + 1 WHERE id = 1 AND at = 1; UPDATE shared SET hits = hits + 1 WHERE id = 1";
const COUNTERS: [&str; 2] = [
    "SELECT JSON hits FROM counted",
    "SELECT JSON hits FROM shared",
];

#[test]
fn a_counter_that_a_test_deleted_begins_anew() {
    let config = |config| made_by(config, COUNTED);
    at_site("uncounted", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        for writes in UNCOUNTED {
            for process in ["this", "another"] {
                execute(&session, writes).await;
                for look in COUNTERS {
                    assert!(rows(&session, look).await.is_empty(), "{writes}");
                }
                match process {
                    "this" => site.prepare().await,
                    _ => another(site, COUNTED).prepare().await,
                }
                execute(&session, COUNT).await;
                for look in COUNTERS {
                    let told = rows(&session, look).await;
                    assert_eq!(told, [r#"{"hits": 1}"#], "{writes}, by {process} process");
                }
                site.prepare().await;
            }
        }
        execute(&session, UNCOUNTED[0]).await;
        truncate_session(&plain().await, site.target.name())
            .await
            .unwrap();
        execute(&session, COUNT).await;
        let told = rows(&session, COUNTERS[0]).await;
        assert_eq!(told, [r#"{"hits": 1}"#]);
    });
}

const SEEDED: &str = "
    CREATE TABLE t (id int PRIMARY KEY, value text, tags set<int>);
    INSERT INTO t (id, value, tags) VALUES (1, 'inserted', {1});
    UPDATE t SET value = 'updated', tags = {1} WHERE id = 2;
    CREATE TABLE owned (id int, at int, owner text static, value text, PRIMARY KEY (id, at));
    UPDATE owned SET owner = 'seed', value = 'updated' WHERE id = 1 AND at = 1;
    INSERT INTO owned (id, at, value) VALUES (1, 2, 'inserted')";

/// A row that an `UPDATE` made goes with its last value, and one that was inserted stays.
#[test]
fn seed_rows_go_with_their_values_as_they_did() {
    let config = |config| made_by(config, SEEDED);
    at_site("upserted", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let start = dump(&session, site.target.name()).await;
        for writes in [
            "",
            "DELETE FROM t WHERE id = 1; DELETE FROM t WHERE id = 2; DELETE FROM owned WHERE id = 1",
            // Each is the other's then, and all look as before.
            "DELETE FROM t WHERE id = 1; UPDATE t SET value = 'inserted', tags = {1} WHERE id = 1",
            "INSERT INTO t (id, value) VALUES (2, 'updated')",
            "INSERT INTO owned (id, at, value) VALUES (1, 1, 'updated')",
            "DELETE FROM owned WHERE id = 1 AND at = 2; UPDATE owned SET value = 'inserted' WHERE id = 1 AND at = 2",
        ] {
            for process in ["this", "another"] {
                execute(&session, writes).await;
                match process {
                    "this" => site.prepare().await,
                    _ => another(site, SEEDED).prepare().await,
                }
                assert_eq!(dump(&session, site.target.name()).await, start, "{writes}");
                execute(
                    &session,
                    "DELETE value, tags FROM t WHERE id IN (1, 2); DELETE value FROM owned WHERE id = 1 AND at IN (1, 2)",
                )
                .await;
                let told = rows(&session, "SELECT JSON id FROM t").await;
                assert_eq!(told, [r#"{"id": 1}"#], "{writes}, by {process} process");
                let told = rows(&session, "SELECT JSON at FROM owned").await;
                assert_eq!(told, [r#"{"at": 2}"#], "{writes}, by {process} process");
                site.prepare().await;
                assert_eq!(dump(&session, site.target.name()).await, start, "{writes}");
            }
        }
    });
}

const PASSING: &str = "
    CREATE TABLE said (id int PRIMARY KEY, value text) WITH default_time_to_live = 600;
    INSERT INTO said (id, value) VALUES (1, 'seed') USING TTL 0;
    CREATE TABLE later (id int PRIMARY KEY, value text);
    INSERT INTO later (id, value) VALUES (1, 'seed');
    ALTER TABLE later WITH default_time_to_live = 600";

#[test]
fn seed_rows_stay_for_ever_also_where_others_go() {
    let config = |config| made_by(config, PASSING);
    at_site("stays", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        for table in ["said", "later"] {
            execute(&session, &format!("DELETE FROM {table} WHERE id = 1")).await;
            site.prepare().await;
            let told = rows(
                &session,
                &format!("SELECT JSON value, TTL(value) FROM {table}"),
            )
            .await;
            assert_eq!(
                told,
                [r#"{"value": "seed", "ttl(value)": null}"#],
                "{table}"
            );
        }
    });
}
