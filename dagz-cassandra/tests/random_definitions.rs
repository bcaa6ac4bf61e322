//! Whatever a test does to the schema at random, the next one finds it as it was; and each kind of object is looked at.
//!
//! Changes of the schema are slow, and so `random_schemas.rs` has few. `DAGZ_TEST_CASES` is the number of workloads,
//! six by default.

mod support;

use std::cell::Cell;

use dagz_cassandra::{Config, scylla::errors::ExecutionError};
use dagz_testkit::random::{Counterexample, Search, assert_needed, cases, counterexample};
use proptest::{collection::vec, prelude::*};
use support::{at_site, describe, dump, execute, plain, rows};

/// One of each kind.
const SCHEMA: [&str; 9] = [
    "CREATE TYPE pair (a int, b text)",
    "CREATE TABLE seeded (id int PRIMARY KEY, value int, home frozen<pair>)",
    "INSERT INTO seeded (id, value) VALUES (1, 1)",
    "CREATE INDEX by_value ON seeded (value)",
    "CREATE TABLE plain (id int PRIMARY KEY, value int, home text)",
    "CREATE TABLE viewed (id int PRIMARY KEY, value int)",
    "CREATE MATERIALIZED VIEW seen AS SELECT * FROM viewed WHERE value IS NOT NULL AND id IS NOT NULL
        PRIMARY KEY (value, id)",
    "CREATE FUNCTION added (state int, n int) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS $$ return state + n; $$",
    "CREATE AGGREGATE total (int) SFUNC added STYPE int INITCOND 0",
];

/// What a test may do, by the kind of what it is done to, as the server calls that.
const CHANGES: [(&str, &str); 24] = [
    ("type", "CREATE TYPE other (a int)"),
    ("type", "ALTER TYPE pair ADD c int"),
    ("type", "ALTER TYPE pair RENAME a TO z"),
    ("table", "CREATE TABLE another (id int PRIMARY KEY, value int)"),
    ("table", "ALTER TABLE seeded ADD more int"),
    ("table", "ALTER TABLE seeded RENAME id TO key"),
    ("table", "ALTER TABLE viewed WITH gc_grace_seconds = 7"),
    ("table", "ALTER TABLE seeded WITH default_time_to_live = 7"),
    ("index", "CREATE INDEX another_index ON viewed (value)"),
    ("index", "DROP INDEX by_value"),
    ("materialized_view", "DROP MATERIALIZED VIEW seen"),
    ("materialized_view", "ALTER MATERIALIZED VIEW seen WITH comment = 'changed'"),
    ("materialized_view", "CREATE MATERIALIZED VIEW also AS SELECT * FROM seeded WHERE value IS NOT NULL AND id IS NOT NULL
        PRIMARY KEY (value, id)"),
    ("function", "CREATE FUNCTION other (n int) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS $$ return n; $$"),
    ("function", "CREATE OR REPLACE FUNCTION added (state int, n int) CALLED ON NULL INPUT RETURNS int LANGUAGE java
        AS $$ return n; $$"),
    ("aggregate", "DROP AGGREGATE total"),
    ("aggregate", "CREATE AGGREGATE other (int) SFUNC added STYPE int INITCOND 1"),
    ("keyspace", "ALTER KEYSPACE NAME WITH durable_writes = false"),
    ("keyspace", "ALTER KEYSPACE NAME WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"),
    ("dropped", "ALTER TABLE plain ADD more int; ALTER TABLE plain DROP more"),
    ("dropped", "ALTER TABLE plain DROP home USING TIMESTAMP 4102444800000000; ALTER TABLE plain ADD home text"),
    ("", "DROP TABLE seeded"),
    ("", "DROP KEYSPACE NAME"),
    ("", "INSERT INTO seeded (id, value) VALUES (2, 2)"),
];

/// A few changes; of one kind, to see what depends on that being looked at.
fn workload(kind: Option<&'static str>) -> impl Strategy<Value = Vec<&'static str>> {
    let changes = CHANGES
        .iter()
        .filter(|(of, _)| kind.is_none_or(|kind| kind == *of));
    let changes: Vec<_> = changes.map(|(_, change)| *change).collect();
    vec(prop::sample::select(changes), 1..4)
}

/// Definition and rows, and those that the next test writes where columns may hide them.
async fn state(name: &str) -> Vec<String> {
    let plain = plain().await;
    let mut state = describe(&plain, name).await;
    state.extend(dump(&plain, name).await.lines().map(str::to_owned));
    state
}

/// What the next test sees of its own: a value in each column, and a column of its own.
async fn next(name: &str) -> Vec<String> {
    let plain = plain().await;
    execute(
        &plain,
        &format!("INSERT INTO \"{name}\".plain (id, value, home) VALUES (7, 7, 'x')"),
    )
    .await;
    let add = format!("ALTER TABLE \"{name}\".plain ADD more text");
    let added = plain.query_unpaged(add, ()).await.is_ok();
    let mut seen = rows(
        &plain,
        &format!("SELECT JSON * FROM \"{name}\".plain WHERE id = 7"),
    )
    .await;
    seen.push(format!("added: {added}"));
    seen
}

fn at_random(
    (test, search): (&str, Search),
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let failed = Cell::new(None);
    let configured = |config: Config| {
        let config = config.migrate_with("1", |session| async move {
            for statement in SCHEMA {
                session.query_unpaged(statement, ()).await?;
            }
            Ok::<_, ExecutionError>(())
        });
        match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        }
    };
    at_site(test, configured, async |site| {
        site.init().await;
        let name = site.target.name();
        let start = state(name).await;
        let seen = next(name).await;
        site.prepare().await;
        let found = counterexample(test, search, &workload(blind), async |changes| {
            let session = site.connect().await;
            for change in changes
                .iter()
                .flat_map(|change| match change.contains("$$") {
                    true => vec![*change],
                    false => support::split(change).collect(),
                })
            {
                // What is there twice, or not any more.
                let change = change.replace("NAME", &format!("\"{name}\""));
                drop(session.query_unpaged(change, ()).await);
            }
            site.prepare().await;
            prop_assert_eq!(&state(name).await, &start);
            prop_assert_eq!(&next(name).await, &seen);
            site.prepare().await;
            prop_assert_eq!(&state(name).await, &start);
            Ok(())
        });
        failed.set(found);
    });
    failed.into_inner()
}

#[test]
fn any_definition_is_brought_back() {
    let search = Search::Unexpected(cases(6));
    if let Some(error) = at_random(("random_definitions", search), None) {
        panic!("{error}");
    }
}

#[test]
fn each_kind_is_looked_at() {
    for kind in [
        "type",
        "table",
        "index",
        "materialized_view",
        "function",
        "aggregate",
        "keyspace",
        "dropped",
    ] {
        let test = format!("random_{kind}");
        assert_needed(&test, kind, |test| {
            at_random((test, Search::Expected), Some(kind))
        });
    }
}
