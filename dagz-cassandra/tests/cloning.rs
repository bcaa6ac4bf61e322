//! How workers' keyspaces come about: as copies, by migrations, and by several at the same time.

mod support;

use std::fs;

use dagz_cassandra::{Config, Driver, adopt};
use dagz_core::{DbConfig as _, ErrorKind};
use support::{
    REPLICATION, at_site, clean, describe, dump, execute, made_by, plain, rows, target, url,
};

/// Everything that a keyspace may have, in an order that a copy must not mind.
const EVERYTHING: &str = "
    CREATE TYPE BASE.street (name text, number int);
    CREATE TYPE BASE.address (street frozen<street>, \"Town\" text);
    CREATE TABLE BASE.customer (id uuid, at timeuuid, home frozen<address>, tags set<text> static, name text,
        \"Odd name\" text, vector vector<float, 3>, PRIMARY KEY ((id), at))
        WITH CLUSTERING ORDER BY (at DESC) AND comment = 'it''s nobody.customer' AND default_time_to_live = 600;
    CREATE TABLE BASE.\"Visits\" (page text PRIMARY KEY, count counter);
    CREATE TABLE BASE.product (id int PRIMARY KEY, kind text, price int);
    CREATE INDEX by_kind ON BASE.product (kind);
    CREATE CUSTOM INDEX by_price ON BASE.product (price) USING 'StorageAttachedIndex';
    CREATE MATERIALIZED VIEW BASE.product_by_kind AS SELECT id, kind FROM BASE.product
        WHERE kind IS NOT NULL AND id IS NOT NULL PRIMARY KEY (kind, id);
    INSERT INTO BASE.product (id, kind, price) VALUES (1, 'of the base', 7)";

/// Not to be split at every `;`.
const FUNCTIONS: [&str; 2] = [
    "CREATE FUNCTION BASE.larger (a int, b int) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS $$ return b; $$",
    "CREATE AGGREGATE BASE.last (int) SFUNC larger STYPE int INITCOND 0",
];

async fn make(keyspace: &str) {
    let session = plain().await;
    let create =
        format!("CREATE KEYSPACE {keyspace} WITH {REPLICATION} AND durable_writes = false;");
    execute(&session, &(create + &EVERYTHING.replace("BASE", keyspace))).await;
    for function in FUNCTIONS {
        let statement = function.replace("BASE", keyspace);
        session.query_unpaged(statement, ()).await.unwrap();
    }
}

#[test]
fn a_copy_has_all_that_the_base_has_and_no_rows() {
    at_site(
        "copy",
        |config| config,
        async |site| {
            make(&site.base).await;
            site.init().await;
            let session = plain().await;
            let copied = describe(&session, site.target.name()).await;
            assert_eq!(copied.len(), 11, "{copied:#?}");
            assert_eq!(copied, describe(&session, &site.base).await);
            let rows = dump(&session, site.target.name()).await;
            assert!(!rows.contains("of the base"), "{rows}");
            // And it works.
            let inside = site.connect().await;
            execute(
                &inside,
                "INSERT INTO product (id, kind, price) VALUES (1, 'x', 3)",
            )
            .await;
            let looked = support::rows(&inside, "SELECT JSON last(price) FROM product").await;
            assert_eq!(
                looked,
                [r#"{"KEYSPACE.last(price)": 3}"#.replace("KEYSPACE", site.target.name())]
            );
        },
    );
}

#[test]
fn a_template_stands_in_for_the_base() {
    at_site(
        "template",
        |config: Config| {
            let template = support::base("a_template");
            config
                .template(template)
                .migrate_with("1", |session| async move {
                    let write = "INSERT INTO product (id, kind) VALUES (1, 'seed')";
                    session.query_unpaged(write, ()).await.map(drop)
                })
        },
        async |site| {
            let template = support::base("a_template");
            execute(
                &plain().await,
                &format!("DROP KEYSPACE IF EXISTS {template}"),
            )
            .await;
            make(&template).await;
            site.init().await;
            let session = site.connect().await;
            assert_eq!(rows(&session, "SELECT kind FROM product").await, ["seed"]);
            execute(&session, "TRUNCATE product").await;
            site.prepare().await;
            assert_eq!(
                rows(&session, "SELECT kind FROM product_by_kind").await,
                ["seed"]
            );
            execute(&session, &format!("DROP KEYSPACE {template}")).await;
        },
    );
}

#[test]
fn a_base_that_changed_is_copied_again() {
    at_site(
        "changed",
        |config| config,
        async |site| {
            make(&site.base).await;
            site.init().await;
            site.mark().await;
            site.driver.worker_init(&site.target).await.unwrap();
            assert!(!site.is_anew().await, "nothing has changed");
            let statement = format!("ALTER TABLE {}.product ADD more int", site.base);
            execute(&plain().await, &statement).await;
            site.init().await;
            assert!(site.is_anew().await);
            execute(&site.connect().await, "SELECT more FROM product").await;
        },
    );
}

#[test]
fn a_missing_base_is_an_error_that_says_what_to_do() {
    at_site(
        "missing",
        |config| config,
        async |site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            let said = error.report().to_string();
            for part in [
                &*site.base,
                "does not exist",
                ".migrations(..)",
                ".worker_init(..)",
            ] {
                assert!(said.contains(part), "no `{part}`: {said}");
            }
        },
    );
}

#[test]
fn migrations_are_run_in_order_in_the_workers_keyspace() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "2_second.cql",
            "-- a comment; with a semicolon\nALTER TABLE t ADD more text; INSERT INTO t (id, more) VALUES (1, 'a;b');",
        ),
        ("1_first.up.cql", "CREATE TABLE t (id int PRIMARY KEY);"),
        ("1_first.down.cql", "DROP TABLE t;"),
        ("10_third.cql", "UPDATE t SET more = 'third' WHERE id = 1"),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let path = directory.path().to_owned();
    at_site(
        "migrated",
        |config: Config| config.migrations(path),
        async |site| {
            site.init().await;
            let session = site.connect().await;
            assert_eq!(rows(&session, "SELECT more FROM t").await, ["third"]);
            execute(&session, "INSERT INTO t (id) VALUES (2)").await;
            site.prepare().await;
            assert_eq!(rows(&session, "SELECT more FROM t").await, ["third"]);
            // Other files make another keyspace.
            site.mark().await;
            fs::write(
                directory.path().join("11_last.cql"),
                "CREATE TABLE u (id int PRIMARY KEY)",
            )
            .unwrap();
            site.init().await;
            assert!(site.is_anew().await);
        },
    );
}

#[test]
fn migrations_that_leave_the_keyspace_are_refused() {
    for (test, text) in [
        (
            "leaves_use",
            "CREATE TABLE t (id int PRIMARY KEY); USE other;",
        ),
        (
            "leaves_create",
            "create keyspace other with replication = {};",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("1_a.cql"), text).unwrap();
        let path = directory.path().to_owned();
        at_site(
            test,
            |config: Config| config.migrations(path),
            async |site| {
                let error = site.driver.worker_init(&site.target).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Settings, "{}", error.report());
                let said = error.report().to_string();
                for part in [
                    "1_a.cql",
                    "would leave the worker's keyspace",
                    site.target.name(),
                ] {
                    assert!(said.contains(part), "no `{part}`: {said}");
                }
            },
        );
    }
}

#[test]
fn a_migration_that_fails_is_named_and_blocks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("1_a.cql");
    fs::write(
        &file,
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABEL u (id int)",
    )
    .unwrap();
    let path = directory.path().to_owned();
    at_site(
        "failing",
        |config: Config| config.migrations(path),
        async |site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            let said = error.report().to_string();
            assert_eq!(error.kind(), ErrorKind::WorkerInit, "{said}");
            assert!(
                said.contains("statement 2 of") && said.contains("1_a.cql"),
                "{said}"
            );
            fs::write(&file, "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
            site.init().await;
        },
    );
}

#[test]
fn several_make_their_own_at_the_same_time() {
    at_site(
        "several",
        |config| config,
        async |site| {
            make(&site.base).await;
            let mut making = Vec::new();
            for number in 0..4 {
                let base = support::base(&format!("several{number}"));
                let target = target(&base);
                let (template, project) = (site.base.clone(), target.project().to_owned());
                making.push(tokio::spawn(async move {
                    clean(&base, &project).await;
                    // As in a process each.
                    let config = Config::new(&url(&base)).unwrap().template(template);
                    let driver = Driver::new(config);
                    driver.worker_init(&target).await.unwrap();
                    driver.prepare(&target).await.unwrap();
                    let copied = describe(&plain().await, target.name()).await;
                    clean(&base, &project).await;
                    copied
                }));
            }
            let expected = describe(&plain().await, &site.base).await;
            for made in making {
                assert_eq!(made.await.unwrap(), expected);
            }
        },
    );
}

#[test]
fn a_keyspace_of_the_users_own_is_adopted() {
    const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, value text); INSERT INTO t (id, value) VALUES (1, 'seed')";
    let config = |config: Config| {
        let config = config.worker_init(|target, session| async move {
            let statement = format!("CREATE KEYSPACE {} WITH {REPLICATION}", target.name());
            session.query_unpaged(statement, ()).await?;
            session.use_keyspace(target.name(), true).await?;
            execute(&session, SCHEMA).await;
            let base = target.base().to_owned();
            Driver::new(Config::new(&url(&base))?)
                .adopt(&target)
                .await?;
            Ok::<_, anyhow::Error>(())
        });
        made_by(config, SCHEMA)
    };
    at_site("adopted", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        execute(&session, "DELETE FROM t WHERE id = 1").await;
        site.prepare().await;
        assert_eq!(rows(&session, "SELECT value FROM t").await, ["seed"]);
        // Changed by a test, it is made anew by the same function.
        execute(&session, "DROP TABLE t").await;
        site.prepare().await;
        assert_eq!(rows(&session, "SELECT value FROM t").await, ["seed"]);
        let error = adopt(&site.target).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Unconfigured,
            "no driver is configured"
        );
    });
}

#[test]
fn another_projects_keyspace_is_refused() {
    at_site(
        "foreign",
        |config| made_by(config, "CREATE TABLE t (id int PRIMARY KEY)"),
        async |site| {
            site.init().await;
            let session = site.connect().await;
            let comment = rows(
            &session,
            &format!(
                "SELECT comment FROM system_schema.tables WHERE keyspace_name = '{}' AND table_name = 'dagz_stamp'",
                site.target.name()
            ),
        )
        .await
        .remove(0);
            let foreign = comment.replace(
                &format!(r#""project":"{}""#, site.target.project()),
                r#""project":"another""#,
            );
            assert_ne!(foreign, comment);
            for (stamp, expected) in [
                (foreign, "it belongs to dagz project `another`"),
                (
                    comment.replace(site.target.name(), "elsewhere"),
                    "its stamp is that of `elsewhere`",
                ),
                (
                    comment.replace(r#""dagz":1"#, r#""dagz":9"#),
                    "its stamp has format 9",
                ),
            ] {
                execute(
                    &session,
                    &format!("ALTER TABLE dagz_stamp WITH comment = '{stamp}'"),
                )
                .await;
                for outcome in [
                    site.driver.prepare(&site.target).await,
                    site.driver.worker_init(&site.target).await,
                ] {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
                    assert!(error.to_string().contains(expected), "{error}");
                }
            }
            execute(&session, &format!("DROP KEYSPACE {}", site.target.name())).await;
        },
    );
}
