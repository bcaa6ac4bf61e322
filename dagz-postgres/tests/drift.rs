//! A test that changes the schema gets its successor a database made anew, and only then.

mod support;

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Prepare};
use support::{Site, at_site, rows};

const SCHEMA: &str = "CREATE TABLE item (id serial PRIMARY KEY, name text); \
    INSERT INTO item (name) VALUES ('seed'); CREATE VIEW names AS SELECT name FROM item; \
    CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM item";

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |config| async move {
        support::connect(&config).await.batch_execute(SCHEMA).await
    })
}

const OID: &str = "SELECT oid FROM pg_database WHERE datname = current_database()";

/// The schema, and the rows, as far as these tests change them.
const STATE: &str = "SELECT (SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'item'::regclass AND attnum > 0), \
    (SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace), \
    (SELECT string_agg(name, ',') FROM item), (SELECT n FROM totals), current_setting('work_mem')";

async fn after(site: &Site, statements: &str) -> (bool, Vec<String>, Vec<String>) {
    let client = site.connect().await;
    let (oid, before) = (rows(&client, OID).await, rows(&client, STATE).await);
    client.batch_execute(statements).await.unwrap();
    drop(client);
    site.driver.release(&site.target).await;
    site.prepare().await;
    let client = site.connect().await;
    let is_anew = rows(&client, OID).await != oid;
    (is_anew, before, rows(&client, STATE).await)
}

#[test]
fn changes_of_the_schema_are_undone() {
    for prepare in [Prepare::Baseline, Prepare::Truncate] {
        let name = format!("drift_{prepare:?}").to_lowercase();
        at_site(
            &name,
            |config| with_schema(config).prepare(prepare),
            async |site: &Site| {
                site.init().await;
                for statements in [
                    "CREATE TABLE other (id integer); INSERT INTO other VALUES (1)",
                    "ALTER TABLE item ADD COLUMN colour text",
                    "DROP TABLE item CASCADE",
                    "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
                    "DROP SCHEMA dagz_baseline CASCADE",
                    "ALTER TABLE item RENAME TO thing",
                    "INSERT INTO item (name) VALUES ('x'); REFRESH MATERIALIZED VIEW totals",
                    "CREATE INDEX ON item (name)",
                    "CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
                    "CREATE EVENT TRIGGER mine ON sql_drop EXECUTE FUNCTION dagz_baseline.note_drop()",
                    &format!(
                        "ALTER DATABASE \"{}\" SET work_mem = '5MB'",
                        site.target.name()
                    ),
                    "ALTER SEQUENCE item_id_seq INCREMENT BY 7",
                    "CREATE EXTENSION IF NOT EXISTS pgcrypto",
                ] {
                    let (is_anew, before, state) = after(site, statements).await;
                    assert_eq!(state, before, "{statements}");
                    assert!(is_anew, "{statements}");
                }
            },
        );
    }
}

#[test]
fn an_event_trigger_that_is_called_like_another_is_not_that() {
    for is_logged in [true, false] {
        let configured = |config: Config| {
            config
                .write_log(is_logged)
                .migrate_with("1", |config| async move {
                    let schema = "CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
                        CREATE EVENT TRIGGER own ON table_rewrite EXECUTE FUNCTION told()";
                    support::connect(&config).await.batch_execute(schema).await
                })
        };
        let name = format!("drift_called_{is_logged}");
        at_site(&name, configured, async |site: &Site| {
            site.init().await;
            let event = "SELECT evtevent FROM pg_event_trigger WHERE evtname = 'own'";
            let client = site.connect_as("app").await;
            let changes = "DROP EVENT TRIGGER own; CREATE EVENT TRIGGER own ON sql_drop EXECUTE FUNCTION told()";
            client.batch_execute(changes).await.unwrap();
            assert_eq!(rows(&client, event).await, ["sql_drop"]);
            site.driver.release(&site.target).await;
            site.prepare().await;
            let client = site.connect().await;
            assert_eq!(rows(&client, event).await, ["table_rewrite"]);
        });
    }
}

#[test]
fn what_is_no_change_of_the_schema_keeps_the_database() {
    at_site("no_drift", with_schema, async |site: &Site| {
        site.init().await;
        for statements in [
            "CREATE TEMP TABLE scratch (id serial PRIMARY KEY, name text); DROP TABLE scratch",
            "CREATE TEMP TABLE kept (id serial); CREATE INDEX ON kept (id)",
            "BEGIN; CREATE TABLE other (id integer); DROP TABLE item CASCADE; ROLLBACK",
            "TRUNCATE item RESTART IDENTITY",
            "UPDATE item SET name = 'other'; ANALYZE item",
            "VACUUM item",
            "SET work_mem = '6MB'; PREPARE one AS SELECT 1; LISTEN channel",
            "SELECT setval('item_id_seq', 77)",
            // What migration tools say each time an application starts.
            "CREATE SCHEMA IF NOT EXISTS public; CREATE TABLE IF NOT EXISTS item (id integer);
             CREATE INDEX IF NOT EXISTS item_pkey ON item (id); DROP TABLE IF EXISTS absent",
        ] {
            let (is_anew, before, state) = after(site, statements).await;
            assert_eq!(state, before, "{statements}");
            assert!(!is_anew, "{statements}");
        }
    });
}

#[test]
fn what_a_session_has_to_itself_is_no_change_and_ends_with_a_test_s() {
    at_site("no_drift_kept", with_schema, async |site: &Site| {
        site.init().await;
        let watch = site.connect_as("watch").await;
        let (oid, before) = (rows(&watch, OID).await, rows(&watch, STATE).await);
        for statements in [
            "CREATE TEMP TABLE kept (id serial); CREATE INDEX ON kept (id); INSERT INTO kept VALUES (1)",
            "SET work_mem = '6MB'; PREPARE one AS SELECT 1; LISTEN channel; SELECT pg_advisory_lock(1)",
            "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
        ] {
            // Of nobody, which stays, and of a test that has ended.
            let ended = format!("{}.t000 shop::tests::leaks", site.target.worker());
            for (name, stays) in [("app", true), (ended.as_str(), false)] {
                let kept = site.connect_as(name).await;
                kept.batch_execute(statements).await.unwrap();
                site.driver.release(&site.target).await;
                site.prepare().await;
                let is_there = kept.check_connection().await.is_ok();
                assert_eq!(is_there, stays, "{name}: {statements}");
                assert_eq!(rows(&watch, OID).await, oid, "{name}: {statements}");
                assert_eq!(rows(&watch, STATE).await, before, "{name}: {statements}");
                let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND database = \
                    (SELECT oid FROM pg_database WHERE datname = current_database())";
                let is_held = stays && statements.contains("advisory");
                let held = if is_held { "1" } else { "0" };
                assert_eq!(rows(&watch, locks).await, [held], "{name}: {statements}");
                drop(kept);
                while rows(&watch, locks).await != ["0"] {}
            }
        }
    });
}

#[test]
fn a_database_that_was_dropped_is_made_again() {
    at_site("dropped", with_schema, async |site: &Site| {
        site.init().await;
        site.driver.release(&site.target).await;
        let admin = support::connect(&support::config("postgres")).await;
        admin
            .batch_execute(&format!(
                "DROP DATABASE \"{}\" WITH (FORCE)",
                site.target.name()
            ))
            .await
            .unwrap();
        site.prepare().await;
        let client = site.connect().await;
        assert_eq!(rows(&client, "SELECT name FROM names").await, ["seed"]);
    });
}
