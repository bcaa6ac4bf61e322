//! What a test left is found when it ends, and held as it is for the next one, whatever sessions live on.
//!
//! Each statement here comes when the look is over and the next prepare is not there yet. With the detection switched
//! off that it needs (`Config::blind_to`), it reaches the next test.

mod support;

use std::time::{Duration, Instant};

use dagz_core::DbConfig as _;
use dagz_mysql::{
    Config,
    mysql_async::{Conn, prelude::Queryable as _},
};
use support::{
    HELD, Site, TRIED, at_site, begin, connect, counters, dump, execute, hold, is_mariadb, opts,
    release, rows, until_it_waits, within,
};

const SCHEMA: &str = "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(9));
    INSERT INTO item (name) VALUES ('seed'), ('too');
    CREATE TABLE part (id INT AUTO_INCREMENT PRIMARY KEY, item INT, FOREIGN KEY (item) REFERENCES item (id) ON DELETE CASCADE);
    CREATE TABLE note (value INT); INSERT INTO note VALUES (1);
    CREATE TABLE old (value INT) ENGINE = MyISAM;
    CREATE VIEW names AS SELECT name FROM item; CREATE PROCEDURE clear() DELETE FROM item;
    CREATE EVENT never ON SCHEDULE EVERY 1 YEAR DISABLE DO DELETE FROM item";

/// MariaDB only.
const SEQUENCE: &str = "CREATE SEQUENCE number START WITH 500";

/// A statement in a database `{}`, and what is needed to keep the next test from it.
const LATE: &[(&str, &[&str])] = &[
    (
        "INSERT INTO {}.part (item) VALUES (1)",
        &["tables", "waiting"],
    ),
    (
        "UPDATE {}.item SET name = 'late' WHERE id = 1",
        &["tables", "waiting"],
    ),
    ("DELETE FROM {}.item", &["tables", "waiting"]),
    // A gate does not stand for it.
    (
        "INSERT INTO {}.old VALUES (1)",
        &["tables", "waiting", "ungated"],
    ),
    ("CALL {}.clear()", &["waiting"]),
    ("TRUNCATE {}.note", &["waiting"]),
    ("ALTER TABLE {}.item ADD COLUMN late INT", &["waiting"]),
    ("ALTER TABLE {}.part AUTO_INCREMENT = 70", &["waiting"]),
    ("DROP TABLE {}.part", &["waiting"]),
    ("CREATE TABLE {}.late (id INT)", &["schema", "waiting"]),
    (
        "CREATE VIEW {}.late AS SELECT 1 AS one",
        &["schema", "waiting"],
    ),
    ("DROP VIEW {}.names", &["schema", "waiting"]),
    (
        "CREATE PROCEDURE {}.late() SELECT 1",
        &["schema", "waiting"],
    ),
    ("DROP PROCEDURE {}.clear", &["schema", "waiting"]),
    (
        "CREATE FUNCTION {}.late() RETURNS INT DETERMINISTIC RETURN 1",
        &["schema", "waiting"],
    ),
    ("DROP EVENT {}.never", &["schema", "waiting"]),
    ("ALTER DATABASE {} COLLATE utf8mb4_danish_ci", &["waiting"]),
    ("DO NEXTVAL({}.number)", &["tables", "waiting"]),
];

/// What is kept from the next test by the lock of a table, and with a gate by that of the schema.
const OF_TABLES: [&str; 3] = ["TRUNCATE", "ALTER TABLE", "DROP TABLE"];

/// Those of [`LATE`] that the server knows, and what is needed with or without a gate.
async fn late(is_gated: bool) -> Vec<(&'static str, Vec<&'static str>)> {
    let is_mariadb = is_mariadb().await;
    let is_known = |text: &str| is_mariadb || !text.contains("NEXTVAL");
    let known = LATE.iter().filter(|(statement, _)| is_known(statement));
    let needs = known.map(|(statement, needs)| {
        let mut needs = needs.to_vec();
        if is_gated
            && OF_TABLES
                .iter()
                .any(|of_table| statement.starts_with(of_table))
        {
            needs.push("schema");
        }
        (*statement, needs)
    });
    needs.collect()
}

fn with_schema(config: Config) -> Config {
    config.hold(HELD).migrate_with("1", |opts| async move {
        let mut conn = connect(&opts).await;
        if is_mariadb().await {
            conn.query_drop(SEQUENCE).await?;
        }
        conn.query_drop(SCHEMA).await
    })
}

fn with_gate(config: Config) -> Config {
    with_schema(config).write_gate(true)
}

async fn state(site: &Site) -> Vec<String> {
    let mut conn = site.connect().await;
    let mut state = vec![dump(&mut conn).await];
    state.extend(counters(&mut conn).await);
    for query in [
        "SHOW FULL TABLES",
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'item' ORDER BY 1",
        "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() ORDER BY 1",
        "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()",
        "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = DATABASE()",
    ] {
        state.extend(rows(&mut conn, query).await);
    }
    state
}

/// The state after a prepare that a `statement` of a session in `database` has come before.
async fn after(site: &Site, look: &mut Conn, database: &str, statement: &str) -> Vec<String> {
    let statement = statement.replace("{}", &format!("`{}`", site.target.name()));
    let mut late = connect(&opts(database)).await;
    let id = u64::from(late.id());
    release(site, look).await;
    let running = tokio::spawn(async move { late.query_drop(statement).await });
    until_it_waits(look, id, &running).await;
    site.prepare().await;
    // Done, or ended.
    drop(running.await);
    state(site).await
}

#[test]
fn what_a_test_left_is_undone_for_the_next() {
    check_undone("held", with_schema);
}

#[test]
fn what_a_test_left_is_undone_behind_a_gate() {
    check_undone("held_gated", with_gate);
}

fn check_undone(name: &str, configured: fn(Config) -> Config) {
    at_site(name, configured, async |site: &Site| {
        let mut look = begin(site).await;
        let start = state(site).await;
        site.mark().await;
        let mut held = 0;
        for statements in [
            "DO 0",
            "INSERT INTO part (item) VALUES (1), (2)",
            "DELETE FROM item WHERE id = 1",
            "UPDATE item SET name = 'x'; INSERT INTO item (name) VALUES ('new')",
            "BEGIN; INSERT INTO part (item) VALUES (1); ROLLBACK",
            "TRUNCATE part",
        ] {
            let mut conn = site.connect().await;
            for _ in 0..3 {
                execute(&mut conn, statements).await;
                held += u32::from(release(site, &mut look).await);
                site.prepare().await;
                assert_eq!(state(site).await, start, "{statements}");
            }
        }
        assert!(held > 0, "nothing was ever held");
        assert!(!site.is_anew().await, "in place");
    });
}

#[test]
fn what_comes_before_the_next_test_does_not_reach_it() {
    check_late("late", with_schema);
}

#[test]
fn what_comes_before_the_next_test_does_not_pass_a_gate() {
    check_late("late_gated", with_gate);
}

fn check_late(name: &str, configured: fn(Config) -> Config) {
    at_site(name, configured, async |site: &Site| {
        let mut look = begin(site).await;
        let start = state(site).await;
        for (statement, _) in late(false).await {
            for database in [site.target.name(), ""] {
                let found = after(site, &mut look, database, statement).await;
                assert_eq!(found, start, "{statement}, in `{database}`");
            }
        }
    });
}

/// Also while it is being looked, before all is closed.
#[test]
fn what_comes_at_any_moment_does_not_pass_a_gate() {
    // Who is kept out waits until it is given back.
    let configured = |config| with_gate(config).hold(Duration::from_millis(20));
    at_site("moments_gated", configured, async |site: &Site| {
        begin(site).await;
        let start = state(site).await;
        let mut conn = connect(&opts("")).await;
        for moment in 0..60 {
            let statement = ["TRUNCATE", "DELETE FROM"][moment % 2];
            let statement = format!("{statement} `{}`.note", site.target.name());
            site.driver.release(&site.target).await;
            tokio::time::sleep(Duration::from_micros(300) * moment as u32).await;
            execute(&mut conn, &statement).await;
            site.prepare().await;
            assert_eq!(state(site).await, start, "{statement}, {moment}");
        }
    });
}

#[test]
fn each_lock_and_look_is_needed() {
    check_needs(false);
}

#[test]
fn each_lock_and_look_is_needed_with_a_gate() {
    check_needs(true);
}

fn check_needs(is_gated: bool) {
    let mut detections = vec!["tables", "schema", "waiting"];
    detections.extend(is_gated.then_some("ungated"));
    for detection in detections {
        let gate = if is_gated { "_gated" } else { "" };
        at_site(
            &format!("late_{detection}{gate}"),
            |config| with_schema(config).write_gate(is_gated).blind_to(detection),
            async |site: &Site| {
                for (statement, needs) in late(is_gated).await {
                    if !needs.contains(&detection) {
                        continue;
                    }
                    // What an earlier case left is not undone.
                    let mut look = connect(&opts("")).await;
                    let drop = format!("DROP DATABASE IF EXISTS `{}`", site.target.name());
                    execute(&mut look, &drop).await;
                    let mut look = begin(site).await;
                    let start = state(site).await;
                    let database = site.target.name();
                    // It must be held when the statement comes, and still when the next test does.
                    let started = Instant::now();
                    while after(site, &mut look, database, statement).await == start {
                        // Late, or the one after it is expected at once, too.
                        release(site, &mut look).await;
                        site.prepare().await;
                        let tried = started.elapsed();
                        assert!(tried < TRIED, "{statement}: nobody needs `{detection}`");
                    }
                    site.driver.release(&site.target).await;
                }
            },
        );
    }
}

#[test]
fn what_holds_a_lock_is_ended_and_nothing_is_held() {
    at_site("held_lock", with_schema, async |site: &Site| {
        let mut look = begin(site).await;
        for statements in [
            "BEGIN; SELECT * FROM item",
            "BEGIN; SELECT * FROM part LOCK IN SHARE MODE",
            "BEGIN; INSERT INTO note VALUES (2)",
            "LOCK TABLES item READ",
        ] {
            let mut leaked = site.connect().await;
            execute(&mut leaked, statements).await;
            assert!(!release(site, &mut look).await, "held: {statements}");
            site.prepare().await;
            let ended = leaked.query_drop("COMMIT").await;
            ended.expect_err(statements);
            // The one after it is not expected at once.
            release(site, &mut look).await;
            site.prepare().await;
        }
    });
}

#[test]
fn others_get_on_when_no_test_comes() {
    at_site(
        "unheld",
        |config| with_schema(config).hold(Duration::from_millis(100)),
        async |site: &Site| {
            let mut look = begin(site).await;
            let mut other = site.connect().await;
            hold(site, &mut look).await;
            let started = Instant::now();
            execute(
                &mut other,
                "INSERT INTO part (item) VALUES (1); CREATE TABLE late (id INT)",
            )
            .await;
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(1), "{waited:?}");
            site.prepare().await;
            let tables = rows(&mut site.connect().await, "SHOW TABLES LIKE 'late'").await;
            assert_eq!(tables, [""; 0]);
        },
    );
}

/// Where nothing is to be repaired, the locks are given back behind the one who asked for the reset, whoever that is.
#[test]
fn what_was_held_is_given_back_also_without_a_test() {
    at_site("given_back", with_schema, async |site: &Site| {
        let mut look = begin(site).await;
        let mut other = site.connect().await;
        for is_a_test in [true, false] {
            hold(site, &mut look).await;
            match is_a_test {
                true => site.prepare().await,
                false => site.driver.baseline(&site.target).await.unwrap(),
            }
            let write = "INSERT INTO part (item) VALUES (1)";
            within(Duration::from_secs(5), execute(&mut other, write)).await;
            site.next().await;
        }
    });
}

#[test]
fn a_change_that_is_under_way_is_waited_for() {
    at_site("under_way", with_schema, async |site: &Site| {
        site.init().await;
        let mut late = site.connect().await;
        let running = tokio::spawn(async move {
            let slow = "CREATE TABLE late AS SELECT SLEEP(0.15) AS slept";
            late.query_drop(slow).await
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        site.next().await;
        drop(running.await);
        let tables = rows(&mut site.connect().await, "SHOW TABLES LIKE 'late'").await;
        assert_eq!(tables, [""; 0]);
    });
}

/// MariaDB never ends two sessions that change tables which refer to each other at once.
#[test]
fn tables_that_refer_to_each_other_are_set_back_beside_somebody_who_changes_them() {
    const SCHEMA: &str =
        "CREATE TABLE hen (id INT AUTO_INCREMENT PRIMARY KEY, egg INT); INSERT INTO hen VALUES (1, NULL);
         CREATE TABLE egg (id INT AUTO_INCREMENT PRIMARY KEY, hen INT, FOREIGN KEY (hen) REFERENCES hen (id));
         ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg (id)";
    // What a test changes, the counter only or rows as well, and what comes late.
    const CASES: [(&str, &str); 3] = [
        (
            "ALTER TABLE egg AUTO_INCREMENT = 70",
            "ALTER TABLE hen AUTO_INCREMENT = 70",
        ),
        ("ALTER TABLE egg AUTO_INCREMENT = 70", "TRUNCATE hen"),
        ("INSERT INTO egg () VALUES ()", "TRUNCATE hen"),
    ];
    let configured = |config: Config| {
        config.hold(HELD).migrate_with("1", |opts| async move {
            connect(&opts).await.query_drop(SCHEMA).await
        })
    };
    at_site("circle", configured, async |site: &Site| {
        let mut look = begin(site).await;
        let mut conn = site.connect().await;
        let start = counters(&mut conn).await;
        let rounds = if is_mariadb().await { 60 } else { 6 };
        for (changes, late) in CASES.into_iter().cycle().take(rounds) {
            execute(&mut conn, changes).await;
            release(site, &mut look).await;
            let mut other = site.connect().await;
            let id = u64::from(other.id());
            let running = tokio::spawn(async move {
                execute(&mut other, "SET foreign_key_checks = 0").await;
                other.query_drop(late).await
            });
            until_it_waits(&mut look, id, &running).await;
            let done = async {
                site.prepare().await;
                drop(running.await);
            };
            within(Duration::from_secs(30), done).await;
            assert_eq!(counters(&mut conn).await, start, "{changes}, {late}");
        }
    });
}
