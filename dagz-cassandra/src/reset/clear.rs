//! Empties a table: by deleting its partitions where they are few, by `TRUNCATE` where they are many.
//!
//! A deletion is a write with a timestamp, and wins over every write that has none later, also over one that
//! comes after it. So it must be later than all that was written and earlier than all that will be: [`Clock`]
//! finds that moment, in the past of every clock that gives timestamps. What was written with a timestamp from
//! the future survives it, is found, and is truncated, which minds no timestamps.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use scylla::{
    client::session::Session,
    statement::prepared::PreparedStatement,
    value::{CqlValue, Row},
};

use super::AT_ONCE;
use crate::{
    cql,
    error::Native,
    schema::Table,
    server::{Moment, SLOW, all, ask, ask_slowly, profile, rows, statement, truncating},
};

/// The most partitions that are deleted one by one. On one node, 50 of them take 5 ms, 200 as long as a
/// `TRUNCATE`, 17 ms.
pub(super) const FEW: usize = 128;

/// After how many deleted partitions a table is truncated, on the average: each leaves a tombstone, over which
/// every later look at the table has to go, for about 8 µs.
const TOMBSTONES: u64 = 256;

/// How many deletions are on their way at a time.
const DELETIONS: usize = 32;

/// A partition's key.
pub(super) type Key = Vec<CqlValue>;

/// The server's clock, and ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    server_millis: i64,
    at: std::time::Instant,
    is_single: bool,
}

impl Clock {
    /// What `moment` tells; with more than one node there are more clocks than it tells of.
    pub(super) fn new(moment: Moment, is_single: bool) -> Self {
        Self {
            server_millis: moment.millis,
            at: moment.at,
            is_single,
        }
    }

    /// The last microsecond before the present millisecond of both clocks: no timestamp that is given from
    /// now on is so early. Cassandra's own timestamps begin with each millisecond anew.
    fn just_before(&self) -> i64 {
        let elapsed = i64::try_from(self.at.elapsed().as_millis()).unwrap_or_default();
        own_millis().min(self.server_millis + elapsed) * 1_000 - 1
    }

    /// Whether what was written at `micros` hides what is written now, by whichever clock.
    pub(super) fn is_ahead(&self, micros: i64) -> bool {
        let present = self.just_before() + 1_000;
        micros > present
    }

    /// Waits until the millisecond is over in which the server told its time. What was written before that,
    /// and every deletion by a test, is then earlier than whatever comes.
    pub(super) async fn settle(&self) {
        let over = Duration::from_millis(1);
        while self.at.elapsed() < over {
            tokio::time::sleep(over.saturating_sub(self.at.elapsed())).await;
        }
    }
}

fn own_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or_default()
        })
}

/// The statement that tells which partitions a table has, up to one more than are few.
pub(super) fn probe(keyspace: &str, table: &Table) -> String {
    format!(
        "SELECT DISTINCT {} FROM {} LIMIT {}",
        columns(table).join(", "),
        cql::qualified(keyspace, &table.name),
        FEW + 1
    )
}

/// The statement that deletes a partition.
pub(super) fn deletion(keyspace: &str, table: &Table) -> String {
    let keys: Vec<_> = columns(table)
        .iter()
        .map(|column| format!("{column} = ?"))
        .collect();
    format!(
        "DELETE FROM {} USING TIMESTAMP ? WHERE {}",
        cql::qualified(keyspace, &table.name),
        keys.join(" AND ")
    )
}

fn columns(table: &Table) -> Vec<String> {
    table
        .keys
        .iter()
        .map(|name| cql::identifier(name))
        .collect()
}

/// The partitions of a table, up to one more than are few.
pub(super) async fn keys(
    session: &Session,
    keyspace: &str,
    table: &Table,
) -> Result<Vec<Key>, Native> {
    found(ask(session, probe(keyspace, table)).await)
}

/// What a probe found. Where the server reads over more tombstones than it bears, that is many partitions.
pub(super) fn found(
    result: Result<scylla::response::query_result::QueryResult, Native>,
) -> Result<Vec<Key>, Native> {
    let result = match result {
        Err(error) if error.is_read_failure() => return Ok(vec![Key::new(); FEW + 1]),
        result => result?,
    };
    let rows: Vec<Row> = rows(result)?;
    Ok(rows
        .into_iter()
        .map(|row| row.columns.into_iter().flatten().collect())
        .collect())
}

/// Empties `table`, which has the partitions `keys`, and the views that follow it. `prepared` is the
/// [`deletion`], if it was prepared already. Tests switch a detection off by `blind`.
pub(super) async fn clear(
    session: &Session,
    keyspace: &str,
    table: &Table,
    keys: Vec<Key>,
    prepared: Option<&PreparedStatement>,
    clock: Clock,
    blind: Option<&'static str>,
) -> Result<(), Native> {
    let is_due = {
        let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        // By chance, since no process of nextest's lives long enough to count.
        random() % TOMBSTONES < count
    };
    // A counter that was deleted cannot be counted up again, and of several nodes' clocks none is known.
    if table.is_counter || keys.len() > FEW || is_due || !clock.is_single {
        return truncate(session, keyspace, table).await;
    }
    clock.settle().await;
    let before = clock.just_before();
    let own;
    let deletion = match prepared {
        Some(prepared) => prepared,
        None => {
            own = prepare(session, deletion(keyspace, table)).await?;
            &own
        }
    };
    let deletions = keys.into_iter().map(|key| async move {
        let values: Vec<_> = [CqlValue::BigInt(before)].into_iter().chain(key).collect();
        session.execute_unpaged(deletion, values).await?;
        Ok::<_, Native>(())
    });
    all(DELETIONS, deletions.collect()).await?;
    if blind != Some("future") && is_alive(session, keyspace, table).await? {
        truncate(session, keyspace, table).await?;
    }
    Ok(())
}

/// Whether anything is left in a table or in a view of it.
async fn is_alive(session: &Session, keyspace: &str, table: &Table) -> Result<bool, Native> {
    let names = [&table.name].into_iter().chain(&table.views);
    let looks = names.map(|name| async move {
        let query = format!("SELECT * FROM {} LIMIT 1", cql::qualified(keyspace, name));
        let rows: Vec<Row> = rows(ask(session, query).await?)?;
        Ok::<_, Native>(!rows.is_empty())
    });
    let alive = all(AT_ONCE, looks.collect()).await?;
    Ok(alive.contains(&true))
}

/// Empties a table by the server's own means, and with it the views that follow it.
pub(super) async fn truncate(
    session: &Session,
    keyspace: &str,
    table: &Table,
) -> Result<(), Native> {
    ask_slowly(session, truncating(keyspace, &table.name), &profile())
        .await
        .map(drop)
}

/// Prepares one of dagz's statements.
pub(super) async fn prepare(session: &Session, text: String) -> Result<PreparedStatement, Native> {
    Ok(session.prepare(statement(text, SLOW)).await?)
}

fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The timestamp, in microseconds, of rows that are restored: after the deletions before them, and before
/// whatever is written from the next millisecond on.
pub(super) fn restoring(clock: Clock) -> i64 {
    clock.just_before() + 1
}
