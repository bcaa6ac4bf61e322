//! The lock of the run that uses a worker's database.
//!
//! An advisory lock inside the database, held by a session of dagz's own from a prepare to the end
//! of the test. Leases keep the tests of one checkout apart; this keeps apart runs that do not know
//! of each other, such as two machines with one node index.

use std::time::{Duration, Instant};

use dagz_core::{Error, ErrorKind, driver::Failure};
use futures_util::FutureExt;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::failure;
use crate::error;

/// How long another run may hold a database before that is an error.
const PATIENCE: Duration = Duration::from_secs(2);

/// The two numbers of the lock.
pub(super) const KEY: (i32, i32) = (0x6461_677a, 0);

/// The statement that takes the lock if it is free, and says whether it did.
pub(super) async fn prepare(client: &Client) -> Result<Statement, tokio_postgres::Error> {
    client
        .prepare(&format!(
            "SELECT pg_try_advisory_lock({}, {})",
            KEY.0, KEY.1
        ))
        .await
}

/// Takes the lock if it is free, and says whether it did, without a statement for it.
pub(super) async fn take_if_free(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let statement = format!("SELECT pg_try_advisory_lock({}, {})", KEY.0, KEY.1);
    let messages = client.simple_query(&statement).await?;
    Ok(messages
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))))
}

/// Enqueues giving the lock back, without waiting for it: whoever wants it next waits a little,
/// and the connection does things in their order.
pub(super) fn give_back(client: &Client) {
    let statement = format!("SELECT pg_advisory_unlock({}, {})", KEY.0, KEY.1);
    // Polled once, it is sent; a connection that is gone holds no lock.
    drop(client.batch_execute(&statement).now_or_never());
}

/// Takes the lock of `database`, waiting a bounded time for another run that has it.
pub(super) async fn wait(client: &Client, lock: &Statement, database: &str) -> Result<(), Failure> {
    let map = |error| {
        failure(error, |error| {
            error::statement(
                ErrorKind::Prepare,
                format!("cannot lock database `{database}`"),
                error,
            )
        })
    };
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if client.query_one(lock, &[]).await.map_err(map)?.get(0) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    let holder = client
        .query_opt(
            "SELECT format('pid %s, `%s`, from %s, since %s', a.pid, a.application_name, \
                    coalesce(a.client_addr::text, 'this machine'), a.backend_start) \
             FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND l.classid::bigint = $1 AND l.objid::bigint = $2 LIMIT 1",
            &[&i64::from(KEY.0), &i64::from(KEY.1)],
        )
        .await
        .map_err(map)?
        .map_or_else(|| "nobody any more".to_owned(), |row| row.get(0));
    Err(Failure::Final(Error::new(
        ErrorKind::InUse,
        format!(
            "another run is using database `{database}`: {holder}; give each machine its own `DAGZ_NODE_INDEX`, and each checkout that shares a server its own `DAGZ_PROJECT` and base name"
        ),
    )))
}
