//! Whatever a test does at random, the next one begins at the start state.

mod support;

use std::cell::Cell;

use dagz_cassandra::Prepare;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config as Cases, TestRunner},
};
use support::{at_site, dump, made_by, split};

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

/// One thing a test may do; what the schema forbids fails, as it does in tests.
fn statement() -> impl Strategy<Value = String> {
    let table = || prop::sample::select(["seeded", "empty", "viewed"].as_slice());
    let any = || prop::sample::select(["seeded", "empty", "viewed", "wide", "counted"].as_slice());
    prop_oneof![
        6 => (table(), 0..4_i32, 0..4_i32, prop::sample::select(["", "", "", " USING TTL 100", FUTURE].as_slice()))
            .prop_map(|(table, id, value, using)| format!("INSERT INTO {table} (id, value) VALUES ({id}, {value}){using}")),
        3 => (0..4_i32, 0..4_i32, 0..4_i32)
            .prop_map(|(id, at, value)| format!("INSERT INTO wide (id, at, value) VALUES ({id}, {at}, {value})")),
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
    ]
}

#[test]
fn any_workload_is_undone() {
    for (prepare, word) in [
        (Prepare::Baseline, "baseline"),
        (Prepare::Truncate, "truncate"),
    ] {
        let config = |config| made_by(config, SCHEMA).prepare(prepare);
        at_site(&format!("random_{word}"), config, async |site| {
            site.init().await;
            let session = site.connect().await;
            let name = site.target.name();
            let start = dump(&session, name).await;
            assert_eq!(
                start.contains("{\"id\""),
                prepare == Prepare::Baseline,
                "{start}"
            );
            let changed = Cell::new(0);
            let mut runner = TestRunner::new(Cases {
                cases: dagz_testkit::site::cases(40),
                failure_persistence: None,
                ..Cases::default()
            });
            runner
                .run(&vec(statement(), 1..12), |statements| {
                    tokio::task::block_in_place(|| {
                        tokio::runtime::Handle::current().block_on(async {
                            for statement in statements.iter().flat_map(|text| split(text)) {
                                // What the schema forbids.
                                drop(session.query_unpaged(statement, ()).await);
                            }
                            if dump(&session, name).await != start {
                                changed.set(changed.get() + 1);
                            }
                            site.prepare().await;
                            let found = dump(&session, name).await;
                            prop_assert_eq!(&found, &start);
                            Ok(())
                        })
                    })
                })
                .unwrap();
            assert!(
                changed.get() > 20,
                "only {} workloads changed anything",
                changed.get()
            );
        });
    }
}
