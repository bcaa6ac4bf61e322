//! Rows of the README's table "what a test does" that the other files leave out, and what dagz says of
//! them: events tell when each reset has to look into every table, and why a database was made anew.

mod support;

use std::time::Duration;

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Prepare};
use dagz_testkit::site::events;
use futures_util::SinkExt as _;
use support::{Site, at_site, base, config, connect, dump, rows};

const SCHEMA: &str = "
CREATE TABLE hen (id integer PRIMARY KEY, egg integer);
CREATE TABLE egg (id integer PRIMARY KEY, hen integer NOT NULL REFERENCES hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY (START 10) PRIMARY KEY, name text);
CREATE TABLE area (id integer PRIMARY KEY, x integer, double integer GENERATED ALWAYS AS (x * 2) STORED);
INSERT INTO area SELECT n, n FROM generate_series(1, 4) n;
CREATE UNLOGGED TABLE cache (key text PRIMARY KEY, hits integer);
INSERT INTO cache VALUES ('a', 1), ('b', 2);
CREATE TABLE secret (owner text);
INSERT INTO secret VALUES ('nobody');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY hidden ON secret USING (false) WITH CHECK (true);
GRANT INSERT ON secret TO pg_monitor;
";

fn made_by(schema: &'static str) -> impl FnOnce(Config) -> Config {
    move |config| {
        config.migrate_with("1", move |config| async move {
            connect(&config).await.batch_execute(schema).await
        })
    }
}

const OID: &str = "SELECT oid FROM pg_database WHERE datname = current_database()";

/// Releases and prepares; whether the database is another than that of `oid`. It must be as at the start.
async fn is_anew(site: &Site, what: &str, start: &str, oid: &[String]) -> bool {
    site.driver.release(&site.target).await;
    site.prepare().await;
    let client = site.connect().await;
    assert_eq!(dump(&client).await, start, "{what}");
    rows(&client, OID).await != oid
}

/// The start state, and which database has it.
async fn start(site: &Site) -> (String, Vec<String>) {
    site.init().await;
    let client = site.connect().await;
    (dump(&client).await, rows(&client, OID).await)
}

#[test]
fn rows_of_every_kind_are_undone_in_place() {
    for prepare in [Prepare::Baseline, Prepare::Truncate] {
        for has_log in [true, false] {
            let test = format!("rows_{prepare:?}_{has_log}").to_lowercase();
            at_site(
                &test,
                |config| made_by(SCHEMA)(config).prepare(prepare).write_log(has_log),
                async |site: &Site| {
                    let (start, oid) = start(site).await;
                    for statements in [
                        "BEGIN; INSERT INTO hen VALUES (1, 1); INSERT INTO egg VALUES (1, 1); COMMIT",
                        "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; SAVEPOINT s; INSERT INTO hen VALUES (1); \
                         RELEASE s; INSERT INTO egg VALUES (1, 1); UPDATE hen SET egg = 1; COMMIT",
                        "INSERT INTO item (name) VALUES ('x'); INSERT INTO item OVERRIDING SYSTEM VALUE VALUES (99, 'y')",
                        "INSERT INTO area VALUES (5, 5); UPDATE area SET x = 9 WHERE id = 1; DELETE FROM area WHERE id = 2",
                        "INSERT INTO cache VALUES ('a', 1) ON CONFLICT (key) DO UPDATE SET hits = cache.hits + 1",
                        "TRUNCATE cache, area; INSERT INTO area VALUES (9, 9)",
                        "SET ROLE pg_monitor; INSERT INTO secret VALUES ('me'); RESET ROLE",
                        "PREPARE put AS INSERT INTO item (name) VALUES ($1); EXECUTE put('x'); DEALLOCATE put",
                        "DO $$ BEGIN INSERT INTO item (name) VALUES ('x'); BEGIN INSERT INTO area VALUES (1); \
                         EXCEPTION WHEN OTHERS THEN INSERT INTO area VALUES (6); END; END $$",
                    ] {
                        let client = site.connect().await;
                        client.batch_execute(statements).await.unwrap();
                        assert_ne!(dump(&client).await, start, "{statements} does nothing");
                        drop(client);
                        assert!(
                            !is_anew(site, statements, &start, &oid).await,
                            "{statements}"
                        );
                    }
                },
            );
        }
    }
}

#[test]
fn copied_rows_and_those_of_several_connections_are_undone() {
    at_site("rows_copied", made_by(SCHEMA), async |site: &Site| {
        let (start, oid) = start(site).await;
        let [client, other, third] = [
            site.connect().await,
            site.connect().await,
            site.connect().await,
        ];
        let copy = client.copy_in("COPY area (id, x) FROM STDIN");
        let mut sink = Box::pin(copy.await.unwrap());
        sink.send(b"7\t7\n8\t8\n".as_slice()).await.unwrap();
        // While that one is still writing.
        other
            .batch_execute("BEGIN; INSERT INTO item (name) VALUES ('other')")
            .await
            .unwrap();
        third
            .batch_execute("INSERT INTO hen VALUES (3)")
            .await
            .unwrap();
        assert_eq!(sink.as_mut().finish().await.unwrap(), 2);
        other.batch_execute("COMMIT").await.unwrap();
        assert_ne!(dump(&third).await, start);
        drop((client, other, third));
        assert!(!is_anew(site, "copied", &start, &oid).await);
    });
}

#[test]
fn a_session_that_ends_in_the_middle_of_a_write_leaves_nothing() {
    at_site("rows_ended", made_by(SCHEMA), async |site: &Site| {
        let (start, oid) = start(site).await;
        let client = site.connect().await;
        client
            .batch_execute("BEGIN; INSERT INTO item (name) SELECT 'x' FROM generate_series(1, 50)")
            .await
            .unwrap();
        let pid: i32 = client
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .unwrap()
            .get(0);
        let writing = client.batch_execute("DELETE FROM area; SELECT pg_sleep(60)");
        let ending = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let admin = site.connect().await;
            admin
                .execute("SELECT pg_terminate_backend($1)", &[&pid])
                .await
                .unwrap();
        };
        let (written, ()) = futures_util::future::join(writing, ending).await;
        written.expect_err("the session was ended");
        // The rows are gone with it; the sequence that gave them their numbers stays where it is.
        assert_ne!(dump(&site.connect().await).await, start);
        assert!(!is_anew(site, "ended", &start, &oid).await);
    });
}

#[test]
fn large_objects_of_the_start_state_come_back() {
    let schema = "SELECT lo_from_bytea(4242, '\\x00ff'); CREATE TABLE item (id integer)";
    for has_log in [true, false] {
        at_site(
            &format!("rows_objects_{has_log}"),
            |config| made_by(schema)(config).write_log(has_log),
            async |site: &Site| {
                let (start, mut oid) = start(site).await;
                for (statements, expected) in [
                    ("INSERT INTO item VALUES (1)", false),
                    ("SELECT lo_unlink(4242)", true),
                    ("SELECT lo_from_bytea(0, '\\x01')", true),
                    // What is in them, which their own catalog does not tell.
                    ("SELECT lo_put(4242, 0, 'x')", true),
                    ("SELECT lo_put(4242, 5000, 'x')", true),
                    (
                        "BEGIN; SELECT lo_truncate(lo_open(4242, x'20000'::integer), 1); COMMIT",
                        true,
                    ),
                    ("BEGIN; SELECT lo_put(4242, 0, 'x'); ROLLBACK", false),
                ] {
                    let client = site.connect().await;
                    client.batch_execute(statements).await.unwrap();
                    drop(client);
                    let anew = is_anew(site, statements, &start, &oid).await;
                    assert_eq!(anew, expected, "{statements}");
                    oid = rows(&site.connect().await, OID).await;
                }
            },
        );
    }
}

#[test]
fn a_publication_of_all_tables_hinders_nothing() {
    let schema = "CREATE TABLE item (id serial PRIMARY KEY); CREATE TABLE seed (id integer PRIMARY KEY, name text); \
        INSERT INTO seed VALUES (1, 'one'), (2, 'two'); CREATE TABLE keyless (id integer); \
        CREATE PUBLICATION everything FOR ALL TABLES";
    for has_log in [true, false] {
        at_site(
            &format!("rows_published_{has_log}"),
            |config| made_by(schema)(config).write_log(has_log),
            async |site: &Site| {
                let (start, oid) = start(site).await;
                for (statements, expected) in [
                    ("INSERT INTO item DEFAULT VALUES", false),
                    ("UPDATE seed SET name = 'x' WHERE id = 1", false),
                    ("DELETE FROM seed; INSERT INTO item DEFAULT VALUES", false),
                    ("SELECT setval('item_id_seq', 7)", false),
                    // No row can be deleted there.
                    ("INSERT INTO keyless VALUES (1)", true),
                ] {
                    let client = site.connect().await;
                    client.batch_execute(statements).await.unwrap();
                    drop(client);
                    let anew = is_anew(site, statements, &start, &oid).await;
                    assert_eq!(anew, expected, "{statements}");
                }
                // Nor does that from another start state, where all is looked into.
                site.driver.truncate(&site.target).await.unwrap();
                site.driver.baseline(&site.target).await.unwrap();
                assert_eq!(dump(&site.connect().await).await, start);
            },
        );
    }
}

#[test]
fn an_event_says_why_a_database_was_made_anew_and_how_long_it_took() {
    at_site("rows_drift", made_by(SCHEMA), async |site: &Site| {
        let (start, oid) = start(site).await;
        assert!(events(&site.target, "drift").is_empty());
        let client = site.connect().await;
        client
            .batch_execute("ALTER TABLE item ADD COLUMN colour text")
            .await
            .unwrap();
        drop(client);
        assert!(is_anew(site, "ALTER TABLE", &start, &oid).await);
        let events = events(&site.target, "drift");
        let [event] = events.as_slice() else {
            panic!("one event and not {events:?}");
        };
        assert_eq!(
            event.detail.as_deref(),
            Some("made anew: schema changed: ALTER TABLE public.item")
        );
        assert!(
            event
                .took()
                .is_some_and(|took| took > Duration::from_millis(1))
        );
    });
}

#[test]
fn settings_of_a_role_in_the_database_are_undone() {
    at_site("rows_role", made_by(SCHEMA), async |site: &Site| {
        let (start, oid) = start(site).await;
        let client = site.connect().await;
        let statement = format!(
            "ALTER ROLE CURRENT_USER IN DATABASE \"{}\" SET work_mem = '5MB'",
            site.target.name()
        );
        client.batch_execute(&statement).await.unwrap();
        drop(client);
        assert!(is_anew(site, &statement, &start, &oid).await);
    });
}

/// Once per process and database, where there is no log of writes; and why there is none.
async fn looks_because(site: &Site, expected: Option<&str>) {
    let (start, oid) = start(site).await;
    for _ in 0..2 {
        let client = site.connect().await;
        client
            .batch_execute("INSERT INTO item (name) VALUES ('x')")
            .await
            .unwrap();
        drop(client);
        assert!(!is_anew(site, "INSERT", &start, &oid).await);
    }
    let details: Vec<_> = events(&site.target, "looking")
        .into_iter()
        .filter_map(|event| event.detail)
        .collect();
    let expected: Vec<_> = expected
        .map(|why| format!("each reset looks into every table: {why}"))
        .into_iter()
        .collect();
    assert_eq!(details, expected);
}

const ITEM: &str = "CREATE TABLE item (id serial PRIMARY KEY, name text)";

#[test]
fn an_event_says_why_each_reset_looks_into_every_table() {
    at_site("looks_not", made_by(ITEM), async |site: &Site| {
        looks_because(site, None).await;
    });
    at_site(
        "looks_off",
        |config| made_by(ITEM)(config).write_log(false),
        async |site: &Site| {
            looks_because(site, Some("`write_log(false)` is configured")).await;
        },
    );
    let always = "CREATE TABLE item (id serial PRIMARY KEY, name text); CREATE TABLE noted (n integer); \
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted VALUES (1); RETURN NULL; END'; \
        CREATE TRIGGER note AFTER INSERT OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION note(); \
        ALTER TABLE item ENABLE ALWAYS TRIGGER note";
    at_site("looks_always", made_by(always), async |site: &Site| {
        let why = "triggers or rules that fire even on a replica would write to the log";
        looks_because(site, Some(why)).await;
    });
    let role = "dagz_test_looks";
    support::run(async {
        let admin = connect(&config("postgres")).await;
        // There already, or made by another process at this moment: both are well.
        drop(
            admin
                .batch_execute(&format!(
                    "CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'looks'"
                ))
                .await,
        );
    });
    let mut restricted = config(&base("looks_restricted"));
    restricted.user(role).password("looks");
    at_site(
        "looks_restricted",
        |_| made_by(ITEM)(Config::from_config(restricted)),
        async |site: &Site| {
            looks_because(site, Some("a log of writes needs a superuser")).await;
        },
    );
}
