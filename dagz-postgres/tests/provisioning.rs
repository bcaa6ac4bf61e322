//! Databases are made from a template, once; what a killed run leaves half-made is made again.

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use dagz_core::{DbConfig as _, ErrorKind, Settings, Target, Worker};
use dagz_postgres::{Config, Driver, databases, remove};
use dagz_testkit::site;
use support::{Site, at_site, config, connect, rows};

fn counted(calls: &Arc<AtomicUsize>) -> impl FnOnce(Config) -> Config + use<> {
    let calls = Arc::clone(calls);
    move |config| {
        config.migrate_with("1", move |config| {
            let calls = Arc::clone(&calls);
            async move {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                connect(&config)
                    .await
                    .batch_execute("CREATE TABLE item (id serial); INSERT INTO item DEFAULT VALUES")
                    .await
            }
        })
    }
}

/// Names of databases that begin with `base`.
async fn made_for(base: &str) -> Vec<String> {
    let client = connect(&config("postgres")).await;
    let query = format!(
        "SELECT datname FROM pg_database WHERE starts_with(datname, '{base}') ORDER BY datname"
    );
    rows(&client, &query).await
}

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
fn changed_migrations_make_databases_anew_and_old_templates_go() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("1.sql");
    fs::write(&file, "CREATE TABLE v0 (id integer)").unwrap();
    at_site(
        "changed_migrations",
        |config| config.migrations(directory.path()),
        async |site: &Site| {
            for version in 0..5 {
                fs::write(&file, format!("CREATE TABLE v{version} (id integer)")).unwrap();
                site.init().await;
                site.driver.release(&site.target).await;
                let tables = "SELECT relname FROM pg_class WHERE relname ~ '^v[0-9]$'";
                let client = site.connect().await;
                assert_eq!(rows(&client, tables).await, [format!("v{version}")]);
            }
            let templates = made_for(&format!("{}_dagz_", site.base)).await;
            assert_eq!(templates.len(), 3, "{templates:?}");
        },
    );
}

#[test]
fn what_a_killed_run_left_is_made_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    at_site("half_made", counted(&calls), async |site: &Site| {
        site.init().await;
        site.driver.release(&site.target).await;
        let admin = connect(&config("postgres")).await;
        let made = made_for(&site.base).await;
        let template = made.iter().find(|name| name.contains("_dagz_")).unwrap();
        // Killed between creating and stamping: a comment there is not, but the birth mark.
        for name in [template.as_str(), site.target.name()] {
            let mark = birth_mark(site.target.project(), name);
            for statement in [
                format!("COMMENT ON DATABASE \"{name}\" IS NULL"),
                format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT {mark}"),
            ] {
                admin.batch_execute(&statement).await.unwrap();
            }
        }
        let inside = site.connect().await;
        inside.batch_execute("DROP TABLE item").await.unwrap();
        drop(inside);

        site.driver.worker_init(&site.target).await.unwrap();
        assert_eq!(
            calls.load(Ordering::SeqCst),
            2,
            "the template is made again"
        );
        site.prepare().await;
        assert_eq!(
            rows(&site.connect().await, "SELECT id FROM item").await,
            ["1"]
        );
    });
}

#[test]
fn what_is_left_of_other_templates_goes_unless_it_is_being_made() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("1.sql");
    fs::write(&file, "CREATE TABLE item (id integer)").unwrap();
    at_site(
        "left_of_others",
        |config| config.migrations(directory.path()),
        async |site: &Site| {
            let admin = connect(&config("postgres")).await;
            let named = |digits: &str| format!("{}_dagz_{digits}", site.base);
            let other = format!("my{}", named("00000003"));
            let mark = |name: &str| birth_mark(site.target.project(), name);
            let ruins = [named("00000001"), named("00000002"), other.clone()];
            for (name, limit) in [
                (&ruins[0], mark(&ruins[0])),
                (&ruins[1], mark(&ruins[1])),
                // Of another base, and of nobody.
                (&other, mark(&other)),
                (&named("00000004"), 1_000_000_007),
            ] {
                let drop_it = format!("DROP DATABASE IF EXISTS \"{name}\"");
                admin.batch_execute(&drop_it).await.unwrap();
                let create = format!("CREATE DATABASE \"{name}\" CONNECTION LIMIT {limit}");
                admin.batch_execute(&create).await.unwrap();
            }
            let lock = "SELECT pg_advisory_lock($1)";
            admin.execute(lock, &[&lock_key(&ruins[1])]).await.unwrap();

            site.init().await;
            let left = made_for(&site.base).await;
            assert!(!left.contains(&ruins[0]), "{left:?}");
            for stays in [&ruins[1], &named("00000004")] {
                assert!(left.contains(stays), "{stays} is not in {left:?}");
            }
            assert_eq!(made_for(&other).await, std::slice::from_ref(&other));
            for name in [&ruins[1], &other, &named("00000004")] {
                let drop_it = format!("DROP DATABASE \"{name}\"");
                admin.batch_execute(&drop_it).await.unwrap();
            }
        },
    );
}

/// The key of the lock on making a database, as earlier and later versions must agree.
fn lock_key(name: &str) -> i64 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("dagz database\n{name}"));
    i64::from_be_bytes(hash[..8].try_into().unwrap())
}

/// As `provision/stamp.rs` says: this pins the format, which later versions must recognise.
fn birth_mark(project: &str, name: &str) -> u32 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("dagz birth mark\n{project}\n{name}"));
    1_000_000_000 + u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % 1_000_000_000
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
