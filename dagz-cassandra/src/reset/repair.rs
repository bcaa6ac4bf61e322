//! Brings one table back: empties it, and writes the rows that it starts with.
//!
//! [`Found`] is how it differs, as [`Keeper`](super::Keeper) saw it; `reset/clear.rs` empties, `reset/state.rs`
//! restores.

use scylla::{client::session::Session, statement::prepared::PreparedStatement};

use super::{
    clear::{self, Clock, Key},
    rows::Times,
    state::State,
};
use crate::{error::Native, schema::Table};

/// How a table differs from its start state.
pub(super) enum Found {
    Nothing,
    Partitions(Vec<Key>),
    /// It has counters, was written to, and there is nothing in it.
    Hidden,
    /// It is one that starts with rows, and holds others,
    Otherwise,
    /// or these, written at such times.
    Unchanged(Times),
}

/// Undoes what was `found` in a table; tells when the rows were written that are in it now, if it starts with some.
pub(super) async fn repair(
    session: &Session,
    keyspace: &str,
    (table, found): (&Table, Found),
    state: &State,
    deletion: Option<&PreparedStatement>,
    clock: Clock,
    blind: Option<&'static str>,
) -> Result<Option<i64>, Native> {
    let (keys, is_seeded) = match found {
        Found::Nothing => return Ok(None),
        Found::Hidden => {
            clear::truncate(session, keyspace, table).await?;
            return Ok(None);
        }
        Found::Partitions(keys) => (keys, false),
        // To write them once more is enough.
        Found::Unchanged(times) if is_lasting(&times, clock) && state.is_inserted(&table.name) => {
            (Vec::new(), true)
        }
        Found::Otherwise | Found::Unchanged(_) => {
            (clear::keys(session, keyspace, table).await?, true)
        }
    };
    if !keys.is_empty() {
        clear::clear(session, keyspace, table, keys, deletion, clock, blind).await?;
    }
    if !is_seeded {
        return Ok(None);
    }
    clock.settle().await;
    let mut micros = clear::restoring(clock);
    state.restore(session, keyspace, table, micros).await?;
    let unchanged = state.unchanged(session, keyspace, table).await?;
    let is_restored = unchanged.is_some_and(|times| is_lasting(&times, clock));
    if !is_restored && blind != Some("restored") {
        // Deletions from the future hide them.
        clear::truncate(session, keyspace, table).await?;
        micros = clear::restoring(clock);
        state.restore(session, keyspace, table, micros).await?;
    }
    Ok(Some(micros))
}

/// Whether rows of such times can be changed from now on, and do not go by themselves.
pub(super) fn is_lasting(times: &Times, clock: Clock) -> bool {
    !times.is_passing && !clock.is_ahead(times.latest)
}
