//! Locks by name on the server, which end with the session that holds them.
//!
//! One of them is the lock of the run that uses a worker's database, held by a session of dagz's own
//! from a prepare to the end of the test. Leases keep the tests of one checkout apart; this keeps
//! apart runs that do not know of each other, such as two machines with one node index. Another is
//! held while a database is made; see `provision/admin.rs`.

use std::time::Duration;

use dagz_core::{Error, ErrorKind, driver::Failure};
use mysql_async::{Conn, prelude::Queryable as _};
use sha2::{Digest, Sha256};

use super::failure;
use crate::{error, sql};

/// How long another run may hold a database before that is an error.
const PATIENCE: Duration = Duration::from_secs(2);

/// The name of the lock on `database` for this `purpose`. A hash, since a lock's name is not longer
/// than 64 characters, and the same in small letters and in capitals.
pub(crate) fn key(purpose: &str, database: &str) -> String {
    let hash = Sha256::new()
        .chain_update(purpose)
        .chain_update("\n")
        .chain_update(database)
        .finalize();
    let digits: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("dagz {purpose} {digits}")
}

/// The statement that takes a lock if it becomes free in time, and says whether it did.
pub(super) fn taking(key: &str, patience: Duration) -> String {
    format!(
        "SELECT GET_LOCK({}, {})",
        sql::literal(key),
        patience.as_secs()
    )
}

/// Takes a lock, and says whether it could.
pub(crate) async fn take(
    conn: &mut Conn,
    key: &str,
    patience: Duration,
) -> Result<bool, mysql_async::Error> {
    let taken: Option<Option<u8>> = conn.query_first(taking(key, patience)).await?;
    Ok(taken == Some(Some(1)))
}

/// Gives a lock back.
pub(crate) async fn give_back(conn: &mut Conn, key: &str) -> Result<(), mysql_async::Error> {
    conn.query_drop(format!("DO RELEASE_LOCK({})", sql::literal(key)))
        .await
}

/// Who holds a lock, for people.
pub(crate) async fn holder(conn: &mut Conn, key: &str) -> String {
    let statement = format!(
        "SELECT CONCAT('session ', ID, ' of `', USER, '` from ', HOST) \
         FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK({})",
        sql::literal(key)
    );
    match conn.query_first::<String, _>(statement).await {
        Ok(Some(holder)) => holder,
        // Without the right to see other users' sessions there is no more to tell.
        _ => "a session that this user may not see, or that has just ended".to_owned(),
    }
}

/// Takes the lock of the run that uses `database`, waiting a bounded time for another run.
pub(crate) async fn wait(conn: &mut Conn, database: &str) -> Result<(), Failure> {
    let key = key("use", database);
    let taken = take(conn, &key, PATIENCE).await.map_err(|error| {
        failure(error, |error| {
            error::statement(
                ErrorKind::Prepare,
                format!("cannot lock database `{database}`"),
                error,
            )
        })
    })?;
    if taken {
        return Ok(());
    }
    let holder = holder(conn, &key).await;
    Err(Failure::Final(Error::new(
        ErrorKind::InUse,
        format!(
            "another run is using database `{database}`: {holder}; give each machine its own `DAGZ_NODE_INDEX`, and each checkout that shares a server its own `DAGZ_PROJECT` and base name"
        ),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fit_and_differ() {
        let key = key("make", &"x".repeat(64));
        assert!(key.len() <= 64, "{key}");
        assert_ne!(key, super::key("use", &"x".repeat(64)));
        assert_ne!(super::key("use", "shop"), super::key("use", "SHOP"));
    }
}
