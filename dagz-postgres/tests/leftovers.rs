//! What earlier tests leave running cannot reach the next one: it is named, ended, undone.

mod support;

use std::time::{Duration, Instant};

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_postgres::Config;
use support::{Site, at_site, config, connect, rows};

fn with_schema(config: Config) -> Config {
    config.migrate_with("1", |config| async move {
        connect(&config)
            .await
            .batch_execute(
                "CREATE TABLE item (id integer PRIMARY KEY); CREATE TABLE seed (id integer PRIMARY KEY);
                 INSERT INTO seed VALUES (1), (2)",
            )
            .await
    })
}

const LEFT: &str =
    "SELECT (SELECT count(*) FROM item), (SELECT string_agg(id::text, ',' ORDER BY id) FROM seed)";

/// The tag of an earlier test on the site's worker.
fn earlier(site: &Site) -> String {
    format!("{}.t000 shop::tests::leaks", site.target.worker())
}

#[test]
fn an_open_transaction_is_ended_before_it_can_commit() {
    at_site("open_transaction", with_schema, async |site: &Site| {
        site.init().await;
        let leaked = site.connect_as(&earlier(site)).await;
        leaked
            .batch_execute(
                "BEGIN; INSERT INTO item VALUES (1); UPDATE seed SET id = 3 WHERE id = 1",
            )
            .await
            .unwrap();
        let started = Instant::now();
        site.prepare().await;
        assert!(
            started.elapsed() >= Duration::from_millis(250),
            "it has its patience"
        );
        assert!(started.elapsed() < Duration::from_secs(3));
        leaked
            .batch_execute("COMMIT")
            .await
            .expect_err("the session has ended");
        assert_eq!(rows(&site.connect().await, LEFT).await, ["0 1,2"]);
    });
}

#[test]
fn a_transaction_that_commits_in_time_is_undone() {
    at_site("late_commit", with_schema, async |site: &Site| {
        site.init().await;
        // Untagged, as of an application that names its sessions itself.
        let leaked = site.connect_as("shop").await;
        leaked
            .batch_execute("BEGIN; INSERT INTO item VALUES (1); DELETE FROM seed")
            .await
            .unwrap();
        let commit = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            leaked.batch_execute("COMMIT").await
        };
        let ((), committed) = tokio::join!(site.prepare(), commit);
        committed.expect("it was waited for");
        let client = site.connect().await;
        assert_eq!(rows(&client, LEFT).await, ["0 1,2"]);
        leaked
            .check_connection()
            .await
            .expect("an idle session without a tag stays");
    });
}

#[test]
fn an_exclusive_lock_cannot_hang_the_next_test() {
    at_site("exclusive_lock", with_schema, async |site: &Site| {
        site.init().await;
        let leaked = site.connect_as(&earlier(site)).await;
        leaked
            .batch_execute("BEGIN; INSERT INTO item VALUES (1); TRUNCATE seed")
            .await
            .unwrap();
        let started = Instant::now();
        site.prepare().await;
        assert!(started.elapsed() < Duration::from_secs(3));
        assert_eq!(rows(&site.connect().await, LEFT).await, ["0 1,2"]);
    });
}

#[test]
fn a_new_process_meets_an_exclusive_lock() {
    at_site("cold_lock", with_schema, async |site: &Site| {
        site.driver.worker_init(&site.target).await.unwrap();
        let leaked = site.connect_as(&earlier(site)).await;
        leaked
            .batch_execute("BEGIN; INSERT INTO item VALUES (1); TRUNCATE seed")
            .await
            .unwrap();
        site.prepare().await;
        assert_eq!(rows(&site.connect().await, LEFT).await, ["0 1,2"]);
    });
}

#[test]
fn an_idle_session_of_an_ended_test_is_ended_at_once() {
    at_site("idle_session", with_schema, async |site: &Site| {
        site.init().await;
        let ended = site.connect_as(&earlier(site)).await;
        let own = site
            .connect_as(&format!("{} mine", site.target.tag()))
            .await;
        own.batch_execute("BEGIN; INSERT INTO item VALUES (1)")
            .await
            .unwrap();
        let other = connect(config("postgres").application_name(earlier(site))).await;
        for session in [&ended, &other] {
            session.check_connection().await.unwrap();
        }
        site.prepare().await;
        ended.check_connection().await.expect_err("it has ended");
        own.check_connection()
            .await
            .expect("the current test's sessions stay");
        other
            .check_connection()
            .await
            .expect("other databases are not touched");
    });
}

#[test]
fn an_idle_session_that_catches_up_with_others_stays() {
    let hasty = |config| with_schema(config).leak_patience(Duration::from_millis(2));
    at_site("catching_up", hasty, async |site: &Site| {
        site.init().await;
        let idle = site.connect_as("shop").await;
        // Each is compared with each change.
        let plans = "DO $$ BEGIN FOR i IN 1..3000 LOOP
            EXECUTE format('PREPARE plan_%s AS SELECT FROM item', i);
            EXECUTE format('EXECUTE plan_%s', i);
        END LOOP; END $$";
        idle.batch_execute(plans).await.unwrap();
        // Of the present test, which is not ended.
        let other = site.connect_as(site.target.tag()).await;
        let making = tokio::spawn(async move {
            let many = "DO $$ BEGIN FOR i IN 1..1500 LOOP
                EXECUTE format('CREATE TEMP TABLE made_%s (id int PRIMARY KEY, name text UNIQUE)', i);
                COMMIT;
            END LOOP; END $$";
            other.batch_execute(many).await
        });
        let mut prepares = 0;
        while !making.is_finished() {
            site.prepare().await;
            site.driver.release(&site.target).await;
            prepares += 1;
            assert!(!idle.is_closed(), "ended by prepare {prepares}");
        }
        making.await.unwrap().unwrap();
    });
}

#[test]
fn a_prepared_transaction_is_rolled_back() {
    at_site("prepared_transaction", with_schema, async |site: &Site| {
        site.init().await;
        let client = site.connect().await;
        let possible = rows(&client, "SHOW max_prepared_transactions").await;
        assert_ne!(
            possible,
            ["0"],
            "the server under test needs `max_prepared_transactions`"
        );
        client
            .batch_execute(&format!(
                "BEGIN; INSERT INTO item VALUES (1); DELETE FROM seed; PREPARE TRANSACTION '{}''s'",
                site.target.name()
            ))
            .await
            .unwrap();
        site.prepare().await;
        assert_eq!(rows(&client, LEFT).await, ["0 1,2"]);
        let left = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        assert_eq!(rows(&client, left).await, ["0"]);
    });
}

#[test]
fn looking_for_sessions_and_for_prepared_transactions_is_needed() {
    for (detection, leave, finish) in [
        ("sessions", "SELECT 1", "COMMIT"),
        ("prepared", "PREPARE TRANSACTION '_'", "COMMIT PREPARED '_'"),
    ] {
        for is_blind in [false, true] {
            at_site(
                &format!("unseen_{detection}_{is_blind}"),
                |config| match is_blind {
                    true => with_schema(config).blind_to(detection),
                    false => with_schema(config),
                },
                async |site: &Site| {
                    site.init().await;
                    let leaked = site.connect_as("app").await;
                    let write =
                        "BEGIN; INSERT INTO item VALUES (1); UPDATE seed SET id = 3 WHERE id = 1";
                    leaked.batch_execute(write).await.unwrap();
                    let named = |text: &str| text.replace('_', site.target.name());
                    leaked.batch_execute(&named(leave)).await.unwrap();
                    site.driver.release(&site.target).await;
                    site.prepare().await;
                    let finished = leaked.batch_execute(&named(finish)).await;
                    assert_eq!(finished.is_ok(), is_blind, "{detection}");
                    let left = if is_blind { "1 2,3" } else { "0 1,2" };
                    let client = site.connect().await;
                    assert_eq!(rows(&client, LEFT).await, [left], "{detection}");
                },
            );
        }
    }
}

#[test]
fn another_run_on_the_same_database_is_named() {
    at_site("in_use", with_schema, async |site: &Site| {
        site.init().await;
        // As from another machine whose node index is wrong: a driver that knows nothing of ours.
        let other = Site {
            driver: dagz_postgres::Driver::new(with_schema(Config::from_config(config(
                &site.base,
            )))),
            target: site.target.clone(),
            base: site.base.clone(),
            scope: None,
        };
        other.driver.identify(&support::endpoint()).await.unwrap();
        let error = other.driver.prepare(&other.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        let report = error.report().to_string();
        for part in [
            site.target.name(),
            "DAGZ_NODE_INDEX",
            "DAGZ_PROJECT",
            "dagz jw",
            "pid ",
        ] {
            assert!(report.contains(part), "`{part}` is not in: {report}");
        }
        // Once the first gives it back, the second gets it.
        site.driver.release(&site.target).await;
        other.prepare().await;
        other.driver.release(&other.target).await;
    });
}

#[test]
fn a_server_that_ended_the_kept_connection_is_asked_again() {
    at_site("lost_connection", with_schema, async |site: &Site| {
        site.init().await;
        let client = site.connect().await;
        client
            .batch_execute("INSERT INTO item VALUES (1)")
            .await
            .unwrap();
        let ended = rows(
            &client,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE 'dagz jw%'",
        )
        .await;
        assert_eq!(ended, ["t"]);
        site.prepare().await;
        assert_eq!(rows(&client, LEFT).await, ["0 1,2"]);
    });
}
