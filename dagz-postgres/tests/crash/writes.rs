//! A crash of what a test does, of what undoes it, and between them.

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Prepare};
use tokio_postgres::Client;

use crate::{
    another,
    faults::{at_site, crash, crash_for, pid, recovered, see_that_it_went, session},
    support::{Site, dump, rows},
    with_schema,
};

/// What is committed before the crash, and written out by then.
const WRITES: &str = "
SET synchronous_commit = on;
INSERT INTO cache (key) VALUES ('x');
INSERT INTO kept (key) VALUES ('x');
DELETE FROM kept WHERE id = 2;
UPDATE seed SET name = 'changed' WHERE id = 1;
DELETE FROM seed WHERE id = 2;
SELECT nextval('free'), nextval('used');
INSERT INTO item (name) VALUES ('committed');
";

/// What is in the middle of it.
const WRITING: &str = "
WITH w AS (INSERT INTO seed SELECT n, 'lost' FROM generate_series(100, 200) n), x AS (DELETE FROM kept)
INSERT INTO item (name) SELECT pg_sleep(0.002)::text FROM generate_series(1, 100000)";

/// Dies in the middle of writing.
async fn die(site: &Site) {
    let (client, watch) = (site.connect_as("app").await, site.connect().await);
    client.batch_execute(WRITES).await.unwrap();
    let pid = pid(&client).await;
    let (written, ()) = tokio::join!(client.batch_execute(WRITING), async {
        while rows(&watch, "SELECT last_value > 20 FROM item_id_seq").await != ["t"] {}
        crash(pid).await;
    });
    written.unwrap_err();
}

/// What is left of [`WRITES`] and [`WRITING`]: otherwise nothing is tested here.
async fn see_that_it_crashed(client: &Client) {
    let left = "SELECT (SELECT string_agg(name, ' ') FROM item), (SELECT name FROM seed WHERE id = 1), \
        (SELECT count(*) FROM seed), (SELECT count(*) FROM cache), (SELECT count(*) FROM kept), \
        (SELECT last_value > 8 FROM free), (SELECT last_value > 42 FROM used)";
    assert_eq!(rows(client, left).await, ["committed changed 4 0 0 t t"]);
}

fn configured(prepare: Prepare, has_log: bool) -> impl Fn(Config) -> Config + Copy {
    move |config| with_schema(config).prepare(prepare).write_log(has_log)
}

#[test]
fn of_a_backend_in_mid_write() {
    for prepare in [Prepare::Baseline, Prepare::Truncate] {
        for has_log in [true, false] {
            let name = format!("crash_{prepare:?}_{has_log}").to_lowercase();
            let configured = configured(prepare, has_log);
            at_site(&name, configured, async |site: &Site| {
                site.init().await;
                let start = dump(&site.connect().await).await;
                // In one that knows the database, and then in one that does not.
                for is_known in [true, false] {
                    if prepare == Prepare::Truncate {
                        // For there to be what `WRITES` changes.
                        let seeds = "INSERT INTO seed VALUES (1), (2), (3), (4), (5); INSERT INTO kept VALUES (2); \
                                     SELECT setval('used', 40)";
                        site.connect().await.batch_execute(seeds).await.unwrap();
                    }
                    die(site).await;
                    see_that_it_crashed(&site.connect().await).await;
                    site.driver.release(&site.target).await;
                    if is_known {
                        site.prepare().await;
                    } else {
                        another(site, configured).await.release(&site.target).await;
                    }
                    assert_eq!(
                        dump(&site.connect().await).await,
                        start,
                        "known: {is_known}"
                    );
                }
                // What was not written out yet may be lost, and whatever is undone twice is as well.
                for _ in 0..2 {
                    let client = site.connect().await;
                    let writes = WRITES.replace("= on", "= off");
                    client.batch_execute(&writes).await.unwrap();
                    site.driver.release(&site.target).await;
                    site.prepare().await;
                    crash(pid(&client).await).await;
                    site.driver.release(&site.target).await;
                    site.prepare().await;
                    assert_eq!(
                        dump(&site.connect().await).await,
                        start,
                        "reset and crashed"
                    );
                }
            });
        }
    }
}

#[test]
fn of_what_each_detection_is_needed_for() {
    for (blind, left) in [
        ("writes", "SELECT name = 'changed' FROM seed WHERE id = 1"),
        ("unnoted", "SELECT count(*) = 0 FROM kept"),
        ("stale", "SELECT last_value > 8 FROM free"),
    ] {
        let configured = |config| with_schema(config).blind_to(blind);
        at_site(
            &format!("crash_blind_{blind}"),
            configured,
            async |site: &Site| {
                site.init().await;
                die(site).await;
                site.driver.release(&site.target).await;
                site.prepare().await;
                assert_eq!(
                    rows(&site.connect().await, left).await,
                    ["t"],
                    "nobody needs `{blind}`"
                );
            },
        );
    }
}

/// After what was found out behind a test, and before the next test makes use of it.
#[test]
fn after_all_was_found_out() {
    for is_blind in [false, true] {
        let configured = |config| match is_blind {
            true => with_schema(config).blind_to("unnoted"),
            false => with_schema(config),
        };
        at_site(
            &format!("crash_ahead_{is_blind}"),
            configured,
            async |site: &Site| {
                site.init().await;
                let start = dump(&site.connect().await).await;
                for _ in 0..2 {
                    // The first reset of a connection looks for itself.
                    site.driver.release(&site.target).await;
                    site.prepare().await;
                    // Written to often enough for the statement that undoes it to be kept.
                    for _ in 0..3 {
                        let insert = "INSERT INTO item (name) VALUES ('x')";
                        site.connect().await.batch_execute(insert).await.unwrap();
                        site.release_and_look().await;
                        site.prepare().await;
                    }
                    let client = site.connect_as("app").await;
                    client
                        .batch_execute("INSERT INTO item (name) VALUES ('x')")
                        .await
                        .unwrap();
                    site.release_and_look().await;
                    crash(pid(&client).await).await;
                    site.prepare().await;
                    let is_exact = dump(&site.connect().await).await == start;
                    assert_eq!(is_exact, !is_blind);
                }
            },
        );
    }
}

/// Makes what is written by a reset, and by nobody else, take its time.
const SLOW: &str = "
CREATE FUNCTION slowly(name text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('dagz.resets', true) = 'on' THEN PERFORM pg_sleep(0.2); END IF;
    RETURN true;
END $$;
CREATE TABLE slow (id integer PRIMARY KEY, name text CHECK (slowly(name)));
INSERT INTO slow SELECT n, 'slow ' || n FROM generate_series(1, 8) n;
";

#[test]
fn of_a_reset_that_is_writing() {
    for is_blind in [false, true] {
        let configured = move |config: Config| {
            let config = match is_blind {
                true => config.blind_to("writes"),
                false => config,
            };
            config.migrate_with("slow", |config| async move {
                let client = crate::support::connect(&config).await;
                client.batch_execute(crate::SCHEMA).await?;
                client.batch_execute(SLOW).await
            })
        };
        at_site(
            &format!("crash_reset_{is_blind}"),
            configured,
            async |site: &Site| {
                site.init().await;
                let client = site.connect().await;
                let start = dump(&client).await;
                client.batch_execute(WRITES).await.unwrap();
                client
                    .batch_execute("UPDATE slow SET name = 'changed'")
                    .await
                    .unwrap();
                drop(client);
                site.driver.release(&site.target).await;
                let slow = format!(
                    "datname = '{}' AND wait_event = 'PgSleep'",
                    site.target.name()
                );
                if is_blind {
                    // Nothing is restored, so there is nothing to be in the middle of.
                    site.prepare().await;
                    assert_ne!(dump(&site.connect().await).await, start);
                    return;
                }
                let (prepared, ()) = tokio::join!(site.driver.prepare(&site.target), async {
                    crash_for(session(&slow).await, 1).await;
                });
                let error = prepared.unwrap_err();
                see_that_it_went(&error);
                recovered().await;
                let client = site.connect().await;
                assert_eq!(
                    rows(&client, "SELECT DISTINCT name FROM slow").await,
                    ["changed"]
                );
                drop(client);
                site.prepare().await;
                assert_eq!(dump(&site.connect().await).await, start);
            },
        );
    }
}

/// While a reset waits for a transaction that an earlier test left open, and that holds a row.
#[test]
fn of_a_reset_that_waits() {
    let configured = |config| with_schema(config).leak_patience(std::time::Duration::from_secs(60));
    at_site("crash_waits", configured, async |site: &Site| {
        site.init().await;
        let client = site.connect_as("app").await;
        let start = dump(&client).await;
        client.batch_execute(WRITES).await.unwrap();
        client
            .batch_execute("BEGIN; UPDATE seed SET name = 'held' WHERE id = 3")
            .await
            .unwrap();
        site.driver.release(&site.target).await;
        let keeper = format!(
            "datname = '{}' AND application_name LIKE 'dagz %' AND query LIKE '%xact_start%'",
            site.target.name()
        );
        let (prepared, ()) = tokio::join!(site.driver.prepare(&site.target), async {
            crash_for(session(&keeper).await, 1).await;
        });
        let error = prepared.unwrap_err();
        see_that_it_went(&error);
        recovered().await;
        site.prepare().await;
        assert_eq!(dump(&site.connect().await).await, start);
    });
}
