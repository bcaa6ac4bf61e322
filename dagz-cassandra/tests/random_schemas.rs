//! Random schemas, and random workloads of several sessions, compared by full dump.
//!
//! Where `random.rs` has one schema with everything in it, this has many small ones. The state is compared, and so is
//! what the next test gets to see of what it does itself, since what hides a write is nowhere to be seen.
//! `DAGZ_TEST_CASES` is the number of schemas, five by default; each gets eight workloads.

mod schemas;
mod support;

use std::{
    cell::Cell,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use dagz_cassandra::{
    Config, Driver, Prepare,
    scylla::{
        client::session::Session, errors::ExecutionError,
        policies::timestamp_generator::MonotonicTimestampGenerator,
    },
};
use dagz_testkit::random::{Counterexample, Search, assert_needed, cases, counterexample, runner};
use proptest::{collection::vec, prelude::*, strategy::ValueTree as _};
use schemas::{CHANGES, Dice, Schema, VALUES, next_tests, statement};
use support::{REPLICATION, Site, at_site, builder, describe, dump, execute, plain, url};

/// How many sessions a workload has.
const SESSIONS: usize = 3;

/// What becomes of the keyspace.
#[derive(Clone, Debug)]
struct Workload {
    /// What the sessions of a test do, each by its number.
    statements: Vec<(usize, String)>,
    /// What the next test does, by its number; where there is none, something of the sessions that are still there.
    next: Result<usize, Vec<(usize, String)>>,
    /// Whether another process resets, as under nextest.
    is_other: bool,
}

/// Workloads of fewer statements than `most`.
fn workload(schema: &Schema, prepare: Prepare, most: usize) -> impl Strategy<Value = Workload> {
    let is_seeded = prepare == Prepare::Baseline;
    let some = |most: usize| {
        let schema = schema.clone();
        let statement = any::<u64>()
            .no_shrink()
            .prop_map(move |number| statement(&schema, is_seeded, &mut Dice(number)));
        vec((0..SESSIONS, statement), 1..most)
    };
    let next = prop_oneof![
        14 => (0..CHANGES).prop_map(Ok),
        1 => Just(Ok(CHANGES)),
        3 => some(4).prop_map(Err)
    ];
    (some(most), next, any::<bool>()).prop_map(|(statements, next, is_other)| Workload {
        statements,
        next,
        is_other,
    })
}

/// Does what may fail, and tells whether it did.
async fn attempt(session: &Session, statement: &str) -> bool {
    // A few milliseconds from now.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let soon = (now.as_micros() + 3_000).to_string();
    let statement = statement.replace("SOON", &soon);
    session.query_unpaged(statement, ()).await.is_ok()
}

/// Rows, which of them are to go, what indexes find, and definition.
async fn state(session: &Session, schema: &Schema, keyspace: &str) -> Vec<String> {
    let mut state = describe(session, keyspace).await;
    state.extend(dump(session, keyspace).await.lines().map(str::to_owned));
    for table in &schema.tables {
        let name = &table.name;
        let lives: Vec<_> = table
            .statics
            .iter()
            .chain(&table.regular)
            .map(|column| format!("TTL({})", column.name))
            .collect();
        if !lives.is_empty() && !table.is_counter {
            let query = format!("SELECT JSON {} FROM {name}", lives.join(", "));
            let found = session.query_unpaged(query, ()).await;
            // A test may have dropped it.
            let Ok(found) = found.map(|found| found.into_rows_result().unwrap()) else {
                continue;
            };
            let lives = found.rows::<(String,)>().unwrap();
            // Whether they go, not when.
            let lives = lives.map(|life| life.unwrap().0.replace(char::is_numeric, ""));
            let mut lives: Vec<_> = lives.collect();
            lives.sort();
            state.extend(lives);
        }
        if let Some(column) = &table.indexed {
            let value = column.of_type.values[1];
            let query = format!("SELECT JSON * FROM {name} WHERE {} = {value}", column.name);
            if let Ok(found) = session.query_unpaged(query, ()).await {
                let found = found.into_rows_result().unwrap();
                let mut found: Vec<_> = found
                    .rows::<(String,)>()
                    .unwrap()
                    .map(|row| format!("indexed {}", row.unwrap().0))
                    .collect();
                found.sort();
                state.extend(found);
            }
        }
    }
    state
}

/// The same as `site` in another process, which knows nothing yet.
fn another(site: &Site, configured: &impl Fn(Config) -> Config) -> Site {
    let config = Config::new(&url(&site.base)).expect("the URL is one");
    Site {
        driver: Driver::new(configured(config)),
        target: site.target.clone(),
        base: site.base.clone(),
        scope: None,
    }
}

/// Tells a workload in a keyspace of this schema after which that is another one, if there is such among so many.
fn at_random(
    (test, tag): (&str, u32),
    schema: &Schema,
    search: Search,
    prepare: Prepare,
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let tag = format!("{test} {tag}");
    let configured = |config: Config| {
        let statements = schema.statements.clone();
        let config = config.prepare(prepare).migrate_with(&tag, move |session| {
            let statements = statements.clone();
            async move {
                for statement in statements {
                    session.query_unpaged(statement, ()).await?;
                }
                Ok::<_, ExecutionError>(())
            }
        });
        match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        }
    };
    let failed = Cell::new(None);
    at_site(test, configured, async |site| {
        site.init().await;
        let name = site.target.name();
        let mut sessions = Vec::new();
        for number in 0..SESSIONS {
            let mut builder = builder().use_keyspace(name, true);
            if number == 1 {
                builder = builder.timestamp_generator(Arc::new(MonotonicTimestampGenerator::new()));
            }
            sessions.push(builder.build().await.expect("the keyspace is there"));
        }
        let start = state(&sessions[0], schema, name).await;
        let (model_start, model_seen) = by_hand(site, schema, prepare).await;
        assert_eq!(start, model_start, "{:#?}", schema.statements);
        let mut first = Vec::new();
        for (number, seen) in model_seen.into_iter().enumerate() {
            first.push(match seen {
                Some(seen) => seen,
                None => next_test(&sessions[0], schema, name, number).await,
            });
            site.prepare().await;
        }
        // What is hidden shows where nothing else has the table emptied.
        let most = if blind.is_some() { 2 } else { 14 };
        let workloads = workload(schema, prepare, most);
        let found = counterexample(&tag, search, &workloads, async |workload| {
            for (number, statement) in &workload.statements {
                attempt(&sessions[*number], statement).await;
            }
            let other = workload.is_other.then(|| another(site, &configured));
            let now = other.as_ref().unwrap_or(site);
            now.prepare().await;
            prop_assert_eq!(&state(&sessions[0], schema, name).await, &start);
            match &workload.next {
                Ok(number) => {
                    let seen = next_test(&sessions[2], schema, name, *number).await;
                    prop_assert_eq!(&seen, &first[*number], "next test {}", number);
                }
                Err(late) => {
                    for (number, statement) in late {
                        attempt(&sessions[*number], statement).await;
                    }
                }
            }
            now.prepare().await;
            prop_assert_eq!(&state(&sessions[0], schema, name).await, &start);
            Ok(())
        });
        failed.set(found);
    });
    failed.into_inner()
}

/// Does what the next test of this number does; tells what of it succeeded, and the state after that.
async fn next_test(
    session: &Session,
    schema: &Schema,
    keyspace: &str,
    number: usize,
) -> Vec<String> {
    let mut seen = Vec::new();
    for statement in &next_tests(schema)[number] {
        let outcome = attempt(session, statement).await;
        seen.push(format!("{outcome} {statement}"));
    }
    seen.extend(match number {
        CHANGES => describe(session, keyspace).await,
        _ => state(session, schema, keyspace).await,
    });
    seen
}

/// Makes a keyspace of `schema` without dagz: tells how it starts, and what some of the next tests, by their numbers,
/// see.
async fn by_hand(
    site: &Site,
    schema: &Schema,
    prepare: Prepare,
) -> (Vec<String>, [Option<Vec<String>>; 4]) {
    let plain = plain().await;
    let name = &site.base;
    let create = format!("CREATE KEYSPACE {name} WITH {REPLICATION}");
    execute(&plain, &create).await;
    let session = builder().use_keyspace(name, true);
    let session = session.build().await.expect("the keyspace is there");
    for statement in &schema.statements {
        // What is written in the future is written at the reset, once there was one.
        let statement =
            statement.replace(" USING TIMESTAMP 4102", " USING TTL 0 AND TIMESTAMP 1602");
        let outcome = session.query_unpaged(&*statement, ()).await;
        outcome.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    if prepare == Prepare::Truncate {
        for table in &schema.tables {
            execute(&session, &format!("TRUNCATE {}", table.name)).await;
        }
    }
    let start = state(&session, schema, name).await;
    let values = next_test(&session, schema, name, VALUES).await;
    let changes = next_test(&session, schema, name, CHANGES).await;
    execute(&plain, &format!("DROP KEYSPACE {name}")).await;
    (start, [None, None, Some(values), Some(changes)])
}

#[test]
fn any_schema_is_brought_back() {
    let mut runner = runner("any_schema");
    for case in 0..cases(5) {
        let number = any::<u64>().new_tree(&mut runner).unwrap().current();
        let schema = Schema::random(&mut Dice(number));
        let prepare = match case % 3 {
            2 => Prepare::Truncate,
            _ => Prepare::Baseline,
        };
        let eight = Search::Unexpected(8);
        if let Some(error) = at_random(("random_schemas", case), &schema, eight, prepare, None) {
            panic!("{error}\n{:#?}", schema.statements);
        }
    }
}

#[test]
fn each_detection_is_needed() {
    let schema = Schema::smallest();
    for detection in ["writes", "written", "upserted"] {
        let test = format!("random_blind_{detection}");
        let (expected, prepare) = (Search::Expected, Prepare::Baseline);
        assert_needed(&test, detection, |test| {
            at_random((test, 0), &schema, expected, prepare, Some(detection))
        });
    }
}
