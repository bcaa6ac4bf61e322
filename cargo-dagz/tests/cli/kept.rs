//! Failed state that is kept on request, and what `cargo dagz logs`, `doctor` and `clean` say of it.

use std::process::Command;

use crate::support::{Site, assert_shown, server};

#[test]
fn the_command_that_leads_to_each_database_is_told() {
    let site = Site::new("kept", 27)
        .with_brokers()
        .with("DAGZ_KEEP_FAILED", "true");
    assert_eq!(site.ailing(&["fails_on_all", "passes_on_all"]), Some(101));
    let logs = site.dagz(&["logs", "--failed"]);
    let told: Vec<_> = logs
        .stdout
        .lines()
        .filter(|line| line.contains(" kept "))
        .collect();
    let told = told.join("\n");
    for password in ["DATABASE_URL", "DAGZ_TEST_MYSQL_URL"].map(password) {
        assert!(!told.contains(&password), "{told}");
    }
    assert_shown!(without_ports(&told), @r#"
    [clock] kept postgres cli_kept_jw00: psql -h 127.0.0.1 -p [port] -U dagz -d cli_kept_jw00
    [clock] kept mysql cli_kept_jw00: mariadb --protocol=tcp -h 127.0.0.1 -P [port] -u dagz -p cli_kept_jw00
    [clock] kept redis [index]: redis-cli -h 127.0.0.1 -p [port] --askpass -n [index]
    [clock] kept amqp cli_kept_jw00: rabbitmqadmin -H 127.0.0.1 -P [port] -u dagz -V cli_kept_jw00 list queues
    [clock] kept cassandra cli_kept_jw00: cqlsh 127.0.0.1 [port] -u dagz -k cli_kept_jw00
    "#);

    // The command leads there.
    let command = told
        .lines()
        .find_map(|line| Some(line.split_once("psql ")?.1))
        .expect("one is for Postgres");
    let output = Command::new("sh")
        .args(["-c", &format!("psql {command} -Atc 'SELECT id FROM item'")])
        .env("PGPASSWORD", password("DATABASE_URL"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{stderr}");

    let passed = site.dagz(&["logs", "--test", "passes_on_all"]);
    assert!(passed.stdout.contains("jw01.t001"), "{}", passed.stdout);
    let doctor = site.dagz(&["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("jw00 as `fails_on_all` left it; `cargo dagz logs j1 --failed`"),
        "{}",
        doctor.stdout
    );

    let clean = site.dagz(&["clean"]);
    assert_eq!((clean.code, &*clean.stderr), (Some(0), ""));
    let later = site.dagz(&["logs", "--failed"]);
    assert!(
        later.stdout.contains("(given back since)"),
        "{}",
        later.stdout
    );
    assert_eq!(site.ailing(&["passes_on_all"]), Some(0));
    let again = site.dagz(&["logs"]);
    assert!(again.stdout.contains("jw00.t001"), "{}", again.stdout);
}

#[test]
fn ten_are_kept_and_then_no_more() {
    let site = Site::new("ten", 28).with("DAGZ_JOB", "ten");
    let site = site.with("DAGZ_KEEP_FAILED", "true");
    for _ in 0..11 {
        assert_eq!(site.suite(&["b_panics"]), Some(101));
    }
    let logs = site.dagz(&["logs", "--failed"]).stdout;
    let kept: Vec<_> = logs.lines().filter(|line| line.contains(" kept")).collect();
    assert_eq!(kept.len(), 11, "{logs}");
    assert_shown!(kept[10], @"  [clock] kept: not kept: this job keeps 10 failed states already, which is the most");
    // A later job's are worth more than an earlier one's.
    let site = site.with("DAGZ_JOB", "later");
    assert_eq!(site.suite(&["b_panics"]), Some(101));
    let logs = site.dagz(&["logs", "--failed"]).stdout;
    assert!(logs.contains("psql"), "{logs}");
    let doctor = site.dagz(&["doctor"]).stdout;
    assert_eq!(
        doctor.matches("as `b_panics` left it").count(),
        10,
        "{doctor}"
    );
}

#[test]
fn nothing_is_kept_where_a_server_has_no_room_for_another_worker() {
    let site = Site::at_the_end("noroom").with("DAGZ_KEEP_FAILED", "true");
    for _ in 0..2 {
        assert_eq!(site.suite(&["b_panics"]), Some(101));
        let logs = site.dagz(&["logs", "--failed"]).stdout;
        assert!(logs.contains("jw00.t001"), "{logs}");
        assert!(
            logs.contains("kept: not kept: Redis at ") && logs.contains("set `databases 2049`"),
            "{logs}"
        );
    }
    let doctor = site.dagz(&["doctor"]).stdout;
    assert!(!doctor.contains("left it"), "{doctor}");
}

/// `text` with `[port]` for each word that is a number above those that name workers and indices.
fn without_ports(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| match word.parse::<u16>() {
            Ok(5_000..) => "[port]",
            _ => word,
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn password(variable: &str) -> String {
    let url = server(variable);
    let login = url.split_once("://").unwrap().1.split_once('@').unwrap().0;
    login.split_once(':').unwrap().1.to_owned()
}
