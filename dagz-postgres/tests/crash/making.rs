//! A crash while a template or a worker's database is made: nothing half-made stays that is later taken for good.
//!
//! Each position is held by a lock, or by the migration itself, until the session there is killed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use dagz_core::{DbConfig as _, Error};
use dagz_postgres::{Config, Driver};
use tokio_postgres::Client;

use crate::{
    SCHEMA, another,
    faults::{at_site, crash, crash_for, pid, recovered, see_that_it_went, session, turn},
    support::{Site, base, clean, config, connect, dump, rows, run},
    with_schema,
};

/// Someone who commented on a database, or is looking at all such comments, and has not committed.
async fn holding(statement: &str) -> Client {
    let client = connect(&config("postgres")).await;
    let statement = format!("BEGIN; {statement}");
    client.batch_execute(&statement).await.unwrap();
    client
}

/// Stamps are comments on databases.
const NO_STAMP: &str = "LOCK TABLE pg_shdescription IN SHARE MODE";

/// What dagz's sessions that make databases are called, and that one waits.
const MAKING: &str = "application_name LIKE 'dagz % init' AND wait_event_type = 'Lock'";

/// The whole start state, as a database has it that nobody crashed; all is gone again.
async fn whole(site: &Site) -> String {
    site.init().await;
    let start = dump(&site.connect().await).await;
    site.driver.release(&site.target).await;
    clean(&site.base, site.target.project()).await;
    start
}

/// Makes the databases by a driver of its own until the session that is as `condition` is killed in it; the error.
async fn crashed(site: &Site, driver: &Driver, condition: &str) -> Error {
    let (made, ()) = tokio::join!(driver.worker_init(&site.target), async {
        crash_for(session(condition).await, 1).await;
    });
    let error = made.unwrap_err();
    recovered().await;
    error
}

fn driver(site: &Site, configured: impl FnOnce(Config) -> Config) -> Driver {
    Driver::new(configured(Config::from_config(config(&site.base))))
}

/// What dagz has made for the site, of which a half-made one is marked.
async fn made_for(site: &Site) -> Vec<String> {
    let client = connect(&config("postgres")).await;
    let query = format!(
        "SELECT CASE WHEN datname LIKE '%\\_dagz\\_%' THEN 'template' ELSE 'worker' END, \
                shobj_description(oid, 'pg_database') IS NOT NULL \
         FROM pg_database WHERE starts_with(datname, '{}') ORDER BY 1",
        site.base
    );
    rows(&client, &query).await
}

#[test]
fn of_a_migration() {
    at_site("crash_migrate", with_schema, async |site: &Site| {
        let start = whole(site).await;
        let hangs = |config: Config| {
            config.migrate_with("1", |config| async move {
                let client = connect(&config).await;
                client
                    .batch_execute("CREATE TABLE half (id integer)")
                    .await?;
                client.batch_execute("SELECT pg_sleep(61)").await
            })
        };
        let error = crashed(site, &driver(site, hangs), "query = 'SELECT pg_sleep(61)'").await;
        assert_eq!(made_for(site).await, ["template f"], "{}", error.report());
        another(site, with_schema).await.release(&site.target).await;
        assert_eq!(dump(&site.connect().await).await, start);
        assert_eq!(made_for(site).await, ["template t", "worker t"]);
    });
}

#[test]
fn of_recording_the_start_state() {
    at_site("crash_record", with_schema, async |site: &Site| {
        let start = whole(site).await;
        let is_left = Arc::new(AtomicBool::new(false));
        let leaves = |config: Config| {
            let is_left = Arc::clone(&is_left);
            config.migrate_with("1", move |config| {
                let is_left = Arc::clone(&is_left);
                async move {
                    let client = connect(&config).await;
                    client.batch_execute(SCHEMA).await?;
                    client.batch_execute("BEGIN; LOCK TABLE seed").await?;
                    is_left.store(true, Ordering::SeqCst);
                    tokio::spawn(async move { client.query("SELECT pg_sleep(61)", &[]).await });
                    Ok::<_, tokio_postgres::Error>(())
                }
            })
        };
        let waits = "application_name = 'dagz template' AND wait_event_type = 'Lock'";
        let error = crashed(site, &driver(site, leaves), waits).await;
        assert!(is_left.load(Ordering::SeqCst));
        assert_eq!(made_for(site).await, ["template f"], "{}", error.report());
        another(site, with_schema).await.release(&site.target).await;
        assert_eq!(dump(&site.connect().await).await, start);
    });
}

#[test]
fn of_stamping() {
    at_site("crash_stamp", with_schema, async |site: &Site| {
        let start = whole(site).await;
        // First the template, and then the worker's database.
        for left in [&["template f"] as &[&str], &["template t", "worker f"]] {
            let held = holding(NO_STAMP).await;
            let error = crashed(site, &driver(site, with_schema), MAKING).await;
            drop(held);
            assert_eq!(made_for(site).await, left, "{}", error.report());
            another(site, with_schema).await.release(&site.target).await;
            assert_eq!(dump(&site.connect().await).await, start);
            let name = site.target.name();
            let gone = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
            connect(&config("postgres"))
                .await
                .batch_execute(&gone)
                .await
                .unwrap();
        }
    });
}

#[test]
fn of_making_a_database_anew() {
    at_site("crash_anew", with_schema, async |site: &Site| {
        site.init().await;
        let client = site.connect().await;
        let start = dump(&client).await;
        let admin = connect(&config("postgres")).await;
        let template = format!(
            "SELECT datname FROM pg_database WHERE starts_with(datname, '{}_dagz_')",
            site.base
        );
        let template = rows(&admin, &template).await.remove(0);
        // The old one is gone by then, and the new one is not there; or the old one is about to go.
        let comment = format!("COMMENT ON DATABASE \"{template}\" IS 'never'");
        for (statement, left) in [
            (comment.as_str(), &["template t"] as &[&str]),
            (NO_STAMP, &["template t", "worker t"]),
        ] {
            let client = site.connect().await;
            client.batch_execute("DROP TABLE item").await.unwrap();
            drop(client);
            site.driver.release(&site.target).await;
            let held = holding(statement).await;
            let (prepared, ()) = tokio::join!(site.driver.prepare(&site.target), async {
                crash_for(session(MAKING).await, 1).await;
            });
            drop(held);
            let error = prepared.unwrap_err();
            see_that_it_went(&error);
            recovered().await;
            assert_eq!(made_for(site).await, left);
            site.prepare().await;
            assert_eq!(dump(&site.connect().await).await, start);
        }
    });
}

/// The template has unlogged tables, too.
#[test]
fn after_which_a_template_has_lost_its_unlogged_rows() {
    at_site("crash_template", with_schema, async |site: &Site| {
        site.init().await;
        let start = dump(&site.connect().await).await;
        let client = site.connect().await;
        crash(pid(&client).await).await;
        let name = site.target.name();
        let gone = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
        connect(&config("postgres"))
            .await
            .batch_execute(&gone)
            .await
            .unwrap();
        another(site, with_schema).await.release(&site.target).await;
        assert_eq!(dump(&site.connect().await).await, start);
    });
}

/// A role that may not restore seed rows has its database made anew, from a template that lost them, too.
#[test]
fn after_which_a_template_is_of_no_use_to_a_role_without_rights() {
    let _turn = turn();
    let role = "dagz_test_crash";
    let base = base("crash_role");
    run(async {
        let admin = connect(&config("postgres")).await;
        let exists = format!("SELECT FROM pg_roles WHERE rolname = '{role}'");
        if rows(&admin, &exists).await.is_empty() {
            let create = format!("CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'restricted'");
            admin.batch_execute(&create).await.unwrap();
        }
    });
    let mut restricted = config(&base);
    restricted.user(role).password("restricted");
    crate::support::at_site(
        "crash_role",
        |_| with_schema(Config::from_config(restricted)),
        async |site: &Site| {
            site.init().await;
            let start = dump(&site.connect().await).await;
            crash(pid(&site.connect().await).await).await;
            site.driver.release(&site.target).await;
            site.prepare().await;
            assert_eq!(dump(&site.connect().await).await, start);
        },
    );
}
