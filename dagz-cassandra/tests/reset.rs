//! What a test may write, in tables of all kinds, and how the next one finds them.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagz_cassandra::{
    Prepare,
    scylla::{
        client::execution_profile::ExecutionProfile,
        policies::timestamp_generator::TimestampGenerator, statement::Consistency,
    },
    truncate_session,
};
use dagz_core::{DbConfig as _, ErrorKind};
use support::{REPLICATION, at_site, builder, dump, execute, made_by, plain, rows};

/// The beginning of the year 2100, in microseconds.
const FUTURE: i64 = 4_102_444_800_000_000;

const KINDS: &str = "
    CREATE TYPE address (street text, number int);
    CREATE TABLE plain (id int PRIMARY KEY, value text);
    CREATE TABLE wide (a text, b uuid, at timeuuid, value text, PRIMARY KEY ((a, b), at));
    CREATE TABLE \"Quoted\" (\"Id\" int PRIMARY KEY, \"Two words\" text);
    CREATE TABLE shared (id int, at int, owner text static, value text, PRIMARY KEY (id, at));
    CREATE TABLE counted (id int PRIMARY KEY, hits counter);
    CREATE TABLE rich (id frozen<address> PRIMARY KEY, tags set<text>, log list<int>, home frozen<address>,
        names map<text, int>, vector vector<float, 2>);
    CREATE TABLE passing (id int PRIMARY KEY, value text) WITH default_time_to_live = 3600;
    CREATE TABLE keys_only (id int, at int, PRIMARY KEY (id, at));
    CREATE TABLE kept (id int PRIMARY KEY, value text)";

const WRITES: &str = "
    INSERT INTO plain (id, value) VALUES (1, 'x');
    INSERT INTO wide (a, b, at, value) VALUES ('x', uuid(), now(), 'x');
    INSERT INTO \"Quoted\" (\"Id\", \"Two words\") VALUES (1, 'x');
    INSERT INTO shared (id, owner) VALUES (1, 'of a partition without rows');
    INSERT INTO shared (id, at, owner, value) VALUES (2, 1, 'x', 'x');
    UPDATE counted SET hits = hits + 2 WHERE id = 1;
    INSERT INTO rich (id, tags, log, names, vector) VALUES ({street: 'x', number: 1}, {'a'}, [1, 2], {'a': 1}, [1, 2]);
    INSERT INTO passing (id, value) VALUES (1, 'x');
    INSERT INTO plain (id, value) VALUES (2, 'x') USING TTL 60;
    INSERT INTO keys_only (id, at) VALUES (1, 1);
    DELETE FROM plain WHERE id = 3";

#[test]
fn tables_of_all_kinds_are_emptied() {
    let config = |config| made_by(config, KINDS).keep_tables(["kept"]);
    at_site("kinds", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let start = dump(&session, site.target.name()).await;
        for round in 0..4 {
            execute(&session, WRITES).await;
            assert_ne!(dump(&session, site.target.name()).await, start);
            site.prepare().await;
            assert_eq!(
                dump(&session, site.target.name()).await,
                start,
                "round {round}"
            );
        }
        execute(&session, "INSERT INTO kept (id, value) VALUES (1, 'x')").await;
        site.prepare().await;
        assert_eq!(rows(&session, "SELECT value FROM kept").await, ["x"]);
    });
}

#[test]
fn a_counter_begins_anew() {
    let config = |config| made_by(config, KINDS);
    at_site("counter", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        for _ in 0..3 {
            execute(&session, "UPDATE counted SET hits = hits + 2 WHERE id = 1").await;
            let told = rows(&session, "SELECT JSON hits FROM counted").await;
            assert_eq!(told, [r#"{"hits": 2}"#]);
            site.prepare().await;
            assert!(
                rows(&session, "SELECT JSON hits FROM counted")
                    .await
                    .is_empty()
            );
        }
    });
}

#[test]
fn many_partitions_are_emptied() {
    let config = |config| made_by(config, KINDS);
    at_site("many", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        for count in [127, 128, 129, 400] {
            for id in 0..count {
                let write = format!("INSERT INTO plain (id, value) VALUES ({id}, 'x')");
                execute(&session, &write).await;
            }
            site.prepare().await;
            assert!(
                rows(&session, "SELECT value FROM plain").await.is_empty(),
                "{count}"
            );
        }
    });
}

#[test]
fn tombstones_do_not_pile_up() {
    let config = |config| made_by(config, KINDS);
    at_site("tombstones", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let mut next = 0;
        for _ in 0..40 {
            let until = next + 100;
            while next < until {
                let write = format!("INSERT INTO plain (id, value) VALUES ({next}, 'x')");
                execute(&session, &write).await;
                next += 1;
            }
            site.prepare().await;
        }
        // 4,000 tombstones would take 30 ms and more to go over.
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let started = Instant::now();
            assert!(rows(&session, "SELECT value FROM plain").await.is_empty());
            best = best.min(started.elapsed());
        }
        assert!(best < Duration::from_millis(15), "{best:?}");
    });
}

#[test]
fn views_and_indexes_follow() {
    const SCHEMA: &str = "
        CREATE TABLE product (id int PRIMARY KEY, kind text, price int);
        CREATE INDEX by_kind ON product (kind);
        CREATE CUSTOM INDEX by_price ON product (price) USING 'StorageAttachedIndex';
        CREATE MATERIALIZED VIEW by_kind_view AS SELECT * FROM product
            WHERE kind IS NOT NULL AND id IS NOT NULL PRIMARY KEY (kind, id)";
    let config = |config| made_by(config, SCHEMA);
    at_site("views", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        let looks = [
            "SELECT kind FROM product WHERE kind = 'book'",
            "SELECT kind FROM product WHERE price = 7",
            "SELECT kind FROM by_kind_view",
        ];
        let write = "INSERT INTO product (id, kind, price) VALUES (1, 'book', 7)";
        for write in [
            write.to_owned(),
            format!("{write} USING TIMESTAMP {FUTURE}"),
            write.to_owned(),
        ] {
            execute(&session, &write).await;
            for look in looks {
                assert_eq!(rows(&session, look).await, ["book"], "{look}");
            }
            site.prepare().await;
            for look in looks {
                assert!(rows(&session, look).await.is_empty(), "{look}");
            }
        }
    });
}

const SEEDED: &str = "
    CREATE TYPE money (amount decimal, currency text);
    CREATE TABLE country (code text PRIMARY KEY, name text, people varint, \"Size\" double, price frozen<money>,
        tags set<text>, flag blob, since timestamp, day date, lasts duration);
    INSERT INTO country (code, name, people, \"Size\", price, tags, flag, since, day, lasts) VALUES ('de', 'it''s \"this\"',
        123456789012345678901234567890, 0.1, {amount: 1.10, currency: 'EUR'}, {'a', 'b'}, 0xcafe,
        '2020-01-01 00:00:00.001+0000', '2020-01-01', 1mo2d3h);
    INSERT INTO country (code) VALUES ('fr');
    CREATE TABLE shared (id int, at int, owner text static, value text, PRIMARY KEY (id, at));
    INSERT INTO shared (id, owner) VALUES (1, 'alone');
    INSERT INTO shared (id, at, owner, value) VALUES (2, 1, 'two', 'a');
    INSERT INTO shared (id, at, value) VALUES (2, 2, 'b');
    CREATE TABLE empty (id int PRIMARY KEY, value text)";

#[test]
fn seed_rows_are_restored() {
    at_site(
        "seeds",
        |config| made_by(config, SEEDED),
        async |site| {
            site.init().await;
            let session = site.connect().await;
            let start = dump(&session, site.target.name()).await;
            for writes in [
                "DELETE FROM country WHERE code = 'de'",
                "UPDATE country SET name = 'another' WHERE code = 'fr'",
                "INSERT INTO country (code) VALUES ('it')",
                "TRUNCATE country; TRUNCATE shared",
                "DELETE owner FROM shared WHERE id = 1; DELETE FROM shared WHERE id = 2 AND at = 1",
                "UPDATE shared SET owner = 'x' WHERE id = 2; INSERT INTO empty (id) VALUES (1)",
                "INSERT INTO country (code, name) VALUES ('de', 'x') USING TIMESTAMP 4102444800000000",
                "UPDATE country SET name = 'at once' WHERE code = 'de'",
            ] {
                execute(&session, writes).await;
                assert_ne!(dump(&session, site.target.name()).await, start, "{writes}");
                site.prepare().await;
                assert_eq!(dump(&session, site.target.name()).await, start, "{writes}");
            }
            // And a change right after that is not lost.
            execute(
                &session,
                "UPDATE country SET name = 'new' WHERE code = 'fr'",
            )
            .await;
            let query = "SELECT name FROM country WHERE code = 'fr'";
            assert_eq!(rows(&session, query).await, ["new"]);
        },
    );
}

#[test]
fn truncate_leaves_no_seed() {
    let config = |config| made_by(config, SEEDED).prepare(Prepare::Truncate);
    at_site("no_seeds", config, async |site| {
        site.init().await;
        let session = site.connect().await;
        assert!(rows(&session, "SELECT code FROM country").await.is_empty());
    });
}

#[test]
fn what_cannot_be_restored_is_refused() {
    const MANY: &str = "CREATE TABLE t (id int, at int, PRIMARY KEY (id, at))";
    for (test, schema, expected) in [
        (
            "r_counter",
            "CREATE TABLE t (id int PRIMARY KEY, hits counter); UPDATE t SET hits = hits + 1 WHERE id = 1",
            "a counter can be counted",
        ),
        (
            "r_ttl",
            "CREATE TABLE t (id int PRIMARY KEY, tags set<text>); INSERT INTO t (id, tags) VALUES (1, {'x'}) USING TTL 900",
            "time to live",
        ),
        ("r_many", MANY, "more than 1000"),
    ] {
        let config = |config: dagz_cassandra::Config| {
            config.migrate_with(schema, move |session| async move {
                execute(&session, schema).await;
                if schema == MANY {
                    for id in 0..1_001 {
                        execute(
                            &session,
                            &format!("INSERT INTO t (id, at) VALUES ({id}, 1)"),
                        )
                        .await;
                    }
                }
                Ok::<_, std::io::Error>(())
            })
        };
        at_site(test, config, async |site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            let said = error.report().to_string();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{said}");
            for part in [expected, site.target.name(), "`t`", "Config::keep_tables"] {
                assert!(said.contains(part), "no `{part}`: {said}");
            }
        });
    }
}

/// Says that it is long ago.
struct LongAgo;

impl TimestampGenerator for LongAgo {
    fn next_timestamp(&self) -> i64 {
        1_000
    }
}

#[test]
fn any_session_truncates_whatever_its_settings() {
    at_site(
        "any_session",
        |config| made_by(config, KINDS),
        async |site| {
            site.init().await;
            let profile = ExecutionProfile::builder()
                .consistency(Consistency::Any)
                .build();
            let odd = builder()
                .timestamp_generator(Arc::new(LongAgo))
                .default_execution_profile_handle(profile.into_handle())
                .build()
                .await
                .unwrap();
            let session = site.connect().await;
            let start = dump(&session, site.target.name()).await;
            execute(&session, WRITES).await;
            truncate_session(&odd, site.target.name()).await.unwrap();
            assert_eq!(dump(&session, site.target.name()).await, start);
        },
    );
}

#[test]
fn a_session_truncates_nothing_that_is_not_dagzs() {
    at_site(
        "not_dagzs",
        |config| config,
        async |site| {
            let session = plain().await;
            let base = &site.base;
            execute(
            &session,
            &format!(
                "CREATE KEYSPACE {base} WITH {REPLICATION}; CREATE TABLE {base}.t (id text PRIMARY KEY); INSERT INTO {base}.t (id) VALUES ('x')"
            ),
        )
        .await;
            let error = truncate_session(&session, base).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
            assert!(
                error.to_string().contains("dagz did not create it"),
                "{error}"
            );
            assert_eq!(
                rows(&session, &format!("SELECT id FROM {base}.t")).await,
                ["x"]
            );
            let error = truncate_session(&session, "there_is_none")
                .await
                .unwrap_err();
            assert!(error.to_string().contains("does not exist"), "{error}");
        },
    );
}
