//! Random schemas, and random workloads over several connections, compared by full dump.
//!
//! Statements of the connections interleave; they lock each other out, fail, roll back, disable
//! triggers, change the schema, prepare transactions, and some of the connections are left with a transaction open.
//! Where `random.rs` has one schema with everything in it, this has many small ones ([`schema`]). `DAGZ_TEST_CASES`
//! is the number of schemas, ten by default; each gets eight workloads ([`statements`]).

mod schema;
mod statements;
#[path = "../support/mod.rs"]
mod support;

use std::{cell::Cell, time::Duration};

use dagz_core::{DbConfig as _, Result};
use dagz_postgres::Prepare;
use dagz_testkit::random::{
    CONNECTIONS, Counterexample, Interleaved, Search, assert_needed, cases, counterexample, runner,
};
use proptest::{prelude::*, strategy::ValueTree as _};
use schema::{Schema, any_schema};
use statements::workload;
use support::{Site, at_site, dump, rows, run};
use tokio_postgres::Client;

/// How databases are reset.
#[derive(Clone, Copy, Debug)]
struct Way {
    start: Start,
    /// Whether by the log of writes, or by looking into all tables.
    is_logged: bool,
    blind: Option<&'static str>,
}

/// To which state.
#[derive(Clone, Copy, Debug)]
enum Start {
    Of(Prepare),
    /// Now to one, now to the other, by functions of the user's own.
    Either,
}

impl Way {
    const fn of(prepare: Prepare, is_logged: bool) -> Self {
        Self {
            start: Start::Of(prepare),
            is_logged,
            blind: None,
        }
    }

    const fn either(is_logged: bool) -> Self {
        Self {
            start: Start::Either,
            is_logged,
            blind: None,
        }
    }
}

async fn connection(site: &Site) -> Client {
    let client = site.connect_as("app").await;
    // Whom another connection locks out fails soon.
    client
        .batch_execute("SET lock_timeout = '15ms'; SET deadlock_timeout = '5ms'")
        .await
        .unwrap();
    client
}

/// Does what tests do, `reset`s, and looks.
async fn round(
    site: &Site,
    workload: &Interleaved,
    reset: impl AsyncFnOnce() -> Result<()>,
) -> String {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connection(site).await);
    }
    let named = |statement: &str| statement.replace("{database}", site.target.name());
    for (number, statement) in &workload.statements {
        // What the schema, or another connection, forbids fails, as it does in tests.
        drop(clients[*number].batch_execute(&named(statement)).await);
    }
    let mut stays: Vec<_> = clients
        .into_iter()
        .zip(workload.stays)
        .map(|(client, stays)| stays.then_some(client))
        .collect();
    site.driver.release(&site.target).await;
    if let Some(late) = &workload.late {
        tokio::time::sleep(Duration::from_millis(20)).await;
        for (number, statement) in late {
            let client = match stays[*number].take() {
                Some(client) => client,
                None => connection(site).await,
            };
            drop(client.batch_execute(&named(statement)).await);
            stays[*number] = workload.stays[*number].then_some(client);
        }
    }
    reset()
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    // What was left open and is still there comes to the next test.
    for client in stays.iter().flatten() {
        drop(client.batch_execute("COMMIT").await);
    }
    let client = site.connect().await;
    let prepared =
        "SELECT quote_literal(gid) FROM pg_prepared_xacts WHERE database = current_database()";
    for name in rows(&client, prepared).await {
        drop(
            client
                .batch_execute(&format!("COMMIT PREPARED {name}"))
                .await,
        );
    }
    dump(&client).await
}

/// Tells a workload in a database of this schema after which that is another one, if there is such among so many.
fn at_random(
    (test, tag): (&str, u32),
    schema: &Schema,
    search: Search,
    way: Way,
) -> Option<Counterexample> {
    let text = schema.text();
    let tag = &format!("{test} {tag} {}", text.len());
    let failed = Cell::new(None);
    at_site(
        test,
        move |config| {
            let config = config
                .prepare(match way.start {
                    Start::Of(prepare) => prepare,
                    Start::Either => Prepare::Baseline,
                })
                .write_log(way.is_logged)
                .leak_patience(Duration::from_millis(20))
                .migrate_with(tag, move |config| {
                    let text = text.clone();
                    async move { support::connect(&config).await.batch_execute(&text).await }
                });
            match way.blind {
                Some(detection) => config.blind_to(detection),
                None => config,
            }
        },
        async |site: &Site| {
            site.init().await;
            let start = dump(&site.connect().await).await;
            let (driver, target) = (&site.driver, &site.target);
            let empty = match way.start {
                Start::Of(_) => start.clone(),
                Start::Either => {
                    let emptied = driver.truncate(target).await;
                    emptied.unwrap_or_else(|error| panic!("{}", error.report()));
                    dump(&site.connect().await).await
                }
            };
            let workloads = (workload(way.blind), any::<bool>());
            let found = counterexample(tag, search, &workloads, async |(workload, is_emptied)| {
                let reset = async || match (way.start, is_emptied) {
                    (Start::Of(_), _) => driver.prepare(target).await,
                    (Start::Either, true) => driver.truncate(target).await,
                    (Start::Either, false) => driver.baseline(target).await,
                };
                let after = round(site, &workload, reset).await;
                prop_assert_eq!(&after, if is_emptied { &empty } else { &start });
                Ok(())
            });
            failed.set(found);
        },
    );
    failed.into_inner()
}

#[test]
fn any_schema_is_brought_back() {
    const WAYS: [Way; 7] = [
        Way::of(Prepare::Baseline, true),
        Way::of(Prepare::Baseline, false),
        Way::of(Prepare::Truncate, true),
        Way::either(true),
        Way::of(Prepare::Baseline, true),
        Way::of(Prepare::Truncate, false),
        Way::either(false),
    ];
    let mut runner = runner("any_schema");
    for (case, way) in (0..cases(10)).zip(WAYS.into_iter().cycle()) {
        let mut schema = any_schema().new_tree(&mut runner).unwrap().current();
        // Seed rows of a table without a key are never to be deleted from a published one.
        schema.is_published &= matches!(way.start, Start::Of(Prepare::Baseline));
        let eight = Search::Unexpected(8);
        if let Some(error) = at_random(("random_schemas", case), &schema, eight, way) {
            panic!("{error}\n{way:?}\n{schema:#?}");
        }
    }
}

/// Fails unless someone who is blind to `detection` leaves another state.
fn is_needed(detection: &'static str, schema: &Schema, way: Way) {
    let test = format!("random_blind_{}", detection.replace(' ', "_"));
    let blind = Some(detection);
    let way = Way { blind, ..way };
    assert_needed(&test, detection, |test| {
        at_random((test, 0), schema, Search::Expected, way)
    });
}

#[test]
fn each_detection_is_needed() {
    let version = run(async {
        let client = support::connect(&support::config("postgres")).await;
        rows(&client, "SHOW server_version_num").await.remove(0)
    });
    for detection in [
        "writes",
        "descendants",
        "replica",
        "unnoted",
        "sequences",
        "objects",
        "drift",
        "event_triggers",
        "settings",
        "sessions",
        "prepared",
        "stale",
        "ahead writes",
        "ahead unnoted",
        "ahead sequences",
        "ahead objects",
        "ahead drift",
        "ahead event_triggers",
        "ahead prepared",
    ] {
        let needs_count = detection == "stale" || detection.starts_with("ahead");
        if needs_count && version.as_str() < "150000" {
            // That does not count its sessions in time, so nothing is found ahead.
            continue;
        }
        let way = Way::of(Prepare::Baseline, true);
        is_needed(detection, &Schema::of_each(), way);
    }
    is_needed("goal", &Schema::of_each(), Way::either(true));
}

#[test]
fn each_thing_that_is_looked_at_is_needed() {
    for detection in [
        "look rows",
        "look seed_counts",
        "look seeds",
        "look sequences",
        "look objects",
        "look drift",
        "look event_triggers",
        "look settings",
        "look sessions",
        "look prepared",
    ] {
        let way = Way::of(Prepare::Baseline, false);
        is_needed(detection, &Schema::of_each(), way);
    }
}

#[test]
fn what_is_in_large_objects_has_to_be_looked_at() {
    let mut schema = Schema::of_each();
    schema.has_objects = true;
    for (detection, is_logged) in [("contents", true), ("look contents", false)] {
        let way = Way::of(Prepare::Baseline, is_logged);
        is_needed(detection, &schema, way);
    }
}
