//! A database that the user's own code made, with what only MariaDB has: it is not a copy, so that nothing was left behind.

mod support;

use dagz_mysql::{Config, Driver, mysql_async::prelude::Queryable as _};
use support::{Site, at_site, connect, dump, execute, is_mariadb, opts, rows, run};

/// A database that is made by `schema` and handed over.
fn made_by(schema: &'static str) -> impl FnOnce(Config) -> Config {
    move |config| {
        config.worker_init(move |target, at| async move {
            let create = format!("CREATE DATABASE `{}`", target.name());
            connect(&opts("")).await.query_drop(create).await?;
            connect(&at).await.query_drop(schema).await?;
            let driver = Driver::new(Config::from_opts(at));
            driver.adopt(&target).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })
    }
}

#[test]
fn sequences_begin_where_they_were_handed_over() {
    if !run(is_mariadb()) {
        return;
    }
    // The server sets a thousand values aside, of which nothing tells.
    const SCHEMA: &str = "CREATE SEQUENCE number; DO NEXTVAL(number); CREATE SEQUENCE unused START WITH 7;
        CREATE TABLE item (id INT PRIMARY KEY DEFAULT NEXTVAL(number), name VARCHAR(9)); INSERT INTO item VALUES (1, 'seed')";
    at_site("adopted_sequence", made_by(SCHEMA), async |site: &Site| {
        site.init().await;
        site.mark().await;
        let mut conn = site.connect().await;
        let start = dump(&mut conn).await;
        for _ in 0..3 {
            execute(&mut conn, "INSERT INTO item (name) VALUES ('new')").await;
            let ids = rows(&mut conn, "SELECT id FROM item ORDER BY id").await;
            assert_eq!(ids, ["1", "1001"]);
            let next = "SELECT NEXTVAL(number), NEXTVAL(unused)";
            assert_eq!(rows(&mut conn, next).await, ["1002 7"]);
            site.next().await;
            assert_eq!(dump(&mut conn).await, start);
        }
        assert!(!site.is_anew().await, "in place");
    });
}

#[test]
fn former_rows_are_a_part_of_it() {
    if !run(is_mariadb()) {
        return;
    }
    const SCHEMA: &str = "CREATE TABLE price (id INT PRIMARY KEY, amount INT) WITH SYSTEM VERSIONING;
        INSERT INTO price VALUES (1, 5); UPDATE price SET amount = 6;
        CREATE TABLE gone (id INT) WITH SYSTEM VERSIONING; INSERT INTO gone VALUES (1); DELETE FROM gone";
    const ALL: &str = "SELECT (SELECT GROUP_CONCAT(amount ORDER BY amount) FROM price FOR SYSTEM_TIME ALL), \
        (SELECT COUNT(*) FROM gone FOR SYSTEM_TIME ALL)";
    at_site("adopted_history", made_by(SCHEMA), async |site: &Site| {
        site.init().await;
        let mut conn = site.connect().await;
        assert_eq!(rows(&mut conn, ALL).await, ["5,6 1"]);
        site.mark().await;
        site.next().await;
        assert!(!site.is_anew().await, "nothing was written");
        for statement in [
            "UPDATE price SET amount = 7",
            "INSERT INTO gone VALUES (2); DELETE FROM gone",
        ] {
            site.mark().await;
            execute(&mut site.connect().await, statement).await;
            site.next().await;
            assert!(site.is_anew().await, "{statement}");
            let all = rows(&mut site.connect().await, ALL).await;
            assert_eq!(all, ["5,6 1"], "{statement}");
        }
    });
}
