//! A worker's database is defined as its template is, whatever there is in it.

mod support;

use std::collections::BTreeMap;

use dagz_mysql::{
    Config,
    mysql_async::{Conn, Row, prelude::Queryable as _},
};
use support::{Site, at_site, connect, counters, dump, execute, opts, rows};

/// Each kind of object, some of them in an order in which they cannot be made.
const SCHEMA: &str = "
ALTER DATABASE CHARACTER SET utf8mb3 COLLATE utf8mb3_unicode_ci;
SET foreign_key_checks = 0;
CREATE TABLE child (
    id INT AUTO_INCREMENT PRIMARY KEY, parent INT, self INT,
    CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE SET NULL,
    FOREIGN KEY (self) REFERENCES child (id)
) COMMENT = 'has AUTO_INCREMENT=5 ''quoted''' AUTO_INCREMENT = 42;
CREATE TABLE parent (id INT PRIMARY KEY, favourite INT, FOREIGN KEY (favourite) REFERENCES child (id));
SET foreign_key_checks = 1;
INSERT INTO parent VALUES (1, NULL), (2, NULL);
INSERT INTO child (parent) VALUES (1), (2);
UPDATE parent SET favourite = 42;
CREATE TABLE `odd ``name``; --` (
    `a ``b` VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german2_ci DEFAULT 'it''s \\\\ \u{e4}',
    twice INT AS (value * 2) STORED, value INT NOT NULL DEFAULT 3 COMMENT 'c;c',
    half INT AS (value DIV 2) VIRTUAL,
    made TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    kind ENUM('a', '\u{e4}') NOT NULL, flags SET('x', 'y'), place POINT NOT NULL, bits BIT(7), doc JSON,
    hidden INT INVISIBLE DEFAULT 8,
    UNIQUE KEY (value, kind), KEY (`a ``b`(5) DESC), FULLTEXT KEY (`a ``b`), SPATIAL KEY (place),
    CHECK (value < 1000), CONSTRAINT named CHECK (kind <> 'z')
) ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
INSERT INTO `odd ``name``; --` (`a ``b`, value, made, kind, flags, place, bits, doc, hidden)
    VALUES ('\u{e4}', 7, '2020-02-02 02:02:02.123', '\u{e4}', 'x,y', ST_GeomFromText('POINT(1 2)'), 5, '{\"a\": [1]}', 9),
           (NULL, 8, '2021-02-02 02:02:02', 'a', NULL, ST_GeomFromText('POINT(3 4)'), NULL, NULL, NULL);
CREATE TABLE parts (at DATE NOT NULL, id INT NOT NULL, PRIMARY KEY (at, id))
    PARTITION BY RANGE COLUMNS (at) SUBPARTITION BY HASH (id) SUBPARTITIONS 2
    (PARTITION old VALUES LESS THAN ('2020-01-01') COMMENT = 'old', PARTITION rest VALUES LESS THAN (MAXVALUE));
INSERT INTO parts VALUES ('2019-01-01', 1), ('2021-01-01', 2);
CREATE TABLE hashed (id INT AUTO_INCREMENT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO hashed VALUES (0 + 7);
CREATE TABLE elsewhere (id INT) ENGINE = MyISAM;
CREATE TABLE audit (text VARCHAR(99), number INT AUTO_INCREMENT PRIMARY KEY);
CREATE VIEW a_last AS SELECT b.twice FROM b_before b WHERE b.twice > same(1);
CREATE TRIGGER first BEFORE INSERT ON parent FOR EACH ROW SET NEW.favourite = COALESCE(NEW.favourite, 42);
CREATE TRIGGER a_second BEFORE INSERT ON parent FOR EACH ROW BEGIN
    DECLARE text VARCHAR(9) DEFAULT '\u{e4};--';
    INSERT INTO audit (text) VALUES (CONCAT(text, NEW.id));
END;
CREATE TRIGGER third AFTER UPDATE ON child FOR EACH ROW INSERT INTO audit (text) VALUES ('third');
CREATE PROCEDURE fill(IN n INT, OUT done INT) COMMENT 'fills' SQL SECURITY INVOKER BEGIN
    WHILE n > 0 DO INSERT INTO audit (text) VALUES (n); SET n = n - 1; END WHILE;
    SET done = 1;
END;
";

/// One by one, since a time zone is to be remembered.
const EVENTS: [&str; 3] = [
    "SET time_zone = '+05:00'",
    "CREATE EVENT yearly ON SCHEDULE EVERY 1 YEAR STARTS '2035-01-01 00:00:00' COMMENT 'e PRESERVE ENABLE' DO INSERT INTO audit (text) VALUES ('event')",
    "CREATE EVENT asleep ON SCHEDULE EVERY 1 DAY ON COMPLETION PRESERVE DISABLE DO CALL fill(1, @x)",
];

/// What a view needs before it is made, and objects of other modes.
const BEFORE: &str = "
CREATE FUNCTION same(x INT) RETURNS INT DETERMINISTIC RETURN x;
CREATE TABLE c_base (id INT PRIMARY KEY);
CREATE VIEW b_before AS SELECT id * 2 AS twice FROM c_base;
SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT';
CREATE FUNCTION glue(a TEXT, b TEXT) RETURNS TEXT DETERMINISTIC RETURN a || 'x' || b;
SET sql_mode = DEFAULT;
";

const MARIADB: &str = "
CREATE SEQUENCE numbers START WITH 10 INCREMENT BY 3 CACHE 5;
DO NEXTVAL(numbers);
CREATE TABLE numbered (id INT PRIMARY KEY DEFAULT NEXTVAL(numbers), name VARCHAR(9));
INSERT INTO numbered (name) VALUES ('one');
CREATE TABLE versioned (id INT PRIMARY KEY) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (1);
CREATE TABLE uuids (id UUID PRIMARY KEY, ip INET6);
INSERT INTO uuids VALUES ('123e4567-e89b-12d3-a456-426655440000', '::1');
";

/// The definition of every object there is, by kind and name.
async fn definitions(conn: &mut Conn) -> BTreeMap<String, String> {
    let database = rows(conn, "SELECT DATABASE()").await.remove(0);
    let mut names: Vec<(String, String)> = Vec::new();
    let tables: Vec<(String, String)> = conn.query("SHOW FULL TABLES").await.unwrap();
    for (name, kind) in tables {
        if !name.starts_with("dagz_") {
            let kind = match &*kind {
                "VIEW" | "SEQUENCE" => kind,
                _ => "TABLE".to_owned(),
            };
            names.push((kind, name));
        }
    }
    for (kind, query) in [
        (
            "TRIGGER",
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()",
        ),
        (
            "EVENT",
            "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()",
        ),
        (
            "FUNCTION",
            "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'FUNCTION'",
        ),
        (
            "PROCEDURE",
            "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'PROCEDURE'",
        ),
    ] {
        for name in rows(conn, query).await {
            names.push((kind.to_owned(), name));
        }
    }
    let mut definitions = BTreeMap::new();
    for (kind, name) in names {
        let quoted = name.replace('`', "``");
        let shown: Row = conn
            .query_first(format!("SHOW CREATE {kind} `{quoted}`"))
            .await
            .unwrap()
            .unwrap();
        let mut text = String::new();
        for (index, column) in shown.columns_ref().iter().enumerate() {
            if column.name_str() != "Created" {
                let value: Option<Vec<u8>> = shown.get(index).unwrap();
                text += &String::from_utf8_lossy(&value.unwrap_or_default());
                text.push('\n');
            }
        }
        // MySQL takes the semicolon between two statements for a part of the first, and spells a
        // column's character set out once it was spelled out, beside a collation that implies it.
        let mut text = text
            .replace(&format!("`{database}`."), "")
            .replace(";\n", "\n");
        for charset in ["utf8mb3", "utf8mb4", "latin1"] {
            let spelled = format!(" CHARACTER SET {charset} COLLATE {charset}_");
            text = text.replace(&spelled, &format!(" COLLATE {charset}_"));
        }
        definitions.insert(format!("{kind} {name}"), text);
    }
    let order = "SELECT EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY 1, 2, 3, 4";
    definitions.insert(
        "order of triggers".to_owned(),
        rows(conn, order).await.join("\n"),
    );
    let defaults = "SELECT @@character_set_database, @@collation_database";
    definitions.insert("defaults".to_owned(), rows(conn, defaults).await.join("\n"));
    definitions
}

/// Runs a script whose statements end where a line does.
async fn script(conn: &mut Conn) {
    execute(conn, BEFORE).await;
    execute(conn, SCHEMA).await;
    for statement in EVENTS {
        execute(conn, statement).await;
    }
    if support::is_mariadb().await {
        execute(conn, MARIADB).await;
    }
}

#[test]
fn a_copy_of_a_base_is_like_it_and_like_itself() {
    // Nothing configured: the base itself is copied, to the template and from there.
    at_site(
        "fidelity",
        |config| config,
        async |site: &Site| {
            let mut admin = connect(&opts("")).await;
            let base = site.base.clone();
            execute(
                &mut admin,
                &format!("DROP DATABASE IF EXISTS `{base}`; CREATE DATABASE `{base}`"),
            )
            .await;
            let mut source = connect(&opts(&base)).await;
            script(&mut source).await;
            let expected = definitions(&mut source).await;
            assert!(expected.len() > 18, "{:?}", expected.keys());
            let expected_rows = (dump(&mut source).await, counters(&mut source).await);

            site.init().await;
            let mut copy = site.connect().await;
            let found = definitions(&mut copy).await;
            for (name, definition) in &expected {
                assert_eq!(found.get(name), Some(definition), "{name}");
            }
            assert_eq!(found.len(), expected.len());
            assert_eq!(
                (dump(&mut copy).await, counters(&mut copy).await),
                expected_rows
            );
            // It works, too, and is found to be what it was.
            site.mark().await;
            execute(&mut copy, "CALL fill(3, @done); INSERT INTO parent VALUES (3, 42); UPDATE child SET self = id").await;
            assert_eq!(rows(&mut copy, "SELECT glue('a', 'b')").await, ["axb"]);
            site.next().await;
            assert_eq!(
                (dump(&mut copy).await, counters(&mut copy).await),
                expected_rows
            );
            assert!(!site.is_anew().await, "in place");
            execute(&mut admin, &format!("DROP DATABASE `{base}`")).await;
        },
    );
}

#[test]
fn a_base_that_is_not_there_is_named() {
    at_site(
        "no_base",
        |config| config,
        async |site: &Site| {
            use dagz_core::DbConfig as _;
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            let report = error.report().to_string();
            for part in [&*site.base, ".migrations(..)", "does not exist"] {
                assert!(report.contains(part), "`{part}` is not in: {report}");
            }
        },
    );
}

#[test]
fn what_cannot_be_copied_is_named() {
    at_site(
        "broken_view",
        |config: Config| config,
        async |site: &Site| {
            use dagz_core::DbConfig as _;
            let mut admin = connect(&opts("")).await;
            let base = &site.base;
            execute(
                &mut admin,
                &format!("DROP DATABASE IF EXISTS `{base}`; CREATE DATABASE `{base}`"),
            )
            .await;
            let mut source = connect(&opts(base)).await;
            execute(&mut source, "CREATE TABLE gone (id INT); CREATE VIEW broken AS SELECT id FROM gone; DROP TABLE gone").await;
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            let report = error.report().to_string();
            for part in [&**base, "`broken`"] {
                assert!(report.contains(part), "`{part}` is not in: {report}");
            }
            execute(&mut admin, &format!("DROP DATABASE `{base}`")).await;
        },
    );
}
