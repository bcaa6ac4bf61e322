//! A user with rights on the workers' databases and nothing else: as exact, and told what is missing.

mod support;

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_mysql::{
    Config,
    mysql_async::{Conn, OptsBuilder, prelude::Queryable as _},
};
use support::{Site, at_site, base, connect, counters, dump, execute, opts, rows};

const SCHEMA: &str = "
CREATE TABLE country (code VARCHAR(3) PRIMARY KEY);
INSERT INTO country VALUES ('at'), ('de');
CREATE TABLE customer (id INT AUTO_INCREMENT PRIMARY KEY, country VARCHAR(3), FOREIGN KEY (country) REFERENCES country (code) ON DELETE CASCADE);
CREATE VIEW codes AS SELECT code FROM country;
CREATE TABLE audit (id INT);
CREATE TRIGGER note AFTER DELETE ON customer FOR EACH ROW INSERT INTO audit VALUES (1);
CREATE PROCEDURE clear() DELETE FROM customer;
";

/// Makes the user `user` with rights on databases like `pattern`.
async fn make_user(user: &str, pattern: &str) {
    let mut admin = connect(&opts("")).await;
    execute(
        &mut admin,
        &format!(
            "DROP USER IF EXISTS '{user}'@'%'; CREATE USER '{user}'@'%' IDENTIFIED BY 'restricted'"
        ),
    )
    .await;
    if !pattern.is_empty() {
        execute(
            &mut admin,
            &format!("GRANT ALL PRIVILEGES ON `{pattern}`.* TO '{user}'@'%'"),
        )
        .await;
    }
}

async fn drop_user(user: &str) {
    let mut admin = connect(&opts("")).await;
    execute(&mut admin, &format!("DROP USER '{user}'@'%'")).await;
}

/// A configuration for the base of `test` by that user, in place of the one who may do everything.
fn by(user: &'static str, test: &str) -> impl FnOnce(Config) -> Config + use<> {
    let base = opts(&base(test));
    move |_| {
        let opts = OptsBuilder::from_opts(base)
            .user(Some(user))
            .pass(Some("restricted"));
        Config::from_opts(opts).migrate_with("1", |opts| async move {
            Conn::new(opts).await?.query_drop(SCHEMA).await
        })
    }
}

#[test]
fn rights_on_the_workers_databases_are_enough() {
    let user = "dagz_test_restricted";
    let pattern = format!("{}\\_jw%", base("restricted").replace('_', "\\_"));
    support::run(make_user(user, &pattern));
    at_site("restricted", by(user, "restricted"), async |site: &Site| {
        site.init().await;
        site.mark().await;
        let own = OptsBuilder::from_opts(site.opts())
            .user(Some(user))
            .pass(Some("restricted"));
        let mut conn = connect(&own.clone().into()).await;
        let start = (dump(&mut conn).await, counters(&mut conn).await);
        for (statements, is_anew) in [
            ("SELECT 1", false),
            ("INSERT INTO customer (country) VALUES ('at')", false),
            (
                "DELETE FROM country; INSERT INTO country VALUES ('fr')",
                false,
            ),
            (
                "BEGIN; INSERT INTO customer (country) VALUES ('at'); ROLLBACK",
                false,
            ),
            ("CREATE TABLE other (id INT)", true),
            ("DROP PROCEDURE clear", true),
        ] {
            execute(&mut conn, statements).await;
            site.next().await;
            conn = connect(&own.clone().into()).await;
            let now = (dump(&mut conn).await, counters(&mut conn).await);
            assert_eq!(now, start, "{statements}");
            assert_eq!(site.is_anew().await, is_anew, "{statements}");
            site.mark().await;
        }
        // A session of its own user that it may end.
        let mut leaked = connect(&own.clone().into()).await;
        execute(&mut leaked, "BEGIN; INSERT INTO audit VALUES (1)").await;
        site.next().await;
        leaked.query_drop("COMMIT").await.expect_err("it has ended");
        // Nor does this user see which session it was, so that all of them had to go.
        conn = connect(&own.into()).await;
        assert_eq!(rows(&mut conn, "SELECT * FROM audit").await, [""; 0]);
    });
    support::run(drop_user(user));
}

#[test]
fn the_grant_that_is_missing_is_told() {
    let user = "dagz_test_no_rights";
    support::run(make_user(user, ""));
    at_site("no_rights", by(user, "no_rights"), async |site: &Site| {
        let error = site.driver.worker_init(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AccessDenied, "{}", error.report());
        let base = site.base.replace('_', "\\_");
        let grant = format!("`GRANT ALL PRIVILEGES ON `{base}\\_jw%`.* TO '{user}'@'%'`");
        let report = error.report().to_string();
        assert!(report.contains(&grant), "`{grant}` is not in: {report}");
        // Done as told, it works.
        let mut admin = connect(&opts("")).await;
        execute(&mut admin, grant[1..].strip_suffix('`').unwrap()).await;
        site.init().await;
    });
    support::run(drop_user(user));
}
