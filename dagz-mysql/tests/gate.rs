//! One lock in the place of all: which tables it stands for, and what becomes of it.
//!
//! That it keeps out what comes between two tests is in `held.rs`.

mod support;

use std::time::Duration;

use dagz_core::DbConfig as _;
use dagz_mysql::{
    Config, Driver,
    mysql_async::{self, Conn, OptsBuilder, prelude::Queryable as _},
};
use support::{Site, at_site, base, connect, execute, is_mariadb, opts, rows, within};

const SCHEMA: &str = "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(9));
    CREATE TABLE `it``s` (id INT) PARTITION BY HASH (id);
    CREATE TABLE audit (id INT) COMMENT 'ENGINE=MyISAM';
    CREATE TRIGGER note AFTER INSERT ON item FOR EACH ROW INSERT INTO audit VALUES (new.id);
    CREATE TABLE old (id INT) ENGINE = MyISAM";

/// MariaDB only.
const VERSIONED: &str = "CREATE TABLE former (id INT) WITH SYSTEM VERSIONING";

const GATED: [&str; 9] = [
    "audit DELETE",
    "audit INSERT",
    "audit UPDATE",
    "it`s DELETE",
    "it`s INSERT",
    "it`s UPDATE",
    "item DELETE",
    "item INSERT",
    "item UPDATE",
];

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |opts| async move {
        let mut conn = connect(&opts).await;
        if is_mariadb().await {
            conn.query_drop(VERSIONED).await?;
        }
        conn.query_drop(SCHEMA).await
    })
}

fn with_gate(config: Config) -> Config {
    with_schema(config).write_gate(true)
}

/// Which tables have a gate in the database `name`, and for which writes.
async fn gated(name: &str) -> Vec<String> {
    let mut conn = connect(&opts("")).await;
    let query = format!(
        "SELECT EVENT_OBJECT_TABLE, EVENT_MANIPULATION FROM information_schema.TRIGGERS \
         WHERE TRIGGER_SCHEMA = '{name}' AND TRIGGER_NAME LIKE 'dagz%'"
    );
    let mut gated = rows(&mut conn, &query).await;
    gated.sort();
    gated
}

#[test]
fn each_table_has_one_whose_triggers_tell_of_all_writes() {
    at_site("gate", with_gate, async |site: &Site| {
        site.init().await;
        assert_eq!(gated(site.target.name()).await, GATED);
        let mut conn = site.connect().await;
        execute(&mut conn, "INSERT INTO item () VALUES ()").await;
        assert_eq!(rows(&mut conn, "SELECT * FROM audit").await, ["1"]);
    });
}

#[test]
fn one_that_a_test_opened_is_closed_for_the_next() {
    at_site("gate_opened", with_gate, async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        for statements in [
            "DROP TRIGGER dagz_gate_0_insert",
            "DROP TABLE item; CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(9));
             CREATE TRIGGER note AFTER INSERT ON item FOR EACH ROW INSERT INTO audit VALUES (new.id)",
            "DROP TABLE dagz_gate",
        ] {
            site.mark().await;
            execute(&mut conn, statements).await;
            site.next().await;
            assert!(site.is_anew().await, "{statements}");
            assert_eq!(gated(site.target.name()).await, GATED, "{statements}");
            conn = site.connect().await;
        }
        site.mark().await;
        execute(&mut conn, "INSERT INTO item () VALUES ()").await;
        site.next().await;
        assert!(!site.is_anew().await, "for rows it is not made anew");
    });
}

#[test]
fn databases_are_made_anew_for_it_and_without_it() {
    at_site("gate_set", with_schema, async |site: &Site| {
        site.init().await;
        site.driver.release(&site.target).await;
        let none: [&str; 0] = [];
        for (gate, expected) in [
            (false, &none[..]),
            (true, &GATED),
            (true, &GATED),
            (false, &none),
        ] {
            let config = with_schema(Config::from_opts(opts(&site.base))).write_gate(gate);
            let driver = Driver::new(config);
            for outcome in [
                driver.worker_init(&site.target).await,
                driver.prepare(&site.target).await,
            ] {
                outcome.unwrap_or_else(|error| panic!("{}", error.report()));
            }
            driver.release(&site.target).await;
            assert_eq!(gated(site.target.name()).await, expected, "{gate}");
        }
    });
}

#[test]
fn adopted_databases_have_one() {
    let configured = |config: Config| {
        let init = |target: dagz_core::Target, _| async move {
            let mut admin = connect(&opts("")).await;
            let name = target.name();
            let made = format!("CREATE DATABASE `{name}`; USE `{name}`; {SCHEMA}");
            admin.query_drop(made).await?;
            Ok::<_, mysql_async::Error>(())
        };
        config.write_gate(true).worker_init(init)
    };
    at_site("gate_adopted", configured, async |site: &Site| {
        drop(site.driver.worker_init(&site.target).await);
        // A second time it is adopted as it is then.
        for _ in 0..2 {
            let adopted = site.driver.adopt(&site.target).await;
            adopted.unwrap_or_else(|error| panic!("{}", error.report()));
        }
        site.prepare().await;
        assert_eq!(gated(site.target.name()).await, GATED);
        site.mark().await;
        execute(&mut site.connect().await, "INSERT INTO item () VALUES ()").await;
        site.next().await;
        assert!(!site.is_anew().await, "its start state has the gate");
        let left = rows(&mut site.connect().await, "SELECT * FROM item").await;
        assert_eq!(left, [""; 0]);
    });
}

#[test]
fn sessions_that_lock_tables_do_not_wait_for_each_other() {
    at_site("gate_locks", with_gate, async |site: &Site| {
        site.init().await;
        let (mut one, mut two, mut three) = (
            site.connect().await,
            site.connect().await,
            site.connect().await,
        );
        let all = async {
            execute(&mut one, "LOCK TABLES item WRITE, audit WRITE").await;
            execute(&mut two, "LOCK TABLES `it``s` WRITE").await;
            execute(&mut three, "INSERT INTO old VALUES (1)").await;
            execute(&mut two, "INSERT INTO `it``s` VALUES (1); UNLOCK TABLES").await;
            execute(&mut three, "INSERT INTO `it``s` VALUES (2)").await;
            execute(&mut one, "INSERT INTO item () VALUES (); UNLOCK TABLES").await;
        };
        within(Duration::from_secs(5), all).await;
    });
}

#[test]
fn a_user_who_may_not_make_triggers_does_without() {
    let user = "dagz_test_no_triggers";
    let pattern = format!("{}\\_jw%", base("gate_denied").replace('_', "\\_"));
    let make = format!(
        "DROP USER IF EXISTS '{user}'@'%'; CREATE USER '{user}'@'%' IDENTIFIED BY 'restricted';
         GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, LOCK TABLES, EVENT, \
         CREATE ROUTINE, SHOW VIEW ON `{pattern}`.* TO '{user}'@'%'"
    );
    support::run(async { execute(&mut connect(&opts("")).await, &make).await });
    let base = opts(&base("gate_denied"));
    let configured = move |_| {
        let opts = OptsBuilder::from_opts(base)
            .user(Some(user))
            .pass(Some("restricted"));
        let config = Config::from_opts(opts).write_gate(true);
        config.migrate_with("1", |opts| async move {
            let table = "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY)";
            Conn::new(opts).await?.query_drop(table).await
        })
    };
    at_site("gate_denied", configured, async |site: &Site| {
        site.init().await;
        assert_eq!(gated(site.target.name()).await, [""; 0]);
        site.mark().await;
        execute(&mut site.connect().await, "INSERT INTO item () VALUES ()").await;
        site.next().await;
        let left = rows(&mut site.connect().await, "SELECT * FROM item").await;
        assert_eq!(left, [""; 0]);
        assert!(!site.is_anew().await);
    });
    support::run(async {
        execute(
            &mut connect(&opts("")).await,
            &format!("DROP USER '{user}'@'%'"),
        )
        .await;
    });
}
