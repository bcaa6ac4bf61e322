//! When something is written, by the clock of whoever writes it: from the future, too late, right after a reset.

mod support;

use dagz_cassandra::scylla::client::session::Session;
use support::{ask, at_site, dump, execute, made_by, rows};

/// The beginning of the year 2100, in microseconds.
const FUTURE: i64 = 4_102_444_800_000_000;

const SCHEMA: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, value text);
    CREATE TABLE passing (id int PRIMARY KEY, value text) WITH default_time_to_live = 3600;
    CREATE TABLE shared (id int, at int, owner text static, value text, PRIMARY KEY (id, at))";

const SEEDED: &str = "
    CREATE TYPE place (street text, town text);
    CREATE TABLE seeded (id text PRIMARY KEY, value text, tags set<text>, home place, whole frozen<place>);
    INSERT INTO seeded (id, value, tags, home, whole)
        VALUES ('a', 'seed', {'x', 'y'}, {street: 's', town: 't'}, {street: 's', town: 't'});
    INSERT INTO seeded (id, value) VALUES ('b', 'seed');
    INSERT INTO seeded (id) VALUES ('bare');
    CREATE TABLE owned (id int, at int, owner text static, value text, PRIMARY KEY (id, at));
    INSERT INTO owned (id, at, owner, value) VALUES (1, 1, 'seed', 'seed');
    INSERT INTO owned (id, owner) VALUES (2, 'seed')";

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

/// The server tells nothing of the time of a row that has only its key.
#[test]
fn a_seed_row_from_the_future_can_be_deleted_at_once() {
    const LATER: &str = "
        CREATE TABLE bare (id text PRIMARY KEY, value text);
        INSERT INTO bare (id) VALUES ('a') USING TIMESTAMP 4102444800000000;
        CREATE TABLE whole (id text PRIMARY KEY, value text);
        INSERT INTO whole (id, value) VALUES ('a', 'seed') USING TIMESTAMP 4102444800000000";
    let config = |config| made_by(config, LATER);
    at_site("later", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        for _ in 0..2 {
            for table in ["bare", "whole"] {
                let query = format!("SELECT id FROM {table}");
                assert_eq!(rows(&session, &query).await, ["a"], "{table}");
                execute(&session, &format!("DELETE FROM {table} WHERE id = 'a'")).await;
                assert!(rows(&session, &query).await.is_empty(), "{table}");
            }
            site.prepare().await;
        }
    });
}

/// A deletion that hides whatever is written there, until the year 2100.
#[test]
fn seed_rows_come_back_after_a_deletion_from_the_future() {
    let config = |config| made_by(config, SEEDED);
    at_site("unsown", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let start = dump(&session, site.target.name()).await;
        let using = format!("USING TIMESTAMP {FUTURE}");
        for delete in [
            format!("DELETE FROM seeded {using} WHERE id = 'a'"),
            format!("DELETE FROM seeded {using} WHERE id = 'bare'"),
            format!("DELETE value FROM seeded {using} WHERE id = 'b'"),
            format!("DELETE tags['x'] FROM seeded {using} WHERE id = 'a'"),
            format!("DELETE home.town FROM seeded {using} WHERE id = 'a'"),
            format!("DELETE FROM owned {using} WHERE id = 1 AND at = 1"),
            format!("DELETE owner FROM owned {using} WHERE id = 2"),
            // With nothing left that could be found alive.
            format!("DELETE FROM seeded {using} WHERE id IN ('a', 'b', 'bare')"),
            format!("DELETE FROM seeded {using} WHERE id = 'a'; TRUNCATE seeded"),
        ] {
            execute(&session, &delete).await;
            assert_ne!(dump(&session, site.target.name()).await, start, "{delete}");
            for prepare in ["first", "second"] {
                site.prepare().await;
                let found = dump(&session, site.target.name()).await;
                assert_eq!(found, start, "{delete}, {prepare}");
            }
        }
    });
}

/// How a test may write what a seed row holds already, and a later write that is to be seen: by what, and how.
const AGAIN: [(&str, &str, &str, &str); 7] = [
    (
        "UPDATE seeded USING HOW SET value = 'seed' WHERE id = 'a'",
        "UPDATE seeded SET value = 'new' WHERE id = 'a'",
        "SELECT value FROM seeded WHERE id = 'a'",
        "new",
    ),
    (
        "UPDATE seeded USING HOW SET tags = tags + {'x'} WHERE id = 'a'",
        "UPDATE seeded SET tags = tags - {'x'} WHERE id = 'a'",
        "SELECT JSON tags FROM seeded WHERE id = 'a'",
        r#"{"tags": ["y"]}"#,
    ),
    (
        "UPDATE seeded USING HOW SET home.street = 's' WHERE id = 'a'",
        "UPDATE seeded SET home.street = 'new' WHERE id = 'a'",
        "SELECT home.street FROM seeded WHERE id = 'a'",
        "new",
    ),
    (
        "UPDATE seeded USING HOW SET whole = {street: 's', town: 't'} WHERE id = 'a'",
        "UPDATE seeded SET whole = {street: 'new', town: 'new'} WHERE id = 'a'",
        "SELECT whole.street FROM seeded WHERE id = 'a'",
        "new",
    ),
    (
        "UPDATE owned USING HOW SET owner = 'seed' WHERE id = 2",
        "UPDATE owned SET owner = 'new' WHERE id = 2",
        "SELECT owner FROM owned WHERE id = 2",
        "new",
    ),
    (
        "INSERT INTO owned (id, at, value) VALUES (1, 1, 'seed') USING HOW",
        "UPDATE owned SET value = 'new' WHERE id = 1 AND at = 1",
        "SELECT value FROM owned WHERE id = 1",
        "new",
    ),
    (
        "INSERT INTO seeded (id, value) VALUES ('b', 'seed') USING HOW",
        "DELETE FROM seeded WHERE id = 'b'",
        "SELECT id FROM seeded WHERE id = 'b'",
        "",
    ),
];

#[test]
fn a_seed_row_written_again_from_the_future_hides_no_later_write() {
    let config = |config| made_by(config, SEEDED);
    at_site("resown", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let start = dump(&session, site.target.name()).await;
        for (again, write, look, expected) in AGAIN {
            let again = again.replace("HOW", &format!("TIMESTAMP {FUTURE}"));
            execute(&session, &again).await;
            assert_eq!(dump(&session, site.target.name()).await, start, "{again}");
            site.prepare().await;
            assert_eq!(dump(&session, site.target.name()).await, start, "{again}");
            execute(&session, write).await;
            assert_eq!(rows(&session, look).await.concat(), expected, "{again}");
            site.prepare().await;
            assert_eq!(dump(&session, site.target.name()).await, start, "{again}");
        }
    });
}

#[test]
fn a_seed_row_written_again_with_a_time_to_live_does_not_go() {
    let config = |config| made_by(config, SEEDED);
    at_site("passing", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let start = dump(&session, site.target.name()).await;
        for (again, ..) in AGAIN {
            let again = again.replace("HOW", "TTL 600");
            execute(&session, &again).await;
            assert!(is_passing(&session).await, "{again}");
            site.prepare().await;
            assert_eq!(dump(&session, site.target.name()).await, start, "{again}");
            assert!(!is_passing(&session).await, "{again}");
        }
    });
}

/// Whether any value has a time to live.
async fn is_passing(session: &Session) -> bool {
    let mut lives = Vec::new();
    for column in ["value", "whole"] {
        let found = ask(session, &format!("SELECT TTL({column}) FROM seeded")).await;
        let rows = found.rows::<(Option<i32>,)>().expect("it is a number");
        lives.extend(rows.map(|row| row.expect("it is a number").0));
    }
    for column in ["tags", "home"] {
        let found = ask(session, &format!("SELECT TTL({column}) FROM seeded")).await;
        let rows = found.rows::<(Option<Vec<Option<i32>>>,)>();
        let rows = rows.expect("it is a list");
        lives.extend(rows.flat_map(|row| row.expect("it is a list").0.unwrap_or_default()));
    }
    let found = ask(session, "SELECT TTL(value), TTL(owner) FROM owned").await;
    let rows = found.rows::<(Option<i32>, Option<i32>)>();
    for row in rows.expect("they are numbers") {
        let (value, owner) = row.expect("they are numbers");
        lives.extend([value, owner]);
    }
    lives.iter().any(Option::is_some)
}

/// What the README says is out of reach: the server tells no time of a key.
#[test]
fn a_key_alone_written_again_from_the_future_is_not_found() {
    let config = |config| made_by(config, SEEDED);
    at_site("bare", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let again = format!("INSERT INTO seeded (id) VALUES ('bare') USING TIMESTAMP {FUTURE}");
        execute(&session, &again).await;
        site.prepare().await;
        execute(&session, "DELETE FROM seeded WHERE id = 'bare'").await;
        let query = "SELECT id FROM seeded WHERE id = 'bare'";
        assert_eq!(rows(&session, query).await, ["bare"]);
        // It goes with the next that is to be found there.
        execute(&session, "UPDATE seeded SET value = 'x' WHERE id = 'bare'").await;
        site.prepare().await;
        execute(&session, "DELETE FROM seeded WHERE id = 'bare'").await;
        assert!(rows(&session, query).await.is_empty());
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
