//! Random schemas, and random workloads over several connections, compared by full dump.
//!
//! Statements of the connections interleave; they lock each other out, fail, roll back, change the schema, and some of the
//! connections are left with a transaction open or tables locked. Where `random.rs` has one schema with everything in it,
//! this has many small ones, half of them behind a write gate. `DAGZ_TEST_CASES` is the number of schemas, eight by
//! default; each gets eight workloads.

mod support;

use std::{cell::Cell, fmt::Write as _, time::Duration};

use dagz_core::DbConfig as _;
use dagz_mysql::{
    Prepare,
    mysql_async::{Conn, prelude::Queryable as _},
};
use dagz_testkit::random::{
    CONNECTIONS, Counterexample, Interleaved, Search, assert_needed, cases, counterexample,
    interleaved, runner,
};
use proptest::{collection::vec, prelude::*, strategy::ValueTree as _};
use support::{Site, at_site, connect, is_mariadb, opts, run, state, within};

/// How long a statement may wait for another connection before it is ended.
const PATIENCE: Duration = Duration::from_millis(20);

/// Much longer than any workload and its reset take, however busy the machine is.
const ROUND: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Partitioned,
    /// Without transactions.
    MyIsam,
    Memory,
}

#[derive(Clone, Debug)]
struct Table {
    kind: Kind,
    key: &'static str,
    seeds: u32,
    /// What becomes of a row when that of the table before goes or gets another key.
    reference: Option<&'static str>,
    /// What of it writes to the first table.
    trigger: Option<&'static str>,
}

fn table() -> impl Strategy<Value = Table> {
    (
        prop_oneof![
            4 => Just(Kind::Plain),
            1 => Just(Kind::Partitioned),
            1 => Just(Kind::MyIsam),
            1 => Just(Kind::Memory)
        ],
        prop::sample::select(vec![
            "INT AUTO_INCREMENT PRIMARY KEY",
            "BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY",
            "INT PRIMARY KEY DEFAULT 7",
            "INT DEFAULT 7",
        ]),
        prop_oneof![2 => Just(0_u32), 1 => 1..12_u32],
        prop::option::of(prop::sample::select(vec![
            "ON DELETE CASCADE ON UPDATE CASCADE",
            "ON DELETE SET NULL",
            "",
        ])),
        prop::option::weighted(
            0.3,
            prop::sample::select(vec!["INSERT", "UPDATE", "DELETE"]),
        ),
    )
        .prop_map(|(kind, key, seeds, reference, trigger)| Table {
            kind,
            key,
            seeds,
            reference,
            trigger,
        })
}

fn schema(tables: &[Table], has_sequences: bool) -> String {
    let mut text =
        "CREATE TABLE t0 (id INT AUTO_INCREMENT PRIMARY KEY, value INT, up INT);".to_owned();
    if has_sequences {
        text += "CREATE SEQUENCE free START WITH 5 INCREMENT BY 2;";
    }
    for (number, table) in (1_usize..).zip(tables) {
        let before = number - 1;
        let Table { key, seeds, .. } = table;
        let referred = tables.get(before.wrapping_sub(1));
        // Only InnoDB has foreign keys, to a key of the very same type, and not where rows are in parts.
        let can_refer = matches!(table.kind, Kind::Plain)
            && referred.is_none_or(|before| {
                matches!(before.kind, Kind::Plain)
                    && before.key.starts_with("INT ")
                    && before.key.contains("KEY")
            });
        let reference = match table.reference {
            Some(actions) if can_refer => {
                format!(", FOREIGN KEY (up) REFERENCES t{before} (id) {actions}")
            }
            _ => String::new(),
        };
        let options = match table.kind {
            Kind::Plain => "ENGINE = InnoDB",
            Kind::Partitioned => "ENGINE = InnoDB PARTITION BY HASH (id) PARTITIONS 2",
            Kind::MyIsam => "ENGINE = MyISAM",
            Kind::Memory => "ENGINE = MEMORY",
        };
        let table_text = write!(
            text,
            "CREATE TABLE t{number} (id {key}, value INT, up INT{reference}) {options};"
        );
        table_text.unwrap_or_default();
        for seed in 1..=*seeds {
            let inserted = write!(
                text,
                "INSERT INTO t{number} (id, value) VALUES ({seed}, {seed});"
            );
            inserted.unwrap_or_default();
        }
        if let Some(event) = table.trigger {
            let trigger = write!(
                text,
                "CREATE TRIGGER note{number} AFTER {event} ON t{number} FOR EACH ROW INSERT INTO t0 (value) VALUES (1);"
            );
            trigger.unwrap_or_default();
        }
    }
    text
}

/// What one of the connections does, to the table of this number if there are so many.
fn statement() -> impl Strategy<Value = String> {
    let table = 0..6_usize;
    let own = prop_oneof![
        4 => (table.clone(), 1..30_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (value) VALUES ({n}), ({n} + 1)")),
        2 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (id, value, up) VALUES ({n} + 40, {n}, {n})")),
        1 => (table.clone(), table.clone()).prop_map(|(t, from)| format!("INSERT INTO t{t} (value) SELECT value FROM t{from}")),
        1 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!("REPLACE INTO t{t} (id, value) VALUES ({n}, 0)")),
        1 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (id, value) VALUES ({n}, 1) ON DUPLICATE KEY UPDATE value = 70")),
        3 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("UPDATE t{t} SET value = COALESCE(value, 0) + 1 WHERE value % 4 = {n}")),
        1 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("UPDATE t{t} SET id = id + 500 WHERE value % 4 = {n}")),
        1 => (table.clone(), table.clone()).prop_map(|(t, u)| format!("UPDATE t{t}, t{u} SET t{t}.value = 9, t{u}.up = NULL WHERE t{t}.id = t{u}.id")),
        3 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("DELETE FROM t{t} WHERE value % 4 = {n}")),
        1 => table.clone().prop_map(|t| format!("DELETE FROM t{t}")),
        1 => table.clone().prop_map(|t| format!("TRUNCATE t{t}")),
        1 => (table.clone(), 1..500_u32).prop_map(|(t, n)| format!("ALTER TABLE t{t} AUTO_INCREMENT = {n}")),
        1 => table.clone().prop_map(|t| format!("SELECT * FROM t{t} FOR UPDATE")),
        1 => (table.clone(), any::<bool>()).prop_map(|(t, writes)| format!("LOCK TABLES t{t} {}", if writes { "WRITE" } else { "READ" })),
        1 => Just("UNLOCK TABLES".to_owned()),
        1 => Just("DO NEXTVAL(free)".to_owned()),
        1 => (1..500_u32).prop_map(|n| format!("DO SETVAL(free, {n})")),
        1 => Just("CREATE TEMPORARY TABLE IF NOT EXISTS t3 (id INT, value INT)".to_owned()),
        1 => any::<bool>().prop_map(|checked| format!("SET foreign_key_checks = {checked}")),
    ];
    let changing = prop_oneof![
        table
            .clone()
            .prop_map(|t| format!("ALTER TABLE t{t} ADD COLUMN more{t} INT DEFAULT 1")),
        table.clone().prop_map(|t| format!("DROP TABLE t{t}")),
        table.clone().prop_map(|t| format!("DROP TRIGGER note{t}")),
        table
            .clone()
            .prop_map(|t| format!("CREATE VIEW made{t} AS SELECT value FROM t{t}")),
        table.prop_map(|t| format!("CREATE TABLE made{t} AS SELECT 1 AS one")),
    ];
    let control = prop::sample::select(vec![
        "BEGIN",
        "BEGIN",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "SET autocommit = 0",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    ])
    .prop_map(str::to_owned);
    prop_oneof![24 => own, 1 => changing, 8 => control]
}

/// Does `statement`, which fails where the schema, or another connection, forbids it.
async fn attempt(conn: &mut Conn, admin: &mut Conn, statement: &str) {
    let end = format!("KILL QUERY {}", conn.id());
    let mut running = std::pin::pin!(conn.query_drop(statement));
    while tokio::time::timeout(PATIENCE, &mut running).await.is_err() {
        // It may have ended by itself.
        drop(admin.query_drop(&end).await);
    }
}

async fn round(site: &Site, workload: &Interleaved) -> (String, Vec<String>) {
    let mut admin = connect(&opts("")).await;
    let mut conns = Vec::new();
    for _ in 0..CONNECTIONS {
        conns.push(site.connect().await);
    }
    for (number, statement) in &workload.statements {
        attempt(&mut conns[*number], &mut admin, statement).await;
    }
    let mut stays = Vec::new();
    for (conn, stays_on) in conns.into_iter().zip(workload.stays) {
        match stays_on {
            true => stays.push(Some(conn)),
            false => {
                drop(conn.disconnect().await);
                stays.push(None);
            }
        }
    }
    site.driver.release(&site.target).await;
    if let Some(late) = &workload.late {
        tokio::time::sleep(PATIENCE / 2).await;
        for (number, statement) in late {
            // Nobody new gets into a database that is held.
            if let Some(conn) = &mut stays[*number] {
                attempt(conn, &mut admin, statement).await;
            }
        }
    }
    site.prepare().await;
    let after = state(&mut site.connect().await).await;
    drop(stays);
    after
}

/// Tells a workload in a database of these tables after which that is another one, if there is such among so many.
fn at_random(
    (test, tag): (&str, u32),
    tables: &[Table],
    search: Search,
    (prepare, is_gated): (Prepare, bool),
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let text = schema(tables, run(is_mariadb()));
    let tag = &format!("{test} {tag} {}", text.len());
    let failed = Cell::new(None);
    at_site(
        test,
        move |config| {
            let config = config
                .prepare(prepare)
                .hold(Duration::from_millis(100))
                .leak_patience(PATIENCE)
                .write_gate(is_gated)
                .migrate_with(tag, move |opts| {
                    let text = text.clone();
                    async move { connect(&opts).await.query_drop(text).await }
                });
            match blind {
                Some(detection) => config.blind_to(detection),
                None => config,
            }
        },
        async |site: &Site| {
            site.init().await;
            let start = state(&mut site.connect().await).await;
            let workloads = interleaved(statement);
            let found = counterexample(tag, search, &workloads, async |workload| {
                let after = within(ROUND, round(site, &workload)).await;
                prop_assert_eq!(&after, &start);
                Ok(())
            });
            failed.set(found);
        },
    );
    failed.into_inner()
}

#[test]
fn any_schema_is_brought_back() {
    let mut runner = runner("any_schema");
    for case in 0..cases(8) {
        let tables = vec(table(), 1..6).new_tree(&mut runner).unwrap().current();
        let prepare = match case % 3 {
            2 => Prepare::Truncate,
            _ => Prepare::Baseline,
        };
        let set = (prepare, case % 2 == 0);
        let eight = Search::Unexpected(8);
        if let Some(error) = at_random(("random_schemas", case), &tables, eight, set, None) {
            panic!("{error}\n{tables:#?}");
        }
    }
}

/// Of each kind one.
const EACH: [Table; 4] = {
    const PLAIN: Table = Table {
        kind: Kind::Plain,
        key: "INT AUTO_INCREMENT PRIMARY KEY",
        seeds: 5,
        reference: None,
        trigger: None,
    };
    [
        PLAIN,
        Table {
            kind: Kind::Partitioned,
            ..PLAIN
        },
        Table {
            kind: Kind::MyIsam,
            seeds: 0,
            ..PLAIN
        },
        Table {
            reference: Some("ON DELETE CASCADE"),
            ..PLAIN
        },
    ]
};

#[test]
fn each_detection_is_needed() {
    for detection in ["rows", "seeds", "counters", "changes"] {
        for is_gated in [false, true] {
            let test = format!("random_blind_{detection}");
            let set = (Prepare::Baseline, is_gated);
            let (expected, blind) = (Search::Expected, Some(detection));
            assert_needed(&test, detection, |test| {
                at_random((test, 0), &EACH, expected, set, blind)
            });
        }
    }
}
