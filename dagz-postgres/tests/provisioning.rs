//! Databases are made from a template, once; what a killed run leaves half-made is made again.

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use dagz_core::{DbConfig as _, ErrorKind, Settings, Target, Worker};
use dagz_postgres::{Config, Driver, databases, remove};
use dagz_testkit::site;
use support::{Site, at_site, config, connect, counted, made_for, rows};

/// What `site` makes for its worker, and what it would for others, up to four in all: who is of one worker waits for
/// whoever makes that one's database, and meets nobody who makes the template.
fn targets_of_all(site: &Site) -> Vec<Target> {
    let (own, base) = (site.target.worker(), site.base.as_str());
    let workers = Settings::current().unwrap().workers().min(4);
    let others = (0..workers).map(Worker::new).filter(|other| *other != own);
    let others = others.map(|other| {
        let target = move || {
            let _guard = site::enter_on(other, "provisioning::template_once");
            support::target(base)
        };
        // A thread has one scope.
        thread::scope(|scope| scope.spawn(target).join().unwrap())
    });
    others.chain([site.target.clone()]).collect()
}

#[test]
fn a_template_is_made_once_however_many_ask_at_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    at_site("template_once", counted(&calls), async |site: &Site| {
        let mut targets = targets_of_all(site);
        let workers = targets.len();
        // Two of one worker's, which take turns at its database.
        targets.push(site.target.clone());
        // Drivers that share nothing, as in processes of their own.
        let others: Vec<_> = targets
            .into_iter()
            .map(|target| {
                let config = counted(&calls)(Config::from_config(config(&site.base)));
                let driver = Driver::new(config);
                tokio::spawn(async move { driver.worker_init(&target).await })
            })
            .collect();
        site.driver.worker_init(&site.target).await.unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let made = made_for(&site.base).await;
        assert_eq!(
            made.len(),
            1 + workers,
            "a template and each worker's database: {made:?}"
        );
        let client = site.connect().await;
        assert_eq!(rows(&client, "SELECT id FROM item").await, ["1"]);
        // And it cannot be connected to, nor is it made again for the next job.
        site.driver.worker_init(&site.target).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let template = made.iter().find(|name| name.contains("_dagz_")).unwrap();
        assert!(
            config(template)
                .connect(tokio_postgres::NoTls)
                .await
                .is_err()
        );
    });
}

#[test]
fn a_failing_migration_is_named_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("1_good.sql"),
        "CREATE TABLE good (id integer);",
    )
    .unwrap();
    let bad = directory.path().join("2_bad.sql");
    fs::write(
        &bad,
        "CREATE TABLE fine (id integer);\nCREATE TABLE bad (\n  id intteger\n);",
    )
    .unwrap();
    at_site(
        "failing_migration",
        |config| config.migrations(directory.path()),
        async |site: &Site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerInit);
            let report = error.report().to_string();
            for part in ["2_bad.sql", "line 3, column 6", "intteger", &site.base] {
                assert!(report.contains(part), "`{part}` is not in: {report}");
            }
            assert_eq!(made_for(&site.base).await, Vec::<String>::new());

            fs::write(&bad, "CREATE TABLE bad (id integer);").unwrap();
            site.init().await;
            let tables = "SELECT count(*) FROM good UNION ALL SELECT count(*) FROM bad";
            assert_eq!(rows(&site.connect().await, tables).await, ["0", "0"]);
        },
    );
}

#[test]
fn without_migrations_the_base_is_copied_or_missed() {
    at_site(
        "copied_base",
        |config| config,
        async |site: &Site| {
            let admin = connect(&config("postgres")).await;
            let drop_base = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", site.base);
            // An earlier run of this test may have failed.
            admin.batch_execute(&drop_base).await.unwrap();
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            let report = error.report().to_string();
            assert!(
                report.contains(".migrations(..)") && report.contains(&site.base),
                "{report}"
            );

            let admin = connect(&config("postgres")).await;
            let create = format!("CREATE DATABASE \"{}\"", site.base);
            admin.batch_execute(&create).await.unwrap();
            let base = connect(&config(&site.base)).await;
            base.batch_execute("CREATE TABLE item (id integer); INSERT INTO item VALUES (7)")
                .await
                .unwrap();
            drop(base);
            site.init().await;
            assert_eq!(
                rows(&site.connect().await, "SELECT id FROM item").await,
                ["7"]
            );
            let base = connect(&config(&site.base)).await;
            assert_eq!(
                rows(&base, "SELECT id FROM item").await,
                ["7"],
                "the base is untouched"
            );
            drop(base);
            let drop = format!("DROP DATABASE \"{}\" WITH (FORCE)", site.base);
            admin.batch_execute(&drop).await.unwrap();
        },
    );
}

#[test]
fn databases_in_use_are_not_removed() {
    let calls = Arc::new(AtomicUsize::new(0));
    at_site("removal", counted(&calls), async |site: &Site| {
        site.init().await;
        let all = || async {
            let config = Config::from_config(config(&site.base));
            let mut all = databases(&config, site.target.project()).await.unwrap();
            all.retain(|database| database.base() == Some(&site.base));
            all
        };
        let found = all().await;
        assert_eq!(found.len(), 2);
        let worker = found.iter().find(|found| !found.is_template()).unwrap();
        assert_eq!(worker.name(), site.target.name());
        assert_eq!(worker.worker(), Some(site.target.worker()));
        assert_eq!(worker.job(), Some(site.target.job()));
        assert!(worker.made().is_some());
        let error = remove(worker).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());

        site.driver.release(&site.target).await;
        for database in &found {
            remove(database)
                .await
                .unwrap_or_else(|error| panic!("{}", error.report()));
        }
        assert_eq!(all().await.len(), 0);
    });
}

#[test]
fn a_user_s_own_database_is_adopted_and_made_again_after_drift() {
    let slot: Arc<std::sync::OnceLock<Driver>> = Arc::default();
    let inner = Arc::clone(&slot);
    at_site(
        "adopted",
        move |config| {
            config.worker_init(move |target, at| {
                let driver = inner.get().expect("the driver is there by now").clone();
                async move {
                    let admin = connect(&support::config("postgres")).await;
                    for statement in [
                        // An earlier run of this test may have failed before adopting it.
                        format!("DROP DATABASE IF EXISTS \"{}\"", target.name()),
                        format!("CREATE DATABASE \"{}\"", target.name()),
                    ] {
                        admin.batch_execute(&statement).await?;
                    }
                    connect(&at)
                        .await
                        .batch_execute(
                            "CREATE TABLE item (id serial); INSERT INTO item DEFAULT VALUES",
                        )
                        .await?;
                    driver.adopt(&target).await?;
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
                }
            })
        },
        async |site: &Site| {
            slot.set(site.driver.clone()).unwrap();
            for statement in [
                "INSERT INTO item DEFAULT VALUES",
                "ALTER TABLE item ADD x integer",
            ] {
                site.init().await;
                let client = site.connect().await;
                client.batch_execute(statement).await.unwrap();
                drop(client);
                site.driver.release(&site.target).await;
                site.prepare().await;
                let rows = rows(&site.connect().await, "SELECT * FROM item").await;
                assert_eq!(rows, ["1"], "after {statement}");
                site.driver.release(&site.target).await;
            }
        },
    );
}

#[test]
fn a_worker_init_that_forgets_to_adopt_is_told() {
    at_site(
        "not_adopted",
        |config| {
            config.worker_init(|target, _| async move {
                let admin = connect(&support::config("postgres")).await;
                for statement in [
                    format!("DROP DATABASE IF EXISTS \"{}\"", target.name()),
                    format!("CREATE DATABASE \"{}\"", target.name()),
                ] {
                    admin.batch_execute(&statement).await?;
                }
                Ok::<_, tokio_postgres::Error>(())
            })
        },
        async |site: &Site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(
                error.report().to_string().contains("adopt"),
                "{}",
                error.report()
            );
            connect(&config("postgres"))
                .await
                .batch_execute(&format!("DROP DATABASE \"{}\"", site.target.name()))
                .await
                .unwrap();
        },
    );
}
