//! What a reset leaves on record, by which the next one finds what no row tells of.
//!
//! [`Notes`] are a row of the keyspace's `dagz_stamp`, beside the start state (`reset/state.rs`), since under nextest
//! the next reset is another process's. They tell when the seed rows of a table were last written, and how often the
//! server had written to each table with counters: a counter that a test deleted is not there, and does not count from
//! nothing.

use std::collections::BTreeMap;

use scylla::{client::session::Session, value::CqlValue};
use serde::{Deserialize, Serialize};

use crate::{
    cql,
    error::Native,
    server::{ask, rows},
};

/// What a reset leaves on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Of each table that starts with rows, the latest time at which one of them was written, in microseconds.
    pub(super) times: BTreeMap<String, i64>,
    /// What was counted last, and trusted.
    pub(super) writes: Option<Writes>,
}

/// How often the server has written to tables since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Writes {
    /// Which start of the server that was.
    start: i32,
    by_table: BTreeMap<String, i64>,
}

impl Writes {
    /// Asks how often the server has written to the tables of `keyspace`; none where it does not say.
    pub(super) async fn count(session: &Session, keyspace: &str) -> Result<Option<Self>, Native> {
        let counts = format!(
            "SELECT table_name, count FROM system_views.local_write_latency WHERE keyspace_name = {} ALLOW FILTERING",
            cql::literal(keyspace)
        );
        let start = "SELECT gossip_generation FROM system.local WHERE key = 'local'";
        let (counts, start) = futures_util::join!(ask(session, counts), ask(session, start));
        let (counts, start) = match (counts, start) {
            (Ok(counts), Ok(start)) => (counts, start),
            // Of Scylla, or for somebody who may not look.
            (Err(error), _) | (_, Err(error)) if error.is_missing() || error.is_denied() => {
                return Ok(None);
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let start: Vec<(Option<i32>,)> = rows(start)?;
        let by_table: Vec<(String, CqlValue)> = rows(counts)?;
        let by_table = by_table.into_iter().filter_map(|(table, count)| {
            let count = count.as_bigint()?;
            Some((table, count))
        });
        Ok(Some(Self {
            start: start.first().and_then(|row| row.0).unwrap_or_default(),
            by_table: by_table.collect(),
        }))
    }

    /// Whether nothing was written to `table` since `earlier`.
    pub(super) fn is_as(&self, earlier: Option<&Self>, table: &str) -> bool {
        earlier.is_some_and(|earlier| {
            earlier.start == self.start && earlier.by_table.get(table) == self.by_table.get(table)
        })
    }

    /// Only what is told of `tables`.
    pub(super) fn of(mut self, tables: &[&str]) -> Self {
        self.by_table
            .retain(|table, _| tables.contains(&table.as_str()));
        self
    }
}
