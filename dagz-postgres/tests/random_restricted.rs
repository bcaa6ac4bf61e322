//! Where dagz is no superuser: random workloads, compared by full dump, and each catalog that tells of a schema's change.
//!
//! Nothing notes what a test does, so each reset looks at all that there is. Some of the connections are of a role that
//! hides what it does.

mod support;

use std::{cell::Cell, time::Duration};

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Prepare};
use dagz_testkit::random::{
    CONNECTIONS, Counterexample, Interleaved, Search, assert_needed, cases, counterexample,
    interleaved,
};
use proptest::{prelude::*, strategy::Union};
use support::{Site, at_site, base, config, connect, dump, rows, run};
use tokio_postgres::Client;

const SCHEMA: &str = "
CREATE TABLE country (code text PRIMARY KEY, value integer);
INSERT INTO country SELECT 'c' || n, n FROM generate_series(1, 9) n;
CREATE TABLE item (id serial PRIMARY KEY, value integer, other integer,
    country text REFERENCES country ON DELETE CASCADE ON UPDATE CASCADE);
CREATE INDEX item_value ON item (value);
ALTER TABLE item ADD CONSTRAINT bounded CHECK (value < 900) NOT VALID;
CREATE TABLE hen (id serial PRIMARY KEY, egg integer, value integer);
CREATE TABLE egg (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, hen integer NOT NULL REFERENCES hen, value integer);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg;
CREATE TABLE audit (value integer);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO audit VALUES (1); RETURN NULL; END';
CREATE TRIGGER note AFTER DELETE ON item FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TABLE ruled (value integer);
CREATE RULE also AS ON INSERT TO ruled DO ALSO INSERT INTO audit VALUES (2);
CREATE TABLE secret (value integer);
CREATE POLICY own ON secret;
CREATE TABLE above ();
CREATE TABLE below () INHERITS (above);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM item;
CREATE UNIQUE INDEX ON totals (n);
CREATE SEQUENCE free;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE empty AS ENUM ();
CREATE DOMAIN size AS integer;
CREATE CAST (empty AS text) WITH INOUT;
CREATE OPERATOR ==== (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq);
CREATE COLLATION plain FROM \"C\";
CREATE CONVERSION turned FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
CREATE TEXT SEARCH CONFIGURATION words (COPY = english);
CREATE TEXT SEARCH DICTIONARY known (TEMPLATE = simple);
CREATE STATISTICS pair ON value, other FROM item;
CREATE PUBLICATION news FOR TABLE item;
CREATE SCHEMA far;
COMMENT ON COLUMN item.other IS 'another';
SELECT lo_from_bytea(4242, '\\x00ff');
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
";

/// Changes of the schema, and the one catalog that tells of them.
const CHANGES: [(&str, &str); 49] = [
    (
        "pg_class",
        "INSERT INTO item (value) VALUES (1); REFRESH MATERIALIZED VIEW totals",
    ),
    (
        "pg_class",
        "INSERT INTO item (value) VALUES (1); REFRESH MATERIALIZED VIEW CONCURRENTLY totals",
    ),
    ("pg_class", "ALTER INDEX item_value SET (fillfactor = 50)"),
    ("pg_class", "ALTER TABLE item ENABLE ROW LEVEL SECURITY"),
    ("pg_class", "GRANT SELECT ON audit TO pg_monitor"),
    (
        "pg_attribute",
        "ALTER TABLE item ALTER COLUMN other SET NOT NULL",
    ),
    (
        "pg_attribute",
        "ALTER TABLE item RENAME COLUMN value TO worth",
    ),
    ("pg_namespace", "DROP SCHEMA far"),
    ("pg_namespace", "CREATE SCHEMA near"),
    ("pg_namespace", "ALTER SCHEMA far RENAME TO farther"),
    (
        "pg_proc",
        "CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    ),
    (
        "pg_proc",
        "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ),
    (
        "pg_constraint",
        "ALTER TABLE item VALIDATE CONSTRAINT bounded",
    ),
    ("pg_constraint", "ALTER DOMAIN size ADD CHECK (value > 0)"),
    ("pg_index", "ALTER TABLE item CLUSTER ON item_value"),
    ("pg_trigger", "DROP TRIGGER note ON item"),
    ("pg_trigger", "ALTER TRIGGER note ON item RENAME TO noted"),
    ("pg_rewrite", "DROP RULE also ON ruled"),
    ("pg_rewrite", "ALTER TABLE ruled DISABLE RULE also"),
    ("pg_policy", "DROP POLICY own ON secret"),
    ("pg_policy", "ALTER POLICY own ON secret USING (true)"),
    ("pg_sequence", "ALTER SEQUENCE free OWNED BY item.value"),
    ("pg_inherits", "ALTER TABLE below NO INHERIT above"),
    ("pg_type", "ALTER TYPE mood RENAME TO temper"),
    ("pg_type", "ALTER TYPE mood SET SCHEMA far"),
    ("pg_type", "CREATE TYPE nothing AS ENUM ()"),
    ("pg_type", "GRANT USAGE ON TYPE mood TO pg_monitor"),
    ("pg_type", "ALTER DOMAIN size SET DEFAULT 5"),
    ("pg_type", "DROP DOMAIN size"),
    ("pg_enum", "ALTER TYPE mood ADD VALUE 'fair'"),
    ("pg_enum", "ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'"),
    ("pg_description", "COMMENT ON COLUMN item.other IS NULL"),
    ("pg_description", "COMMENT ON TABLE item IS 'changed'"),
    (
        "pg_default_acl",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor",
    ),
    (
        "pg_publication",
        "ALTER PUBLICATION news SET (publish = 'insert')",
    ),
    ("pg_publication_rel", "ALTER PUBLICATION news ADD TABLE hen"),
    ("pg_cast", "DROP CAST (empty AS text)"),
    ("pg_cast", "CREATE CAST (mood AS integer) WITH INOUT"),
    ("pg_operator", "DROP OPERATOR ==== (integer, integer)"),
    (
        "pg_operator",
        "ALTER OPERATOR ==== (integer, integer) SET (RESTRICT = eqsel)",
    ),
    ("pg_collation", "ALTER COLLATION plain RENAME TO simple"),
    ("pg_conversion", "DROP CONVERSION turned"),
    ("pg_conversion", "ALTER CONVERSION turned RENAME TO again"),
    (
        "pg_ts_config",
        "ALTER TEXT SEARCH CONFIGURATION words RENAME TO phrases",
    ),
    (
        "pg_ts_config_map",
        "ALTER TEXT SEARCH CONFIGURATION words DROP MAPPING FOR word",
    ),
    (
        "pg_ts_dict",
        "ALTER TEXT SEARCH DICTIONARY known (Accept = false)",
    ),
    ("pg_ts_dict", "DROP TEXT SEARCH DICTIONARY known"),
    ("pg_statistic_ext", "ALTER STATISTICS pair SET STATISTICS 5"),
    ("pg_statistic_ext", "DROP STATISTICS pair"),
];

/// Whom dagz connects as, and the application; the last of its connections is of a role that dagz may not look at.
const OWNER: &str = "dagz_test_random_owner";
const HIDDEN: &str = "dagz_test_random_hidden";

async fn make_roles() {
    let admin = connect(&config("postgres")).await;
    for role in [
        format!("CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD 'hidden' IN ROLE pg_signal_backend"),
        format!("CREATE ROLE {HIDDEN} LOGIN PASSWORD 'hidden'"),
    ] {
        // There already, or made by another process at this moment: both are well.
        drop(admin.batch_execute(&role).await);
    }
}

async fn connect_as(site: &Site, role: &str) -> Client {
    let mut config = site.config();
    config.user(role).password("hidden").application_name("app");
    connect(&config).await
}

/// One thing that a test may do; `changes` are those of the schema.
fn statement(changes: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    let one_of = |all: &[&'static str]| prop::sample::select(all.to_vec()).prop_map(str::to_owned);
    let table = || {
        prop::sample::select(
            ["country", "item", "hen", "egg", "audit", "ruled", "secret"].as_slice(),
        )
    };
    let writing = prop_oneof![
        3 => (table(), 1..30_u32).prop_map(|(table, n)| format!("INSERT INTO {table} (value) SELECT n FROM generate_series(1, {n}) n")),
        1 => (1..9_u32).prop_map(|n| format!("INSERT INTO item (value, country) VALUES ({n}, 'c{n}')")),
        1 => Just("WITH h AS (INSERT INTO hen (value) VALUES (1) RETURNING id), e AS (INSERT INTO egg (hen) SELECT id FROM h RETURNING id, hen) \
                   UPDATE hen SET egg = e.id FROM e WHERE hen.id = e.hen".to_owned()),
        1 => (table(), 0..4_u32).prop_map(|(table, n)| format!("UPDATE {table} SET value = value + 1 WHERE value % 4 = {n}")),
        1 => (table(), 0..4_u32).prop_map(|(table, n)| format!("DELETE FROM {table} WHERE value % 4 = {n}")),
        1 => table().prop_map(|table| format!("TRUNCATE {table} RESTART IDENTITY CASCADE")),
        1 => one_of(&["SELECT nextval('free')", "SELECT setval('hen_id_seq', 40, false)", "SELECT lo_put(4242, 0, 'x')", "SELECT lo_create(0)"]),
        1 => one_of(&[
                      "ALTER DATABASE \"{database}\" SET work_mem = '7MB'",
                      "CREATE TEMP TABLE scratch (id serial)",
                      "BEGIN; INSERT INTO hen (value) VALUES (1); PREPARE TRANSACTION '{database}'"]),
    ];
    let control = one_of(&[
        "BEGIN",
        "BEGIN; INSERT INTO item (value) VALUES (7)",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "ROLLBACK TO s",
    ]);
    let mut all = vec![(10, writing.boxed()), (5, control.boxed())];
    if !changes.is_empty() {
        all.push((2, one_of(changes).boxed()));
    }
    Union::new_weighted(all)
}

/// Does what a test does, resets, and looks.
async fn round(site: &Site, workload: &Interleaved) -> String {
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        let role = if number + 1 == CONNECTIONS {
            HIDDEN
        } else {
            OWNER
        };
        let client = connect_as(site, role).await;
        client
            .batch_execute("SET lock_timeout = '15ms'")
            .await
            .unwrap();
        clients.push(client);
    }
    for (number, statement) in &workload.statements {
        let statement = statement.replace("{database}", site.target.name());
        if statement.contains("PREPARE TRANSACTION") && *number + 1 == CONNECTIONS {
            // Only its own role may roll it back, so that there is an error.
            continue;
        }
        // What the schema, or another connection, forbids fails, as it does in tests.
        drop(clients[*number].batch_execute(&statement).await);
    }
    let stays: Vec<_> = clients
        .into_iter()
        .zip(workload.stays)
        .filter_map(|(client, stays)| stays.then_some(client))
        .collect();
    site.driver.release(&site.target).await;
    site.prepare().await;
    // What was left open and is still there comes to the next test.
    for client in &stays {
        drop(client.batch_execute("COMMIT").await);
    }
    dump(&connect_as(site, OWNER).await).await
}

/// Tells a workload after which the state is another one. Of changes of the schema, for which a database is made anew, those
/// who are `blind` get such as can need the detection.
fn at_random(
    (test, search): (&str, Search),
    prepare: Prepare,
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    run(make_roles());
    let is_needed = |catalog: &str| match blind {
        None | Some("look counts" | "look newer") => true,
        Some(blind) => blind == catalog,
    };
    let needed = CHANGES.iter().filter(|(catalog, _)| is_needed(catalog));
    let changes: Vec<_> = needed.map(|(_, change)| *change).collect();
    let mut base = config(&base(test));
    base.user(OWNER).password("hidden");
    let configured = |_: Config| {
        let config = Config::from_config(base)
            .prepare(prepare)
            .leak_patience(Duration::from_millis(20))
            .migrate_with("1", |config| async move {
                connect(&config).await.batch_execute(SCHEMA).await
            });
        match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        }
    };
    let failed = Cell::new(None);
    at_site(test, configured, async |site: &Site| {
        site.init().await;
        let start = dump(&connect_as(site, OWNER).await).await;
        let workloads = interleaved(|| statement(&changes)).prop_map(|mut workload| {
            if blind == Some("look hidden") {
                workload.stays = [true; CONNECTIONS];
            }
            workload
        });
        let found = counterexample(test, search, &workloads, async |workload| {
            let after = round(site, &workload).await;
            prop_assert_eq!(&after, &start);
            Ok(())
        });
        failed.set(found);
    });
    failed.into_inner()
}

#[test]
fn the_start_state_is_brought_back() {
    for (test, few, prepare) in [
        ("random_restricted", 20, Prepare::Baseline),
        ("random_restricted_empty", 10, Prepare::Truncate),
    ] {
        let search = Search::Unexpected(cases(few));
        if let Some(error) = at_random((test, search), prepare, None) {
            panic!("{error}");
        }
    }
}

fn is_needed(detection: &'static str) {
    let test = format!("random_unseen_{}", detection.replace(' ', "_"));
    let prepare = Prepare::Truncate;
    assert_needed(&test, detection, |test| {
        at_random((test, Search::Expected), prepare, Some(detection))
    });
}

#[test]
fn each_catalog_is_needed() {
    let mut catalogs = CHANGES.map(|(catalog, _)| catalog).to_vec();
    catalogs.dedup();
    for catalog in catalogs {
        is_needed(catalog);
    }
}

#[test]
fn each_look_is_needed() {
    for detection in ["look counts", "look newer", "look hidden", "look again"] {
        is_needed(detection);
    }
}

/// Each by itself, since several in one workload tell of each other.
#[test]
fn each_change_of_the_schema_is_undone() {
    run(make_roles());
    let name = "restricted_changes";
    let mut base = config(&base(name));
    base.user(OWNER).password("hidden");
    let configured = |_: Config| {
        Config::from_config(base).migrate_with("1", |config| async move {
            connect(&config).await.batch_execute(SCHEMA).await
        })
    };
    at_site(name, configured, async |site: &Site| {
        site.init().await;
        let oid = "SELECT oid FROM pg_database WHERE datname = current_database()";
        for (catalog, change) in CHANGES {
            let client = connect_as(site, OWNER).await;
            let (start, before) = (dump(&client).await, rows(&client, oid).await);
            client.batch_execute(change).await.unwrap();
            assert_ne!(dump(&client).await, start, "{change}");
            drop(client);
            site.driver.release(&site.target).await;
            site.prepare().await;
            let client = connect_as(site, OWNER).await;
            assert_eq!(dump(&client).await, start, "{catalog}: {change}");
            assert_ne!(rows(&client, oid).await, before, "{catalog}: {change}");
        }
    });
}
