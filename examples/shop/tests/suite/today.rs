//! What people do without dagz: one database for all tests, emptied and seeded again before each.
//!
//! It runs only with `DAGZ=off`, which is how the suite is compared with itself: serially it passes, in parallel tests
//! empty the tables under each other. The main function is [`unless_active`].

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use dagz::{Error, ErrorKind};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use crate::audit;

/// The comment by which a database is known to be this suite's, so that nobody's else is ever emptied.
const MARK: &str = "made by the tests of dagz's example shop";

/// The advisory lock under which the database is made, since each nextest test is a process of its own.
const LOCK: i64 = 0x5110_7e57;

/// Waiting for each other's locks is what tests do here in parallel; not for ever, though.
const LIMITS: &str = "-c lock_timeout=3s -c statement_timeout=10s";

/// With dagz, `config` as it is. Without, the same with a name of this test's own, and its database in the start state.
pub(crate) async fn unless_active(mut config: Config, test: &str) -> dagz::Result<Config> {
    static RESET: OnceCell<String> = OnceCell::const_new();
    if dagz::active() {
        return Ok(config);
    }
    config.application_name(name_of(test)).options(LIMITS);
    let reset = RESET.get_or_try_init(|| make_database(&config)).await?;
    let client = connect(&config).await.map_err(failed("connecting"))?;
    client
        .batch_execute(reset)
        .await
        .map_err(failed("emptying the tables"))?;
    Ok(config)
}

/// The same for code that is not async.
pub(crate) fn unless_active_blocking(config: Config, test: &str) -> dagz::Result<Config> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Io, "no runtime for the reset").with_source(error))?
        .block_on(unless_active(config, test))
}

/// Opens a connection; its task ends with the client.
pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // What goes wrong with a connection, its client reports as well.
        let _ = connection.await;
    });
    Ok(client)
}

/// Creates and migrates the database if need be, and returns the statements that empty and seed it.
async fn make_database(config: &Config) -> dagz::Result<String> {
    let name = config.get_dbname().unwrap_or("shop").to_owned();
    let mut maintenance = config.clone();
    maintenance.dbname("postgres").options("");
    let server = connect(&maintenance)
        .await
        .map_err(failed("connecting to the server of `DATABASE_URL`"))?;
    make_locked(&server, config, &name).await.map_err(failed("making the database"))?.ok_or_else(|| {
        let message = format!(
            "refusing to empty `{name}`: these tests did not make it; drop it, or name another one in `DATABASE_URL`"
        );
        Error::new(ErrorKind::Refused, message)
    })
}

async fn make_locked(
    server: &Client,
    config: &Config,
    name: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    // Given back when the connection ends.
    server
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await?;
    let found = server
        .query_opt(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') = $2 FROM pg_database WHERE datname = $1",
            &[&name, &MARK],
        )
        .await?;
    if found.is_none() {
        server
            .batch_execute(&format!("CREATE DATABASE {}", quoted(name)))
            .await?;
    }
    let client = connect(config).await?;
    if found.is_some_and(|row| !row.get::<_, bool>(0)) && !tables(&client).await?.is_empty() {
        return Ok(None);
    }
    server
        .batch_execute(&format!(
            "COMMENT ON DATABASE {} IS '{}'",
            quoted(name),
            MARK.replace('\'', "''")
        ))
        .await?;
    shop::migrate(&client).await?;
    if audit::is_wanted() {
        audit::install(&client).await?;
    }
    let tables = tables(&client).await?.join(", ");
    Ok(Some(format!(
        "TRUNCATE {tables} RESTART IDENTITY CASCADE;\n{}",
        shop::seed_sql()
    )))
}

async fn tables(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
             WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename <> 'schema_migrations'
             ORDER BY 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A name that no other test of any process has, within what Postgres keeps of one.
pub(crate) fn name_of(test: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let mut name = format!(
        "{}.{} {test}",
        process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    name.truncate(63);
    name
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn failed(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |error| Error::new(ErrorKind::Prepare, format!("{what} failed")).with_source(error)
}
