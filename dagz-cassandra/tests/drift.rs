//! What a test does to the schema is undone, or the keyspace is made anew.

mod support;

use dagz_cassandra::Config;
use support::{REPLICATION, at_site, describe, execute, made_by, plain, rows, split};

const SCHEMA: &str = "
    CREATE TYPE address (street text);
    CREATE TABLE first (id int PRIMARY KEY, value text, home frozen<address>);
    CREATE TABLE second (id int PRIMARY KEY, value text);
    INSERT INTO second (id, value) VALUES (1, 'seed');
    CREATE INDEX by_value ON first (value)";

/// Does `statements` as a test would, and tells whether the keyspace was made anew for the next one, which
/// finds it as it was.
fn after(test: &str, statements: &str) -> bool {
    after_each(test, split(statements))
}

/// The same with statements that may have a `;` in them.
fn after_each<'a>(test: &str, statements: impl IntoIterator<Item = &'a str>) -> bool {
    let mut is_anew = false;
    at_site(
        test,
        |config: Config| made_by(config, SCHEMA),
        async |site| {
            site.init().await;
            let plain = plain().await;
            let name = site.target.name();
            let before = describe(&plain, name).await;
            site.mark().await;
            let session = site.connect().await;
            for statement in statements {
                let statement = statement.replace("KEYSPACE_NAME", name);
                session.query_unpaged(statement, ()).await.unwrap();
            }
            site.prepare().await;
            assert_eq!(describe(&plain, name).await, before);
            let query = format!("SELECT value FROM \"{name}\".second");
            assert_eq!(rows(&plain, &query).await, ["seed"]);
            is_anew = site.is_anew().await;
            // It is not made anew for ever.
            site.mark().await;
            site.prepare().await;
            assert!(!site.is_anew().await);
        },
    );
    is_anew
}

#[test]
fn what_was_added_is_dropped() {
    let is_anew = after(
        "added",
        "CREATE TYPE more (number int);
         CREATE TABLE third (id int PRIMARY KEY, value text, more frozen<more>);
         INSERT INTO third (id, value) VALUES (1, 'x');
         CREATE INDEX third_by_value ON third (value);
         CREATE CUSTOM INDEX by_home ON first (home) USING 'StorageAttachedIndex';
         CREATE MATERIALIZED VIEW seen AS SELECT * FROM second WHERE value IS NOT NULL AND id IS NOT NULL
            PRIMARY KEY (value, id);
         INSERT INTO first (id, value) VALUES (1, 'x')",
    );
    assert!(!is_anew, "dropping is quicker than making anew");
}

#[test]
fn what_was_dropped_or_changed_comes_back() {
    for (test, statements) in [
        ("d_table", "DROP TABLE second"),
        ("d_index", "DROP INDEX by_value"),
        (
            "d_column",
            "ALTER TABLE first ADD more int; INSERT INTO first (id, more) VALUES (1, 2)",
        ),
        (
            "d_option",
            "ALTER TABLE first WITH default_time_to_live = 7",
        ),
        // All defined as before; but nothing else may be added in its place,
        (
            "d_added",
            "ALTER TABLE first ADD more int; ALTER TABLE first DROP more",
        ),
        // and what is written there would not be seen.
        (
            "d_again",
            "ALTER TABLE second DROP value USING TIMESTAMP 4102444800000000; ALTER TABLE second ADD value text",
        ),
        ("d_type", "ALTER TYPE address ADD number int"),
        (
            "d_keyspace",
            "ALTER KEYSPACE KEYSPACE_NAME WITH durable_writes = false",
        ),
    ] {
        assert!(after(test, statements), "{statements}");
    }
}

#[test]
fn functions_and_aggregates_go() {
    let is_anew = after_each(
        "functions",
        [
            "CREATE FUNCTION added (state int, n int) CALLED ON NULL INPUT RETURNS int LANGUAGE java
                AS $$ return state + n; $$",
            "CREATE AGGREGATE total (int) SFUNC added STYPE int INITCOND 0",
        ],
    );
    assert!(is_anew, "they are not dropped one by one");
}

#[test]
fn a_table_that_was_made_anew_is_empty() {
    let is_anew = after(
        "remade",
        "DROP TABLE first; CREATE TABLE first (id int PRIMARY KEY, value text, home frozen<address>);
         INSERT INTO first (id, value) VALUES (1, 'x'); CREATE INDEX by_value ON first (value)",
    );
    assert!(!is_anew, "it is defined as it was");
}

#[test]
fn a_dropped_keyspace_comes_back() {
    assert!(after("dropped", "DROP KEYSPACE KEYSPACE_NAME"));
    let dropped =
        format!("DROP KEYSPACE KEYSPACE_NAME; CREATE KEYSPACE KEYSPACE_NAME WITH {REPLICATION}");
    assert!(after("emptied", &dropped));
}

#[test]
fn a_spoiled_stamp_is_made_anew() {
    at_site(
        "spoiled",
        |config: Config| made_by(config, SCHEMA),
        async |site| {
            site.init().await;
            site.mark().await;
            let session = site.connect().await;
            execute(
                &session,
                "UPDATE dagz_stamp SET body = '{}' WHERE part = 'seeds'",
            )
            .await;
            // Another process, which knows nothing.
            let other = support::Site {
                driver: dagz_cassandra::Driver::new(made_by(
                    Config::new(&support::url(&site.base)).unwrap(),
                    SCHEMA,
                )),
                target: site.target.clone(),
                base: site.base.clone(),
                scope: None,
            };
            other.prepare().await;
            assert!(site.is_anew().await);
            let query = "SELECT value FROM second";
            assert_eq!(rows(&session, query).await, ["seed"]);
        },
    );
}

#[test]
fn a_keyspace_that_lost_its_stamp_is_refused() {
    at_site(
        "lost",
        |config: Config| made_by(config, SCHEMA),
        async |site| {
            site.init().await;
            let session = site.connect().await;
            execute(&session, "ALTER TABLE dagz_stamp WITH comment = 'my own'").await;
            execute(&session, "INSERT INTO first (id, value) VALUES (1, 'mine')").await;
            let error = dagz_core::DbConfig::prepare(&site.driver, &site.target)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), dagz_core::ErrorKind::Refused);
            assert!(
                error.to_string().contains("dagz did not create it"),
                "{error}"
            );
            assert_eq!(rows(&session, "SELECT value FROM first").await, ["mine"]);
            execute(
                &session,
                &format!("DROP KEYSPACE \"{}\"", site.target.name()),
            )
            .await;
        },
    );
}
