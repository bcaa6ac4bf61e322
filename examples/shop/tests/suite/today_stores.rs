//! What people do without dagz for the other stores: one cache and one ledger for all tests, emptied before each.
//!
//! As in `today.rs`, only what this suite made is ever emptied. The main function is [`empty_unless_active`].

use dagz::{Error, ErrorKind};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use redis::{AsyncCommands, Client, ConnectionInfo};
use shop::ledger::LEDGER_SQL;

/// By which the cache and the ledger are known to be this suite's.
const MARK: &str = "made_by_the_tests_of_dagz_example_shop";

/// The statements that empty and seed the ledger.
const RESET: &str = "SET foreign_key_checks = 0; TRUNCATE entries; TRUNCATE postings; TRUNCATE accounts;
    SET foreign_key_checks = 1; INSERT INTO accounts (code, name) VALUES ('1200', 'Bank'), ('8400', 'Sales')";

/// With dagz, nothing. Without, both in the start state.
pub(crate) async fn empty_unless_active(redis: &ConnectionInfo, books: &Opts) -> dagz::Result<()> {
    if dagz::active() {
        return Ok(());
    }
    if !empty_cache(redis)
        .await
        .map_err(failed("emptying the cache"))?
    {
        return Err(refused("the cache of `REDIS_URL`"));
    }
    if !empty_books(books)
        .await
        .map_err(failed("emptying the ledger"))?
    {
        return Err(refused("the ledger of `MYSQL_URL`"));
    }
    Ok(())
}

/// Whether it was ours to empty.
async fn empty_cache(info: &ConnectionInfo) -> Result<bool, redis::RedisError> {
    let client = Client::open(info.clone())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await?;
    let is_marked: bool = connection.exists(MARK).await?;
    if keys > 0 && !is_marked {
        return Ok(false);
    }
    redis::pipe()
        .cmd("FLUSHDB")
        .set(MARK, 1)
        .exec_async(&mut connection)
        .await?;
    Ok(true)
}

/// Whether it was ours to empty. The first test makes it.
async fn empty_books(opts: &Opts) -> Result<bool, mysql_async::Error> {
    let name = opts.db_name().unwrap_or("ledger").to_owned();
    let server = OptsBuilder::from_opts(opts.clone()).db_name(None::<String>);
    let mut connection = Conn::new(server).await?;
    // Of tests that run in parallel, which is what fails here, one makes it.
    connection.exec_drop("DO GET_LOCK(?, 10)", (&name,)).await?;
    let quoted = format!("`{}`", name.replace('`', "``"));
    connection
        .query_drop(format!("CREATE DATABASE IF NOT EXISTS {quoted}"))
        .await?;
    connection.query_drop(format!("USE {quoted}")).await?;
    let tables: Vec<String> = connection.query("SHOW TABLES").await?;
    if tables.is_empty() {
        for statement in LEDGER_SQL
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            connection.query_drop(statement).await?;
        }
        connection
            .query_drop(format!("CREATE TABLE {MARK} (id INT)"))
            .await?;
    } else if !tables.iter().any(|table| table == MARK) {
        return Ok(false);
    }
    for statement in RESET.split(';') {
        connection.query_drop(statement).await?;
    }
    // The lock goes with the connection.
    connection.disconnect().await?;
    Ok(true)
}

fn refused(what: &str) -> Error {
    let message = format!(
        "refusing to empty {what}: it holds something, and these tests did not make it; name another one"
    );
    Error::new(ErrorKind::Refused, message)
}

fn failed<E>(what: &'static str) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |error| Error::new(ErrorKind::Prepare, format!("{what} failed")).with_source(error)
}
