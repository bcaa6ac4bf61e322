//! Transactions that were prepared by `XA PREPARE`, which stay with the server whatever becomes of their sessions.

use std::time::{Duration, Instant};

use dagz_mysql::mysql_async::{Conn, Error, prelude::Queryable as _};

use super::{connect, opts};

/// The number of the error that tells that there is nothing to commit.
const ROLLED_BACK: u16 = 1402;

/// The names of those that begin with `start`.
pub(crate) async fn prepared(conn: &mut Conn, start: &str) -> Vec<String> {
    let prepared: Vec<(u64, u64, u64, String)> = conn.query("XA RECOVER").await.unwrap();
    let names = prepared.into_iter().map(|(_, _, _, name)| name);
    names.filter(|name| name.starts_with(start)).collect()
}

/// Ends the one of this `name` by `how`, once its session is gone; tells whether there was one.
pub(crate) async fn end_prepared(conn: &mut Conn, how: &str, name: &str) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        match conn.query_drop(format!("XA {how} '{name}'")).await {
            Ok(()) => return true,
            // It had changed nothing.
            Err(Error::Server(error)) if error.code == ROLLED_BACK => return true,
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// Rolls back what a run that failed has left prepared, which would keep its databases from being removed.
pub(crate) async fn roll_all_back(base: &str) {
    let mut conn = connect(&opts("")).await;
    for name in prepared(&mut conn, base).await {
        end_prepared(&mut conn, "ROLLBACK", &name).await;
    }
}
