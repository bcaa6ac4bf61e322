//! The log of writes misses none, and each detection of the quick reset is needed.
//!
//! A case is what a test does. After the reset the database is as at the start; and where the case
//! depends on one detection, with that switched off (`Config::blind_to`) it is not.

mod support;

use dagz_core::DbConfig as _;
use dagz_postgres::{Config, Prepare};
use support::{Site, at_site, dump, rows};

const SCHEMA: &str = "
CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE);
CREATE TABLE seed (id integer PRIMARY KEY, name text);
INSERT INTO seed SELECT n, 'seed ' || n FROM generate_series(1, 5) n;
CREATE TABLE part (id integer GENERATED ALWAYS AS IDENTITY, seed integer REFERENCES seed ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO part (seed) SELECT id FROM seed;
CREATE TABLE other (id integer, seed integer REFERENCES seed ON DELETE SET NULL ON UPDATE CASCADE);
INSERT INTO other SELECT id, id FROM seed;
CREATE TABLE range (n integer NOT NULL, text text) PARTITION BY RANGE (n);
CREATE TABLE range_low PARTITION OF range FOR VALUES FROM (0) TO (100);
CREATE TABLE range_high PARTITION OF range FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (n);
CREATE TABLE range_high_all PARTITION OF range_high DEFAULT;
CREATE TABLE parent (x integer);
CREATE TABLE child (y integer) INHERITS (parent);
INSERT INTO child VALUES (1, 1);
CREATE UNLOGGED TABLE cache (key text);
CREATE UNLOGGED TABLE kept (key text);
INSERT INTO kept VALUES ('a');
CREATE VIEW items AS SELECT id, name FROM item;
CREATE TABLE ruled (x integer);
CREATE RULE elsewhere AS ON INSERT TO ruled DO ALSO INSERT INTO parent VALUES (NEW.x);
CREATE TABLE audited (x integer);
CREATE TABLE audit (x integer);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (1); RETURN NULL; END';
CREATE TRIGGER note AFTER INSERT OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION note();
CREATE TABLE secret (x integer);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE TABLE twice (x integer, y integer GENERATED ALWAYS AS (x * 2) STORED);
CREATE TABLE events (id integer, text text);
CREATE TABLE seen (id integer PRIMARY KEY);
INSERT INTO seen VALUES (1), (2);
CREATE SEQUENCE free START 7;
CREATE SCHEMA far;
CREATE TABLE far.\"It\"\"em\" (id integer);
";

fn with_schema(config: Config) -> Config {
    config
        .write_log_except(["events", "seen"])
        .migrate_with("1", |config| async move {
            support::connect(&config).await.batch_execute(SCHEMA).await
        })
}

/// What a test does, and the detections each of which it depends on.
const CASES: &[(&str, &[&str])] = &[
    ("INSERT INTO item (name) VALUES ('x')", &["writes"]),
    ("UPDATE seed SET name = 'x' WHERE id = 2", &["writes"]),
    ("DELETE FROM other WHERE id = 2", &["writes"]),
    ("INSERT INTO seed VALUES (9, 'x')", &["writes"]),
    ("TRUNCATE other", &["writes"]),
    ("TRUNCATE seed CASCADE", &["writes"]),
    (
        "INSERT INTO item (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'",
        &["writes"],
    ),
    (
        "WITH w AS (INSERT INTO item (name) VALUES ('x') RETURNING id) INSERT INTO parent SELECT id FROM w",
        &["writes"],
    ),
    (
        "MERGE INTO seed s USING (VALUES (1), (8)) v(id) ON s.id = v.id WHEN MATCHED THEN UPDATE SET name = 'm' \
      WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'n')",
        &["writes"],
    ),
    ("COPY item (name) FROM PROGRAM 'echo copied'", &["writes"]),
    ("INSERT INTO items (name) VALUES ('by a view')", &["writes"]),
    ("INSERT INTO ruled VALUES (3)", &["writes"]),
    ("INSERT INTO audited VALUES (3)", &["writes"]),
    // Cascades: to a table that no statement of the test names.
    ("DELETE FROM seed WHERE id = 3", &["writes"]),
    ("UPDATE seed SET id = 30 WHERE id = 3", &["writes"]),
    (
        "INSERT INTO range VALUES (1, 'low'), (150, 'high')",
        &["writes", "descendants"],
    ),
    (
        "INSERT INTO range_low VALUES (1, 'low'); UPDATE range SET n = 160",
        &["writes", "descendants"],
    ),
    (
        "INSERT INTO range_high VALUES (150, 'high')",
        &["descendants"],
    ),
    ("UPDATE parent SET x = 2", &["writes", "descendants"]),
    ("DELETE FROM parent", &["descendants"]),
    ("INSERT INTO cache VALUES ('x')", &["writes"]),
    // As after a crash: an unlogged table is empty, and no statement was it.
    ("DELETE FROM kept", &["unnoted"]),
    ("INSERT INTO secret VALUES (1)", &["writes"]),
    ("INSERT INTO twice (x) VALUES (1)", &["writes"]),
    ("INSERT INTO far.\"It\"\"em\" VALUES (1)", &["writes"]),
    ("INSERT INTO events VALUES (1, 'x')", &["unnoted"]),
    ("UPDATE seen SET id = 3 WHERE id = 1", &["unnoted"]),
    (
        "SET session_replication_role = replica; INSERT INTO item (name) VALUES ('x'); DELETE FROM seed WHERE id = 1",
        &["writes", "replica"],
    ),
    (
        "BEGIN; INSERT INTO item (name) VALUES ('x'); SAVEPOINT s; INSERT INTO cache VALUES ('x'); ROLLBACK TO s; COMMIT",
        &["writes"],
    ),
    ("BEGIN; DELETE FROM seed; ROLLBACK", &[]),
    // Sequences that no write tells of.
    (
        "BEGIN; INSERT INTO item (name) VALUES ('x'); ROLLBACK",
        &["sequences"],
    ),
    ("SELECT nextval('free')", &["sequences"]),
    ("SELECT nextval('item_id_seq')", &["sequences"]),
    ("SELECT setval('item_id_seq', 50, false)", &["sequences"]),
    ("SELECT setval('free', 50, false)", &["sequences"]),
    (
        "BEGIN; ALTER TABLE item DISABLE TRIGGER ALL; INSERT INTO item (name) VALUES ('x'); ROLLBACK",
        &["sequences"],
    ),
    ("SELECT lo_from_bytea(0, '\\x00ff')", &["objects"]),
    // Changes of the schema.
    (
        "ALTER TABLE item DISABLE TRIGGER ALL; INSERT INTO item (name) VALUES ('x')",
        &["drift"],
    ),
    ("CREATE TABLE made AS SELECT 1 AS one", &["drift"]),
    ("DROP TABLE parent CASCADE", &["drift"]),
    (
        "ALTER EVENT TRIGGER dagz_command DISABLE; ALTER EVENT TRIGGER dagz_drop DISABLE; CREATE TABLE made (id integer)",
        &["event_triggers"],
    ),
];

/// What cases that change some seed rows find where the start state has none.
const ROWS: &[(&str, &str)] = &[
    (
        "UPDATE seed",
        "INSERT INTO seed VALUES (1, 'x'), (2, 'x'), (3, 'x')",
    ),
    (
        "DELETE FROM seed",
        "INSERT INTO seed VALUES (1, 'x'), (3, 'x')",
    ),
    (
        "DELETE FROM other",
        "INSERT INTO other (id) VALUES (1), (2)",
    ),
    ("UPDATE parent", "INSERT INTO child VALUES (1, 1)"),
    ("UPDATE seen", "INSERT INTO seen VALUES (1)"),
];

/// Does the case and resets, several times; whether the database is as at the start each time.
async fn is_exact(site: &Site, statements: &str) -> bool {
    let client = site.connect().await;
    let start = dump(&client).await;
    drop(client);
    for _ in 0..2 {
        let client = site.connect().await;
        let changes = async || {
            client
                .batch_execute(statements)
                .await
                .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
            dump(&client).await != start
        };
        let (changed, has_seeds) = (changes().await, start.contains("seed 1"));
        let rows = ROWS.iter().find(|(case, _)| statements.starts_with(case));
        if let (false, false, Some((_, rows))) = (changed, has_seeds, rows) {
            // Not noted, so that it goes by what the case notes.
            let unnoted = format!("SET dagz.resets = 'on'; {rows}; RESET dagz.resets");
            client.batch_execute(&unnoted).await.unwrap();
            assert!(changes().await, "{statements} changes nothing");
        } else {
            let may_be_nothing = statements.ends_with("ROLLBACK") || !has_seeds;
            assert!(changed || may_be_nothing, "{statements} changes nothing");
        }
        drop(client);
        site.driver.release(&site.target).await;
        site.prepare().await;
        if dump(&site.connect().await).await != start {
            return false;
        }
    }
    true
}

/// The same twice, with the reset on the way of what was found out behind the test, which a session of its own that
/// stays does not keep it from.
async fn is_exact_ahead(site: &Site, statements: &str) -> bool {
    let client = site.connect_as("app").await;
    let start = dump(&client).await;
    for _ in 0..2 {
        for _ in 0..3 {
            site.driver.release(&site.target).await;
            site.prepare().await;
        }
        // A database that was made anew has ended it.
        let client = match client.is_closed() {
            true => &site.connect_as("app").await,
            false => &client,
        };
        client.batch_execute("RESET ALL").await.unwrap();
        client
            .batch_execute(statements)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
        site.release_and_look().await;
        site.prepare().await;
        if dump(&site.connect().await).await != start {
            return false;
        }
    }
    true
}

#[test]
fn no_write_is_missed_by_what_is_found_ahead() {
    at_site("log_ahead", with_schema, async |site: &Site| {
        site.init().await;
        let version = rows(&site.connect().await, "SHOW server_version_num").await;
        for (statements, _) in CASES {
            if !is_too_new(statements, &version) {
                assert!(is_exact_ahead(site, statements).await, "{statements}");
            }
        }
    });
}

#[test]
fn each_thing_that_is_looked_for_ahead_is_needed() {
    for (blind, statements) in [
        ("ahead writes", "INSERT INTO parent VALUES (1)"),
        ("ahead drift", "CREATE TABLE made AS SELECT 1 AS one"),
        ("ahead unnoted", "INSERT INTO events VALUES (1, 'x')"),
        ("ahead objects", "SELECT lo_from_bytea(0, '\\x00ff')"),
        ("ahead sequences", "SELECT setval('free', 50, false)"),
        (
            "ahead event_triggers",
            "ALTER EVENT TRIGGER dagz_command DISABLE; ALTER EVENT TRIGGER dagz_drop DISABLE; CREATE TABLE made (id integer)",
        ),
        ("ahead seeds", "UPDATE seed SET name = 'x' WHERE id = 2"),
    ] {
        at_site(
            &blind.replace(' ', "_"),
            |config| with_schema(config).blind_to(blind),
            async |site: &Site| {
                let client = support::connect(&support::config("postgres")).await;
                if rows(&client, "SHOW server_version_num").await[0].as_str() < "150000" {
                    // That does not count its sessions in time, so nothing is found ahead.
                    return;
                }
                site.init().await;
                assert!(
                    !is_exact_ahead(site, statements).await,
                    "nobody needs `{blind}`"
                );
            },
        );
    }
}

#[test]
fn no_write_is_missed() {
    for prepare in [Prepare::Baseline, Prepare::Truncate] {
        let name = format!("log_{prepare:?}").to_lowercase();
        at_site(
            &name,
            |config| with_schema(config).prepare(prepare),
            async |site: &Site| {
                site.init().await;
                let version = rows(&site.connect().await, "SHOW server_version_num").await;
                for (statements, _) in CASES {
                    if is_too_new(statements, &version) {
                        continue;
                    }
                    assert!(is_exact(site, statements).await, "{statements}");
                }
            },
        );
    }
}

#[test]
fn each_detection_is_needed() {
    let mut detections: Vec<&str> = CASES
        .iter()
        .flat_map(|(_, needs)| needs.iter().copied())
        .collect();
    detections.sort_unstable();
    detections.dedup();
    for detection in detections {
        at_site(
            &format!("blind_{detection}"),
            |config| with_schema(config).blind_to(detection),
            async |site: &Site| {
                let admin = support::connect(&support::config("postgres")).await;
                let version = rows(&admin, "SHOW server_version_num").await;
                for (statements, needs) in CASES {
                    if !needs.contains(&detection) || is_too_new(statements, &version) {
                        continue;
                    }
                    // What an earlier case left is not undone.
                    let drop = format!(
                        "DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)",
                        site.target.name()
                    );
                    admin.batch_execute(&drop).await.unwrap();
                    site.init().await;
                    assert!(
                        !is_exact(site, statements).await,
                        "{statements}: nobody needs `{detection}`"
                    );
                    site.driver.release(&site.target).await;
                }
            },
        );
    }
}

/// `MERGE` came with Postgres 15.
fn is_too_new(statements: &str, version: &[String]) -> bool {
    statements.starts_with("MERGE") && version[0].as_str() < "150000"
}

#[test]
fn settings_and_the_state_last_reset_to_are_detected() {
    for (detection, is_blind) in [
        ("settings", false),
        ("settings", true),
        ("goal", false),
        ("goal", true),
    ] {
        at_site(
            &format!("{detection}_{is_blind}"),
            |config| {
                let config = with_schema(config).write_log_except::<&str>([]);
                if is_blind {
                    config.blind_to(detection)
                } else {
                    config
                }
            },
            async |site: &Site| {
                site.init().await;
                let client = site.connect().await;
                let start = dump(&client).await;
                if detection == "settings" {
                    let set = format!(
                        "ALTER DATABASE \"{}\" SET work_mem = '7MB'",
                        site.target.name()
                    );
                    client.batch_execute(&set).await.unwrap();
                    drop(client);
                    site.driver.release(&site.target).await;
                    site.prepare().await;
                    let work_mem = rows(&site.connect().await, "SHOW work_mem").await;
                    assert_eq!(work_mem == ["7MB"], is_blind);
                } else {
                    // By functions of the user's own: now to one state, now to the other.
                    site.driver.truncate(&site.target).await.unwrap();
                    let seeds = rows(&client, "SELECT count(*) FROM seed").await;
                    assert_eq!(seeds == ["5"], is_blind);
                    site.driver.release(&site.target).await;
                    site.driver.baseline(&site.target).await.unwrap();
                    assert_eq!(dump(&client).await, start);
                }
            },
        );
    }
}
