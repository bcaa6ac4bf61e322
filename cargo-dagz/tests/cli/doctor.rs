//! `cargo dagz doctor`: what is looked at, each with what is wrong made wrong.

use std::fs;

use crate::support::{Site, assert_shown, server, sql};

fn lines(text: &str, about: &str) -> String {
    let found = text.lines().filter(|line| line.starts_with(about));
    found.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_well_is_said_for_each_server() {
    let site = Site::new("well", 11).with_brokers();
    let ended = site.dagz(&["doctor"]);
    assert_eq!(
        (ended.code, &*ended.stderr),
        (Some(0), ""),
        "{}",
        ended.stdout
    );
    let servers = ["postgres", "mysql", "redis", "amqp", "cassandra"];
    let told = servers
        .map(|server| lines(&ended.stdout, server))
        .join("\n");
    insta::with_settings!({filters => filters()}, {
        insta::assert_snapshot!(told, @r#"
    postgres  address  good  postgres://[server], by DAGZ_POSTGRES_URL
    postgres  reachable  good  at [server] as `dagz`
    postgres  version  good  PostgreSQL [version]
    postgres  rights  good  may create and drop databases
    postgres  connections  good  [n] allowed, [n] in use, 5 needed: 1 workers with 5 each
    postgres  leftovers  good  0 of workers, 0 templates, 0 half made
    mysql  address  good  mysql://[server], by DAGZ_MYSQL_URL
    mysql  reachable  good  at [server] as `dagz@%`
    mysql  version  good  MariaDB [version]
    mysql  rights  good  may create and drop databases
    mysql  connections  good  [n] allowed, [n] in use, 5 needed: 1 workers with 5 each
    mysql  leftovers  good  0 of workers, 0 templates, 0 half made
    redis  address  good  redis://[server], by DAGZ_REDIS_URL
    redis  reachable  good  at [server]
    redis  version  good  Redis [version]
    redis  rights  good  may write, list clients and flush
    redis  databases  good  [n], 3 needed: 1 for workers with one index each, [n] before them, one for dagz's books
    redis  connections  good  [n] allowed, [n] in use, 5 needed: 1 workers with 5 each
    redis  leftovers  good  0 of workers, 0 templates, 0 half made
    amqp  address  good  amqp://[server], by DAGZ_AMQP_URL
    amqp  management  good  as `dagz`
    amqp  reachable  good  at [server], vhost `/`
    amqp  version  good  RabbitMQ [version]
    amqp  rights  good  may make, enter and delete vhosts
    amqp  connections  good  [n] allowed, [n] in use, 5 needed: 1 workers with 5 each
    amqp  leftovers  good  0 of workers, 0 templates, 0 half made
    cassandra  address  good  cassandra://[server], by DAGZ_CASSANDRA_URL
    cassandra  reachable  good  at [server] as `dagz`
    cassandra  version  good  Cassandra [version]
    cassandra  rights  good  may create and drop keyspaces
    cassandra  time-outs  good  read_request_timeout 20s, write_request_timeout 20s, range_request_timeout 20s, truncate_request_timeout 60s
    cassandra  leftovers  good  0 of workers, 0 templates, 0 half made
    "#);
    });
    let nothing = site.dagz(&["clean"]);
    assert_shown!(nothing.stdout, @"nothing to clean");
}

/// Versions and numbers of connections differ from machine to machine.
fn filters() -> Vec<(&'static str, &'static str)> {
    let mut filters = crate::support::FILTERS.to_vec();
    filters.push((
        r"(PostgreSQL|MariaDB|Redis|RabbitMQ|Cassandra) \d[^\n]*",
        "$1 [version]",
    ));
    filters.push((r"\d+ allowed, \d+ in use", "[n] allowed, [n] in use"));
    filters.push((r"jw9\d{5}", "[trial]"));
    filters.push((r"good  2048, ", "good  [n], "));
    filters.push((r"\d+ before them", "[n] before them"));
    filters
}

#[test]
fn each_setting_has_its_origin() {
    let site = Site::new("origins", 12).with("DAGZ_STRICT", "true");
    fs::write(
        site.path("dagz.toml"),
        "lease_timeout = \"7s\"\nkeep_failed = true\n",
    )
    .unwrap();
    let ended = site.dagz(&["doctor"]);
    assert_shown!(lines(&ended.stdout, "settings"), @r#"
    settings  jobs_age  good  30days, by default
    settings  jobs_bytes  good  256 MiB, by default
    settings  jobs_kept  good  20, by default
    settings  keep_failed  good  true, by dagz.toml
    settings  lease_timeout  good  7s, by dagz.toml
    settings  log_bytes  good  16 MiB, by default
    settings  node_index  good  0, by default
    settings  node_total  good  1, by default
    settings  off  good  false, by default
    settings  project  good  cli-origins, by DAGZ_PROJECT
    settings  state_dir  good  [workspace]/target/dagz, by default
    settings  strict  good  true, by DAGZ_STRICT
    settings  workers  good  1, by DAGZ_WORKERS
    "#);
    let json = site.dagz(&["doctor", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let strict = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["what"] == "strict");
    assert_eq!(strict.unwrap()["found"], "true, by DAGZ_STRICT");
}

#[test]
fn servers_that_are_away_are_told_each_and_are_no_success() {
    let site = Site::new("absent", 13)
        .with("DAGZ_POSTGRES_URL", "postgres://me:hunter2@127.0.0.1:1/x")
        .with("DAGZ_MYSQL_URL", "mysql://me:hunter2@127.0.0.1:1/x")
        .with("DAGZ_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
        .with("DAGZ_AMQP_URL", "amqp://me:hunter2@127.0.0.1:1/x")
        .with("DAGZ_AMQP_MANAGEMENT_URL", "http://127.0.0.1:1")
        .with("DAGZ_CASSANDRA_URL", "cassandra://me:hunter2@127.0.0.1:1");
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(3));
    assert!(!ended.stdout.contains("hunter2"), "{}", ended.stdout);
    let bad: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| line.contains(" bad "))
        .collect();
    assert_shown!(bad.join("\n"), @r#"
    postgres  reachable  bad  Connection refused (os error 111)  cannot reach Postgres at `[server]` for database `postgres`: is it running?
    mysql  reachable  bad  Connection refused (os error 111)  cannot reach MySQL at `[server]` for database `mysql`: is it running?
    redis  reachable  bad  Connection refused (os error 111)  cannot reach Redis at `[server]` for database `0`: is it running?
    amqp  management  bad  Connection refused (os error 111)  cannot ask RabbitMQ's management API: RabbitMQ's management API does not answer at `[server]`: is the server running? enable it by `rabbitmq-plugins enable rabbitmq_management`, or tell where it is by `Config::management`
    amqp  reachable  bad  Connection refused (os error 111)  cannot reach RabbitMQ at `[server]` for vhost `x`: is it running?
    cassandra  reachable  bad  The pool is broken; Last connection failed with: Connection refused (os error 111)  cannot reach Cassandra at `[server]`: is it running?
    "#);
}

#[test]
fn rights_and_connections_that_are_missing_have_a_remedy() {
    let site = Site::new("rights", 14);
    let role = "cli_doctor_limited";
    let _ = sql(&format!("DROP ROLE IF EXISTS {role}"));
    sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 3"
    ))
    .unwrap();
    let url = server("DATABASE_URL");
    let (_, host) = url.rsplit_once('@').unwrap();
    let site = site
        .with(
            "DAGZ_POSTGRES_URL",
            format!("postgres://{role}:hunter2@{host}"),
        )
        .with("DAGZ_WORKERS", "4");
    let ended = site.dagz(&["doctor", "--connections", "2"]);
    sql(&format!("DROP ROLE {role}")).unwrap();
    assert_eq!(ended.code, Some(3));
    let bad = lines(&ended.stdout, "postgres");
    let bad: Vec<_> = bad.lines().filter(|line| line.contains(" bad ")).collect();
    insta::with_settings!({filters => filters()}, {
        insta::assert_snapshot!(bad.join("\n"), @r#"
    postgres  rights  bad  ERROR: permission denied to create database  user `cli_doctor_limited` may not create database `dagz_doctor_[trial]` at `[server]`: `ALTER ROLE "cli_doctor_limited" CREATEDB`
    postgres  connections  bad  [n] allowed, [n] in use, 8 needed: 4 workers with 2 each  raise `ALTER ROLE "cli_doctor_limited" CONNECTION LIMIT` to 8 at least, or run with fewer workers (`DAGZ_WORKERS`)
    "#);
    });
}

#[test]
fn too_few_databases_and_a_missing_management_api_have_a_remedy() {
    // More than the 2,048 that the server has.
    let site = Site::new("few", 15).with("DAGZ_WORKERS", "4000");
    let site = site
        .with("DAGZ_AMQP_URL", server("DAGZ_TEST_AMQP_URL"))
        .with("DAGZ_AMQP_MANAGEMENT_URL", "http://127.0.0.1:1");
    let ended = site.dagz(&["doctor", "--connections", "1"]);
    assert_eq!(ended.code, Some(3));
    let found: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| line.contains("databases  ") || line.starts_with("amqp"))
        .collect();
    insta::with_settings!({filters => filters()}, {
        insta::assert_snapshot!(found.join("\n"), @r#"
    redis  databases  bad  2048, 4002 needed: 4000 for workers with one index each, [n] before them, one for dagz's books  set `databases 4002` in the server's configuration or start it with `--databases 4002`, or run with fewer workers (`DAGZ_WORKERS`)
    amqp  address  good  amqp://[server], by DAGZ_AMQP_URL
    amqp  management  bad  Connection refused (os error 111)  cannot ask RabbitMQ's management API: RabbitMQ's management API does not answer at `[server]`: is the server running? enable it by `rabbitmq-plugins enable rabbitmq_management`, or tell where it is by `Config::management`
    amqp  reachable  good  at [server], vhost `/`
    "#);
    });
}

#[test]
fn a_missing_runner_and_a_state_directory_that_cannot_be_have_a_remedy() {
    let site = Site::new("runner", 16).with("CARGO", "/bin/false");
    let site = site.with("DAGZ_WORKERS", "3");
    let file = site.path("Cargo.toml/dagz");
    fs::create_dir_all(site.path(".config")).unwrap();
    let nextest = "[profile.default]\ntest-threads = 5\n";
    fs::write(site.path(".config/nextest.toml"), nextest).unwrap();
    let site = site.with("DAGZ_STATE_DIR", file.to_str().unwrap());
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let told = ["machine", "runner", "jobs"].map(|about| lines(&ended.stdout, about));
    let told = told.join("\n");
    let told: Vec<_> = told
        .lines()
        .filter(|line| !line.contains(" disk  "))
        .collect();
    assert_shown!(told.join("\n"), @r#"
    machine  file locks  bad  cannot be tried in [workspace]/Cargo.toml: Not a directory (os error 20)  set `DAGZ_STATE_DIR` to a folder on a local disk that can be written
    runner  nextest  odd  missing  `cargo install --locked cargo-nextest`, or run by `cargo test` and `cargo dagz test --runner cargo`
    runner  slots  odd  5 tests at once (.config/nextest.toml), 3 workers  tests wait for workers: raise `DAGZ_WORKERS`; `cargo dagz test --workers N` sets both
    jobs  record  bad  reading `[workspace]/Cargo.toml/dagz/kept` failed; check its permissions, or point `DAGZ_STATE_DIR` elsewhere: Not a directory (os error 20)  make it readable, or remove the folder while no test runs
    "#);
}

#[test]
fn what_cannot_be_used_is_one_line() {
    let site = Site::new("unusable", 17);
    let none = site.dagz(&["doctor", "--connections", "0"]);
    assert_eq!(none.code, Some(2));
    fs::write(site.path("dagz.toml"), "[amqp]\nurl = \"http://x\"\n").unwrap();
    let ended = site.dagz(&["doctor"]);
    assert_eq!(ended.code, Some(2));
    assert_shown!(ended.stderr, @"error: the RabbitMQ address cannot be used: invalid amqp scheme: http");
}
