//! What tests may do: statements at random, on tables `t0`, `t1` and so on if there are so many.
//!
//! `{database}` stands for the database's name. What a schema, or another connection, forbids fails, as it does in tests.

use dagz_testkit::random::{CONNECTIONS, Interleaved, interleaved};
use proptest::{prelude::*, strategy::Union};

/// Anything; or, for those who are `blind`, what can need the detection and does not have the database made anew for
/// another reason, which takes most of the time. To see what depends on what is found out behind a test, only such as
/// give time for that and are over then.
pub(crate) fn workload(blind: Option<&'static str>) -> impl Strategy<Value = Interleaved> {
    let is_ahead = blind.is_some_and(|detection| detection.starts_with("ahead"));
    interleaved(move || statement(blind)).prop_map(move |mut workload| {
        if is_ahead {
            workload.statements.truncate(3);
            workload.stays = [false; CONNECTIONS];
            workload.late = Some(Vec::new());
        }
        workload
    })
}

fn statement(blind: Option<&'static str>) -> impl Strategy<Value = String> {
    let always = [
        (48, writing().boxed()),
        (12, of_the_session().boxed()),
        (20, control().boxed()),
    ];
    let for_some = [
        ("drift", 2, changing_the_schema().boxed()),
        ("event_triggers", 1, on_event_triggers().boxed()),
        ("settings", 1, settings().boxed()),
        ("prepared", 4, prepared().boxed()),
    ];
    let needed = for_some
        .into_iter()
        .filter(|(detection, _, _)| blind.is_none_or(|blind| blind.ends_with(detection)))
        .map(|(_, weight, statement)| match blind {
            // Costs nobody a database made anew.
            Some(_) => (4 * weight, statement),
            None => (weight, statement),
        });
    Union::new_weighted(always.into_iter().chain(needed).collect())
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(all).prop_map(str::to_owned)
}

fn writing() -> impl Strategy<Value = String> {
    let table = 0..6_usize;
    prop_oneof![
        8 => (table.clone(), 1..30_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (value) SELECT n FROM generate_series(1, {n}) n")),
        2 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!("INSERT INTO t{t} (value, up) SELECT {n}, {n}")),
        // More than is deleted row by row.
        1 => one_of(&["INSERT INTO t0 (value) SELECT n FROM generate_series(1, 30000) n"]),
        2 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!(
            "INSERT INTO t{t} (id, value) OVERRIDING SYSTEM VALUE VALUES ({n}, 7) ON CONFLICT (id) DO UPDATE SET value = 8")),
        1 => (table.clone(), 1..9_u32).prop_map(|(t, n)| format!(
            "MERGE INTO t{t} t USING (VALUES ({n})) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET value = 9 \
             WHEN NOT MATCHED THEN INSERT (value) VALUES (9)")),
        1 => table.clone().prop_map(|t| format!(
            "WITH gone AS (DELETE FROM t{t} RETURNING value) INSERT INTO seen (value) SELECT value FROM gone")),
        6 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("UPDATE t{t} SET value = coalesce(value, 0) + 1 WHERE value % 4 = {n}")),
        6 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!("DELETE FROM t{t} WHERE value % 4 = {n}")),
        2 => table.clone().prop_map(|t| format!("DELETE FROM ONLY t{t}")),
        2 => table.clone().prop_map(|t| format!("TRUNCATE t{t} RESTART IDENTITY CASCADE")),
        2 => (table.clone(), 0..4_u32).prop_map(|(t, n)| format!(
            "SET session_replication_role = replica; DELETE FROM t{t} WHERE value % 4 = {n}; INSERT INTO t{t} (value) VALUES (4)")),
        2 => table.clone().prop_map(|t| format!("COPY t{t} (value) FROM PROGRAM 'echo 3'")),
        2 => table.clone().prop_map(|t| format!("INSERT INTO t{t}_0 (id, value) SELECT n, n FROM generate_series(1, 5) n")),
        2 => table.clone().prop_map(|t| format!("SELECT nextval('t{t}_id_seq')")),
        2 => (table, 1..500_u32, any::<bool>()).prop_map(|(t, n, called)| format!("SELECT setval('t{t}_id_seq', {n}, {called})")),
        2 => one_of(&["SELECT nextval('free')", "SELECT setval('free', 41, false)"]),
        2 => one_of(&["SELECT lo_from_bytea(0, '\\x00ff')", "SELECT lo_put(4242, 1, '\\x01')", "SELECT lo_unlink(4242)"]),
    ]
}

/// What ends with a session, or with a transaction.
fn of_the_session() -> impl Strategy<Value = String> {
    one_of(&[
        "CREATE TEMP TABLE IF NOT EXISTS scratch (id serial)",
        "CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT * FROM t0",
        "CREATE TEMP VIEW glance AS SELECT * FROM t1",
        "SET session_replication_role = replica",
        "SET session_replication_role = replica",
        "SET session_replication_role = DEFAULT",
        "SET work_mem = '5MB'",
        "LISTEN news; NOTIFY news",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_xact_lock(2)",
        "LOCK TABLE t1",
        "SELECT FROM t1 FOR UPDATE",
        "DECLARE held CURSOR WITH HOLD FOR SELECT * FROM t0",
        "PREPARE kept AS SELECT * FROM t0",
        "SAVEPOINT change; ALTER TABLE t1 ADD COLUMN more integer; DROP TABLE t2 CASCADE; ROLLBACK TO change",
    ])
}

fn changing_the_schema() -> impl Strategy<Value = String> {
    let of_a_table = one_of(&[
        "ALTER TABLE t# DISABLE TRIGGER ALL",
        "ALTER TABLE t# ADD COLUMN more# integer DEFAULT 1",
        "ALTER TABLE t# ALTER COLUMN id RESTART WITH 77",
        "ALTER TABLE t# ALTER COLUMN value SET NOT NULL",
        "ALTER TABLE t# RENAME COLUMN value TO worth",
        "ALTER TABLE t# DETACH PARTITION t#_0",
        "ALTER TABLE t# DISABLE RULE also",
        "ALTER TABLE t# FORCE ROW LEVEL SECURITY",
        "DROP TABLE t# CASCADE",
        "CREATE TABLE made# AS SELECT 1 AS one",
        "CREATE INDEX ON t# (value)",
        "CREATE POLICY anew ON t# USING (value = 1)",
        "COMMENT ON TABLE t# IS 'changed'",
        "GRANT SELECT ON t# TO PUBLIC",
    ]);
    let of_none = one_of(&[
        "ALTER SEQUENCE free INCREMENT 3",
        "DROP SEQUENCE free",
        "CREATE SEQUENCE another",
        "REFRESH MATERIALIZED VIEW totals",
        "CREATE OR REPLACE VIEW seen AS SELECT id, value FROM t0 WHERE id > 1",
        "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE SCHEMA far CREATE TABLE made (id integer)",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    ]);
    let of_a_table = (of_a_table, 0..6_usize)
        .prop_map(|(statement, number)| statement.replace('#', &number.to_string()));
    prop_oneof![2 => of_a_table, 1 => of_none]
}

/// What no event trigger tells of.
fn on_event_triggers() -> impl Strategy<Value = String> {
    one_of(&[
        "ALTER EVENT TRIGGER own DISABLE",
        "CREATE EVENT TRIGGER another ON sql_drop EXECUTE FUNCTION told()",
        "DROP EVENT TRIGGER own",
        "DROP EVENT TRIGGER own; CREATE EVENT TRIGGER own ON sql_drop EXECUTE FUNCTION told()",
        "ALTER EVENT TRIGGER dagz_command DISABLE; CREATE TABLE unnoted (id integer)",
    ])
}

fn settings() -> impl Strategy<Value = String> {
    one_of(&[
        "ALTER DATABASE \"{database}\" SET work_mem = '7MB'",
        "ALTER ROLE CURRENT_USER IN DATABASE \"{database}\" SET work_mem = '8MB'",
    ])
}

fn prepared() -> impl Strategy<Value = String> {
    let statement = one_of(&[
        "BEGIN; INSERT INTO t# (value) VALUES (1); PREPARE TRANSACTION '{database} #'",
        "BEGIN; DELETE FROM t#; PREPARE TRANSACTION '{database} #'",
        "PREPARE TRANSACTION '{database} #'",
        "COMMIT PREPARED '{database} #'",
        "ROLLBACK PREPARED '{database} #'",
    ]);
    (statement, 0..3_usize)
        .prop_map(|(statement, number)| statement.replace('#', &number.to_string()))
}

fn control() -> impl Strategy<Value = String> {
    one_of(&[
        "BEGIN",
        "BEGIN; INSERT INTO t0 (value) VALUES (7)",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
    ])
}
