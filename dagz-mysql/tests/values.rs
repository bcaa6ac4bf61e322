//! No value is taken for another one: a seed row that a test changed ever so little is restored.

mod support;

use dagz_mysql::{Config, mysql_async::prelude::Queryable as _};
use support::{Site, at_site, connect, dump, execute, is_mariadb};

/// The type of a column, what a seed row has there, and what a test makes of it.
const VALUES: &[(&str, &str, &str)] = &[
    ("FLOAT", "1234567", "1234568"),
    ("FLOAT", "0.1", "0.10000001"),
    ("FLOAT", "0", "'-0'"),
    ("FLOAT", "0", "NULL"),
    ("DOUBLE", "0.1e0", "0.10000000000000002e0"),
    ("DOUBLE", "0", "'-0'"),
    (
        "DECIMAL(40, 20)",
        "12345678901234567890.00000000000000000001",
        "12345678901234567890.00000000000000000002",
    ),
    (
        "BIGINT UNSIGNED",
        "18446744073709551615",
        "18446744073709551614",
    ),
    ("BIT(64)", "18446744073709551615", "18446744073709551614"),
    ("BIT(1)", "0", "NULL"),
    ("YEAR", "0", "2000"),
    (
        "DATETIME(6)",
        "'2020-02-02 02:02:02.000001'",
        "'2020-02-02 02:02:02.000002'",
    ),
    (
        "TIMESTAMP(6) NULL",
        "'2020-02-02 02:02:02.000001'",
        "'2020-02-02 02:02:02.000002'",
    ),
    ("TIME(6)", "'-00:00:00.000001'", "'00:00:00.000001'"),
    ("CHAR(9)", "'a'", "'A'"),
    ("CHAR(9)", "''", "NULL"),
    ("CHAR(9)", "'a'", "'a\0'"),
    ("VARCHAR(9)", "'a'", "'a '"),
    ("VARCHAR(9)", "'1'", "'1:'"),
    ("TEXT", "'a'", "'a '"),
    ("VARCHAR(9) CHARACTER SET utf8mb4", "'\u{e4}'", "'a\u{308}'"),
    ("BINARY(3)", "x'61'", "x'6120'"),
    ("VARBINARY(3)", "x'00'", "x'0000'"),
    ("VARBINARY(3)", "x'ff'", "x'fe'"),
    ("BLOB", "''", "x'00'"),
    ("JSON", "'[1]'", "'[1.0]'"),
    ("JSON", "'{\"a\": 1}'", "'{\"a\": \"1\"}'"),
    ("JSON", "NULL", "'null'"),
    ("ENUM('', 'a')", "''", "0"),
    ("ENUM('2', '1')", "'2'", "'1'"),
    ("ENUM('a', 'b')", "'a'", "'b'"),
    ("SET('a', 'b')", "'a'", "'a,b'"),
    (
        "POINT",
        "ST_GeomFromText('POINT(1 2)')",
        "ST_GeomFromText('POINT(1 2.0000000000000004)')",
    ),
    (
        "GEOMETRY",
        "ST_GeomFromText('POINT(1 2)')",
        "ST_GeomFromText('POINT(1 2)', 4326)",
    ),
];

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |opts| async move {
        let mut conn = connect(&opts).await;
        conn.query_drop("SET sql_mode = ''").await?;
        for (number, (kind, seed, _)) in VALUES.iter().enumerate() {
            let statements = format!(
                "CREATE TABLE t{number} (id INT PRIMARY KEY, value {kind}); INSERT INTO t{number} VALUES (1, {seed})"
            );
            conn.query_drop(statements).await?;
        }
        Ok::<_, mysql_async::Error>(())
    })
}

#[test]
fn each_is_told_from_the_next() {
    at_site("values", with_schema, async |site: &Site| {
        site.init().await;
        site.mark().await;
        let mut conn = site.connect().await;
        // With it, what is none of an `ENUM`'s values could not be stored.
        execute(&mut conn, "SET sql_mode = ''").await;
        let start = dump(&mut conn).await;
        let has_negative_zero = !is_mariadb().await;
        for (number, (kind, seed, other)) in VALUES.iter().enumerate() {
            if *other == "'-0'" && !has_negative_zero {
                continue;
            }
            let case = format!("{kind}: {other} for {seed}");
            execute(&mut conn, &format!("UPDATE t{number} SET value = {other}")).await;
            assert_ne!(dump(&mut conn).await, start, "{case}");
            site.next().await;
            assert_eq!(dump(&mut conn).await, start, "{case}");
        }
        assert!(!site.is_anew().await, "in place");
    });
}
