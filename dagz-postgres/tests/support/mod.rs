//! What the tests of this crate share: a server, a worker's target on it, and a look at its rows.
//!
//! Tests drive a [`Driver`] of their own through [`Site`], since a process has only one configured.

#![expect(dead_code, reason = "each test binary uses a part of it")]

mod described;

use std::{
    env,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dagz_core::{DbConfig as _, Endpoint, Scope, ScopeGuard, Target};
use dagz_postgres::{Config, Driver, databases, remove};
use dagz_testkit::site;
pub(crate) use dagz_testkit::site::{base, run};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, config::Host};

/// By which variable the tests of this binary find their server, and what its kind is called.
static SERVER: OnceLock<(&str, &str)> = OnceLock::new();

/// Has the tests of this binary use another server than the usual one; before they ask for it.
pub(crate) fn use_server(variable: &'static str, kind: &'static str) {
    assert_eq!(*SERVER.get_or_init(|| (variable, kind)), (variable, kind));
}

/// The server to test against.
pub(crate) fn url() -> String {
    let (variable, kind) = SERVER.get_or_init(|| ("DATABASE_URL", "postgres"));
    env::var(variable).unwrap_or_else(|_| {
        panic!("`{variable}` is not set: start a server by `cargo xtask services up {kind}`")
    })
}

/// Settings of a connection to `database`.
pub(crate) fn config(database: &str) -> tokio_postgres::Config {
    let mut config: tokio_postgres::Config = url().parse().expect("the address is a URL");
    config.dbname(database);
    config
}

/// A connection to `database`, driven by the test's runtime.
pub(crate) async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the server answers");
    tokio::spawn(connection);
    client
}

/// A driver, and a worker's database that it is to make.
pub(crate) struct Site {
    pub(crate) driver: Driver,
    pub(crate) target: Target,
    pub(crate) base: String,
    /// Keeps the worker.
    pub(crate) scope: Option<ScopeGuard>,
}

impl Site {
    /// A site for the database called after `test`, with a driver configured by `configured`.
    pub(crate) fn new(test: &str, configured: impl FnOnce(Config) -> Config) -> Self {
        let scope = Scope::builder(format!("{}::{test}", module_path!()))
            .enter()
            .expect("a worker becomes free");
        let base = base(test);
        let driver = Driver::new(configured(Config::from_config(config(&base))));
        let target = target(&base);
        Self {
            driver,
            target,
            base,
            scope: Some(scope),
        }
    }

    /// Settings of a connection to the worker's database, without a test's tag.
    pub(crate) fn config(&self) -> tokio_postgres::Config {
        config(self.target.name())
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&self.config()).await
    }

    /// A connection that says it is of `tag`.
    pub(crate) async fn connect_as(&self, application_name: &str) -> Client {
        connect(self.config().application_name(application_name)).await
    }

    /// Makes the database, and resets it.
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
}

impl Site {
    /// Gives the database back, once sessions without a name are gone, and waits until all is found out that is
    /// found out behind a test; a reset that does not wait looks for itself.
    pub(crate) async fn release_and_look(&self) {
        let watch = connect(&config("postgres")).await;
        let name = self.target.name();
        let until = async |query: String| {
            for _ in 0..2_000 {
                if rows(&watch, &query).await == ["t"] {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            panic!("it never came to: {query}");
        };
        let sessions = format!("FROM pg_stat_activity WHERE datname = '{name}'");
        until(format!(
            "SELECT count(*) = 0 {sessions} AND application_name = ''"
        ))
        .await;
        let now = rows(&watch, "SELECT clock_timestamp()").await.remove(0);
        self.driver.release(&self.target).await;
        if rows(&watch, "SHOW server_version_num").await[0].as_str() < "150000" {
            return;
        }
        until(format!(
            "SELECT count(*) = 1 {sessions} AND application_name LIKE 'dagz %' AND state = 'idle' \
             AND query LIKE 'WITH %' AND query_start > '{now}'"
        ))
        .await;
    }
}

/// The current worker's database for `base`.
pub(crate) fn target(base: &str) -> Target {
    site::target(endpoint(), base, 63)
}

/// The server of the tests, as the driver calls it before it knows better.
pub(crate) fn endpoint() -> Endpoint {
    let config = config("any");
    let host = match &config.get_hosts()[0] {
        Host::Tcp(host) => host.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    Endpoint::new(format!("{host}:{port}"))
}

/// Runs a test at a site of its own, and removes afterwards what dagz made for it.
pub(crate) fn at_site(
    test: &str,
    configured: impl FnOnce(Config) -> Config,
    body: impl AsyncFnOnce(&Site),
) {
    let site = Site::new(test, configured);
    run(async {
        body(&site).await;
        site.driver.release(&site.target).await;
        clean(&site.base, site.target.project()).await;
    });
}

/// Removes all databases that dagz made for `base`.
pub(crate) async fn clean(base: &str, project: &str) {
    let all = databases(&Config::from_config(config(base)), project)
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    for database in all.iter().filter(|database| database.base() == Some(base)) {
        remove(database)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    }
}

/// All that there is in a database: [`contents`], and the schema in words.
pub(crate) async fn dump(client: &Client) -> String {
    contents(client).await + &described::describe(client).await
}

/// Every row of every table, the state of every sequence and what is in every large object, in an order of their own.
pub(crate) async fn contents(client: &Client) -> String {
    let relations = client
        .query(
            "SELECT c.relkind::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'm', 'S') AND c.relpersistence <> 't' \
               AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'dagz_baseline') \
             ORDER BY 2",
            &[],
        )
        .await
        .expect("the catalogs are readable");
    let mut dump = String::new();
    for relation in relations {
        let (kind, name): (String, String) = (relation.get(0), relation.get(1));
        let query = if kind == "S" {
            format!("SELECT last_value || ' ' || is_called FROM {name}")
        } else {
            format!("SELECT t::text FROM ONLY {name} t ORDER BY t::text")
        };
        dump += &format!("{kind} {name}\n");
        for message in client
            .simple_query(&query)
            .await
            .expect("rows are readable")
        {
            if let SimpleQueryMessage::Row(row) = message {
                dump += &format!("    {}\n", row.get(0).unwrap_or("NULL"));
            }
        }
    }
    let large_objects = "SELECT oid, lo_get(oid) FROM pg_largeobject_metadata ORDER BY oid";
    dump + &format!("large objects {:?}\n", rows(client, large_objects).await)
}

/// The rows of a query, as text.
pub(crate) async fn rows(client: &Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.expect("the query runs");
    messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).unwrap_or("NULL"))
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            _ => None,
        })
        .collect()
}

/// Names of databases that begin with `base`.
pub(crate) async fn made_for(base: &str) -> Vec<String> {
    let client = connect(&config("postgres")).await;
    let query = format!(
        "SELECT datname FROM pg_database WHERE starts_with(datname, '{base}') ORDER BY datname"
    );
    rows(&client, &query).await
}

/// Has a migration of one table with one row, which counts how often it was run in `calls`.
pub(crate) fn counted(calls: &Arc<AtomicUsize>) -> impl FnOnce(Config) -> Config + use<> {
    let calls = Arc::clone(calls);
    move |config| {
        config.migrate_with("1", move |config| {
            let calls = Arc::clone(&calls);
            async move {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                connect(&config)
                    .await
                    .batch_execute("CREATE TABLE item (id serial); INSERT INTO item DEFAULT VALUES")
                    .await
            }
        })
    }
}
