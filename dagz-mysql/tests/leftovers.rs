//! What earlier tests leave running cannot reach the next one: it is named, ended, undone.

mod support;

use std::time::{Duration, Instant};

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_mysql::{
    Config, Driver,
    mysql_async::{OptsBuilder, prelude::Queryable as _},
};
use support::{
    LEFT, Site, at_site, connect, details, doing, execute, is_mariadb, opts, rows, with_seed,
};

#[test]
fn what_holds_a_lock_is_ended_before_the_next_test() {
    at_site("leaked_locks", with_seed, async |site: &Site| {
        site.init().await;
        for statements in [
            "BEGIN; INSERT INTO item VALUES (1); UPDATE seed SET id = 3 WHERE id = 1",
            // It has written nothing yet, and would after the next test has begun.
            "BEGIN; SELECT * FROM item",
            "LOCK TABLES item WRITE, seed READ",
            "SET autocommit = 0; DELETE FROM seed",
        ] {
            let mut leaked = site.connect().await;
            execute(&mut leaked, statements).await;
            site.driver.release(&site.target).await;
            let started = Instant::now();
            site.prepare().await;
            let waited = started.elapsed();
            assert!(
                waited >= Duration::from_millis(250) && waited < Duration::from_secs(5),
                "{statements}: {waited:?}"
            );
            leaked
                .query_drop("COMMIT")
                .await
                .expect_err("the session has ended");
            let left = rows(&mut site.connect().await, LEFT).await;
            assert_eq!(left, ["0 1,2"], "{statements}");
        }
    });
}

#[test]
fn looking_for_sessions_is_needed() {
    let configured = |config| with_seed(config).blind_to("sessions");
    at_site("blind_sessions", configured, async |site: &Site| {
        site.init().await;
        let mut leaked = site.connect().await;
        execute(&mut leaked, "BEGIN; INSERT INTO item VALUES (1)").await;
        site.next().await;
        execute(&mut leaked, "COMMIT").await;
        assert_eq!(rows(&mut site.connect().await, LEFT).await, ["1 1,2"]);
    });
}

#[test]
fn who_left_it_is_told_as_far_as_it_is_known() {
    at_site("leaked_by", with_seed, async |site: &Site| {
        site.init().await;
        let tells_names = !is_mariadb().await;
        let mut look = connect(&opts("")).await;
        let noted = format!(
            "SELECT test, newest FROM `{}`.dagz_state",
            site.target.name()
        );
        // The test that comes at once, and the one for which it was looked before.
        for pause in [Duration::ZERO, Duration::from_millis(60)] {
            for (is_named, is_older) in [(true, false), (false, false), (false, true)] {
                let mut opts = OptsBuilder::from_opts(site.opts());
                if is_named {
                    opts = opts.connect_attribute("program_name", "a test");
                }
                let mut leaked = connect(&opts.into()).await;
                for _ in 0..u32::from(is_older) {
                    site.driver.release(&site.target).await;
                    tokio::time::sleep(pause).await;
                    site.prepare().await;
                }
                execute(&mut leaked, "BEGIN; INSERT INTO item VALUES (1)").await;
                site.driver.release(&site.target).await;
                tokio::time::sleep(pause).await;
                let noted = rows(&mut look, &noted).await;
                site.prepare().await;
                let told = details(site, "leak").pop().unwrap_or_default();
                let parts = match (is_named && tells_names, is_older) {
                    (true, _) => ["opened by `a test`,", "holds locks"],
                    (false, false) => [", left by `", "::leaked_by`, holds locks"],
                    // It has idled since an earlier test, and may have begun only then.
                    (false, true) => [
                        ", left by `",
                        "::leaked_by` or a test before it, holds locks",
                    ],
                };
                let session = format!("session {} of user", leaked.id());
                for part in [&*session, site.target.name(), parts[0], parts[1]] {
                    assert!(
                        told.contains(part),
                        "`{part}` is not in: {told}; after {noted:?}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_statement_that_does_not_end_is_ended() {
    at_site("leaked_statement", with_seed, async |site: &Site| {
        site.init().await;
        let mut look = connect(&opts("")).await;
        for statement in [
            "BEGIN; SELECT SLEEP(600) FROM seed",
            "UPDATE seed SET id = id + 5 WHERE SLEEP(600) = 0",
            "INSERT INTO item SELECT SLEEP(600) + id FROM seed",
        ] {
            let mut leaked = site.connect().await;
            let id = u64::from(leaked.id());
            let running = tokio::spawn(async move { leaked.query_drop(statement).await });
            while doing(&mut look, |session, _| session == id).await != Some("User sleep".into()) {
                assert!(!running.is_finished(), "{statement}");
            }
            let started = Instant::now();
            site.next().await;
            let waited = started.elapsed();
            assert!(
                waited >= Duration::from_millis(250) && waited < Duration::from_secs(5),
                "{statement}: {waited:?}"
            );
            running.await.unwrap().expect_err(statement);
            let left = rows(&mut site.connect().await, LEFT).await;
            assert_eq!(left, ["0 1,2"], "{statement}");
            let told = details(site, "leak").pop().unwrap_or_default();
            for part in [&*format!("session {id} of user"), "left by `", "SLEEP(600)"] {
                assert!(told.contains(part), "`{part}` is not in: {told}");
            }
        }
    });
}

/// As the README says of what is not undone.
#[test]
fn a_lock_by_name_stays_with_an_idle_session() {
    at_site("leaked_name", with_seed, async |site: &Site| {
        site.init().await;
        let mut leaked = site.connect().await;
        let name = site.target.name();
        execute(&mut leaked, &format!("DO GET_LOCK('{name}', 0)")).await;
        site.next().await;
        let holder = format!("SELECT IS_USED_LOCK('{name}')");
        let holder = rows(&mut site.connect().await, &holder).await;
        assert_eq!(holder, [leaked.id().to_string()]);
    });
}

/// More than are looked at by one statement.
const MANY: usize = 250;

#[test]
fn among_many_tables_one_that_is_locked_is_found() {
    let with_many = |config: Config| {
        config.migrate_with("many", |opts| async move {
            let tables: String = (0..MANY)
                .map(|n| format!("CREATE TABLE t{n} (id INT PRIMARY KEY);"))
                .collect();
            connect(&opts).await.query_drop(tables).await
        })
    };
    at_site("many", with_many, async |site: &Site| {
        site.init().await;
        for table in [0, MANY / 2, MANY - 1] {
            let mut leaked = site.connect().await;
            let write = format!("BEGIN; INSERT INTO t{table} VALUES (1)");
            execute(&mut leaked, &write).await;
            site.driver.release(&site.target).await;
            site.prepare().await;
            leaked
                .query_drop("COMMIT")
                .await
                .expect_err("the session has ended");
            let left = format!("SELECT COUNT(*) FROM t{table}");
            assert_eq!(rows(&mut site.connect().await, &left).await, ["0"]);
        }
    });
}

#[test]
fn a_transaction_that_commits_in_time_is_undone() {
    at_site("late_commit", with_seed, async |site: &Site| {
        site.init().await;
        let mut leaked = site.connect().await;
        execute(
            &mut leaked,
            "BEGIN; INSERT INTO item VALUES (1); DELETE FROM seed",
        )
        .await;
        site.driver.release(&site.target).await;
        let commit = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            leaked.query_drop("COMMIT").await
        };
        let ((), committed) = tokio::join!(site.prepare(), commit);
        committed.expect("it was waited for");
        assert_eq!(rows(&mut site.connect().await, LEFT).await, ["0 1,2"]);
        leaked
            .ping()
            .await
            .expect("a session that holds nothing stays");
    });
}

/// A server shows it as one in the database of each routine that it runs, for as long as that takes, and MariaDB in each
/// that it reads triggers of.
#[test]
fn who_comes_by_from_elsewhere_stays() {
    let with_routine = |config: Config| {
        config.migrate_with("routine", |opts| async move {
            let routine = "CREATE PROCEDURE passing() DO SLEEP(0.003)";
            connect(&opts).await.query_drop(routine).await
        })
    };
    at_site("comes_by", with_routine, async |site: &Site| {
        site.init().await;
        let mut visitor = connect(&opts("")).await;
        let visit = format!("CALL `{}`.passing()", site.target.name());
        let visiting = tokio::spawn(async move {
            for _ in 0..200 {
                // It is not there all the time.
                drop(visitor.query_drop(&visit).await);
                execute(&mut visitor, "DO SLEEP(0.003 + 0.004 * RAND())").await;
            }
        });
        while !visiting.is_finished() {
            // It is made anew.
            execute(&mut site.connect().await, "CREATE TABLE new (id INT)").await;
            site.next().await;
        }
        visiting.await.expect("nobody ended it");
    });
}

#[test]
fn a_new_process_meets_a_lock() {
    at_site("cold_lock", with_seed, async |site: &Site| {
        site.driver.worker_init(&site.target).await.unwrap();
        let mut leaked = site.connect().await;
        execute(&mut leaked, "LOCK TABLES seed WRITE").await;
        site.prepare().await;
        assert_eq!(rows(&mut site.connect().await, LEFT).await, ["0 1,2"]);
    });
}

#[test]
fn another_run_on_the_same_database_is_named() {
    at_site("in_use", with_seed, async |site: &Site| {
        site.init().await;
        // As from another machine whose node index is wrong: a driver that knows nothing of ours.
        let other = Site {
            driver: Driver::new(with_seed(Config::from_opts(opts(&site.base)))),
            target: site.target.clone(),
            base: site.base.clone(),
            scope: None,
        };
        let error = other.driver.prepare(&other.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        let report = error.report().to_string();
        for part in [
            site.target.name(),
            "DAGZ_NODE_INDEX",
            "DAGZ_PROJECT",
            "session ",
        ] {
            assert!(report.contains(part), "`{part}` is not in: {report}");
        }
        let all = dagz_mysql::databases(&Config::from_opts(opts("")), site.target.project())
            .await
            .unwrap();
        let used = all.iter().find(|found| found.name() == site.target.name());
        let error = dagz_mysql::remove(used.unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
        // Once the first gives it back, the second gets it.
        site.driver.release(&site.target).await;
        other.prepare().await;
        other.driver.release(&other.target).await;
    });
}

#[test]
fn a_server_that_ended_the_kept_connection_is_asked_again() {
    at_site("lost_connection", with_seed, async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        execute(&mut conn, "INSERT INTO item VALUES (1)").await;
        let kept = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()",
            site.target.name()
        );
        let kept = rows(&mut conn, &kept).await;
        assert_eq!(kept.len(), 1, "{kept:?}");
        execute(&mut conn, &format!("KILL {}", kept[0])).await;
        site.prepare().await;
        assert_eq!(rows(&mut conn, LEFT).await, ["0 1,2"]);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_test_spares_its_own_sessions() {
    at_site("own_sessions", with_seed, async |site: &Site| {
        site.init().await;
        let mut own = site.connect().await;
        execute(&mut own, "BEGIN; INSERT INTO item VALUES (1)").await;
        let error = site.driver.truncate(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
        assert!(error.to_string().contains("commit it first"), "{error}");
        execute(&mut own, "COMMIT").await;
        site.driver.truncate(&site.target).await.unwrap();
        assert_eq!(rows(&mut own, LEFT).await, ["0 NULL"]);
    });
}
