//! Whatever is there when a job or a process begins, it gets the start state, or what is there stays as it is.
//!
//! Keyspaces that were made of something else, half made, spoiled or emptied are made anew; those of others, and those
//! that other runs use, are refused and untouched. `DAGZ_TEST_CASES` is the number of what is tried, ten by default.

mod support;

use std::cell::Cell;

use dagz_cassandra::{
    Config, Driver,
    scylla::{client::session::Session, errors::ExecutionError},
};
use dagz_core::{DbConfig as _, ErrorKind};
use dagz_testkit::random::{Counterexample, Search, assert_needed, cases, counterexample};
use proptest::{collection::vec, prelude::*};
use support::{
    REPLICATION, Site, at_site, describe, dump, execute, made_by, plain, rows, split, url,
};

const SCHEMA: &str = "
    CREATE TABLE seeded (id int PRIMARY KEY, value text);
    INSERT INTO seeded (id, value) VALUES (1, 'seed');
    CREATE TABLE empty (id int PRIMARY KEY, value text)";

/// What the same base's keyspaces were made of earlier.
const EARLIER: &str = "
    CREATE TABLE seeded (id int PRIMARY KEY, value text);
    INSERT INTO seeded (id, value) VALUES (1, 'earlier');
    CREATE TABLE empty (id int PRIMARY KEY, value text)";

/// What is to be found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Whole,
    Earlier,
    HalfMade,
    Spoiled,
    Changed,
    Emptied,
    Gone,
    /// Of somebody, of another project, and renamed.
    Unstamped,
    Foreign,
    Moved,
    /// By a run of another state directory.
    Used,
}

impl Before {
    /// How it is refused, if it is.
    fn refusal(self) -> Option<ErrorKind> {
        match self {
            Self::Unstamped | Self::Foreign | Self::Moved => Some(ErrorKind::Refused),
            Self::Used => Some(ErrorKind::InUse),
            _ => None,
        }
    }
}

fn before() -> impl Strategy<Value = Before> {
    use Before::*;
    prop_oneof![
        12 => prop::sample::select(
            [Whole, Earlier, HalfMade, Spoiled, Changed, Emptied, Gone, Unstamped, Foreign, Moved].as_slice()),
        // It is waited for, for seconds.
        1 => Just(Used),
    ]
}

/// What is done in a keyspace, beside.
fn write() -> impl Strategy<Value = String> {
    let table = prop::sample::select(["seeded", "empty"].as_slice());
    (table, 0..3_i32, any::<bool>()).prop_map(|(table, id, is_there)| match is_there {
        true => format!("INSERT INTO {table} (id, value) VALUES ({id}, 'x')"),
        false => format!("DELETE FROM {table} WHERE id = {id}"),
    })
}

fn another(site: &Site, schema: &'static str, blind: Option<&'static str>) -> Site {
    let config = Config::new(&url(&site.base)).expect("the URL is one");
    let config = made_by(config, schema);
    Site {
        driver: Driver::new(match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        }),
        target: site.target.clone(),
        base: site.base.clone(),
        scope: None,
    }
}

/// Rows, definition, and whose it is.
async fn state(site: &Site) -> (Vec<String>, String) {
    let plain = plain().await;
    let name = site.target.name();
    let mut state = describe(&plain, name).await;
    state.extend(dump(&plain, name).await.lines().map(str::to_owned));
    let query = format!(
        "SELECT comment FROM system_schema.tables WHERE keyspace_name = '{name}' AND table_name = 'dagz_stamp'"
    );
    (state, rows(&plain, &query).await.concat())
}

/// Brings it about.
async fn become_so(site: &Site, before: Before, writes: &[String]) {
    let (name, base) = (site.target.name(), &site.base);
    if before == Before::Earlier {
        another(site, EARLIER, None).init().await;
    }
    let session = site.connect().await;
    for write in writes {
        execute(&session, write).await;
    }
    let (_, stamp) = state(site).await;
    let comment = |text: &str| {
        let text = text.replace('\'', "''");
        format!("ALTER TABLE dagz_stamp WITH comment = '{text}'")
    };
    let drop_keyspace = format!("DROP KEYSPACE \"{name}\"");
    let statements = match before {
        Before::Whole | Before::Earlier => String::new(),
        Before::HalfMade => "TRUNCATE dagz_stamp".to_owned(),
        Before::Spoiled => "UPDATE dagz_stamp SET body = '{}' WHERE part = 'seeds'".to_owned(),
        Before::Changed => "ALTER TABLE empty ADD more int".to_owned(),
        Before::Emptied => {
            format!("{drop_keyspace}; CREATE KEYSPACE \"{name}\" WITH {REPLICATION}")
        }
        Before::Gone => drop_keyspace,
        Before::Unstamped => comment("my own"),
        Before::Foreign => comment(&stamp.replace(site.target.project(), "another-project")),
        Before::Moved => comment(&stamp.replace(name, &format!("{base}_jw99"))),
        Before::Used => format!(
            "UPDATE dagz_books.lease USING TTL 60 SET holder = 'another', who = 'another run' WHERE name = '{name}' IF holder != 'another'"
        ),
    };
    for statement in split(&statements) {
        let session: &Session = &session;
        let done: Result<_, ExecutionError> = session.query_unpaged(statement, ()).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Makes what is there dagz's own again, and this run's.
async fn give_back(site: &Site, stamp: &str) {
    let name = site.target.name();
    let stamp = stamp.replace('\'', "''");
    let lease = format!("DELETE FROM dagz_books.lease WHERE name = '{name}' IF EXISTS");
    let plain = plain().await;
    execute(&plain, &lease).await;
    execute(
        &plain,
        &format!("ALTER TABLE \"{name}\".dagz_stamp WITH comment = '{stamp}'"),
    )
    .await;
}

fn at_random(
    (test, search): (&str, Search),
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let failed = Cell::new(None);
    at_site(
        test,
        |config| config,
        async |site| {
            let maker = another(site, SCHEMA, None);
            maker.init().await;
            let (start, _) = state(site).await;
            let workloads = (before(), vec(write(), 0..4), any::<bool>());
            let found = counterexample(
                test,
                search,
                &workloads,
                async |(before, writes, is_job)| {
                    // Each of a process of its own, so that nobody holds a lease when another run takes it.
                    another(site, SCHEMA, None).init().await;
                    let (_, stamp) = state(site).await;
                    become_so(site, before, &writes).await;
                    // Of what is not refused nothing may be left.
                    let found = match before.refusal() {
                        Some(_) => Some(state(site).await),
                        None => None,
                    };
                    let next = another(site, SCHEMA, blind);
                    let mut outcome = Ok(());
                    // Another process of a job finds what the job's first one has made.
                    if is_job || before == Before::Earlier {
                        outcome = next.driver.worker_init(&site.target).await;
                    }
                    if outcome.is_ok() {
                        outcome = next.driver.prepare(&site.target).await;
                    }
                    let refused = outcome.as_ref().err().map(|error| error.kind());
                    let after = state(site).await;
                    if let Some(found) = found {
                        give_back(site, &stamp).await;
                        prop_assert_eq!(&after, &found);
                    } else if let Err(error) = outcome {
                        panic!("{}", error.report());
                    } else {
                        prop_assert_eq!(&after.0, &start);
                    }
                    prop_assert_eq!(refused, before.refusal());
                    Ok(())
                },
            );
            failed.set(found);
        },
    );
    failed.into_inner()
}

#[test]
fn whatever_was_there_is_made_whole_or_left_alone() {
    let search = Search::Unexpected(cases(10));
    if let Some(error) = at_random(("random_provision", search), None) {
        panic!("{error}");
    }
}

#[test]
fn each_look_is_needed() {
    for detection in ["origin", "stamp", "lease"] {
        let test = format!("random_{detection}");
        assert_needed(&test, detection, |test| {
            at_random((test, Search::Expected), Some(detection))
        });
    }
}
