//! Nothing is reset or dropped that dagz cannot prove to be its own.

mod support;

use dagz_core::{DbConfig as _, ErrorKind};
use support::{Site, at_site, config, connect, rows};

/// Creates a database of the worker's name, as a user would, and returns a connection to it.
async fn by_hand(site: &Site, comment: Option<String>) -> tokio_postgres::Client {
    let admin = connect(&config("postgres")).await;
    let name = site.target.name();
    let statements = [
        format!("DROP DATABASE IF EXISTS \"{name}\""),
        format!("CREATE DATABASE \"{name}\""),
        comment.map_or_else(
            || format!("COMMENT ON DATABASE \"{name}\" IS NULL"),
            |comment| format!("COMMENT ON DATABASE \"{name}\" IS '{comment}'"),
        ),
    ];
    for statement in statements {
        admin.batch_execute(&statement).await.unwrap();
    }
    let client = site.connect().await;
    client
        .batch_execute("CREATE TABLE precious (id integer); INSERT INTO precious VALUES (1)")
        .await
        .unwrap();
    client
}

async fn is_refused(site: &Site, comment: Option<String>, expected: &str) {
    let client = by_hand(site, comment.clone()).await;
    site.driver.identify(&support::endpoint()).await.unwrap();
    for result in [
        site.driver.worker_init(&site.target).await,
        site.driver.prepare(&site.target).await,
        site.driver.truncate(&site.target).await,
    ] {
        let error = result.expect_err(&format!("{comment:?} is no stamp of ours"));
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
        let report = error.report().to_string();
        assert!(
            report.contains(expected),
            "`{expected}` is not in: {report}"
        );
        assert!(report.contains(site.target.name()), "{report}");
    }
    assert_eq!(rows(&client, "SELECT count(*) FROM precious").await, ["1"]);
    drop(client);
    let name = site.target.name();
    connect(&config("postgres"))
        .await
        .batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"))
        .await
        .unwrap();
}

fn stamp(project: &str, name: &str, oid: u32) -> String {
    format!(
        r#"{{"dagz":1,"project":"{project}","job":"j1","worker":0,"base":"b","name":"{name}","oid":{oid},"fingerprint":"f","role":"worker","ready":true,"made":1}}"#
    )
}

fn with_schema(config: dagz_postgres::Config) -> dagz_postgres::Config {
    config.migrate_with("1", |_| async { Ok::<_, dagz_core::Error>(()) })
}

#[test]
fn databases_of_others_are_refused_and_untouched() {
    at_site("refusal", with_schema, async |site: &Site| {
        let (project, name) = (site.target.project(), site.target.name());
        is_refused(site, None, "dagz did not create it").await;
        is_refused(site, Some("my notes".into()), "dagz did not create it").await;
        is_refused(site, Some(stamp("elsewhere-1", name, 1)), "`elsewhere-1`").await;
        // A stamp that was restored from a dump: right in all but the oid.
        is_refused(
            site,
            Some(stamp(project, name, 1)),
            "renamed, copied or restored",
        )
        .await;
        is_refused(site, Some(r#"{"dagz":9}"#.into()), "later dagz").await;
    });
}

#[test]
fn a_renamed_database_is_not_ours_any_more() {
    at_site("renamed", with_schema, async |site: &Site| {
        site.init().await;
        let name = site.target.name().to_owned();
        site.driver.release(&site.target).await;
        let admin = connect(&config("postgres")).await;
        let sessions = format!(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        rows(&admin, &sessions).await;
        let renamed = format!("{name}_mine");
        for statement in [
            format!("DROP DATABASE IF EXISTS \"{renamed}\""),
            format!("ALTER DATABASE \"{name}\" RENAME TO \"{renamed}\""),
            // Its name is taken by another one of ours, which stays as it is.
            format!("DROP DATABASE IF EXISTS \"{name}\""),
        ] {
            admin.batch_execute(&statement).await.unwrap();
        }
        site.prepare().await;
        let listed = dagz_postgres::databases(
            &dagz_postgres::Config::from_config(config("postgres")),
            site.target.project(),
        )
        .await
        .unwrap();
        assert!(listed.iter().any(|database| database.name() == name));
        assert!(!listed.iter().any(|database| database.name() == renamed));
        admin
            .batch_execute(&format!("DROP DATABASE \"{renamed}\""))
            .await
            .unwrap();
    });
}

#[test]
fn a_stamp_that_vanishes_stops_the_next_reset() {
    at_site("unstamped", with_schema, async |site: &Site| {
        site.init().await;
        site.driver.release(&site.target).await;
        let name = site.target.name();
        let client = site.connect().await;
        let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
        let stamp = rows(&client, comment).await.remove(0);
        client
            .batch_execute(&format!(
                "COMMENT ON DATABASE \"{name}\" IS NULL; CREATE TABLE precious (id integer); INSERT INTO precious VALUES (1)"
            ))
            .await
            .unwrap();
        let error = site.driver.prepare(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
        assert_eq!(rows(&client, "SELECT count(*) FROM precious").await, ["1"]);
        client
            .batch_execute(&format!("COMMENT ON DATABASE \"{name}\" IS '{stamp}'"))
            .await
            .unwrap();
    });
}
