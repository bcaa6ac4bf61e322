//! `cargo dagz init`, on small workspaces, which then build and pass.

use std::{fs, path::Path};

use crate::support::{Ended, Site, assert_shown, server};

/// The folder of this workspace.
fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Makes the site a package that depends on `dependencies`, at the versions that this workspace has built.
fn package(site: &Site, dependencies: &str) {
    let root = fs::read_to_string(here().join("Cargo.toml")).unwrap();
    let profiles = &root[root.find("[profile.dev]").unwrap()..];
    let manifest = format!(
        "[package]\nname = \"small\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         # What it uses.\n[dependencies]\n{dependencies}\n{profiles}"
    );
    site.write("Cargo.toml", &manifest);
    site.write("src/lib.rs", "//! Small.\n");
    fs::copy(here().join("Cargo.lock"), site.path("Cargo.lock")).unwrap();
}

/// A server's address with a database of the site's own.
fn own(site: &Site, variable: &str) -> String {
    let url = server(variable);
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{}", site.base())
}

fn init(site: &Site, words: &[&str]) -> Ended {
    let dagz = here().join("dagz");
    let path = ["init", "--path", dagz.to_str().unwrap()];
    let mut ended = site.dagz(&[&path[..], words].concat());
    ended.stdout = ended.stdout.replace(here().to_str().unwrap(), "[dagz]");
    ended
}

#[test]
fn a_package_with_tests_is_changed_with_consent_only() {
    let site = Site::new("init", 18);
    let url = own(&site, "DATABASE_URL");
    let site = site.with("DATABASE_URL", url);
    package(&site, "tokio-postgres = \"0.7\"\n");
    site.write(
        "migrations/1_items.sql",
        "CREATE TABLE item (id integer PRIMARY KEY);\n",
    );
    site.write(
        ".env",
        "DATABASE_URL=postgres://me:hunter2@localhost/small\n",
    );
    site.write(
        "tests/items.rs",
        "//! Items.\n\n#[test]\nfn one_and_one() {\n    assert_eq!(1 + 1, 2);\n}\n",
    );
    let before = fs::read_to_string(site.path("Cargo.toml")).unwrap();
    let shown = init(&site, &[]);
    assert_eq!((shown.code, &*shown.stderr), (Some(0), ""));
    assert_shown!(shown.stdout, @r#"
    small: uses postgres
      postgres: address in `DATABASE_URL`, as in `.env`
      postgres: migrations in `migrations`
    --- Cargo.toml
    +++ Cargo.toml
    @@ -7,6 +7,9 @@
     [dependencies]
     tokio-postgres = "0.7"
     
    +[dev-dependencies]
    +dagz = { path = "[dagz]/dagz", features = ["postgres"] }
    +
     [profile.dev]
     debug = "line-tables-only"
     
    --- /dev/null
    +++ tests/databases/mod.rs
    @@ -0,0 +1,21 @@
    +//! Where dagz comes in: how each worker's databases are made. `mod databases;` in each test binary that uses one.
    +
    +#[dagz::setup]
    +fn databases() -> dagz::Result<()> {
    +  dagz::postgres::configure(
    +  dagz::postgres::Config::new(&address("DATABASE_URL")?)?
    +  .migrations(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")),
    +  )?;
    +  Ok(())
    +}
    +
    +/// The address in the variable `name`, with which the application is configured.
    +fn address(name: &str) -> dagz::Result<String> {
    +  std::env::var(name).map_err(|_| {
    +  let message = format!("`{name}` is not set: the tests need the address of a server");
    +  dagz::Error::new(dagz::ErrorKind::Settings, message)
    +  })
    +}
    +
    +#[dagz::test]
    +async fn the_databases_are_there(_postgres: dagz::postgres::Client) {}
    --- tests/items.rs
    +++ tests/items.rs
    @@ -1,5 +1,7 @@
     //! Items.
     
    +mod databases;
    +
     #[test]
     fn one_and_one() {
      assert_eq!(1 + 1, 2);
    --- /dev/null
    +++ .config/nextest.toml
    @@ -0,0 +1,5 @@
    +# How `cargo nextest run` behaves here.
    +
    +[profile.default]
    +# One run tells everything.
    +fail-fast = false
    nothing was changed; `cargo dagz init --yes` changes it
    "#);
    assert_eq!(fs::read_to_string(site.path("Cargo.toml")).unwrap(), before);
    assert!(!site.path("tests/databases").exists());

    let done = init(&site, &["--yes"]);
    assert!(
        done.stdout
            .ends_with("done; try `cargo dagz test the_databases_are_there`\n"),
        "{}",
        done.stdout
    );
    site.write(
        "tests/more.rs",
        "mod databases;\n\n#[dagz::test]\nasync fn a_table_is_there(db: dagz::postgres::Client) {\n    \
         let inserted = db.execute(\"INSERT INTO item VALUES (1)\", &[]).await;\n    \
         assert_eq!(inserted.unwrap(), 1);\n}\n",
    );
    let formatted = site.cargo(&["fmt", "--check"]);
    assert_eq!(formatted.code, Some(0), "{}", formatted.stdout);
    let tests = site.cargo(&["test"]);
    assert_eq!(tests.code, Some(0), "{}{}", tests.stdout, tests.stderr);
    for line in [
        "test one_and_one ... ok",
        "test a_table_is_there ... ok",
        "test databases::the_databases_are_there ... ok",
    ] {
        assert!(tests.stdout.contains(line), "{}", tests.stdout);
    }
    let jobs = site.dagz(&["jobs", "--json"]);
    let jobs: serde_json::Value = serde_json::from_str(&jobs.stdout).unwrap();
    assert_eq!(jobs[0]["passed"], 3, "{jobs}");

    let again = init(&site, &["--yes"]);
    assert_shown!(again.stdout, @r#"
    small: uses postgres
      postgres: address in `DATABASE_URL`, as in `.env`
      postgres: migrations in `migrations`
    nothing to do: dagz is here already
    "#);
}

#[test]
fn a_package_without_tests_gets_its_first() {
    let site = Site::new("init_three", 19);
    let url = own(&site, "DATABASE_URL");
    let site = site
        .with("DATABASE_URL", url)
        .with("REDIS_URL", server("DAGZ_TEST_REDIS_URL"));
    package(
        &site,
        "deadpool-postgres = \"0.14\"\nredis = { version = \"1\", default-features = false }\n",
    );
    site.write("migrations/1.sql", "CREATE TABLE item (id integer);\n");
    let done = init(&site, &["--yes"]);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    assert_shown!(done.stdout, @r#"
    small: uses postgres, redis
      postgres: address in `DATABASE_URL`, as in the environment
      redis: address in `REDIS_URL`, as in the environment
      postgres: migrations in `migrations`
    --- Cargo.toml
    +++ Cargo.toml
    @@ -8,6 +8,9 @@
     deadpool-postgres = "0.14"
     redis = { version = "1", default-features = false }
     
    +[dev-dependencies]
    +dagz = { path = "[dagz]/dagz", features = ["postgres", "redis", "deadpool"] }
    +
     [profile.dev]
     debug = "line-tables-only"
     
    --- /dev/null
    +++ tests/databases/mod.rs
    @@ -0,0 +1,26 @@
    +//! Where dagz comes in: how each worker's databases are made. `mod databases;` in each test binary that uses one.
    +
    +#[dagz::setup]
    +fn databases() -> dagz::Result<()> {
    +  dagz::postgres::configure(
    +  dagz::postgres::Config::new(&address("DATABASE_URL")?)?
    +  .migrations(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")),
    +  )?;
    +  dagz::redis::configure(dagz::redis::Config::new(&address("REDIS_URL")?)?)?;
    +  Ok(())
    +}
    +
    +/// The address in the variable `name`, with which the application is configured.
    +fn address(name: &str) -> dagz::Result<String> {
    +  std::env::var(name).map_err(|_| {
    +  let message = format!("`{name}` is not set: the tests need the address of a server");
    +  dagz::Error::new(dagz::ErrorKind::Settings, message)
    +  })
    +}
    +
    +#[dagz::test]
    +async fn the_databases_are_there(
    +  _postgres: dagz::postgres::Client,
    +  _redis: dagz::redis::redis::aio::MultiplexedConnection,
    +) {
    +}
    --- /dev/null
    +++ tests/suite.rs
    @@ -0,0 +1,3 @@
    +//! Tests that use databases; each has its own.
    +
    +mod databases;
    --- /dev/null
    +++ .config/nextest.toml
    @@ -0,0 +1,5 @@
    +# How `cargo nextest run` behaves here.
    +
    +[profile.default]
    +# One run tells everything.
    +fail-fast = false
    done; try `cargo dagz test the_databases_are_there`
    "#);
    assert_eq!(
        init(&site, &["--yes"]).stdout.lines().last(),
        Some("nothing to do: dagz is here already")
    );
    // The first indices of the server are those of others.
    let module = site.path("tests/databases/mod.rs");
    let text = fs::read_to_string(&module).unwrap();
    let first = format!("(\"REDIS_URL\")?)?.first_index({})", site.index());
    let text = text.replace("(\"REDIS_URL\")?)?", &first);
    fs::write(&module, text).unwrap();
    let tests = site.cargo(&["test", "--test", "suite"]);
    assert_eq!(tests.code, Some(0), "{}{}", tests.stdout, tests.stderr);
    let passed = "test databases::the_databases_are_there ... ok";
    assert!(tests.stdout.contains(passed), "{}", tests.stdout);
}

#[test]
fn servers_are_known_by_the_features_of_what_uses_them() {
    let site = Site::new("init_features", 20)
        .with("AMQP_URL", "")
        .with("CASSANDRA_URL", "")
        .with("DATABASE_URL", "");
    package(
        &site,
        "sqlx = { version = \"0.9\", default-features = false, features = [\"postgres\"] }\nlapin = \"4\"\nscylla = \"1\"\n",
    );
    let ci = "jobs:\n  test:\n    env:\n      BROKER: amqp://guest:hunter2@localhost\n";
    site.write(".github/workflows/ci.yml", ci);
    site.write("migrations/0001_a/up.sql", "SELECT 1;\n");
    let manifest = fs::read_to_string(site.path("Cargo.toml")).unwrap();
    let manifest = manifest.replace(
        "[profile.dev]",
        "[dev-dependencies]\ndagz = { workspace = true, features = [\"redis\"] }\n\n[workspace.dependencies]\ndagz = \"0.1\"\n\n[profile.dev]",
    );
    site.write("Cargo.toml", &manifest);
    let shown = init(&site, &[]);
    assert_eq!((shown.code, &*shown.stderr), (Some(0), ""));
    assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
    assert_shown!(shown.stdout, @r#"
    small: uses amqp, cassandra, postgres
      amqp: address in `BROKER`, as in `.github/workflows/ci.yml`
      postgres: migrations in `migrations`
      note: `BROKER` is not set here, and the tests need it
    --- Cargo.toml
    +++ Cargo.toml
    @@ -10,7 +10,7 @@
     scylla = "1"
     
     [dev-dependencies]
    -dagz = { workspace = true, features = ["redis"] }
    +dagz = { workspace = true, features = ["redis", "amqp", "cassandra", "postgres"] }
     
     [workspace.dependencies]
     dagz = "0.1"
    --- /dev/null
    +++ tests/databases/mod.rs
    @@ -0,0 +1,28 @@
    +//! Where dagz comes in: how each worker's databases are made. `mod databases;` in each test binary that uses one.
    +
    +#[dagz::setup]
    +fn databases() -> dagz::Result<()> {
    +  dagz::amqp::configure(dagz::amqp::Config::new(&address("BROKER")?)?)?;
    +  dagz::cassandra::configure(dagz::cassandra::Config::new(&address("CASSANDRA_URL")?)?)?;
    +  dagz::postgres::configure(
    +  dagz::postgres::Config::new(&address("DATABASE_URL")?)?
    +  .migrations(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")),
    +  )?;
    +  Ok(())
    +}
    +
    +/// The address in the variable `name`, with which the application is configured.
    +fn address(name: &str) -> dagz::Result<String> {
    +  std::env::var(name).map_err(|_| {
    +  let message = format!("`{name}` is not set: the tests need the address of a server");
    +  dagz::Error::new(dagz::ErrorKind::Settings, message)
    +  })
    +}
    +
    +#[dagz::test]
    +async fn the_databases_are_there(
    +  _amqp: dagz::amqp::lapin::Connection,
    +  _cassandra: std::sync::Arc<dagz::cassandra::scylla::client::session::Session>,
    +  _postgres: dagz::postgres::Client,
    +) {
    +}
    --- /dev/null
    +++ tests/suite.rs
    @@ -0,0 +1,3 @@
    +//! Tests that use databases; each has its own.
    +
    +mod databases;
    --- /dev/null
    +++ .config/nextest.toml
    @@ -0,0 +1,5 @@
    +# How `cargo nextest run` behaves here.
    +
    +[profile.default]
    +# One run tells everything.
    +fail-fast = false
    nothing was changed; `cargo dagz init --yes` changes it
    "#);
}

#[test]
fn what_cannot_be_changed_is_one_line() {
    let site = Site::new("init_usage", 21);
    package(&site, "");
    let nothing = init(&site, &["--yes"]);
    assert_eq!(nothing.code, Some(2));
    assert_shown!(nothing.stderr, @"error: no package here depends on a library of a server that dagz knows: Postgres, MySQL, Redis, RabbitMQ, Cassandra");
    let unknown = init(&site, &["--package", "large"]);
    assert_eq!(unknown.code, Some(2));
    assert_shown!(unknown.stderr, @"error: the workspace has no package `large`");
    package(&site, "redis = \"1\"\n");
    site.write("tests/databases/mod.rs", "pub fn own() {}\n");
    let taken = init(&site, &["--yes"]);
    assert_eq!(taken.code, Some(2));
    assert_shown!(taken.stderr, @"error: `[workspace]/tests/databases/mod.rs` is there and configures no driver: add `#[dagz::setup]` by hand, as dagz's README shows");
    fs::remove_file(site.path("Cargo.toml")).unwrap();
    let nowhere = init(&site, &[]);
    assert_eq!(nowhere.code, Some(2));
    assert_shown!(nowhere.stderr, @"error: `cargo metadata` failed: could not find `Cargo.toml` in `[workspace]` or any parent directory");
    site.write("Cargo.toml", "[workspace]\n");
}
