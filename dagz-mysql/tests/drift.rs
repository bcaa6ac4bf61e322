//! A test that changes the schema gets its successor a database made anew, and only then.

mod support;

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_mysql::{Config, Prepare, mysql_async::prelude::Queryable as _};
use support::{Site, at_site, connect, execute, is_mariadb, opts, rows};

const SCHEMA: &str = "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) CHARACTER SET utf8mb4);
    INSERT INTO item (name) VALUES ('seed'); CREATE VIEW names AS SELECT name FROM item;
    CREATE PROCEDURE clear() DELETE FROM item; CREATE EVENT never ON SCHEDULE EVERY 1 YEAR DISABLE DO DELETE FROM item";

/// MariaDB only. The second is at its second value.
const SEQUENCE: &str = "CREATE SEQUENCE number START WITH 5;
    CREATE SEQUENCE circle MAXVALUE 3 CYCLE NOCACHE; DO NEXTVAL(circle)";

/// What each of them lets one do to a database and what is in it, MariaDB and MySQL.
const OF_MARIADB: [&str; 2] = [
    "ALTER DATABASE COMMENT 'changed'",
    "ALTER TABLE item DISCARD TABLESPACE",
];
const OF_MYSQL: [&str; 2] = [
    "ALTER DATABASE READ ONLY = 1",
    "ALTER TABLE item DISCARD TABLESPACE",
];

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |opts| async move {
        let mut conn = connect(&opts).await;
        if is_mariadb().await {
            conn.query_drop(SEQUENCE).await?;
        }
        conn.query_drop(SCHEMA).await
    })
}

async fn state(site: &Site) -> Vec<String> {
    let mut conn = site.connect().await;
    let mut state = rows(&mut conn, "SHOW FULL TABLES").await;
    for query in [
        "SHOW CREATE TABLE item",
        "SHOW CREATE VIEW names",
        "SELECT * FROM item",
        "SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE()",
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()",
        "SELECT EVENT_NAME, INTERVAL_FIELD FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()",
        "SELECT @@collation_database",
        &format!("SHOW CREATE DATABASE `{}`", site.target.name()),
    ] {
        state.extend(rows(&mut conn, query).await);
    }
    if is_mariadb().await {
        for query in [
            "SHOW CREATE SEQUENCE number",
            "SELECT next_not_cached_value, cycle_count FROM number",
            "SELECT next_not_cached_value, cycle_count FROM circle",
        ] {
            state.extend(rows(&mut conn, query).await);
        }
    }
    state
}

/// Does something, resets, and tells whether the database was made anew for it.
async fn after(site: &Site, statements: &str) -> bool {
    site.mark().await;
    let before = state(site).await;
    let mut conn = site.connect().await;
    execute(&mut conn, statements).await;
    conn.disconnect().await.unwrap();
    site.next().await;
    assert_eq!(state(site).await, before, "{statements}");
    site.is_anew().await
}

#[test]
fn changes_of_the_schema_are_undone() {
    for prepare in [Prepare::Baseline, Prepare::Truncate] {
        let name = format!("drift_{prepare:?}").to_lowercase();
        at_site(
            &name,
            |config| with_schema(config).prepare(prepare),
            async |site: &Site| {
                site.init().await;
                for statements in [
                    "CREATE TABLE other (id INT); INSERT INTO other VALUES (1)",
                    "ALTER TABLE item ADD COLUMN colour TEXT",
                    "ALTER TABLE item ADD COLUMN colour TEXT, ALGORITHM = INSTANT",
                    "DROP TABLE item",
                    "RENAME TABLE item TO thing",
                    "CREATE INDEX name ON item (name)",
                    "CREATE OR REPLACE VIEW names AS SELECT id FROM item",
                    "DROP VIEW names",
                    "CREATE TRIGGER t BEFORE INSERT ON item FOR EACH ROW SET NEW.name = 'x'",
                    "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1",
                    "DROP PROCEDURE clear; CREATE PROCEDURE clear() SELECT 1",
                    "DROP EVENT never",
                    "ALTER EVENT never ON SCHEDULE EVERY 2 MONTH",
                    "ALTER DATABASE COLLATE utf8mb4_danish_ci",
                    "DROP TABLE dagz_state",
                    // By way of what counts differently on a server.
                    "PREPARE p FROM 'CREATE TABLE other (id INT)'; EXECUTE p",
                    "CREATE PROCEDURE p() CREATE TABLE other (id INT); CALL p(); DROP PROCEDURE p",
                ] {
                    assert!(after(site, statements).await, "{statements}");
                }
                let own = match is_mariadb().await {
                    true => OF_MARIADB,
                    false => OF_MYSQL,
                };
                for statements in own {
                    assert!(after(site, statements).await, "{statements}");
                }
            },
        );
    }
}

#[test]
fn changes_of_sequences_are_undone_on_mariadb() {
    if !support::run(is_mariadb()) {
        return;
    }
    at_site("drift_sequence", with_schema, async |site: &Site| {
        site.init().await;
        for (statements, is_change) in [
            ("CREATE SEQUENCE other", true),
            ("ALTER SEQUENCE number INCREMENT BY 7", true),
            ("DROP SEQUENCE number", true),
            ("DROP SEQUENCE number; CREATE SEQUENCE number", true),
            ("CREATE OR REPLACE SEQUENCE number START WITH 9", true),
            ("RENAME TABLE number TO other", true),
            ("ALTER SEQUENCE number RESTART 50", false),
            ("DO SETVAL(number, 70)", false),
            // Back to where it was.
            (
                "DO NEXTVAL(circle); DO NEXTVAL(circle); DO NEXTVAL(circle)",
                false,
            ),
        ] {
            assert_eq!(after(site, statements).await, is_change, "{statements}");
        }
    });
}

#[test]
fn what_is_no_change_of_the_schema_keeps_the_database() {
    at_site("no_drift", with_schema, async |site: &Site| {
        site.init().await;
        for statements in [
            "CREATE TEMPORARY TABLE scratch (id INT); DROP TEMPORARY TABLE scratch",
            "CREATE TEMPORARY TABLE item (id INT); INSERT INTO item VALUES (1)",
            "TRUNCATE item",
            "UPDATE item SET name = 'other'; ANALYZE TABLE item",
            "OPTIMIZE TABLE item",
            "ALTER TABLE item AUTO_INCREMENT = 77",
            // What migration tools say each time an application starts.
            "CREATE TABLE IF NOT EXISTS item (id INT); DROP TABLE IF EXISTS absent",
            // In another database, and in vain.
            "CREATE DATABASE IF NOT EXISTS no_drift_other; DROP DATABASE no_drift_other",
        ] {
            assert!(!after(site, statements).await, "{statements}");
        }
    });
}

#[test]
fn a_new_process_sees_what_an_earlier_one_changed() {
    at_site("drift_unseen", with_schema, async |site: &Site| {
        site.init().await;
        site.mark().await;
        let before = state(site).await;
        let mut conn = site.connect().await;
        execute(&mut conn, "ALTER TABLE item ADD COLUMN colour TEXT").await;
        site.driver.release(&site.target).await;
        let other = dagz_mysql::Driver::new(with_schema(Config::from_opts(opts(&site.base))));
        other.prepare(&site.target).await.unwrap();
        other.release(&site.target).await;
        assert!(site.is_anew().await);
        assert_eq!(state(site).await, before);
    });
}

#[test]
fn a_database_that_was_dropped_is_made_again() {
    at_site("dropped", with_schema, async |site: &Site| {
        site.init().await;
        for statements in ["DROP DATABASE {}", "DROP DATABASE {}; CREATE DATABASE {}"] {
            site.driver.release(&site.target).await;
            let mut admin = connect(&opts("")).await;
            let statements = statements.replace("{}", &format!("`{}`", site.target.name()));
            execute(&mut admin, &statements).await;
            site.prepare().await;
            let mut conn = site.connect().await;
            assert_eq!(rows(&mut conn, "SELECT name FROM names").await, ["seed"]);
        }
    });
}

#[test]
fn a_database_that_lost_its_stamp_is_refused() {
    at_site("lost_stamp", with_schema, async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        for statement in [
            "DELETE FROM dagz_stamp",
            "UPDATE dagz_stamp SET stamp = '{\"dagz\":7}'",
            "DROP TABLE dagz_stamp",
        ] {
            let stamp = rows(&mut conn, "SELECT stamp, start FROM dagz_stamp").await;
            assert_eq!(stamp.len(), 1, "{statement}");
            execute(&mut conn, "CREATE TABLE kept SELECT * FROM dagz_stamp").await;
            execute(&mut conn, statement).await;
            site.driver.release(&site.target).await;
            execute(&mut conn, "INSERT INTO item (name) VALUES ('mine')").await;
            let error = site.driver.prepare(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{statement}");
            assert!(error.to_string().contains(site.target.name()), "{error}");
            let left = rows(&mut conn, "SELECT name FROM item").await;
            assert_eq!(left, ["seed", "mine"], "{statement}");
            // As it was.
            execute(
                &mut conn,
                "CREATE TABLE IF NOT EXISTS dagz_stamp (id TINYINT PRIMARY KEY, stamp LONGTEXT, start LONGTEXT);
                 REPLACE INTO dagz_stamp SELECT * FROM kept; DROP TABLE kept",
            )
            .await;
            site.prepare().await;
        }
    });
}
