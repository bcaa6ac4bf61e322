//! Tables without a trigger that notes writes: what is written by way of a parent is undone, too.
//!
//! A statement on a partitioned table, or on a parent, fires only the trigger of that, and writes to its descendants.

mod support;

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Prepare};
use support::{Site, at_site, connect, dump, rows};

const SCHEMA: &str = "
CREATE TABLE range (n integer NOT NULL, text text) PARTITION BY RANGE (n);
CREATE TABLE range_low PARTITION OF range FOR VALUES FROM (0) TO (100);
CREATE TABLE range_high PARTITION OF range FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (n);
CREATE TABLE range_high_all PARTITION OF range_high DEFAULT;
INSERT INTO range VALUES (50, 'seed'), (150, 'seed');
CREATE TABLE parent (x integer);
CREATE TABLE child (y integer) INHERITS (parent);
INSERT INTO child VALUES (1, 1);
CREATE TABLE noted (n integer NOT NULL) PARTITION BY RANGE (n);
CREATE TABLE noted_low PARTITION OF noted FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (n);
CREATE TABLE noted_low_all PARTITION OF noted_low DEFAULT;
-- A crash empties it, so it is looked into and needs no trigger, but for what else is written by statements on it.
CREATE UNLOGGED TABLE cache (x integer);
INSERT INTO cache VALUES (10);
CREATE TABLE cached (y integer) INHERITS (cache);
INSERT INTO cached VALUES (1, 1);
";

const CASES: &[&str] = &[
    "INSERT INTO range VALUES (1, 'low')",
    "INSERT INTO range VALUES (101, 'high')",
    "INSERT INTO range_high VALUES (102, 'high')",
    "INSERT INTO range_low VALUES (2, 'low')",
    "COPY range (n) FROM PROGRAM 'echo 3'",
    "UPDATE range SET text = 'x'",
    "DELETE FROM range",
    "TRUNCATE range",
    "UPDATE parent SET x = 2",
    "DELETE FROM parent",
    "INSERT INTO noted VALUES (1)",
    "INSERT INTO noted_low VALUES (1)",
    "UPDATE cache SET x = 2 WHERE x = 1",
    "DELETE FROM cache WHERE x = 1",
    "DELETE FROM cache",
    "UPDATE cached SET x = 2",
];

fn left_out(prepare: Prepare) -> impl FnOnce(Config) -> Config {
    move |config| {
        config
            .prepare(prepare)
            .write_log_except(["range", "public.parent", "noted_low"])
            .migrate_with("1", |config| async move {
                connect(&config).await.batch_execute(SCHEMA).await
            })
    }
}

/// Does the case, and sees that the next reset undoes it, which comes at once, or acts on what was found before.
async fn is_undone(site: &Site, statements: &str, is_ahead: bool) {
    let client = site.connect_as("app").await;
    let start = dump(&client).await;
    client.batch_execute(statements).await.unwrap();
    assert_ne!(dump(&client).await, start, "{statements} does nothing");
    if is_ahead {
        site.release_and_look().await;
    } else {
        site.driver.release(&site.target).await;
    }
    site.prepare().await;
    assert_eq!(dump(&client).await, start, "{statements}");
    client.check_connection().await.expect("undone in place");
}

#[test]
fn what_is_written_by_way_of_a_parent_is_undone() {
    at_site(
        "left_out",
        left_out(Prepare::Baseline),
        async |site: &Site| {
            site.init().await;
            for is_ahead in [false, true] {
                for statements in CASES {
                    is_undone(site, statements, is_ahead).await;
                }
            }
        },
    );
}

#[test]
fn such_tables_become_empty() {
    at_site(
        "left_out_empty",
        left_out(Prepare::Truncate),
        async |site: &Site| {
            site.init().await;
            for statements in [
                "INSERT INTO range VALUES (1, 'low')",
                "INSERT INTO range_high VALUES (102, 'high')",
                "INSERT INTO parent VALUES (1)",
                "INSERT INTO noted VALUES (1)",
                "INSERT INTO noted_low VALUES (1)",
                "INSERT INTO cache VALUES (1)",
            ] {
                is_undone(site, statements, false).await;
            }
        },
    );
}

#[test]
fn only_they_and_their_descendants_have_no_trigger() {
    at_site(
        "left_out_triggers",
        left_out(Prepare::Baseline),
        async |site: &Site| {
            site.init().await;
            let with = "SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'dagz_write' ORDER BY tgrelid::regclass::text";
            let client = site.connect().await;
            let named = rows(&client, with).await;
            assert_eq!(named, ["cache", "cached", "noted"]);
        },
    );
}
