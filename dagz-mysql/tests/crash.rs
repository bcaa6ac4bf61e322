//! A session that is killed in the middle of something: the next test finds exactly the start state.
//!
//! The server itself is not crashed: MariaDB and MySQL are one process that nobody starts again by itself. What a
//! crash does to sessions is done by `KILL` here: to one that writes, to dagz's own that resets, and to those that make
//! databases. `KILL` leaves what engines without transactions wrote, as a crash does.

mod support;

use std::time::{Duration, Instant};

use dagz_core::DbConfig as _;
use dagz_mysql::{Config, Driver, mysql_async::prelude::Queryable as _};
use support::{Site, at_site, clean, connect, counters, dump, execute, opts, rows};

const SCHEMA: &str = "
CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE seed (id INT PRIMARY KEY, name VARCHAR(20));
INSERT INTO seed VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE TABLE plain (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20)) ENGINE = MyISAM;
INSERT INTO plain (name) VALUES ('a'), ('b');
";

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |opts| async move {
        connect(&opts).await.query_drop(SCHEMA).await
    })
}

/// The rows and the counters.
async fn state(site: &Site) -> (String, Vec<String>) {
    let mut conn = site.connect().await;
    (dump(&mut conn).await, counters(&mut conn).await)
}

async fn kill(session: u64) {
    let kill = format!("KILL CONNECTION {session}");
    execute(&mut connect(&opts("")).await, &kill).await;
}

/// The first session that is as `condition` says of the list of them, once there is one.
async fn session(condition: &str) -> u64 {
    let mut watch = connect(&opts("")).await;
    let query = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND {condition} LIMIT 1"
    );
    let started = Instant::now();
    loop {
        if let Some(id) = rows(&mut watch, &query).await.first() {
            return id.parse().expect("sessions have numbers");
        }
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(20), "no session {condition}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A driver as that of another process.
async fn another(site: &Site) {
    let driver = Driver::new(with_schema(Config::from_opts(opts(&site.base))));
    for outcome in [
        driver.worker_init(&site.target).await,
        driver.prepare(&site.target).await,
    ] {
        outcome.unwrap_or_else(|error| panic!("{}", error.report()));
    }
    driver.release(&site.target).await;
}

/// Dies in the middle of a statement that `writes`, after some that it committed.
async fn die(site: &Site, writes: &str) {
    let mut conn = site.connect().await;
    execute(
        &mut conn,
        "INSERT INTO item (name) VALUES ('committed'); UPDATE seed SET name = 'changed' WHERE id = 1; \
         DELETE FROM seed WHERE id = 2",
    )
    .await;
    let id = u64::from(conn.id());
    let (written, ()) = tokio::join!(conn.query_drop(writes), async {
        session(&format!("ID = {id} AND STATE = 'User sleep'")).await;
        // Some rows later.
        tokio::time::sleep(Duration::from_millis(400)).await;
        kill(id).await;
    });
    written.unwrap_err();
    // It closes what it wrote to after it was told so.
    let mut watch = connect(&opts("")).await;
    let left = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE ID = {id}");
    while !rows(&mut watch, &left).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn of_a_session_in_mid_write() {
    at_site("killed_write", with_schema, async |site: &Site| {
        site.init().await;
        let start = state(site).await;
        for table in ["item", "plain"] {
            // Each row takes its time, so that it dies between two.
            let writes = format!(
                "INSERT INTO {table} (name) WITH RECURSIVE n (n) AS \
                 (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500) SELECT CONCAT('n', SLEEP(0.02)) FROM n"
            );
            for is_known in [true, false] {
                die(site, &writes).await;
                let mut conn = site.connect().await;
                let count = format!("SELECT COUNT(*) > 3 FROM {table}");
                // What had no transaction stays.
                let is_left = table == "plain";
                assert_eq!(rows(&mut conn, &count).await == ["1"], is_left);
                site.driver.release(&site.target).await;
                if is_known {
                    site.prepare().await;
                } else {
                    another(site).await;
                }
                assert_eq!(state(site).await, start, "{table}, known: {is_known}");
            }
        }
    });
}

#[test]
fn of_a_reset_that_waits() {
    let patient = |config| with_schema(config).leak_patience(Duration::from_secs(2));
    at_site("killed_reset", patient, async |site: &Site| {
        site.init().await;
        let start = state(site).await;
        for statements in [
            "BEGIN; UPDATE seed SET name = 'held' WHERE id = 3",
            "LOCK TABLES seed WRITE, plain WRITE",
        ] {
            let mut conn = site.connect().await;
            let writes = "INSERT INTO item (name) VALUES ('x'); INSERT INTO plain (name) VALUES ('x'); DELETE FROM seed WHERE id = 1";
            execute(&mut conn, writes).await;
            let mut held = site.connect().await;
            execute(&mut held, statements).await;
            site.driver.release(&site.target).await;
            let keeper = format!(
                "DB = '{}' AND ID NOT IN ({}, {})",
                site.target.name(),
                conn.id(),
                held.id()
            );
            // Whether it gives up or another one takes over: in the end it is exact.
            let (_, ()) = tokio::join!(site.driver.prepare(&site.target), async {
                kill(session(&keeper).await).await;
            });
            drop(held);
            site.driver.release(&site.target).await;
            site.prepare().await;
            assert_eq!(state(site).await, start, "{statements}");
        }
    });
}

#[test]
fn of_a_kept_session_between_two_tests() {
    at_site("killed_kept", with_schema, async |site: &Site| {
        site.init().await;
        let start = state(site).await;
        for _ in 0..3 {
            let mut conn = site.connect().await;
            execute(
                &mut conn,
                "DELETE FROM seed; INSERT INTO item VALUES (9, '')",
            )
            .await;
            site.driver.release(&site.target).await;
            let own = conn.id();
            kill(session(&format!("DB = '{}' AND ID <> {own}", site.target.name())).await).await;
            site.prepare().await;
            assert_eq!(state(site).await, start);
        }
    });
}

#[test]
fn of_a_migration() {
    at_site("killed_migration", with_schema, async |site: &Site| {
        site.init().await;
        let start = state(site).await;
        site.driver.release(&site.target).await;
        clean(&site.base, site.target.project()).await;

        let hangs = Driver::new(Config::from_opts(opts(&site.base)).migrate_with(
            "1",
            |opts| async move {
                let mut conn = connect(&opts).await;
                conn.query_drop("CREATE TABLE seed (id INT)").await?;
                conn.query_drop("SELECT SLEEP(61.5)").await
            },
        ));
        let condition = format!("INFO = 'SELECT SLEEP(61.5)' AND DB LIKE '{}%'", site.base);
        let (made, ()) = tokio::join!(hangs.worker_init(&site.target), async {
            kill(session(&condition).await).await;
        });
        made.unwrap_err();
        // Once more, with whoever would have removed what is half-made: as if all of the process had ended.
        let hanging = tokio::select! {
            made = hangs.worker_init(&site.target) => panic!("{made:?}"),
            hanging = session(&condition) => hanging,
        };
        kill(hanging).await;
        another(site).await;
        assert_eq!(state(site).await, start);
    });
}

#[test]
fn of_copying_a_template() {
    at_site("killed_copy", with_schema, async |site: &Site| {
        site.init().await;
        let start = state(site).await;
        site.driver.release(&site.target).await;
        let mut admin = connect(&opts("")).await;
        let template = format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE '{}\\_jw\\_%'",
            site.base
        );
        let template = rows(&mut admin, &template).await.remove(0);
        for table in ["item", "seed", "plain"] {
            execute(
                &mut admin,
                &format!("DROP DATABASE `{}`", site.target.name()),
            )
            .await;
            execute(
                &mut admin,
                &format!("LOCK TABLES `{template}`.{table} WRITE"),
            )
            .await;
            let driver = Driver::new(with_schema(Config::from_opts(opts(&site.base))));
            let (made, ()) = tokio::join!(driver.worker_init(&site.target), async {
                // Not another process, which may be waiting to see whose the new database is.
                let waits = format!("STATE LIKE 'Waiting for table%' AND INFO LIKE '%{template}%'");
                kill(session(&waits).await).await;
            });
            execute(&mut admin, "UNLOCK TABLES").await;
            assert!(made.is_err(), "{table}");
            another(site).await;
            assert_eq!(state(site).await, start, "{table}");
        }
    });
}
