//! Whatever a test does at random, the next one begins at the start state.

mod support;

use std::cell::Cell;

use dagz_cassandra::{Prepare, scylla::client::session::Session};
use dagz_testkit::random::{
    Counterexample, Search, assert_needed, assert_telling, cases, counterexample,
};
use proptest::{collection::vec, prelude::*};
use support::{Site, at_site, describe, dump, execute, made_by, rows, split};

const SCHEMA: &str = "
    CREATE TYPE pair (a int, b text);
    CREATE TABLE seeded (id int PRIMARY KEY, value int, tags set<int>, pair frozen<pair>);
    INSERT INTO seeded (id, value, tags, pair) VALUES (1, 1, {1}, {a: 1, b: 'x'});
    INSERT INTO seeded (id) VALUES (2);
    CREATE TABLE wide (id int, at int, value int, shared int static, PRIMARY KEY (id, at));
    INSERT INTO wide (id, at, value, shared) VALUES (1, 1, 1, 1);
    INSERT INTO wide (id, shared) VALUES (2, 2);
    CREATE TABLE empty (id int PRIMARY KEY, value int);
    CREATE INDEX by_value ON empty (value);
    CREATE TABLE counted (id int PRIMARY KEY, value counter);
    CREATE TABLE viewed (id int PRIMARY KEY, value int);
    CREATE MATERIALIZED VIEW seen AS SELECT * FROM viewed WHERE value IS NOT NULL AND id IS NOT NULL
        PRIMARY KEY (value, id)";

/// The beginning of the year 2100, in microseconds.
const FUTURE: &str = " USING TIMESTAMP 4102444800000000";

/// Writes of seed rows that no look at their values tells: from the future, or so that they go.
const AGAIN: &[&str] = &[
    "UPDATE seeded USING TIMESTAMP 4102444800000000 SET value = 1 WHERE id = 1",
    "UPDATE seeded USING TTL 100 SET value = 1 WHERE id = 1",
    "UPDATE seeded USING TIMESTAMP 4102444800000000 SET tags = tags + {1} WHERE id = 1",
    "UPDATE seeded USING TTL 100 SET pair = {a: 1, b: 'x'} WHERE id = 1",
    "UPDATE wide USING TIMESTAMP 4102444800000000 SET value = 1 WHERE id = 1 AND at = 1",
    "UPDATE wide USING TIMESTAMP 4102444800000000 SET shared = 2 WHERE id = 2",
    "UPDATE wide USING TTL 100 SET shared = 1 WHERE id = 1",
];

/// Deletions from the future, of what only a start state with rows has: elsewhere nothing tells of them.
const HIDING: &[&str] = &[
    "DELETE FROM seeded USING TIMESTAMP 4102444800000000 WHERE id = 1",
    "DELETE FROM seeded USING TIMESTAMP 4102444800000000 WHERE id = 2",
    "DELETE value FROM seeded USING TIMESTAMP 4102444800000000 WHERE id = 1",
    "DELETE FROM wide USING TIMESTAMP 4102444800000000 WHERE id = 1",
    "DELETE FROM wide USING TIMESTAMP 4102444800000000 WHERE id = 1 AND at = 1",
    "DELETE shared FROM wide USING TIMESTAMP 4102444800000000 WHERE id = 2",
];

/// What the next test may do, and how it sees that it was done.
const NEXT: &[(&str, &str, &str)] = &[
    (
        "UPDATE seeded SET value = 7, tags = {7}, pair = {a: 7, b: 'y'} WHERE id = 1",
        "SELECT JSON value, tags, pair.a FROM seeded WHERE id = 1",
        r#"{"value": 7, "tags": [7], "pair.a": 7}"#,
    ),
    (
        "UPDATE wide SET value = 7, shared = 7 WHERE id = 1 AND at = 1",
        "SELECT JSON value, shared FROM wide WHERE id = 1",
        r#"{"value": 7, "shared": 7}"#,
    ),
    (
        "UPDATE wide SET shared = 7 WHERE id = 2",
        "SELECT JSON shared FROM wide WHERE id = 2",
        r#"{"shared": 7}"#,
    ),
    (
        "DELETE FROM seeded WHERE id = 2",
        "SELECT JSON id FROM seeded WHERE id = 2",
        "",
    ),
    (
        "INSERT INTO empty (id, value) VALUES (1, 7)",
        "SELECT JSON value FROM empty WHERE id = 1",
        r#"{"value": 7}"#,
    ),
];

/// What a test may do to the schema.
const CHANGES: &[&str] = &[
    "CREATE TABLE another (id int PRIMARY KEY)",
    "CREATE TYPE other (a int)",
    "CREATE INDEX of_value ON seeded (value)",
    "ALTER TABLE empty ADD more int",
    "ALTER TABLE viewed WITH comment = 'changed'",
    "ALTER TYPE pair ADD c int",
    "DROP TABLE empty",
    "DROP INDEX by_value",
    "DROP MATERIALIZED VIEW seen",
];

/// One thing a test may do; what the schema forbids fails, as it does in tests.
fn statement(prepare: Prepare) -> impl Strategy<Value = String> {
    let again = match prepare {
        Prepare::Baseline => [AGAIN, HIDING].concat(),
        _ => AGAIN.to_vec(),
    };
    let table = || prop::sample::select(["seeded", "empty", "viewed"].as_slice());
    let any = || prop::sample::select(["seeded", "empty", "viewed", "wide", "counted"].as_slice());
    prop_oneof![
        6 => (table(), 0..4_i32, 0..4_i32, prop::sample::select(["", "", "", " USING TTL 100", FUTURE].as_slice()))
            .prop_map(|(table, id, value, using)| format!("INSERT INTO {table} (id, value) VALUES ({id}, {value}){using}")),
        3 => (0..4_i32, 0..4_i32, 0..4_i32)
            .prop_map(|(id, at, value)| format!("INSERT INTO wide (id, at, value) VALUES ({id}, {at}, {value})")),
        3 => prop::sample::select(again).prop_map(str::to_owned),
        2 => (0..4_i32, 0..4_i32).prop_map(|(id, value)| format!("UPDATE wide SET shared = {value} WHERE id = {id}")),
        2 => (0..3_i32).prop_map(|id| format!("UPDATE counted SET value = value + 1 WHERE id = {id}")),
        2 => (0..4_i32).prop_map(|id| format!("UPDATE seeded SET tags = tags + {{{id}}} WHERE id = {id}")),
        3 => (any(), 0..4_i32).prop_map(|(table, id)| format!("DELETE FROM {table} WHERE id = {id}")),
        1 => (0..4_i32, 0..4_i32).prop_map(|(id, at)| format!("DELETE FROM wide WHERE id = {id} AND at = {at}")),
        1 => (0..4_i32).prop_map(|id| format!("DELETE shared FROM wide WHERE id = {id}")),
        1 => any().prop_map(|table| format!("TRUNCATE {table}")),
        1 => (table(), 0..4_i32).prop_map(|(table, id)| format!(
            "BEGIN BATCH INSERT INTO {table} (id, value) VALUES ({id}, 9) DELETE FROM wide WHERE id = {id} APPLY BATCH")),
        1 => (0..4_i32).prop_map(|id| format!("INSERT INTO empty (id, value) VALUES ({id}, 1) IF NOT EXISTS")),
        1 => prop::sample::select(CHANGES).prop_map(str::to_owned),
    ]
}

/// Tells a workload after which the state is another one.
fn at_random(
    (test, search): (&str, Search),
    prepare: Prepare,
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let failed = Cell::new(None);
    let configured = |config| {
        let config = made_by(config, SCHEMA).prepare(prepare);
        match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        }
    };
    at_site(test, configured, async |site| {
        site.init().await;
        let session = site.connect().await;
        let start = state(site, &session).await;
        let is_seeded = start.iter().any(|line| line.contains("{\"id\""));
        assert_eq!(is_seeded, prepare == Prepare::Baseline, "{start:?}");
        let (changed, all) = (Cell::new(0), Cell::new(0));
        let workloads = vec(statement(prepare), 1..12);
        let found = counterexample(test, search, &workloads, async |statements| {
            for statement in statements.iter().flat_map(|text| split(text)) {
                // What the schema forbids.
                drop(session.query_unpaged(statement, ()).await);
            }
            all.set(all.get() + 1);
            if state(site, &session).await != start {
                changed.set(changed.get() + 1);
            }
            site.prepare().await;
            prop_assert_eq!(&state(site, &session).await, &start);
            // The next test writes what nothing hides.
            for (write, look, expected) in NEXT {
                execute(&session, write).await;
                let seen = rows(&session, look).await.concat();
                prop_assert_eq!(&seen, expected, "by `{}`", write);
            }
            site.prepare().await;
            prop_assert_eq!(&state(site, &session).await, &start);
            Ok(())
        });
        failed.set(found);
        if blind.is_none() {
            assert_telling(changed.get(), all.get(), 2);
        }
    });
    failed.into_inner()
}

/// Rows, which of them are to go, and definition.
async fn state(site: &Site, session: &Session) -> Vec<String> {
    let name = site.target.name();
    let mut state = describe(session, name).await;
    state.extend(dump(session, name).await.lines().map(str::to_owned));
    for query in [
        "SELECT JSON id, TTL(value), TTL(pair) FROM seeded",
        "SELECT JSON id, TTL(value), TTL(shared) FROM wide",
    ] {
        let mut lives = rows(session, query).await;
        lives.sort();
        state.extend(lives);
    }
    state
}

fn is_exact(test: &str, prepare: Prepare) {
    if let Some(error) = at_random((test, Search::Unexpected(cases(40))), prepare, None) {
        panic!("{error}");
    }
}

#[test]
fn baselines_are_restored() {
    is_exact("random_baseline", Prepare::Baseline);
}

#[test]
fn truncated_stays_truncated() {
    is_exact("random_truncate", Prepare::Truncate);
}

#[test]
fn each_detection_is_needed() {
    for detection in ["rows", "seeds", "times", "restored", "future", "schema"] {
        let test = format!("random_{detection}");
        let (prepare, blind) = (Prepare::Baseline, Some(detection));
        assert_needed(&test, detection, |test| {
            at_random((test, Search::Expected), prepare, blind)
        });
    }
}
