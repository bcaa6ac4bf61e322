//! What the tests of this crate share: a server, a worker's target on it, and a look at its rows.
//!
//! Tests drive a [`Driver`] of their own through [`Site`], since a process has only one configured.

#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::env;

use dagz_cassandra::{
    Config, Driver, databases, remove,
    scylla::{
        client::{PoolSize, session::Session, session_builder::SessionBuilder},
        errors::ExecutionError,
        response::query_result::QueryRowsResult,
    },
};
use dagz_core::{DbConfig, Endpoint, Scope, ScopeGuard, Target};
use dagz_testkit::site;
pub(crate) use dagz_testkit::site::run;

/// How a test makes a keyspace.
pub(crate) const REPLICATION: &str =
    "replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";

/// The URL of the keyspace `name`.
pub(crate) fn url(name: &str) -> String {
    let url = env::var("DAGZ_TEST_CASSANDRA_URL").unwrap_or_else(|_| {
        panic!(
            "`DAGZ_TEST_CASSANDRA_URL` is not set: start a server by `cargo xtask services up cassandra`"
        )
    });
    format!("{url}/{name}?case_sensitive=true")
}

/// Host and port of the server.
pub(crate) fn address() -> String {
    let url = url("");
    let (_, at) = url.split_once('@').expect("the URL has a user");
    at.split('/').next().unwrap_or_default().to_owned()
}

/// Settings of a session as an application would have them.
pub(crate) fn builder() -> SessionBuilder {
    let url = url("");
    let login = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@'));
    let (user, password) = login
        .and_then(|(login, _)| login.split_once(':'))
        .expect("the URL has a user and a password");
    SessionBuilder::new()
        .known_node(address())
        .user(user, password)
        .pool_size(PoolSize::PerHost(1.try_into().expect("one is not zero")))
        .fetch_schema_metadata(false)
}

/// A session in no keyspace.
pub(crate) async fn plain() -> Session {
    builder().build().await.expect("the server answers")
}

/// A driver, and a worker's keyspace that it is to make.
pub(crate) struct Site {
    pub(crate) driver: Driver,
    pub(crate) target: Target,
    pub(crate) base: String,
    /// Keeps the worker.
    pub(crate) scope: Option<ScopeGuard>,
}

impl Site {
    /// A site for the keyspace called after `test`, with a driver configured by `configured`.
    pub(crate) fn new(test: &str, configured: impl FnOnce(Config) -> Config) -> Self {
        let scope = Scope::builder(format!("{}::{test}", module_path!()))
            .enter()
            .expect("a worker becomes free");
        let base = base(test);
        let config = Config::new(&url(&base)).expect("the URL is one");
        Self {
            driver: Driver::new(configured(config)),
            target: target(&base),
            base,
            scope: Some(scope),
        }
    }

    /// A session in the worker's keyspace.
    pub(crate) async fn connect(&self) -> Session {
        let builder = builder().use_keyspace(self.target.name(), true);
        builder.build().await.expect("the keyspace is there")
    }

    /// Makes the keyspace, and resets it.
    pub(crate) async fn init(&self) {
        self.driver
            .worker_init(&self.target)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
        self.prepare().await;
    }

    pub(crate) async fn prepare(&self) {
        self.driver
            .prepare(&self.target)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    }

    /// Marks the worker's keyspace with a row that no reset minds, and only a new copy lacks.
    pub(crate) async fn mark(&self) {
        let statement = "INSERT INTO dagz_stamp (part, body) VALUES ('mark', '')";
        execute(&self.connect().await, statement).await;
    }

    /// Whether the worker's keyspace was made anew since it was marked.
    pub(crate) async fn is_anew(&self) -> bool {
        let query = "SELECT part FROM dagz_stamp WHERE part = 'mark'";
        rows(&self.connect().await, query).await.is_empty()
    }
}

/// A base name for `test` that no other checkout uses on this server.
pub(crate) fn base(test: &str) -> String {
    // A keyspace's name has no other characters.
    site::base(test).replace(|character: char| !character.is_ascii_alphanumeric(), "_")
}

/// The current worker's keyspace for `base`.
pub(crate) fn target(base: &str) -> Target {
    site::target(Endpoint::new(address()), base, 48)
}

/// Runs a test at a site of its own, and removes afterwards what dagz made for it.
pub(crate) fn at_site(
    test: &str,
    configured: impl FnOnce(Config) -> Config,
    body: impl AsyncFnOnce(&Site),
) {
    let site = Site::new(test, configured);
    run(async {
        // A run that failed has left what it made.
        clean(&site.base, site.target.project()).await;
        body(&site).await;
        clean(&site.base, site.target.project()).await;
    });
}

/// [`Config`] whose keyspaces are made by `statements`, one a line.
pub(crate) fn made_by(config: Config, statements: &'static str) -> Config {
    config.migrate_with(statements, move |session| async move {
        for statement in split(statements) {
            session.query_unpaged(statement, ()).await?;
        }
        Ok::<_, ExecutionError>(())
    })
}

/// The statements of `text`, which has no `;` in them.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(';')
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

/// Removes all keyspaces that dagz made for `base`, and that one itself.
pub(crate) async fn clean(base: &str, project: &str) {
    let config = Config::new(&url(base)).expect("the URL is one");
    let all = databases(&config, project)
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    for database in all.iter().filter(|database| database.base() == Some(base)) {
        remove(database)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    }
    let statement = format!("DROP KEYSPACE IF EXISTS \"{base}\"");
    execute(&plain().await, &statement).await;
}

/// Runs statements, each of which must succeed.
pub(crate) async fn execute(session: &Session, statements: &str) {
    for statement in split(statements) {
        if let Err(error) = session.query_unpaged(statement, ()).await {
            panic!("{statement}: {error}");
        }
    }
}

/// What a query finds.
pub(crate) async fn ask(session: &Session, query: &str) -> QueryRowsResult {
    let result = session
        .query_unpaged(query, ())
        .await
        .unwrap_or_else(|error| panic!("{query}: {error}"));
    result.into_rows_result().expect("a query has rows")
}

/// The rows of a query with one column of text.
pub(crate) async fn rows(session: &Session, query: &str) -> Vec<String> {
    let result = ask(session, query).await;
    let rows = result.rows::<(Option<String>,)>().expect("it is text");
    rows.map(|row| row.expect("it is text").0.unwrap_or_default())
        .collect()
}

/// Every row of every table and view of `keyspace`, in an order of their own.
pub(crate) async fn dump(session: &Session, keyspace: &str) -> String {
    let mut dump = String::new();
    for (list, column) in [("tables", "table_name"), ("views", "view_name")] {
        let query =
            format!("SELECT {column} FROM system_schema.{list} WHERE keyspace_name = '{keyspace}'");
        for name in rows(session, &query).await {
            if name == "dagz_stamp" {
                continue;
            }
            dump += &format!("{list} {name}\n");
            let query = format!("SELECT JSON * FROM \"{keyspace}\".\"{name}\"");
            let mut rows = rows(session, &query).await;
            rows.sort();
            for row in rows {
                dump += &format!("    {row}\n");
            }
        }
    }
    dump
}

/// What the server says of `keyspace`, but for its name and dagz's own table.
pub(crate) async fn describe(session: &Session, keyspace: &str) -> Vec<String> {
    let result = ask(session, &format!("DESCRIBE KEYSPACE \"{keyspace}\"")).await;
    let rows = result
        .rows::<(String, String, String, String)>()
        .expect("it is described");
    rows.map(|row| row.expect("it is text"))
        .filter(|(_, _, name, _)| name != "dagz_stamp")
        .map(|(shown, _, _, statement)| {
            statement
                .replace(&shown, "KEYSPACE")
                .replace(keyspace, "KEYSPACE")
        })
        .collect()
}
