//! The start state of a keyspace: its definition, and the rows that its creation left.
//!
//! It is recorded in the keyspace's own table `dagz_stamp`, in two rows: a small one that each process reads,
//! and one with the rows to restore. A third has the [`Notes`] of the last reset. [`State::capture`] records,
//! [`State::unchanged`] compares, [`State::restore`] brings rows back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use dagz_core::{Error, ErrorKind};
use scylla::client::session::Session;
use serde::{Deserialize, Serialize};

use super::{
    clear::{self, Clock, restoring},
    notes::{Notes, Writes},
    rows::{SeedRow, Times, contents},
    sow::{sow, upserted},
};
use crate::{
    Config, cql,
    error::Native,
    schema::{STAMP_TABLE, Schema, Table},
    server::{all, ask, is_single, moment, rows},
};

/// How many requests are on their way at a time.
const AT_ONCE: usize = 32;

/// The most rows of one table that are restored.
const MOST_ROWS: usize = 1_000;

/// The most bytes that are recorded of all tables together, two for each of a row's; the server takes 8 MB in one
/// write.
const MOST_BYTES: usize = 4 << 20;

/// What a keyspace holds at the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    project: String,
    /// The cluster's, when the definition was last seen to be this.
    pub(crate) schema_version: String,
    /// [`Schema::fingerprint`]
    pub(crate) fingerprint: String,
    /// [`Schema::digests`]
    pub(crate) objects: Vec<String>,
    /// But for the kept ones.
    pub(crate) tables: Vec<Table>,
    /// What tells the recorded rows from others.
    seeds_digest: String,
    #[serde(skip)]
    seeds: BTreeMap<String, Seed>,
    #[serde(skip)]
    pub(super) notes: Notes,
}

/// What a table holds at the start, if that is not nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Seed {
    Rows {
        rows: Vec<SeedRow>,
        /// Which of them go with their last value, by position.
        upserted: Vec<usize>,
    },
    /// Rows that cannot be restored, and why.
    Refused(String),
}

impl State {
    /// Reads what is in the keyspace of `schema` now.
    pub(crate) async fn capture(
        session: &Session,
        schema: &Schema,
        project: &str,
        config: &Config,
    ) -> Result<Self, Native> {
        let keyspace = &schema.keyspace;
        let version = moment(session).await?.schema_version;
        let tables: Vec<_> = schema
            .tables
            .iter()
            .filter(|table| !config.keep_tables.contains(&table.name))
            .cloned()
            .collect();
        let seeds = tables.iter().map(|table| async move {
            let seed = seed(session, keyspace, table, config.blind).await?;
            Ok::<_, Native>(seed.map(|(seed, latest)| (table.name.clone(), seed, latest)))
        });
        let seeds = all(AT_ONCE, seeds.collect()).await?;
        let seeds: Vec<_> = seeds.into_iter().flatten().collect();
        let times = seeds
            .iter()
            .map(|(name, _, latest)| (name.clone(), *latest));
        let notes = Notes {
            times: times.collect(),
            writes: count(session, keyspace, &tables).await?,
        };
        let seeds = seeds.into_iter().map(|(name, seed, _)| (name, seed));
        let mut seeds: BTreeMap<_, _> = seeds.collect();
        if !seeds.is_empty() {
            // They were written in this millisecond.
            Clock::new(moment(session).await?, true).settle().await;
        }
        let size: usize = seeds.values().map(Seed::size).sum();
        if size > MOST_BYTES {
            let why = format!(
                "the rows of all tables together take {size} bytes to record, and dagz records {MOST_BYTES}"
            );
            seeds
                .values_mut()
                .for_each(|seed| *seed = Seed::Refused(why.clone()));
        }
        let mut state = Self {
            project: project.to_owned(),
            schema_version: version,
            fingerprint: schema.fingerprint(),
            objects: schema.digests(),
            tables,
            seeds_digest: String::new(),
            seeds,
            notes,
        };
        state.seeds_digest = dagz_core::name::short_hash(&state.seeds_text());
        Ok(state)
    }

    fn seeds_text(&self) -> String {
        serde_json::to_string(&self.seeds).unwrap_or_default()
    }

    /// The state that is recorded in `keyspace`; none where it is not there, or not whole.
    pub(crate) async fn read(session: &Session, keyspace: &str) -> Result<Option<Self>, Native> {
        let query = format!(
            "SELECT part, body FROM {}",
            cql::qualified(keyspace, STAMP_TABLE)
        );
        let rows = match ask(session, query).await {
            Err(error) if error.is_missing() => return Ok(None),
            result => rows::<(String, Option<String>)>(result?)?,
        };
        let parts: BTreeMap<_, _> = rows.into_iter().collect();
        let part = |name: &str| parts.get(name).cloned().flatten();
        let (Some(state), Some(seeds)) = (part("state"), part("seeds")) else {
            return Ok(None);
        };
        let Ok(mut state) = serde_json::from_str::<Self>(&state) else {
            return Ok(None);
        };
        if dagz_core::name::short_hash(&seeds) != state.seeds_digest {
            return Ok(None);
        }
        let Ok(seeds) = serde_json::from_str(&seeds) else {
            return Ok(None);
        };
        state.seeds = seeds;
        // Without them everything is looked at once more.
        let notes = part("notes").and_then(|notes| serde_json::from_str(&notes).ok());
        state.notes = notes.unwrap_or_default();
        Ok(Some(state))
    }

    /// Records it in `keyspace`.
    pub(crate) async fn write(&self, session: &Session, keyspace: &str) -> Result<(), Native> {
        self.write_part(session, keyspace, "seeds", &self.seeds_text())
            .await?;
        self.write_notes(session, keyspace).await?;
        self.write_version(session, keyspace).await
    }

    /// Records under which version of the cluster's schema it holds.
    pub(crate) async fn write_version(
        &self,
        session: &Session,
        keyspace: &str,
    ) -> Result<(), Native> {
        let text = serde_json::to_string(self).unwrap_or_default();
        self.write_part(session, keyspace, "state", &text).await
    }

    /// Records what the last reset left.
    pub(super) async fn write_notes(
        &self,
        session: &Session,
        keyspace: &str,
    ) -> Result<(), Native> {
        let text = serde_json::to_string(&self.notes).unwrap_or_default();
        self.write_part(session, keyspace, "notes", &text).await
    }

    async fn write_part(
        &self,
        session: &Session,
        keyspace: &str,
        part: &str,
        body: &str,
    ) -> Result<(), Native> {
        let micros = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_micros());
        let statement = format!(
            "INSERT INTO {} (part, body) VALUES ({}, {}) USING TIMESTAMP {micros}",
            cql::qualified(keyspace, STAMP_TABLE),
            cql::literal(part),
            cql::literal(body)
        );
        ask(session, statement).await.map(drop)
    }

    /// Whether it was recorded for `project`.
    pub(crate) fn is_of(&self, project: &str) -> bool {
        self.project == project
    }

    /// Makes sure that all its rows can be restored.
    pub(crate) fn can_be_restored(&self, keyspace: &str) -> Result<(), Error> {
        for (table, seed) in &self.seeds {
            if let Seed::Refused(why) = seed {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "the rows that table `{table}` of keyspace `{keyspace}` starts with cannot be restored: {why}; leave the table out by `Config::keep_tables`, or choose `Prepare::Truncate` or `Config::prepare_with`"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether `table` starts with rows.
    pub(crate) fn is_seeded(&self, table: &str) -> bool {
        self.seeds.contains_key(table)
    }

    /// Whether all rows that `table` starts with stay when they have no values.
    pub(super) fn is_inserted(&self, table: &str) -> bool {
        matches!(self.seeds.get(table), Some(Seed::Rows { upserted, .. }) if upserted.is_empty())
    }

    /// Whether rows of these times were written since the last reset.
    pub(super) fn is_later(&self, table: &str, times: &Times) -> bool {
        let noted = self.notes.times.get(table);
        noted.is_none_or(|noted| times.latest > *noted)
    }

    /// The times of the rows in `table`; none where they are others than at the start.
    pub(super) async fn unchanged(
        &self,
        session: &Session,
        keyspace: &str,
        table: &Table,
    ) -> Result<Option<Times>, Native> {
        let Some(Seed::Rows { rows: seed, .. }) = self.seeds.get(&table.name) else {
            return Ok(None);
        };
        let (found, times) = match contents(session, keyspace, table, seed.len() + 1).await {
            Err(error) if error.is_read_failure() => return Ok(None),
            found => found?,
        };
        let found: BTreeSet<_> = found.iter().collect();
        Ok((found == seed.iter().collect()).then_some(times))
    }

    /// Writes the rows that `table` starts with, at `micros` since the epoch.
    pub(crate) async fn restore(
        &self,
        session: &Session,
        keyspace: &str,
        table: &Table,
        micros: i64,
    ) -> Result<(), Native> {
        let Some(Seed::Rows { rows, upserted }) = self.seeds.get(&table.name) else {
            return Ok(());
        };
        sow(session, keyspace, table, (rows, upserted), micros).await
    }
}

impl Seed {
    fn size(&self) -> usize {
        match self {
            Self::Rows { rows, .. } => rows.iter().flatten().flatten().map(String::len).sum(),
            Self::Refused(_) => 0,
        }
    }
}

/// How often the server has written to those of `tables` that have counters.
pub(super) async fn count(
    session: &Session,
    keyspace: &str,
    tables: &[Table],
) -> Result<Option<Writes>, Native> {
    let counted: Vec<_> = tables
        .iter()
        .filter(|table| table.is_counter)
        .map(|table| table.name.as_str())
        .collect();
    // Of several nodes each counts for itself.
    if counted.is_empty() || !is_single(session) {
        return Ok(None);
    }
    let writes = Writes::count(session, keyspace).await?;
    Ok(writes.map(|writes| writes.of(&counted)))
}

/// What `table` holds now, if anything, and the latest time of that.
async fn seed(
    session: &Session,
    keyspace: &str,
    table: &Table,
    blind: Option<&'static str>,
) -> Result<Option<(Seed, i64)>, Native> {
    let (rows, times) = contents(session, keyspace, table, MOST_ROWS + 1).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let why = if table.is_counter {
        "a counter can be counted, and not be set".to_owned()
    } else if rows.len() > MOST_ROWS {
        format!("there are more than {MOST_ROWS}")
    } else if times.is_passing {
        "they have a time to live, and would be gone one day".to_owned()
    } else {
        let clock = Clock::new(moment(session).await?, is_single(session));
        clock.settle().await;
        // Not earlier than any of them, whoever's clock they have their times of.
        let micros = (restoring(clock) - 1).max(times.latest);
        let upserted = match blind {
            Some("upserted") => Vec::new(),
            _ => upserted(session, keyspace, table, &rows, micros).await?,
        };
        // No test could delete a row that was written in the future, and of a bare key's time the server tells nothing.
        if clock.is_ahead(times.latest) {
            clear::truncate(session, keyspace, table).await?;
        } else {
            let keys = clear::keys(session, keyspace, table).await?;
            clear::clear(session, keyspace, table, keys, None, clock, blind).await?;
        }
        let micros = restoring(clock);
        sow(session, keyspace, table, (&rows, &upserted), micros).await?;
        return Ok(Some((Seed::Rows { rows, upserted }, micros)));
    };
    Ok(Some((Seed::Refused(why), times.latest)))
}
