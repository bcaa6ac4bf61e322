//! A transaction that was prepared outlives its session: it is told how it ends, and nothing is lost over it.

mod support;

use std::time::{Duration, Instant};

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_mysql::{Config, Driver, mysql_async::prelude::Queryable as _};
use support::{
    LEFT, Site, at_site, connect, execute, opts,
    prepared::{end_prepared, roll_all_back},
    rows, with_seed,
};

#[test]
fn a_prepared_transaction_is_told_and_how_it_ends() {
    support::run(roll_all_back(&support::base("prepared")));
    at_site("prepared", with_seed, async |site: &Site| {
        site.init().await;
        let mut admin = connect(&opts("")).await;
        for is_gone in [true, false] {
            let name = format!("{} {is_gone}", site.target.name());
            let mut leaked = Some(site.connect().await);
            if let Some(conn) = &mut leaked {
                for statement in [
                    "XA START {}",
                    "INSERT INTO item VALUES (1)",
                    "XA END {}",
                    "XA PREPARE {}",
                ] {
                    execute(conn, &statement.replace("{}", &format!("'{name}'"))).await;
                }
            }
            if let Some(conn) = leaked.take_if(|_| is_gone) {
                conn.disconnect().await.unwrap();
            }
            site.driver.release(&site.target).await;
            let started = Instant::now();
            let outcome = site.driver.prepare(&site.target).await;
            let waited = started.elapsed();
            // Before anything else fails, for nobody would end it.
            let stays = match &mut leaked {
                Some(conn) => conn.ping().await.is_ok(),
                None => false,
            };
            drop(leaked);
            let was_there = end_prepared(&mut admin, "ROLLBACK", &name).await;
            let error = outcome.expect_err("locks are held");
            assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
            let report = error.report().to_string();
            for part in [site.target.name(), "`XA RECOVER`", "`XA ROLLBACK`"] {
                assert!(report.contains(part), "`{part}` is not in: {report}");
            }
            assert!(was_there && !stays, "only its session was ours to end");
            assert!(waited < Duration::from_secs(10), "{waited:?}");
            site.prepare().await;
            assert_eq!(rows(&mut site.connect().await, LEFT).await, ["0 1,2"]);
        }
    });
}

/// MariaDB drops what comes before the table that is locked, and a database without its stamp would be refused for ever.
#[test]
fn a_database_that_cannot_be_dropped_to_its_end_is_still_ours() {
    support::run(roll_all_back(&support::base("half_dropped")));
    at_site("half_dropped", with_seed, async |site: &Site| {
        site.init().await;
        site.driver.release(&site.target).await;
        let name = site.target.name();
        let mut leaked = site.connect().await;
        for statement in [
            "XA START {}",
            "INSERT INTO seed VALUES (3)",
            "XA END {}",
            "XA PREPARE {}",
        ] {
            execute(&mut leaked, &statement.replace("{}", &format!("'{name}'"))).await;
        }
        leaked.disconnect().await.unwrap();
        // Of other migrations, so that what there is has to go.
        let config = with_seed(Config::from_opts(opts(&site.base)));
        let other = Driver::new(config.migrate_with("2", |opts| async move {
            connect(&opts)
                .await
                .query_drop("CREATE TABLE other (id INT)")
                .await
        }));
        let blocked = other.worker_init(&site.target).await;
        let again = other.worker_init(&site.target).await;
        let mut admin = connect(&opts("")).await;
        let stamp = format!("SELECT COUNT(*) FROM `{name}`.dagz_stamp");
        let stamps = admin.query_first::<u64, _>(stamp).await;
        // Before anything else fails, for nobody would end it.
        let was_there = end_prepared(&mut admin, "ROLLBACK", name).await;
        assert!(was_there, "it was not ours to end");
        for outcome in [blocked, again] {
            let error = outcome.expect_err("rows are locked");
            assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
            assert!(error.to_string().contains("`XA ROLLBACK`"), "{error}");
        }
        assert_eq!(stamps.unwrap(), Some(1));
        for outcome in [
            other.worker_init(&site.target).await,
            other.prepare(&site.target).await,
        ] {
            outcome.unwrap_or_else(|error| panic!("{}", error.report()));
        }
        let left = rows(&mut site.connect().await, "SHOW TABLES LIKE 'other'").await;
        assert_eq!(left, ["other"]);
        other.release(&site.target).await;
    });
}
