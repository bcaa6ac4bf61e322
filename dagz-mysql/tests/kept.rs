//! Tables that `Prepare::Truncate` keeps are not looked into; who has one of them locked is ended all the same.

mod support;

use dagz_core::DbConfig as _;
use dagz_mysql::{Config, Prepare, mysql_async::prelude::Queryable as _};
use support::{
    HELD, Site, at_site, begin, connect, execute, hold, is_mariadb, rows, until_it_waits,
};

fn with_schema(config: Config) -> Config {
    let config = config.prepare(Prepare::Truncate).keep_tables(["kept"]);
    config.hold(HELD).migrate_with("1", |opts| async move {
        let schema = "CREATE TABLE item (id INT PRIMARY KEY);
            CREATE TABLE kept (id INT PRIMARY KEY, value INT); INSERT INTO kept VALUES (1, 1)";
        connect(&opts).await.query_drop(schema).await
    })
}

/// Writes to the kept table, as the next test does, without waiting for anybody, and puts back what was there.
async fn write(site: &Site) {
    let mut conn = site.connect().await;
    let kept = "SELECT value FROM kept";
    assert_eq!(rows(&mut conn, kept).await, ["1"], "rolled back");
    let write = "SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1; \
                 UPDATE kept SET value = 5; UPDATE kept SET value = 1";
    execute(&mut conn, write).await;
}

#[test]
fn a_lock_that_a_test_left_is_ended() {
    at_site("kept_locked", with_schema, async |site: &Site| {
        site.init().await;
        for statements in [
            "BEGIN; UPDATE kept SET value = 2",
            "BEGIN; SELECT * FROM kept",
            "LOCK TABLES kept WRITE",
        ] {
            let mut leaked = site.connect().await;
            execute(&mut leaked, statements).await;
            site.next().await;
            let ended = leaked.query_drop("COMMIT").await;
            ended.expect_err(statements);
            write(site).await;
        }
    });
}

#[test]
fn one_that_comes_late_is_ended() {
    check_late("kept_late", false);
}

#[test]
fn one_that_comes_late_is_ended_behind_a_gate() {
    check_late("kept_late_gated", true);
}

fn check_late(name: &str, is_gated: bool) {
    let configured = |config| with_schema(config).write_gate(is_gated);
    at_site(name, configured, async |site: &Site| {
        let mut look = begin(site).await;
        // In it before, for nobody new gets into a database that is held.
        let mut late = site.connect().await;
        hold(site, &mut look).await;
        let id = u64::from(late.id());
        let running = tokio::spawn(async move {
            let written = late.query_drop("BEGIN; UPDATE kept SET value = 2").await;
            (late, written)
        });
        until_it_waits(&mut look, id, &running).await;
        site.prepare().await;
        let (mut late, written) = running.await.unwrap();
        let committed = match written {
            Ok(()) => late.query_drop("COMMIT").await,
            Err(error) => Err(error),
        };
        committed.expect_err("the session has ended");
        write(site).await;
        site.driver.release(&site.target).await;
    });
}

/// As the README says: nothing takes away what such a table keeps.
#[test]
fn a_table_that_keeps_former_rows_starts_empty_or_is_kept() {
    if !support::run(is_mariadb()) {
        return;
    }
    for kept in ["", "price"] {
        let configured = |config: Config| {
            let config = config.prepare(Prepare::Truncate).keep_tables([kept]);
            config.migrate_with("1", |opts| async move {
                let schema = "CREATE TABLE price (id INT) WITH SYSTEM VERSIONING; INSERT INTO price VALUES (1)";
                connect(&opts).await.query_drop(schema).await
            })
        };
        at_site("kept_former", configured, async |site: &Site| {
            site.driver.worker_init(&site.target).await.unwrap();
            let prepared = site.driver.prepare(&site.target).await;
            let told = prepared.map_err(|error| error.to_string());
            match kept {
                "price" => assert_eq!(told, Ok(())),
                _ => assert!(told.unwrap_err().contains("`price` keeps what was in it")),
            }
        });
    }
}
