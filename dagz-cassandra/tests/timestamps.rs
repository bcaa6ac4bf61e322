//! When something is written, by the clock of whoever writes it: from the future, too late, right after a reset.

mod support;

use support::{at_site, execute, made_by, rows};

/// The beginning of the year 2100, in microseconds.
const FUTURE: i64 = 4_102_444_800_000_000;

const SCHEMA: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, value text);
    CREATE TABLE passing (id int PRIMARY KEY, value text) WITH default_time_to_live = 3600;
    CREATE TABLE shared (id int, at int, owner text static, value text, PRIMARY KEY (id, at))";

#[test]
fn a_write_from_the_future_is_cleared_and_hides_no_later_one() {
    let config = |config| made_by(config, SCHEMA);
    at_site("future", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        for table in ["plain", "passing"] {
            let write = format!("INSERT INTO {table} (id, value) VALUES (1, 'x')");
            execute(&session, &format!("{write} USING TIMESTAMP {FUTURE}")).await;
            site.prepare().await;
            let query = format!("SELECT value FROM {table}");
            assert!(rows(&session, &query).await.is_empty(), "{table}");
            execute(&session, &write).await;
            assert_eq!(rows(&session, &query).await, ["x"], "{table}");
            site.prepare().await;
            assert!(rows(&session, &query).await.is_empty(), "{table}");
        }
    });
}

/// What the README says is out of reach: whoever makes it found should say so there.
#[test]
fn a_deletion_from_the_future_is_not_found() {
    let config = |config| made_by(config, SCHEMA);
    at_site("tombstone", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let delete = format!("DELETE FROM plain USING TIMESTAMP {FUTURE} WHERE id = 1");
        execute(&session, &delete).await;
        site.prepare().await;
        let writes = "INSERT INTO plain (id, value) VALUES (1, 'x'); INSERT INTO plain (id, value) VALUES (2, 'y')";
        execute(&session, writes).await;
        let query = "SELECT value FROM plain";
        assert_eq!(rows(&session, query).await, ["y"]);
        // It goes with the next that is to be found there.
        let write =
            format!("INSERT INTO plain (id, value) VALUES (3, 'z') USING TIMESTAMP {FUTURE}");
        execute(&session, &write).await;
        site.prepare().await;
        execute(&session, writes).await;
        assert_eq!(rows(&session, query).await, ["x", "y"]);
    });
}

/// The same: the server has no sessions to end.
#[test]
fn a_late_write_of_an_earlier_test_arrives_and_goes_with_the_next() {
    let config = |config| made_by(config, SCHEMA);
    at_site("late", config, async |site| {
        site.init().await;
        let leaked = site.connect().await;
        site.prepare().await;
        execute(&leaked, "INSERT INTO plain (id, value) VALUES (1, 'x')").await;
        let session = site.connect().await;
        let query = "SELECT value FROM plain";
        assert_eq!(rows(&session, query).await, ["x"]);
        site.prepare().await;
        assert!(rows(&session, query).await.is_empty());
    });
}

#[test]
fn a_write_right_after_a_reset_is_seen() {
    let config = |config| made_by(config, SCHEMA);
    at_site("after", config, async |site| {
        site.init().await;
        // Each connection has timestamps of its own, which begin with every millisecond.
        let sessions = [site.connect().await, site.connect().await];
        let mut lost = Vec::new();
        for round in 0..150 {
            let session = &sessions[round % 2];
            let write = session.query_unpaged("INSERT INTO plain (id, value) VALUES (1, 'x')", ());
            write.await.unwrap();
            if rows(session, "SELECT value FROM plain").await.is_empty() {
                lost.push(round);
            }
            // As a test does that cleans up after itself.
            execute(
                session,
                "INSERT INTO shared (id, at) VALUES (1, 1); DELETE FROM shared WHERE id = 1",
            )
            .await;
            site.prepare().await;
            assert!(rows(session, "SELECT value FROM plain").await.is_empty());
        }
        assert!(
            lost.is_empty(),
            "in these rounds the write was hidden: {lost:?}"
        );
    });
}
