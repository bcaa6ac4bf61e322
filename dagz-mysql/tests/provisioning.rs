//! How databases come about: from files, by functions, once per fingerprint; and what says why not.

mod support;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use dagz_core::{DbConfig as _, ErrorKind, Settings, Target, Worker};
use dagz_mysql::{
    Config, Driver, Stamped, databases,
    mysql_async::{OptsBuilder, prelude::Queryable as _},
};
use dagz_testkit::site;
use support::{Site, at_site, base, connect, execute, opts, rows};

#[test]
fn files_make_the_schema_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("2_rows.sql"),
        "INSERT INTO item VALUES (1, 'ä;--');\n-- the end\n",
    )
    .unwrap();
    fs::write(
        directory.path().join("1_tables.sql"),
        "CREATE TABLE item (id INT PRIMARY KEY, name VARCHAR(9)) CHARACTER SET utf8mb4;\nCREATE TRIGGER t BEFORE INSERT ON item FOR EACH ROW BEGIN SET NEW.id = NEW.id + 1; SET @x = 1; END;\n",
    )
    .unwrap();
    let path = directory.path().to_owned();
    at_site(
        "files",
        |config| config.migrations(path),
        async |site: &Site| {
            site.init().await;
            let mut conn = site.connect().await;
            assert_eq!(rows(&mut conn, "SELECT * FROM item").await, ["2 ä;--"]);
            // The same files: the same database. Another file: another one.
            site.mark().await;
            site.driver.release(&site.target).await;
            site.driver.worker_init(&site.target).await.unwrap();
            assert!(!site.is_anew().await);
            fs::write(directory.path().join("3.sql"), "CREATE TABLE more (id INT)").unwrap();
            site.driver.worker_init(&site.target).await.unwrap();
            assert!(site.is_anew().await);
            assert_eq!(
                rows(&mut site.connect().await, "SELECT * FROM more")
                    .await
                    .len(),
                0
            );
        },
    );
}

#[test]
fn a_file_that_fails_is_named_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("1.sql"),
        "CREATE TABLE item (id INT); DELIMITER //\n",
    )
    .unwrap();
    let path = directory.path().to_owned();
    at_site(
        "bad_file",
        |config| config.migrations(path),
        async |site: &Site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerInit);
            assert!(error.to_string().contains("1.sql"), "{error}");
            let left = databases(&Config::from_opts(opts("")), site.target.project())
                .await
                .unwrap();
            assert!(
                !left.iter().any(|found| found.base() == Some(&site.base)),
                "{left:?}"
            );
        },
    );
}

/// What there is for the site's base: templates, and workers' databases.
async fn made_for(site: &Site) -> (Vec<Stamped>, Vec<Stamped>) {
    let made = databases(&Config::from_opts(opts("")), site.target.project()).await;
    let made = made.unwrap_or_else(|error| panic!("{}", error.report()));
    let ours = made
        .into_iter()
        .filter(|found| found.base() == Some(&site.base));
    ours.partition(Stamped::is_template)
}

#[test]
fn three_templates_stay() {
    at_site(
        "prune",
        |config| config,
        async |site: &Site| {
            let tagged = |tag: &str| {
                Driver::new(
                    Config::from_opts(opts(&site.base))
                        .migrate_with(tag, |_| async { Ok::<_, dagz_core::Error>(()) }),
                )
            };
            for tag in ["1", "2", "3", "4", "5"] {
                tagged(tag).worker_init(&site.target).await.unwrap();
            }
            let (templates, workers) = made_for(site).await;
            assert_eq!(
                (templates.len(), workers.len()),
                (3, 1),
                "{templates:?} {workers:?}"
            );
            let worker = &workers[0];
            assert_eq!(worker.name(), site.target.name());
            assert_eq!(worker.worker(), Some(site.target.worker()));
            assert!(worker.made().is_some() && worker.job().is_some());
        },
    );
}

/// What `base` is called for each worker, up to four: who is of one worker waits for whoever makes that one's database, and
/// meets nobody who makes the template.
fn targets_of_all(base: &str) -> Vec<Target> {
    let workers = Settings::current().unwrap().workers().min(4);
    let targets = (0..workers).map(|number| {
        let _guard = site::enter_on(Worker::new(number), "provisioning::together");
        support::target(base)
    });
    targets.collect()
}

#[test]
fn many_make_one_template() {
    // Before this test has a worker: nobody holds one while waiting for another.
    let targets = targets_of_all(&base("together"));
    let ran = Arc::new(AtomicU32::new(0));
    // Drivers that share nothing, as in processes of their own.
    let driver = || {
        let ran = Arc::clone(&ran);
        let config = Config::from_opts(opts(&base("together")));
        Driver::new(config.migrate_with("1", move |opts| {
            ran.fetch_add(1, Ordering::Relaxed);
            async move {
                let mut conn = connect(&opts).await;
                conn.query_drop("CREATE TABLE item (id INT); DO SLEEP(0.2)")
                    .await
            }
        }))
    };
    at_site(
        "together",
        |config| config,
        async |site: &Site| {
            // Two of one worker's, which take turns at its database.
            let all = targets.iter().chain([&targets[0]]).cloned();
            let all: Vec<_> = all
                .map(|target| {
                    let driver = driver();
                    tokio::spawn(async move { driver.worker_init(&target).await })
                })
                .collect();
            for made in all {
                let made = made.await.unwrap();
                made.unwrap_or_else(|error| panic!("{}", error.report()));
            }
            assert_eq!(ran.load(Ordering::Relaxed), 1, "it was migrated once");
            let (templates, workers) = made_for(site).await;
            assert_eq!((templates.len(), workers.len()), (1, targets.len()));
            let one = driver();
            one.prepare(&site.target).await.unwrap();
            one.release(&site.target).await;
        },
    );
}

/// Others may have a database of a template's name, and it locked, for as long as they like.
#[test]
fn a_template_is_made_beside_one_that_is_locked() {
    let another = format!("{}_jw_00000000", base("locked_one"));
    let make = format!(
        "DROP DATABASE IF EXISTS `{another}`; CREATE DATABASE `{another}`; USE `{another}`;
         CREATE TABLE dagz_stamp (id INT, stamp TEXT); LOCK TABLES dagz_stamp WRITE"
    );
    at_site(
        "beside_locked",
        |config| config.migrate_with("1", |_| async { Ok::<_, dagz_core::Error>(()) }),
        async |site: &Site| {
            let mut other = connect(&opts("")).await;
            execute(&mut other, &make).await;
            let outcome = site.driver.worker_init(&site.target).await;
            execute(
                &mut other,
                &format!("UNLOCK TABLES; DROP DATABASE `{another}`"),
            )
            .await;
            outcome.unwrap_or_else(|error| panic!("{}", error.report()));
        },
    );
}

#[test]
fn the_base_s_character_set_is_the_worker_s() {
    at_site(
        "charset",
        |config| {
            config.migrate_with("1", |opts| async move {
                connect(&opts)
                    .await
                    .query_drop("CREATE TABLE item (name VARCHAR(9))")
                    .await
            })
        },
        async |site: &Site| {
            let mut admin = connect(&opts("")).await;
            let base = &site.base;
            execute(&mut admin, &format!("DROP DATABASE IF EXISTS `{base}`; CREATE DATABASE `{base}` CHARACTER SET utf8mb4 COLLATE utf8mb4_danish_ci")).await;
            site.init().await;
            let collation = "SELECT @@collation_database, TABLE_COLLATION FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'item'";
            let found = rows(&mut site.connect().await, collation).await;
            assert_eq!(found, ["utf8mb4_danish_ci utf8mb4_danish_ci"]);
            execute(&mut admin, &format!("DROP DATABASE `{base}`")).await;
        },
    );
}

#[test]
fn what_is_no_such_server_is_told_apart() {
    // Something else listens there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"));
        }
    });
    let elsewhere = OptsBuilder::from_opts(opts("other_server")).tcp_port(port);
    support::run(async {
        let config = Config::from_opts(elsewhere);
        let error = databases(&config, "any").await.unwrap_err();
        let report = error.report().to_string();
        for part in [&*format!("127.0.0.1:{port}"), "is the port right?"] {
            assert!(report.contains(part), "`{part}` is not in: {report}");
        }
        assert!(!report.contains(opts("").pass().unwrap()), "{report}");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{report}");
    });
}
