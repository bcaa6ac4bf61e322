//! Resets are exact: whatever a test did, the database equals its start state afterwards.

mod support;

use dagz_mysql::{Config, Identity, Prepare, mysql_async::prelude::Queryable as _};
use support::{Site, at_site, connect, counters, dump, execute, rows};

/// Cycles of foreign keys, counters, seed rows, partitions, generated columns, triggers.
const SCHEMA: &str = "
CREATE TABLE country (code VARCHAR(3) PRIMARY KEY, name VARCHAR(50) NOT NULL);
INSERT INTO country VALUES ('at', 'Austria'), ('de', 'Germany'), ('fr', 'France');
CREATE TABLE setting (name VARCHAR(50), value VARCHAR(50));
INSERT INTO setting VALUES ('a', '1'), ('a', '1'), ('b', NULL);
CREATE TABLE customer (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    country VARCHAR(3),
    name VARCHAR(50) NOT NULL,
    upper_name VARCHAR(50) AS (UPPER(name)) STORED,
    length INT AS (CHAR_LENGTH(name)) VIRTUAL,
    made TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    FOREIGN KEY (country) REFERENCES country (code)
);
INSERT INTO customer (country, name, made) VALUES ('at', 'seed one', '2020-01-01'), ('de', 'seed two', '2020-01-02');
CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, b INT);
CREATE TABLE b (id INT AUTO_INCREMENT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES a (id));
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b (id);
CREATE TABLE `order``s` (
    id BIGINT AUTO_INCREMENT PRIMARY KEY, customer BIGINT,
    FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE
) AUTO_INCREMENT = 1000;
CREATE TABLE log (at INT NOT NULL, text VARCHAR(50)) PARTITION BY RANGE (at)
    (PARTITION low VALUES LESS THAN (100), PARTITION high VALUES LESS THAN MAXVALUE);
INSERT INTO log VALUES (150, 'seed');
CREATE TABLE zero (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(5));
INSERT INTO zero VALUES (1, 'x');
UPDATE zero SET id = 0;
CREATE TABLE mixed (a VARCHAR(9) CHARACTER SET latin1, b VARCHAR(9) CHARACTER SET utf8mb4, c VARBINARY(9), d FLOAT, e JSON, f BIT(3));
INSERT INTO mixed VALUES ('\u{e4}', '\u{65e5}', x'00ff', 0.1, '[1]', 5);
CREATE TABLE audit (id INT);
CREATE TRIGGER note AFTER DELETE ON b FOR EACH ROW INSERT INTO audit VALUES (OLD.id);
CREATE TRIGGER note_too AFTER INSERT ON country FOR EACH ROW INSERT INTO audit VALUES (7);
CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY);
INSERT INTO _sqlx_migrations VALUES (1);
";

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |opts| async move {
        let mut conn = connect(&opts).await;
        conn.query_drop("SET time_zone = '+01:00'").await?;
        conn.query_drop(SCHEMA).await
    })
}

const CHANGES: &str = "
DELETE FROM country WHERE code = 'fr'; UPDATE setting SET value = 2 WHERE name = 'b';
INSERT INTO customer (name) VALUES ('new'); DELETE FROM customer WHERE id = 1;
INSERT INTO a (b) VALUES (NULL); INSERT INTO b (a) VALUES (1); UPDATE a SET b = 1;
INSERT INTO `order``s` (customer) VALUES (2); INSERT INTO log VALUES (1, 'x'), (200, 'y');
UPDATE zero SET name = 'y'; UPDATE mixed SET a = '\u{c4}';
INSERT INTO audit VALUES (1); DELETE FROM _sqlx_migrations;
";

#[test]
fn baseline_restores_rows_and_counters() {
    at_site("baseline", with_schema, async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        let start = (dump(&mut conn).await, counters(&mut conn).await);
        assert!(start.0.contains("seed one"), "{}", start.0);
        assert_eq!(
            start.1,
            ["customer 3", "order`s 1000", "zero 2"],
            "the copy's counters are the template's"
        );
        site.mark().await;
        for _ in 0..2 {
            execute(&mut conn, CHANGES).await;
            assert_ne!(dump(&mut conn).await, start.0);
            site.next().await;
            let now = (dump(&mut conn).await, counters(&mut conn).await);
            assert_eq!(now, start);
        }
        assert!(!site.is_anew().await, "in place");
    });
}

#[test]
fn changes_that_look_like_none_are_found() {
    at_site("subtle", with_schema, async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        let start = (dump(&mut conn).await, counters(&mut conn).await);
        for changes in [
            // Two rows that swap a value.
            "UPDATE country SET name = IF(code = 'at', 'Germany', 'Austria') WHERE code IN ('at', 'de')",
            "UPDATE country SET code = UPPER(code)",
            "UPDATE setting SET name = 'a', value = NULL WHERE name = 'b'",
            "UPDATE setting SET value = '' WHERE value IS NULL",
            "DELETE FROM setting WHERE name = 'a' LIMIT 1",
            // Only counters move.
            "BEGIN; INSERT INTO a (b) VALUES (NULL); ROLLBACK",
            "INSERT INTO customer (name) VALUES ('x'); DELETE FROM customer WHERE name = 'x'",
            "INSERT INTO a VALUES (77, NULL); DELETE FROM a",
        ] {
            execute(&mut conn, "SET foreign_key_checks = 0").await;
            execute(&mut conn, changes).await;
            site.next().await;
            let now = (dump(&mut conn).await, counters(&mut conn).await);
            assert_eq!(now, start, "{changes}");
        }
    });
}

#[test]
fn truncate_empties_all_but_the_kept() {
    at_site(
        "truncate",
        |config| with_schema(config).prepare(Prepare::Truncate),
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            let start = dump(&mut conn).await;
            assert!(!start.contains("seed"), "{start}");
            assert!(start.contains("_sqlx_migrations\n    1\n"), "{start}");
            execute(
                &mut conn,
                "INSERT INTO a (b) VALUES (NULL); INSERT INTO b (a) VALUES (1); UPDATE a SET b = 1;
                 INSERT INTO customer (name) VALUES ('new'); INSERT INTO country VALUES ('xx', 'x')",
            )
            .await;
            site.next().await;
            assert_eq!(dump(&mut conn).await, start);
            assert_eq!(counters(&mut conn).await, ["order`s 1000"]);
        },
    );
}

#[test]
fn counters_go_on_if_so_chosen() {
    at_site(
        "keep_counters",
        |config| with_schema(config).identity(Identity::Keep),
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            let start = dump(&mut conn).await;
            let insert = "INSERT INTO a (b) VALUES (NULL)";
            for id in ["1", "2"] {
                execute(&mut conn, insert).await;
                assert_eq!(rows(&mut conn, "SELECT id FROM a").await, [id]);
                site.next().await;
                assert_eq!(dump(&mut conn).await, start);
            }
        },
    );
}

#[test]
fn large_tables_are_emptied_too() {
    at_site(
        "large",
        |config| with_schema(config).identity(Identity::Keep),
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            let start = dump(&mut conn).await;
            site.mark().await;
            execute(
                &mut conn,
                "INSERT INTO a (b) VALUES (NULL), (NULL), (NULL), (NULL), (NULL), (NULL), (NULL), (NULL)",
            )
            .await;
            for _ in 0..9 {
                execute(&mut conn, "INSERT INTO a (b) SELECT b FROM a").await;
            }
            execute(
                &mut conn,
                "INSERT INTO b (a) SELECT id FROM a LIMIT 100; DELETE FROM zero",
            )
            .await;
            site.next().await;
            assert_eq!(dump(&mut conn).await, start);
            assert!(!site.is_anew().await, "in place");
        },
    );
}

#[test]
fn triggers_do_not_spoil_a_reset() {
    at_site("triggers", with_schema, async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        let start = dump(&mut conn).await;
        site.mark().await;
        // One writes when rows are deleted, the other when they come back.
        for changes in [
            "INSERT INTO b (a) VALUES (NULL)",
            "DELETE FROM country WHERE code = 'fr'",
        ] {
            execute(&mut conn, changes).await;
            site.next().await;
            assert_eq!(dump(&mut conn).await, start, "{changes}");
        }
        assert!(!site.is_anew().await, "in place");
    });
}

#[test]
fn a_counter_that_did_not_move_outlives_a_truncation() {
    const SCHEMA: &str =
        "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 1000;
        CREATE TABLE audit (id INT);
        CREATE TRIGGER note AFTER DELETE ON item FOR EACH ROW INSERT INTO audit VALUES (OLD.id)";
    at_site(
        "unmoved",
        |config| {
            config.migrate_with("1", |opts| async move {
                connect(&opts).await.query_drop(SCHEMA).await
            })
        },
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            execute(&mut conn, "INSERT INTO item VALUES (5)").await;
            site.next().await;
            assert_eq!(counters(&mut conn).await, ["item 1000"]);
        },
    );
}

#[test]
fn a_trigger_that_forbids_the_reset_costs_a_new_copy() {
    const FORBIDDING: &str = "CREATE TABLE item (id INT PRIMARY KEY, name VARCHAR(9)); INSERT INTO item VALUES (1, 'seed');
        CREATE TRIGGER never BEFORE INSERT ON item FOR EACH ROW SET NEW.name = 'changed'";
    at_site(
        "stubborn",
        |config| {
            config.migrate_with("1", |opts| async move {
                connect(&opts).await.query_drop(FORBIDDING).await
            })
        },
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            execute(&mut conn, "DELETE FROM item").await;
            site.next().await;
            let mut conn = site.connect().await;
            assert_eq!(rows(&mut conn, "SELECT * FROM item").await, ["1 seed"]);
        },
    );
}

#[test]
fn sequences_and_former_rows_are_reset_on_mariadb() {
    if !support::run(support::is_mariadb()) {
        // MySQL has neither.
        return;
    }
    const SCHEMA: &str = "CREATE SEQUENCE number START WITH 500 INCREMENT BY 5 CACHE 10;
        CREATE SEQUENCE other NOCACHE; DO NEXTVAL(other); DO NEXTVAL(other);
        CREATE TABLE invoice (id INT PRIMARY KEY DEFAULT NEXTVAL(number), name VARCHAR(9));
        CREATE TABLE price (id INT PRIMARY KEY, amount INT) WITH SYSTEM VERSIONING;
        INSERT INTO price VALUES (1, 5)";
    at_site(
        "mariadb_only",
        |config| {
            config.migrate_with("1", |opts| async move {
                connect(&opts).await.query_drop(SCHEMA).await
            })
        },
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            let start = dump(&mut conn).await;
            assert!(start.contains("other\n    3 0\n"), "{start}");
            for _ in 0..2 {
                execute(
                    &mut conn,
                    "INSERT INTO invoice (name) VALUES ('a'); DO NEXTVAL(other)",
                )
                .await;
                assert_eq!(rows(&mut conn, "SELECT id FROM invoice").await, ["500"]);
                assert_eq!(rows(&mut conn, "SELECT NEXTVAL(other)").await, ["4"]);
                site.next().await;
                assert_eq!(dump(&mut conn).await, start);
            }
            site.mark().await;
            execute(
                &mut conn,
                "UPDATE price SET amount = 6; UPDATE price SET amount = 5",
            )
            .await;
            site.next().await;
            assert!(site.is_anew().await, "former rows cannot be taken away");
            let former = "SELECT COUNT(*) FROM price FOR SYSTEM_TIME ALL";
            assert_eq!(rows(&mut site.connect().await, former).await, ["1"]);
        },
    );
}

#[test]
fn an_adopted_database_is_restored_from_the_rows_beside_it() {
    at_site(
        "adopted",
        |config| {
            config.worker_init(|target, opts| async move {
                let mut conn = connect(&support::opts("")).await;
                conn.query_drop(format!("CREATE DATABASE `{}`", target.name()))
                    .await?;
                let mut conn = connect(&opts).await;
                conn.query_drop(SCHEMA).await?;
                dagz_mysql::Driver::new(Config::from_opts(opts.clone()))
                    .adopt(&target)
                    .await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        },
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            let start = (dump(&mut conn).await, counters(&mut conn).await);
            site.mark().await;
            execute(&mut conn, CHANGES).await;
            site.next().await;
            let now = (dump(&mut conn).await, counters(&mut conn).await);
            assert_eq!(now, start);
            assert!(!site.is_anew().await, "in place");
        },
    );
}

#[test]
fn a_failed_statement_leaves_nothing_switched_off() {
    at_site("failing", with_schema, async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        let start = dump(&mut conn).await;
        // Nothing can be restored from a template that is gone.
        let template = rows(&mut conn, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'failing%\\_jw\\_%'").await;
        assert_eq!(template.len(), 1, "{template:?}");
        execute(&mut conn, &format!("DROP DATABASE `{}`", template[0])).await;
        execute(&mut conn, CHANGES).await;
        site.next().await;
        let mut conn = site.connect().await;
        assert_eq!(dump(&mut conn).await, start, "made anew, template and all");
        let checks = "SELECT @@foreign_key_checks, @@GLOBAL.foreign_key_checks, @@unique_checks";
        assert_eq!(rows(&mut conn, checks).await, ["1 1 1"]);
        conn.query_drop("INSERT INTO customer (country, name) VALUES ('xx', 'x')")
            .await
            .expect_err("foreign keys are checked");
    });
}
