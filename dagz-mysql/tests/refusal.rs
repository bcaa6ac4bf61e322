//! Nothing is reset or dropped that dagz cannot prove to be its own.

mod support;

use std::collections::HashSet;

use dagz_core::{DbConfig as _, ErrorKind};
use support::{Site, at_site, connect, execute, opts, rows, run};

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
        let name = site.target.name();
        let (charset, collation) = birth_mark(project, name);
        let marked = format!("ALTER DATABASE CHARACTER SET {charset} COLLATE {collation}");
        is_refused(site, &[&marked], unstamped).await;
        let elsewhere = insert("elsewhere-1", name);
        is_refused(site, &[STAMP, &elsewhere], "`elsewhere-1`").await;
        let moved = insert(project, "other_jw03");
        is_refused(site, &[STAMP, &moved], "renamed, copied or restored").await;
        let later = r#"INSERT INTO dagz_stamp VALUES (1, '{"dagz":9}', '')"#;
        is_refused(site, &[STAMP, later], "later dagz").await;
    });
}

/// As `provision/stamp.rs` says: this pins the format, which later versions must recognise.
fn birth_mark(project: &str, name: &str) -> (&'static str, String) {
    const LANGUAGES: [&str; 23] = [
        "croatian",
        "czech",
        "danish",
        "esperanto",
        "estonian",
        "german2",
        "hungarian",
        "icelandic",
        "latvian",
        "lithuanian",
        "persian",
        "polish",
        "roman",
        "romanian",
        "sinhala",
        "slovak",
        "slovenian",
        "spanish",
        "spanish2",
        "swedish",
        "turkish",
        "unicode_520",
        "vietnamese",
    ];
    let number = dagz_core::driver::birth_number(project, name) as usize;
    let charset = ["utf16", "utf32"][number % 2];
    (
        charset,
        format!("{charset}_{}_ci", LANGUAGES[number / 2 % 23]),
    )
}

/// Whether what is there is listed as the project's.
async fn is_listed(site: &Site) -> bool {
    let config = dagz_mysql::Config::from_opts(opts(""));
    let listed = dagz_mysql::databases(&config, site.target.project()).await;
    let listed = listed.unwrap_or_else(|error| panic!("{}", error.report()));
    listed
        .iter()
        .any(|database| database.name() == site.target.name())
}

#[test]
fn every_birth_mark_is_one_that_the_server_knows() {
    run(async {
        let mut conn = connect(&opts("")).await;
        let marks: HashSet<_> = (0..2_000)
            .map(|number| birth_mark("any", &number.to_string()).1)
            .collect();
        assert_eq!(marks.len(), 46);
        let known = "SELECT COLLATION_NAME FROM information_schema.COLLATIONS";
        let known = HashSet::from_iter(rows(&mut conn, known).await);
        assert_eq!(marks.difference(&known).collect::<Vec<_>>(), [""; 0]);
    });
}

#[test]
fn an_empty_database_of_a_user_is_refused_too() {
    at_site("refusal_empty", with_schema, async |site: &Site| {
        let mut admin = connect(&opts("")).await;
        let (project, name) = (site.target.project(), site.target.name());
        let elsewhere = (1..)
            .map(|number| birth_mark(&format!("elsewhere-{number}"), name))
            .find(|mark| *mark != birth_mark(project, name));
        let (charset, elsewhere) = elsewhere.expect("there are others");
        for defaults in [
            String::new(),
            // The birth mark of another project, and that of a dagz which wrote no project into it.
            format!("CHARACTER SET {charset} COLLATE {elsewhere}"),
            "CHARACTER SET utf8mb4 COLLATE utf8mb4_esperanto_ci".to_owned(),
        ] {
            execute(&mut admin, &format!("CREATE DATABASE `{name}` {defaults}")).await;
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
            assert!(!is_listed(site).await, "{defaults}");
            execute(&mut admin, &format!("DROP DATABASE `{name}`")).await;
        }
    });
}

#[test]
fn half_made_databases_are_made_anew() {
    at_site("half_made", with_schema, async |site: &Site| {
        let name = site.target.name().to_owned();
        let unready = insert(site.target.project(), &name).replace("true", "false");
        // Killed right after `CREATE DATABASE`, and somewhat later.
        let (charset, collation) = birth_mark(site.target.project(), &name);
        for statements in [
            String::new(),
            format!("USE `{name}`; {STAMP}; {unready}; CREATE TABLE left_over (id INT)"),
        ] {
            let mut admin = connect(&opts("")).await;
            execute(
                &mut admin,
                &format!("DROP DATABASE IF EXISTS `{name}`; CREATE DATABASE `{name}` CHARACTER SET {charset} COLLATE {collation}"),
            )
            .await;
            assert!(is_listed(site).await);
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
