//! Nothing is reset or dropped that dagz cannot prove to be its own.

mod support;

use dagz_core::{DbConfig as _, ErrorKind};
use support::{Site, at_site, connect, execute, opts, rows};

const STAMP: &str =
    "CREATE TABLE dagz_stamp (id TINYINT PRIMARY KEY, stamp LONGTEXT, start LONGTEXT)";

/// Creates a database of the worker's name, as a user would, and sees it refused.
async fn is_refused(site: &Site, statements: &[&str], expected: &str) {
    let mut admin = connect(&opts("")).await;
    let name = site.target.name();
    execute(
        &mut admin,
        &format!("DROP DATABASE IF EXISTS `{name}`; CREATE DATABASE `{name}`; USE `{name}`"),
    )
    .await;
    let tables = "CREATE TABLE precious (id INT); INSERT INTO precious VALUES (1)";
    for statement in statements.iter().chain([&tables]) {
        execute(&mut admin, statement).await;
    }
    site.driver.identify(&support::endpoint()).await.unwrap();
    for result in [
        site.driver.worker_init(&site.target).await,
        site.driver.prepare(&site.target).await,
        site.driver.truncate(&site.target).await,
    ] {
        let error = result.expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
        let report = error.report().to_string();
        assert!(
            report.contains(expected) && report.contains(name),
            "`{expected}` is not in: {report}"
        );
    }
    assert_eq!(rows(&mut admin, "SELECT * FROM precious").await, ["1"]);
    execute(&mut admin, &format!("DROP DATABASE `{name}`")).await;
}

fn insert(project: &str, name: &str) -> String {
    format!(
        r#"INSERT INTO dagz_stamp VALUES (1, '{{"dagz":1,"project":"{project}","job":"j1","worker":0,"base":"b","name":"{name}","fingerprint":"f","role":"worker","ready":true,"made":1}}', '{{}}')"#
    )
}

fn with_schema(config: dagz_mysql::Config) -> dagz_mysql::Config {
    config.migrate_with("1", |_| async { Ok::<_, dagz_core::Error>(()) })
}

#[test]
fn databases_of_others_are_refused_and_untouched() {
    at_site("refusal", with_schema, async |site: &Site| {
        let project = site.target.project();
        let unstamped = "dagz did not create it";
        is_refused(site, &[], unstamped).await;
        is_refused(site, &[STAMP], unstamped).await;
        is_refused(site, &["CREATE TABLE dagz_stamp (text TEXT)"], unstamped).await;
        // The birth mark of dagz, on a database that is not empty.
        let marked = "ALTER DATABASE COLLATE utf8mb4_esperanto_ci";
        is_refused(site, &[marked], unstamped).await;
        let name = site.target.name();
        let elsewhere = insert("elsewhere-1", name);
        is_refused(site, &[STAMP, &elsewhere], "`elsewhere-1`").await;
        let moved = insert(project, "other_jw03");
        is_refused(site, &[STAMP, &moved], "copied or restored").await;
        let later = r#"INSERT INTO dagz_stamp VALUES (1, '{"dagz":9}', '')"#;
        is_refused(site, &[STAMP, later], "later dagz").await;
    });
}

#[test]
fn an_empty_database_of_a_user_is_refused_too() {
    at_site("refusal_empty", with_schema, async |site: &Site| {
        let mut admin = connect(&opts("")).await;
        let name = site.target.name();
        execute(&mut admin, &format!("CREATE DATABASE `{name}`")).await;
        let error = site.driver.worker_init(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
        execute(&mut admin, &format!("DROP DATABASE `{name}`")).await;
    });
}

#[test]
fn half_made_databases_are_made_anew() {
    at_site("half_made", with_schema, async |site: &Site| {
        let name = site.target.name().to_owned();
        let unready = insert(site.target.project(), &name).replace("true", "false");
        // Killed right after `CREATE DATABASE`, and somewhat later.
        for statements in [
            String::new(),
            format!("USE `{name}`; {STAMP}; {unready}; CREATE TABLE left_over (id INT)"),
        ] {
            let mut admin = connect(&opts("")).await;
            execute(
                &mut admin,
                &format!("DROP DATABASE IF EXISTS `{name}`; CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_esperanto_ci"),
            )
            .await;
            if !statements.is_empty() {
                execute(&mut admin, &statements).await;
            }
            site.init().await;
            let tables = rows(&mut site.connect().await, "SHOW TABLES").await;
            assert_eq!(tables, ["dagz_stamp", "dagz_state"]);
            site.driver.release(&site.target).await;
        }
    });
}
