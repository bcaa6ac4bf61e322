//! What the tests of this crate share: a server, a worker's target on it, and a look at its rows.
//!
//! Tests drive a [`Driver`] of their own through [`Site`], since a process has only one configured.

#![expect(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod definitions;
pub(crate) mod prepared;

use std::{
    env,
    future::Future,
    time::{Duration, Instant},
};

use dagz_core::{DbConfig as _, Endpoint, Scope, ScopeGuard, Target};
use dagz_mysql::{
    Config, Driver, databases,
    mysql_async::{Conn, Opts, OptsBuilder, Row, Value, prelude::Queryable as _},
    remove,
};
use dagz_testkit::site;
pub(crate) use dagz_testkit::site::{base, run};
use definitions::definitions;
use tokio::task::JoinHandle;

/// The server to test against.
pub(crate) fn url() -> String {
    env::var("DAGZ_TEST_MYSQL_URL").unwrap_or_else(|_| {
        panic!(
            "`DAGZ_TEST_MYSQL_URL` is not set: start a server by `cargo xtask services up mariadb`"
        )
    })
}

/// Settings of a connection to `database`.
pub(crate) fn opts(database: &str) -> Opts {
    let opts = Opts::from_url(&url()).expect("`DAGZ_TEST_MYSQL_URL` is a URL");
    OptsBuilder::from_opts(opts)
        .db_name(Some(database).filter(|name| !name.is_empty()))
        .prefer_socket(false)
        .into()
}

/// A connection by `opts`.
pub(crate) async fn connect(opts: &Opts) -> Conn {
    Conn::new(opts.clone()).await.expect("the server answers")
}

/// Whether the server is MariaDB; what only one of the two has is tested there.
pub(crate) async fn is_mariadb() -> bool {
    let version: Option<String> = connect(&opts(""))
        .await
        .query_first("SELECT VERSION()")
        .await
        .expect("the server tells its version");
    version.is_some_and(|version| version.contains("MariaDB"))
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
        let driver = Driver::new(configured(Config::from_opts(opts(&base))));
        let target = target(&base);
        Self {
            driver,
            target,
            base,
            scope: Some(scope),
        }
    }

    /// Settings of a connection to the worker's database.
    pub(crate) fn opts(&self) -> Opts {
        opts(self.target.name())
    }

    pub(crate) async fn connect(&self) -> Conn {
        connect(&self.opts()).await
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

    /// As at the end of a test and the beginning of the next one.
    pub(crate) async fn next(&self) {
        self.driver.release(&self.target).await;
        self.prepare().await;
    }

    /// Marks the worker's database with a row that no reset minds, and only a new copy lacks.
    pub(crate) async fn mark(&self) {
        let mut conn = self.connect().await;
        execute(&mut conn, "REPLACE INTO dagz_stamp VALUES (2, '', '')").await;
    }

    /// Whether the worker's database was made anew since it was marked.
    pub(crate) async fn is_anew(&self) -> bool {
        let mut conn = self.connect().await;
        rows(&mut conn, "SELECT id FROM dagz_stamp WHERE id = 2")
            .await
            .is_empty()
    }
}

/// The current worker's database for `base`.
pub(crate) fn target(base: &str) -> Target {
    site::target(endpoint(), base, 64)
}

/// The server of the tests, as the driver calls it before it knows better.
pub(crate) fn endpoint() -> Endpoint {
    let opts = opts("any");
    Endpoint::new(match opts.socket() {
        Some(socket) => socket.to_owned(),
        None => format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port()),
    })
}

/// What the events of `kind` say of the site's database, in the order in which they came.
pub(crate) fn details(site: &Site, kind: &str) -> Vec<String> {
    let events = site::events(&site.target, kind).into_iter();
    events.filter_map(|event| event.detail).collect()
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
        site.driver.release(&site.target).await;
        clean(&site.base, site.target.project()).await;
    });
}

/// Removes all databases that dagz made for `base`.
pub(crate) async fn clean(base: &str, project: &str) {
    let all = databases(&Config::from_opts(opts(base)), project)
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    for database in all.iter().filter(|database| database.base() == Some(base)) {
        remove(database)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    }
}

/// Runs statements, each of which must succeed.
pub(crate) async fn execute(conn: &mut Conn, statements: &str) {
    if let Err(error) = conn.query_drop(statements).await {
        panic!("{statements}: {error}");
    }
}

/// Every row of every table, and the state of every counter and sequence, in an order of their own.
pub(crate) async fn dump(conn: &mut Conn) -> String {
    let relations: Vec<(String, String)> = conn
        .query("SHOW FULL TABLES")
        .await
        .expect("tables are listed");
    // As times are told depends on the session.
    execute(conn, "SET time_zone = '+00:00'").await;
    let listed: Vec<(String, String, String)> = conn
        .query(
            "SELECT TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE) FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME, ORDINAL_POSITION",
        )
        .await
        .expect("columns are listed");
    let mut dump = String::new();
    // Their former rows are a part of them. Nothing else that is listed tells.
    let versioned = rows(
        conn,
        "SELECT TABLE_NAME FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'SYSTEM VERSIONED'",
    )
    .await;
    for (name, kind) in relations {
        if kind == "VIEW" || name.starts_with("dagz_") {
            continue;
        }
        dump += &format!("{kind} {name}\n");
        let query = match kind.as_str() {
            "SEQUENCE" => format!("SELECT next_not_cached_value, cycle_count FROM `{name}`"),
            _ => {
                let columns = listed.iter().filter(|(table, _, _)| *table == name);
                let columns = columns.map(|(_, column, kind)| exact(column, kind));
                let columns = columns.collect::<Vec<_>>().join(", ");
                let all = match versioned.contains(&name) {
                    true => " FOR SYSTEM_TIME ALL",
                    false => "",
                };
                format!("SELECT {columns} FROM `{}`{all}", name.replace('`', "``"))
            }
        };
        let mut rows = rows(conn, &query).await;
        rows.sort();
        for row in rows {
            dump += &format!("    {row}\n");
        }
    }
    dump
}

/// What tells each value of a column of this kind from all others.
fn exact(column: &str, kind: &str) -> String {
    let quoted = format!("`{}`", column.replace('`', "``"));
    match kind {
        // As text it has six digits.
        "float" => format!("{quoted} * 1e0"),
        // What is none of its values reads as the empty one.
        "enum" => format!("CAST({quoted} AS UNSIGNED)"),
        _ => quoted,
    }
}

/// Where the counters of all tables stand that have one.
pub(crate) async fn counters(conn: &mut Conn) -> Vec<String> {
    // MySQL would tell what it knew a day ago. MariaDB does not know the variable.
    drop(
        conn.query_drop("SET SESSION information_schema_stats_expiry = 0")
            .await,
    );
    rows(
        conn,
        "SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND COALESCE(AUTO_INCREMENT, 1) > 1 ORDER BY TABLE_NAME",
    )
    .await
}

/// Rows, counters and definitions.
pub(crate) async fn state(conn: &mut Conn) -> (String, Vec<String>) {
    let (dump, mut state) = (dump(conn).await, counters(conn).await);
    for query in [
        "SELECT CONCAT_WS(' ', TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COLUMN_KEY) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1",
        "SHOW FULL TABLES",
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY 1",
    ] {
        state.extend(rows(conn, query).await);
    }
    state.extend(definitions(conn).await);
    (dump, state)
}

/// The rows of a query, as text.
pub(crate) async fn rows(conn: &mut Conn, query: &str) -> Vec<String> {
    let rows: Vec<Row> = match conn.query(query).await {
        Ok(rows) => rows,
        Err(error) => panic!("{query}: {error}"),
    };
    rows.into_iter()
        .map(|row| {
            let values = row.unwrap_raw().into_iter().map(|value| match value {
                Some(Value::Bytes(bytes)) => String::from_utf8(bytes)
                    .unwrap_or_else(|error| error.into_bytes().escape_ascii().to_string()),
                Some(Value::NULL) | None => "NULL".to_owned(),
                Some(value) => value.as_sql(false),
            });
            values.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// Longer than a busy machine takes between two steps of a test, shorter than the fence waits.
pub(crate) const HELD: Duration = Duration::from_millis(900);

/// How long it is tried to do something while it is held, on a server where others change schemas all the time.
pub(crate) const TRIED: Duration = Duration::from_secs(60);

/// A site whose second test runs: from then on, what one leaves is held.
pub(crate) async fn begin(site: &Site) -> Conn {
    site.init().await;
    site.next().await;
    connect(&opts("")).await
}

/// Ends the present test, and tells whether what it left is held. It is not where somebody else on the server changes
/// schemas all the time.
pub(crate) async fn release(site: &Site, look: &mut Conn) -> bool {
    site.driver.release(&site.target).await;
    let fence = format!("CREATE DATABASE IF NOT EXISTS `{}`", site.target.name());
    let started = Instant::now();
    let mut seen = 0;
    while started.elapsed() < HELD / 3 {
        let state = doing(look, |_, statement| statement.contains(&fence)).await;
        // Not one that is given back at once.
        seen = match state.is_some_and(|state| state.starts_with("Waiting for schema")) {
            true => seen + 1,
            false => 0,
        };
        if seen == 5 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

/// Ends tests until what one left is held.
pub(crate) async fn hold(site: &Site, look: &mut Conn) {
    let started = Instant::now();
    while !release(site, look).await {
        assert!(started.elapsed() < TRIED, "it is never held");
        site.prepare().await;
    }
}

/// What `done` comes to, which must not take longer than `limit`: then it is told what all sessions are at.
///
/// # Panics
/// When it does.
pub(crate) async fn within<T>(limit: Duration, done: impl Future<Output = T>) -> T {
    if let Ok(done) = tokio::time::timeout(limit, done).await {
        return done;
    }
    let sessions = rows(&mut connect(&opts("")).await, "SHOW FULL PROCESSLIST").await;
    panic!(
        "not done after {limit:?}, with these sessions on the server:\n{}",
        sessions.join("\n")
    );
}

/// The state of the first session that `is_wanted` by its number and what it does.
pub(crate) async fn doing(
    look: &mut Conn,
    is_wanted: impl Fn(u64, &str) -> bool,
) -> Option<String> {
    let sessions: Vec<Row> = look
        .query("SHOW PROCESSLIST")
        .await
        .expect("sessions are listed");
    sessions.iter().find_map(|session| {
        let text = |index| session.get::<Option<String>, _>(index).flatten();
        let (id, statement) = (session.get(0)?, text(7).unwrap_or_default());
        is_wanted(id, &statement).then(|| text(6).unwrap_or_default())
    })
}

/// Waits until the statement that session `id` is `running` waits for somebody else, or is done.
pub(crate) async fn until_it_waits<T>(look: &mut Conn, id: u64, running: &JoinHandle<T>) {
    let started = Instant::now();
    while !running.is_finished() && started.elapsed() < Duration::from_millis(300) {
        let state = doing(look, |session, _| session == id).await;
        if state.is_some_and(|state| state.starts_with("Waiting for")) {
            return;
        }
    }
}

/// Has an empty table `item`, and `seed` with two rows.
pub(crate) fn with_seed(config: Config) -> Config {
    config.migrate_with("1", |opts| async move {
        connect(&opts)
            .await
            .query_drop(
                "CREATE TABLE item (id INT PRIMARY KEY); CREATE TABLE seed (id INT PRIMARY KEY);
                 INSERT INTO seed VALUES (1), (2)",
            )
            .await
    })
}

/// How many rows the first of these tables has, and which the second.
pub(crate) const LEFT: &str =
    "SELECT (SELECT COUNT(*) FROM item), (SELECT GROUP_CONCAT(id ORDER BY id) FROM seed)";
