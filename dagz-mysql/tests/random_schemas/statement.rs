//! Random statements in a database of `schema.rs`, of which the schema, or another connection, forbids some.

use proptest::prelude::*;

/// How often a statement changes the schema, or prepares a transaction, where twenty-four do neither.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) changes: u32,
    pub(crate) prepares: u32,
    /// What all of them contain.
    pub(crate) only: &'static str,
}

/// What one of the connections does, to the table of this number if there are so many. `{xa}` stands for a name of that
/// connection's own.
pub(crate) fn statement(mix: Mix) -> impl Strategy<Value = String> {
    prop_oneof![
        24 => own(),
        mix.changes => changing(),
        mix.prepares => preparing(),
        8 => control(),
    ]
    .prop_filter("not of those", move |statement| {
        statement.contains(mix.only)
    })
}

/// Rows, more than are deleted at once.
pub(crate) const MANY: &str = "(SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 \
    UNION ALL SELECT 6 UNION ALL SELECT 7)";

fn own() -> impl Strategy<Value = String> {
    let table = 0..6_usize;
    let rows = prop_oneof![
        4 => (table.clone(), 1..30_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (value) VALUES ({n}), ({n} + 1)")),
        2 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (id, value, up) VALUES ({n} + 40, {n}, {n})")),
        1 => (table.clone(), table.clone()).prop_map(|(t, from)| format!("INSERT INTO t{t} (value) SELECT value FROM t{from}")),
        1 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!("REPLACE INTO t{t} (id, value) VALUES ({n}, 0)")),
        1 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (id, value) VALUES ({n}, 1) ON DUPLICATE KEY UPDATE value = 70")),
        3 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("UPDATE t{t} SET value = COALESCE(value, 0) + 1 WHERE value % 4 = {n}")),
        1 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("UPDATE t{t} SET id = id + 500 WHERE value % 4 = {n}")),
        1 => (table.clone(), table.clone()).prop_map(|(t, u)| format!("UPDATE t{t}, t{u} SET t{t}.value = 9, t{u}.up = NULL WHERE t{t}.id = t{u}.id")),
        1 => (table.clone(), prop::sample::select(vec!["DEFAULT", "NULL", "0", "0.10000001"])).prop_map(|(t, value)| format!("UPDATE IGNORE t{t} SET typed = {value}")),
        1 => table.clone().prop_map(|t| format!("UPDATE t{t} SET up = value, value = NULL")),
        3 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("DELETE FROM t{t} WHERE value % 4 = {n}")),
        1 => table.clone().prop_map(|t| format!("DELETE FROM t{t}")),
        1 => table.clone().prop_map(|t| format!("TRUNCATE t{t}")),
    ];
    let others = prop_oneof![
        2 => (table.clone(), 1..500_u32).prop_map(|(t, n)| format!("ALTER TABLE t{t} AUTO_INCREMENT = {n}")),
        1 => table.clone().prop_map(|t| format!("INSERT INTO t{t} (value) SELECT 1 FROM {MANY} a, {MANY} b, {MANY} c, {MANY} d")),
        2 => table.clone().prop_map(|t| format!("SELECT * FROM t{t} FOR UPDATE")),
        2 => (table, any::<bool>()).prop_map(|(t, writes)| format!("LOCK TABLES t{t} {}", if writes { "WRITE" } else { "READ" })),
        2 => Just("UNLOCK TABLES".to_owned()),
        2 => Just("DO NEXTVAL(free)".to_owned()),
        2 => (1..500_u32).prop_map(|n| format!("DO SETVAL(free, {n})")),
        1 => Just("DO NEXTVAL(circle); DO NEXTVAL(circle); DO NEXTVAL(circle)".to_owned()),
        2 => Just("CREATE TEMPORARY TABLE IF NOT EXISTS t3 (id INT, value INT)".to_owned()),
        2 => any::<bool>().prop_map(|checked| format!("SET foreign_key_checks = {checked}")),
        1 => Just("SET sql_mode = ''".to_owned()),
    ];
    prop_oneof![2 => rows, 1 => others]
}

/// What changes the schema, for each kind of object.
fn changing() -> impl Strategy<Value = String> {
    let of_tables = prop::sample::select(vec![
        "ALTER TABLE {} ADD COLUMN more INT DEFAULT 1",
        "ALTER TABLE {} DISCARD TABLESPACE",
        "CREATE INDEX more ON {} (value)",
        "DROP TABLE {}",
        "RENAME TABLE {} TO renamed",
        "DROP TRIGGER note{}",
        "CREATE TRIGGER late BEFORE INSERT ON {} FOR EACH ROW SET NEW.value = 1",
        "CREATE VIEW made AS SELECT value FROM {}",
    ]);
    let of_tables =
        (of_tables, 0..6_usize).prop_map(|(text, t)| match text.starts_with("DROP TRIGGER") {
            true => text.replace("{}", &t.to_string()),
            false => text.replace("{}", &format!("t{t}")),
        });
    let others = prop::sample::select(vec![
        "CREATE TABLE made AS SELECT 1 AS one",
        "DROP VIEW seen",
        "CREATE OR REPLACE VIEW seen AS SELECT up FROM t0",
        "RENAME TABLE seen TO renamed",
        "DROP PROCEDURE clear",
        "ALTER PROCEDURE clear COMMENT 'changed'",
        "CREATE PROCEDURE made() SELECT 1",
        "SET sql_mode = 'PIPES_AS_CONCAT'; DROP PROCEDURE clear; CREATE PROCEDURE clear() DELETE FROM t0",
        "DROP FUNCTION one",
        "CREATE FUNCTION made() RETURNS INT DETERMINISTIC RETURN 2",
        "DROP EVENT never",
        "ALTER EVENT never ENABLE",
        "DROP SEQUENCE free",
        "ALTER SEQUENCE free INCREMENT BY 7",
        "CREATE SEQUENCE made",
        "ALTER DATABASE COLLATE utf8mb4_danish_ci",
        "ALTER DATABASE COMMENT 'changed'",
        "ALTER DATABASE READ ONLY = 1",
        "DROP TABLE dagz_state",
        "DROP TRIGGER dagz_gate_0_insert",
    ])
    .prop_map(str::to_owned);
    prop_oneof![2 => of_tables, 5 => others]
}

/// A transaction that stays when its session is gone.
fn preparing() -> impl Strategy<Value = String> {
    let writes = prop_oneof![
        (0..6_usize).prop_map(|t| format!("INSERT INTO t{t} (value) VALUES (1)")),
        (0..6_usize).prop_map(|t| format!("DELETE FROM t{t}")),
        (0..6_usize).prop_map(|t| format!("UPDATE t{t} SET value = 77")),
    ];
    writes.prop_map(|writes| {
        format!("COMMIT; XA START '{{xa}}'; {writes}; XA END '{{xa}}'; XA PREPARE '{{xa}}'")
    })
}

fn control() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
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
    .prop_map(str::to_owned)
}
