//! Large tables are emptied by new files, where that empties nothing else; and a log of many writes gets one.

mod support;

use dagz_core::DbConfig as _;
use dagz_postgres::Config;
use support::{Site, at_site, dump, rows};

const SCHEMA: &str = "
CREATE TABLE big (id integer PRIMARY KEY, text text);
CREATE TABLE part (id integer PRIMARY KEY, big integer REFERENCES big);
CREATE TABLE seeded_parent (id integer PRIMARY KEY, text text);
CREATE TABLE seeded_child (id integer PRIMARY KEY, parent integer REFERENCES seeded_parent);
INSERT INTO seeded_child VALUES (1, NULL);
CREATE TABLE range (id integer NOT NULL, text text) PARTITION BY RANGE (id);
CREATE TABLE range_one PARTITION OF range FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
";

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |config| async move {
        support::connect(&config).await.batch_execute(SCHEMA).await
    })
}

/// Which tables get a new file: large ones, with what refers to them, unless that has seed rows.
const FILES: &[(&str, bool)] = &[
    ("big", true),
    ("part", true),
    ("range_one", true),
    ("seeded_parent", false),
    ("seeded_child", false),
];

#[test]
fn large_tables_are_emptied_and_nothing_else() {
    at_site("large", with_schema, async |site: &Site| {
        site.init().await;
        let client = site.connect().await;
        let start = dump(&client).await;
        let files = async |table: &str| {
            let file = format!("SELECT pg_relation_filenode('{table}')");
            rows(&client, &file).await
        };
        let mut before = Vec::new();
        for (table, _) in FILES {
            before.push(files(table).await);
        }
        client
            .batch_execute(
                "INSERT INTO big SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n;
                 INSERT INTO part VALUES (1, 7);
                 INSERT INTO seeded_parent SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n;
                 UPDATE seeded_child SET parent = 5;
                 INSERT INTO range SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n",
            )
            .await
            .unwrap();
        site.driver.release(&site.target).await;
        site.prepare().await;
        assert_eq!(dump(&client).await, start);
        for ((table, is_new), before) in FILES.iter().zip(before) {
            assert_eq!(files(table).await != before, *is_new, "`{table}`");
        }
        // And that was not by making the database anew.
        client.check_connection().await.unwrap();
    });
}

#[test]
fn many_statements_are_dealt_with() {
    at_site("log_many", with_schema, async |site: &Site| {
        site.init().await;
        let client = site.connect_as("app").await;
        let start = dump(&client).await;
        let many =
            "DO 'BEGIN FOR n IN 1..10000 LOOP INSERT INTO part (id) VALUES (n); END LOOP; END'";
        for _ in 0..2 {
            client.batch_execute(many).await.unwrap();
            site.driver.release(&site.target).await;
            site.prepare().await;
            assert_eq!(dump(&client).await, start);
            let left = "SELECT (SELECT count(*) FROM dagz_baseline.writes), pg_relation_size('dagz_baseline.writes') < 65536";
            assert_eq!(rows(&client, left).await, ["0 t"], "the log is a new one");
        }
    });
}
