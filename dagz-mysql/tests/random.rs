//! Whatever a test does at random, the next one begins at the start state.

mod support;

use std::{
    cell::{Cell, OnceCell},
    time::Duration,
};

use dagz_core::DbConfig as _;
use dagz_mysql::{Config, Driver, Prepare, mysql_async::prelude::Queryable as _};
use dagz_testkit::random::{
    Counterexample, Search, assert_needed, assert_telling, cases, counterexample,
};
use proptest::{collection::vec, prelude::*};
use support::{Site, at_site, connect, opts, rows, run, state, until_it_waits, within};

const SCHEMA: &str = "
CREATE TABLE country (code VARCHAR(40) PRIMARY KEY, value INT);
INSERT INTO country VALUES ('c1', 1), ('c2', 2), ('c3', 3), ('C', 4), ('d', NULL);
CREATE TABLE setting (name VARCHAR(9), value INT);
INSERT INTO setting VALUES ('a', 1), ('a', 1), ('b', NULL);
CREATE TABLE customer (
    id BIGINT AUTO_INCREMENT PRIMARY KEY, country VARCHAR(40), value INT, twice INT AS (value * 2) STORED,
    FOREIGN KEY (country) REFERENCES country (code) ON UPDATE CASCADE ON DELETE SET NULL
);
INSERT INTO customer (country, value) VALUES ('c1', 1), ('c2', 2), ('c3', 3);
CREATE TABLE hen (id INT AUTO_INCREMENT PRIMARY KEY, egg INT, value INT);
CREATE TABLE egg (id INT AUTO_INCREMENT PRIMARY KEY, hen INT, value INT, FOREIGN KEY (hen) REFERENCES hen (id));
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg (id);
INSERT INTO hen (value) VALUES (1); INSERT INTO egg (hen, value) VALUES (1, 1); UPDATE hen SET egg = 1;
CREATE TABLE `order``s` (
    id BIGINT AUTO_INCREMENT PRIMARY KEY, customer BIGINT, value INT,
    FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE
) AUTO_INCREMENT = 1000;
CREATE TABLE log (value INT NOT NULL, text VARCHAR(9)) PARTITION BY RANGE (value)
    (PARTITION low VALUES LESS THAN (100), PARTITION high VALUES LESS THAN MAXVALUE);
INSERT INTO log VALUES (150, 'seed');
CREATE TABLE audit (value INT);
CREATE TRIGGER note_insert AFTER INSERT ON customer FOR EACH ROW INSERT INTO audit VALUES (1);
CREATE TRIGGER note_delete AFTER DELETE ON `order``s` FOR EACH ROW INSERT INTO audit VALUES (2);
CREATE TABLE cache (value INT) ENGINE = MyISAM;
INSERT INTO cache VALUES (1);
";

/// MariaDB only.
const SEQUENCE: &str = "CREATE SEQUENCE number START WITH 500 INCREMENT BY 5 CACHE 10";

const TABLES: [&str; 9] = [
    "country",
    "setting",
    "customer",
    "hen",
    "egg",
    "`order``s`",
    "log",
    "audit",
    "cache",
];

/// Those with a counter.
const COUNTED: [&str; 4] = ["customer", "hen", "egg", "`order``s`"];

/// One thing a test may do; a statement that the schema forbids fails, as it does in tests.
fn statement() -> impl Strategy<Value = String> {
    let table = prop::sample::select(TABLES.as_slice());
    let counted = prop::sample::select(COUNTED.as_slice());
    prop_oneof![
        4 => (table.clone(), 0..200_i32).prop_map(|(table, value)| match table {
            "country" => format!("INSERT INTO country VALUES ('x{value}', {value})"),
            table => format!("INSERT INTO {table} (value) VALUES ({value}), ({value} + 1)"),
        }),
        3 => (table.clone(), 0..5_i32)
            .prop_map(|(table, rest)| format!("UPDATE {table} SET value = COALESCE(value, 0) + 60 WHERE COALESCE(value, 0) % 5 = {rest}")),
        1 => Just("UPDATE country SET code = CONCAT(code, '!')".to_owned()),
        1 => Just("UPDATE setting SET value = 3 - value".to_owned()),
        2 => (table.clone(), 0..5_i32)
            .prop_map(|(table, rest)| format!("DELETE FROM {table} WHERE COALESCE(value, 0) % 5 = {rest}")),
        1 => table.clone().prop_map(|table| format!("DELETE FROM {table}")),
        1 => table.prop_map(|table| format!("TRUNCATE {table}")),
        1 => (counted, 1..9_999_i32).prop_map(|(table, value)| format!("ALTER TABLE {table} AUTO_INCREMENT = {value}")),
        1 => Just("SET foreign_key_checks = 1 - @@foreign_key_checks".to_owned()),
        1 => Just("CREATE TEMPORARY TABLE hen (value INT)".to_owned()),
        1 => Just("DO NEXTVAL(number)".to_owned()),
    ]
}

/// What a test may do to the schema.
const CHANGES: &[&str] = &[
    "CREATE TABLE made (id INT)",
    "CREATE TABLE copied SELECT * FROM country",
    "CREATE VIEW seen AS SELECT value FROM log",
    "CREATE INDEX by_value ON setting (value)",
    "ALTER TABLE audit ADD COLUMN more INT DEFAULT 1",
    "ALTER TABLE log DROP COLUMN text",
    "RENAME TABLE setting TO renamed",
    "DROP TRIGGER note_insert",
    "DROP TABLE cache",
];

fn workload(does: Does) -> impl Strategy<Value = Workload> {
    let changes = u32::from(does == Does::Change);
    let statement = move || {
        let change = prop::sample::select(CHANGES).prop_map(str::to_owned);
        prop_oneof![8 => statement(), changes => change]
    };
    // Transactions of some statements, committed or rolled back.
    let transactions = vec((vec(statement(), 1..4), prop::bool::weighted(0.8)), 0..6);
    (transactions, prop::option::weighted(0.25, statement()))
}

/// Whether a workload changes the schema, too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Write,
    Change,
}

/// Which driver resets: one that keeps its connection, where all tables may be behind one lock, or a new one each time,
/// as under nextest.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Process {
    Same,
    Gated,
    New,
}

/// What a test does, and, where a session lives on after it, what that does until the next one.
type Workload = (Vec<(Vec<String>, bool)>, Option<String>);

/// Much longer than any workload and its reset take, however busy the machine is.
const ROUND: Duration = Duration::from_secs(60);

/// How long a session that lives on may do so before the next test.
const HELD: Duration = Duration::from_millis(200);

/// Tells a workload after which the state is another one.
fn at_random(
    (test, search): (&str, Search),
    prepare: Prepare,
    (process, does): (Process, Does),
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let configured = OnceCell::new();
    let failed = Cell::new(None);
    at_site(
        test,
        |config| {
            let config = config
                .prepare(prepare)
                .hold(HELD)
                .write_gate(process == Process::Gated)
                .migrate_with("1", |opts| async move {
                    let mut conn = connect(&opts).await;
                    // MySQL has none.
                    drop(conn.query_drop(SEQUENCE).await);
                    conn.query_drop(SCHEMA).await
                });
            let config = match blind {
                Some(detection) => config.blind_to(detection),
                None => config,
            };
            configured.get_or_init(|| config.clone());
            config
        },
        async |site: &Site| {
            site.init().await;
            site.mark().await;
            if process == Process::New {
                site.driver.release(&site.target).await;
            }
            let start = state(&mut site.connect().await).await;
            let (ran, changed) = (Cell::new(0), Cell::new(0));
            let found = counterexample(test, search, &workload(does), async |workload| {
                let new = match (process, configured.get()) {
                    (Process::New, Some(config)) => Some(Driver::new(Config::clone(config))),
                    _ => None,
                };
                let driver = new.as_ref().unwrap_or(&site.driver);
                let round = round(site, driver, process, &workload);
                let (before, after) = within(ROUND, round).await;
                ran.set(ran.get() + 1);
                changed.set(changed.get() + u32::from(before != start));
                prop_assert_eq!(&after, &start);
                Ok(())
            });
            failed.set(found);
            if blind.is_none() {
                assert_telling(changed.get(), ran.get(), 3);
            }
            if blind.is_none() && does == Does::Write {
                // All of that in place.
                assert!(!site.is_anew().await);
            }
        },
    );
    failed.into_inner()
}

/// Rows, counters and definitions.
type State = (String, Vec<String>);

/// Does what a test does and what lives on after it, and resets; tells what there was before that, and is after.
async fn round(
    site: &Site,
    driver: &Driver,
    process: Process,
    (transactions, late): &Workload,
) -> (State, State) {
    let mut conn = site.connect().await;
    for (statements, is_committed) in transactions {
        conn.query_drop("BEGIN").await.unwrap();
        for statement in statements {
            // What the schema forbids fails, as it would in a test.
            drop(conn.query_drop(statement).await);
        }
        let end = if *is_committed { "COMMIT" } else { "ROLLBACK" };
        conn.query_drop(end).await.unwrap();
    }
    let before = state(&mut site.connect().await).await;
    if process != Process::New {
        driver.release(&site.target).await;
    }
    let late = late.clone();
    if late.is_some() {
        // For it to be held by then.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = u64::from(conn.id());
    let running = tokio::spawn(async move {
        if let Some(statement) = late {
            drop(conn.query_drop(statement).await);
        }
        conn.disconnect().await
    });
    // In no database: MySQL lets nobody into one that is held.
    until_it_waits(&mut connect(&opts("")).await, id, &running).await;
    driver
        .prepare(&site.target)
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    drop(running.await);
    if process == Process::New {
        driver.release(&site.target).await;
    }
    (before, state(&mut site.connect().await).await)
}

fn is_exact(test: &str, few: u32, prepare: Prepare, process: Process, does: Does) {
    let search = Search::Unexpected(cases(few));
    if let Some(error) = at_random((test, search), prepare, (process, does), None) {
        panic!("{error}");
    }
}

#[test]
fn baselines_are_restored() {
    let prepare = Prepare::Baseline;
    is_exact("random_baseline", 60, prepare, Process::Same, Does::Write);
}

#[test]
fn baselines_are_restored_behind_a_gate() {
    let prepare = Prepare::Baseline;
    is_exact("random_gated", 60, prepare, Process::Gated, Does::Write);
}

#[test]
fn truncated_stays_truncated() {
    let prepare = Prepare::Truncate;
    is_exact("random_truncate", 40, prepare, Process::Same, Does::Write);
}

#[test]
fn first_prepares_of_processes_are_as_exact() {
    let prepare = Prepare::Baseline;
    is_exact("random_new", 40, prepare, Process::New, Does::Write);
}

#[test]
fn changed_schemas_are_made_anew() {
    for process in [Process::Same, Process::Gated, Process::New] {
        let test = format!("random_changed_{process:?}").to_lowercase();
        is_exact(&test, 30, Prepare::Baseline, process, Does::Change);
    }
}

#[test]
fn each_detection_is_needed() {
    let has_sequences = run(async {
        let version = rows(&mut connect(&opts("")).await, "SELECT VERSION()").await;
        version[0].contains("MariaDB")
    });
    for (detection, process, does) in [
        ("rows", Process::Same, Does::Write),
        ("seeds", Process::Same, Does::Write),
        ("counters", Process::Same, Does::Write),
        ("sequences", Process::Same, Does::Write),
        ("changes", Process::Same, Does::Change),
        ("rows", Process::New, Does::Write),
        ("seeds", Process::New, Does::Write),
        ("counters", Process::New, Does::Write),
        ("sequences", Process::New, Does::Write),
        ("changes", Process::New, Does::Change),
        ("tables", Process::Same, Does::Write),
        ("waiting", Process::Same, Does::Write),
        ("tables", Process::Gated, Does::Write),
        ("waiting", Process::Gated, Does::Write),
        ("insert triggers", Process::Same, Does::Write),
        ("delete triggers", Process::New, Does::Write),
    ] {
        if detection == "sequences" && !has_sequences {
            continue;
        }
        let test = format!("random_{detection}_{process:?}");
        let test = test.replace(' ', "_").to_lowercase();
        let (prepare, blind) = (Prepare::Baseline, Some(detection));
        assert_needed(&test, detection, |test| {
            at_random((test, Search::Expected), prepare, (process, does), blind)
        });
    }
}
