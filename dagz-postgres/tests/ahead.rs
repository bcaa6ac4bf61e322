//! What is found out behind a test is not acted on once anything came after it.
//!
//! Each test here brings a worker's database to where the next reset would act on what it knows, does something
//! then, and sees that the reset noticed. `tests/log.rs` has what is found out; `src/reset/ahead.rs` what is tested.

mod support;

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_postgres::{Config, Driver};
use support::{Site, at_site, config, connect, dump, rows};
use tokio_postgres::Client;

const SCHEMA: &str = "
CREATE TABLE item (id serial PRIMARY KEY, name text);
CREATE TABLE seed (id integer PRIMARY KEY, name text);
INSERT INTO seed VALUES (1, 'one'), (2, 'two');
CREATE SEQUENCE free START 7;
";

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |config| async move {
        connect(&config).await.batch_execute(SCHEMA).await
    })
}

/// Leaves a session of a former test that did nothing since, rows that it wrote, and a reset that knows of both.
async fn warm(site: &Site) -> (Client, String) {
    site.init().await;
    let client = site.connect_as("app").await;
    let start = dump(&client).await;
    // The first reset of a process looks for itself.
    site.driver.release(&site.target).await;
    site.prepare().await;
    for _ in 0..2 {
        write(&client).await;
        site.release_and_look().await;
        site.prepare().await;
    }
    write(&client).await;
    site.release_and_look().await;
    (client, start)
}

async fn write(client: &Client) {
    let insert = "INSERT INTO item (name) VALUES ('x'), ('y')";
    client.batch_execute(insert).await.unwrap();
}

/// What the session that was there does after all was found out, and the next reset has to undo.
const LATER: &[&str] = &[
    "INSERT INTO item (name) VALUES ('late')",
    "UPDATE seed SET name = 'late'",
    "TRUNCATE seed",
    "SELECT nextval('free')",
    "SELECT setval('free', 99, false)",
    "SELECT lo_from_bytea(0, '\\x00ff')",
    "BEGIN; INSERT INTO seed VALUES (3, 'rolled back'); ROLLBACK",
    "BEGIN; INSERT INTO seed VALUES (3, 'left open')",
    "BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE",
    "BEGIN; DELETE FROM seed; PREPARE TRANSACTION 'ahead_late'",
    "ALTER TABLE item DISABLE TRIGGER ALL; INSERT INTO seed VALUES (3, 'late')",
    "CREATE TABLE made AS SELECT 1 AS one",
    "DROP TABLE item",
    "ALTER EVENT TRIGGER dagz_command DISABLE",
];

#[test]
fn what_a_session_does_after_the_look_is_undone() {
    for (number, later) in LATER.iter().enumerate() {
        at_site(
            &format!("ahead_later_{number}"),
            with_schema,
            async |site: &Site| {
                let (client, start) = warm(site).await;
                client.batch_execute(later).await.unwrap();
                site.prepare().await;
                assert_eq!(dump(&site.connect().await).await, start, "{later}");
            },
        );
    }
}

#[test]
fn what_a_new_session_does_after_the_look_is_undone() {
    for (number, later) in LATER.iter().enumerate() {
        at_site(
            &format!("ahead_new_{number}"),
            with_schema,
            async |site: &Site| {
                let (_client, start) = warm(site).await;
                let late = site.connect_as("late").await;
                late.batch_execute(later).await.unwrap();
                // Gone as it came, or still there.
                if number % 2 == 0 {
                    drop(late);
                }
                site.prepare().await;
                assert_eq!(dump(&site.connect().await).await, start, "{later}");
            },
        );
    }
}

#[test]
fn a_setting_given_from_another_database_is_noticed() {
    at_site("ahead_setting", with_schema, async |site: &Site| {
        let (_client, start) = warm(site).await;
        let set = format!(
            "ALTER DATABASE \"{}\" SET work_mem = '7MB'",
            site.target.name()
        );
        let elsewhere = connect(&config("postgres")).await;
        elsewhere.batch_execute(&set).await.unwrap();
        site.prepare().await;
        let client = site.connect().await;
        assert_ne!(rows(&client, "SHOW work_mem").await, ["7MB"]);
        assert_eq!(dump(&client).await, start);
    });
}

#[test]
fn what_is_not_dagz_own_any_more_is_refused_untouched() {
    at_site("ahead_stamp", with_schema, async |site: &Site| {
        let (client, _) = warm(site).await;
        let elsewhere = connect(&config("postgres")).await;
        let name = site.target.name();
        let stamp = format!(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{name}'"
        );
        let stamp = rows(&elsewhere, &stamp).await.remove(0);
        let comment = async |text: &str| {
            let comment = format!(
                "COMMENT ON DATABASE \"{name}\" IS '{}'",
                text.replace('\'', "''")
            );
            elsewhere.batch_execute(&comment).await.unwrap();
        };
        comment("mine now").await;
        let error = site.driver.prepare(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
        let left = rows(&client, "SELECT name FROM item ORDER BY id").await;
        assert_eq!(left, ["x", "y"]);
        // For it to be cleaned away.
        comment(&stamp).await;
    });
}

#[test]
fn another_run_that_came_between_is_noticed() {
    at_site("ahead_run", with_schema, async |site: &Site| {
        let (_client, start) = warm(site).await;
        let other = Driver::new(with_schema(Config::from_config(config(&site.base))));
        other.identify(&support::endpoint()).await.unwrap();
        // It is using the database.
        other.truncate(&site.target).await.unwrap();
        let error = site.driver.prepare(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
        // It has used it, and left another start state.
        other.release(&site.target).await;
        site.prepare().await;
        assert_eq!(dump(&site.connect().await).await, start);
    });
}

#[test]
fn a_sequence_that_a_session_moves_after_the_release_is_detected() {
    // With a session that is there at the release, and one that comes and goes after it.
    for (is_blind, is_kept) in [(false, true), (false, false), (true, true), (true, false)] {
        at_site(
            &format!("stale_{is_blind}_{is_kept}"),
            |config| {
                let config = with_schema(config);
                if is_blind {
                    config.blind_to("stale")
                } else {
                    config
                }
            },
            async |site: &Site| {
                site.init().await;
                let client = site.connect_as("app").await;
                let version = rows(&client, "SHOW server_version_num").await;
                if is_blind && version[0].as_str() < "150000" {
                    // That does not count its sessions in time, so each reset compares: nothing to be blind to.
                    return;
                }
                // The first reset of a process looks for itself.
                site.driver.release(&site.target).await;
                site.prepare().await;
                site.release_and_look().await;
                let late = if is_kept {
                    None
                } else {
                    Some(site.connect_as("late").await)
                };
                let session = late.as_ref().unwrap_or(&client);
                rows(session, "SELECT nextval('free')").await;
                drop(late);
                site.prepare().await;
                let is_moved = rows(&client, "SELECT is_called FROM free").await == ["t"];
                assert_eq!(is_moved, is_blind, "kept: {is_kept}");
            },
        );
    }
}
