//! Finds what an earlier test left, by one prepared statement.
//!
//! The statement is written (`probe/text.rs`) once per kept connection from the [`Catalog`], but for its first run,
//! and answers in one row: whose the database is, who else is in it, whether the schema changed, and which tables and
//! sequences differ from the start state. `reset/repair.rs` acts on its [`Findings`].

mod text;

use dagz_core::{ErrorKind, Result};
use futures_util::future::join;
use tokio_postgres::{Client, Row, Statement, types::Type};

pub(super) use self::text::moved;
use self::text::{leftovers, statement};
use super::{
    catalog::{Catalog, Sequence, Table},
    log::{self, WriteLog},
};
use crate::{Prepare, error, sql};

/// The start state that a database is compared with, and the statement that compares.
pub(super) struct Probe {
    how: How,
    /// Which of the tables are looked into, as indexes.
    probed: Vec<usize>,
    pub(super) tables: Vec<ProbedTable>,
    pub(super) sequences: Vec<ProbedSequence>,
}

enum How {
    /// Statements that are kept: who else is here, and what differs, in all tables.
    Prepared(Statement, Statement),
    /// Text that is run once, for those tables that may have rows: planning is what the first
    /// probe of a connection costs, and most tables of most schemas no test writes to.
    Once(String, String),
}

/// A table and what it should hold.
#[derive(Clone, Debug)]
pub(super) struct ProbedTable {
    pub(super) oid: u32,
    /// Qualified and quoted.
    pub(super) name: String,
    pub(super) start: TableStart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableStart {
    Empty,
    /// So many rows, none of them newer than the mark.
    Rows(i64),
}

/// A sequence and where it should stand.
#[derive(Clone, Debug)]
pub(super) struct ProbedSequence {
    pub(super) oid: u32,
    name: String,
    pub(super) owner: Option<u32>,
    pub(super) value: i64,
    pub(super) is_called: bool,
}

/// What differs from the start state.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) stamp: Option<String>,
    /// Whether sessions or prepared transactions of earlier tests are still there.
    pub(super) has_leftovers: bool,
    /// Why the schema is not the recorded one any more.
    pub(super) drift: Option<String>,
    /// Indexes into [`Probe::tables`], with the size in bytes.
    pub(super) tables: Vec<(usize, i64)>,
    /// Indexes into [`Probe::sequences`].
    pub(super) sequences: Vec<usize>,
    pub(super) large_objects: bool,
}

impl Findings {
    pub(super) fn is_clean(&self) -> bool {
        self.tables.is_empty() && self.sequences.is_empty() && !self.large_objects
    }
}

impl Probe {
    /// Prepares the statement for `catalog` and the start state that `prepare` means.
    ///
    /// # Errors
    /// The native error, which may say that the schema changed since the catalog was read.
    pub(super) async fn new(
        client: &Client,
        catalog: &Catalog,
        prepare: Prepare,
        keep_tables: &[String],
        log: &WriteLog,
    ) -> Result<Self, tokio_postgres::Error> {
        let tables = tables(catalog, prepare, keep_tables);
        let sequences = sequences(catalog, prepare, keep_tables);
        let probed: Vec<_> = (0..tables.len()).collect();
        let text = statement(catalog, log, &tables, &probed, &sequences);
        let (present, statement) = join(
            client.prepare_typed(&leftovers(catalog, log), &[Type::TEXT]),
            client.prepare_typed(&text, &[]),
        )
        .await;
        Ok(Self {
            how: How::Prepared(present?, statement?),
            probed,
            tables,
            sequences,
        })
    }

    /// A probe that passes over the `unfilled` tables, to be run once and at once.
    pub(super) fn once(
        catalog: &Catalog,
        prepare: Prepare,
        keep_tables: &[String],
        unfilled: &[u32],
        log: &WriteLog,
    ) -> Self {
        let tables = tables(catalog, prepare, keep_tables);
        let sequences = sequences(catalog, prepare, keep_tables);
        let probed: Vec<_> = (0..tables.len())
            .filter(|index| {
                let table = &tables[*index];
                table.start != TableStart::Empty || !unfilled.contains(&table.oid)
            })
            .collect();
        Self {
            how: How::Once(
                leftovers(catalog, log),
                statement(catalog, log, &tables, &probed, &sequences),
            ),
            probed,
            tables,
            sequences,
        }
    }

    /// Whether it must not be run again.
    pub(super) fn is_once(&self) -> bool {
        matches!(self.how, How::Once(..))
    }

    /// Looks, on behalf of the test of this tag: first who else is here, then, by a statement that
    /// sees what they committed until then, what differs. In one statement, or the other way round,
    /// a transaction that commits in between would be neither open nor seen.
    pub(super) async fn run(
        &self,
        client: &Client,
        tag: &str,
    ) -> Result<Option<Findings>, tokio_postgres::Error> {
        let (present, row) = match &self.how {
            How::Prepared(present, statement) => {
                join(
                    client.query_opt(present, &[&tag]),
                    client.query_opt(statement, &[]),
                )
                .await
            }
            How::Once(present, text) => {
                join(
                    client.query_typed_opt(present, &[(&tag, Type::TEXT)]),
                    client.query_typed_opt(text, &[]),
                )
                .await
            }
        };
        let has_leftovers = match present? {
            Some(present) => present.try_get(0)?,
            None => false,
        };
        row?.map(|row| self.findings(&row, has_leftovers))
            .transpose()
    }

    fn findings(&self, row: &Row, has_leftovers: bool) -> Result<Findings, tokio_postgres::Error> {
        let tables: Vec<Option<i64>> = row.try_get(3)?;
        let sequences: Vec<bool> = row.try_get(4)?;
        Ok(Findings {
            stamp: row.try_get(0)?,
            has_leftovers,
            drift: row.try_get(1)?,
            large_objects: row.try_get(2)?,
            tables: tables
                .into_iter()
                .enumerate()
                .filter_map(|(index, size)| Some((self.probed[index], size?)))
                .collect(),
            sequences: sequences
                .into_iter()
                .enumerate()
                .filter_map(|(index, moved)| moved.then_some(index))
                .collect(),
        })
    }
}

/// The tables of `catalog`, and what `prepare` means them to hold.
pub(super) fn tables(
    catalog: &Catalog,
    prepare: Prepare,
    keep_tables: &[String],
) -> Vec<ProbedTable> {
    catalog
        .tables
        .iter()
        .filter_map(|table| {
            let start = match (prepare, table.is_view, table.rows) {
                // Event triggers tell when a view is refreshed, and so does its row of `pg_class`.
                (_, true, _) => return None,
                (Prepare::Baseline, false, Some(rows)) => TableStart::Rows(rows),
                (Prepare::Truncate, false, _) if is_kept(table, keep_tables) => return None,
                (_, false, _) => TableStart::Empty,
            };
            Some(ProbedTable {
                oid: table.oid,
                name: sql::qualified(&table.schema, &table.name),
                start,
            })
        })
        .collect()
}

/// Whether [`Config::keep_tables`](crate::Config::keep_tables) keeps this table.
pub(super) fn is_kept(table: &Table, keep_tables: &[String]) -> bool {
    keep_tables
        .iter()
        .any(|kept| log::is_named(kept, &table.schema, &table.name))
}

/// The sequences of `catalog`, and where `prepare` means them to stand.
pub(super) fn sequences(
    catalog: &Catalog,
    prepare: Prepare,
    keep_tables: &[String],
) -> Vec<ProbedSequence> {
    let kept: Vec<u32> = match prepare {
        Prepare::Truncate => catalog
            .tables
            .iter()
            .filter(|table| is_kept(table, keep_tables))
            .map(|table| table.oid)
            .collect(),
        _ => Vec::new(),
    };
    catalog
        .sequences
        .iter()
        .filter(|sequence| sequence.owner.is_none_or(|owner| !kept.contains(&owner)))
        .map(|sequence| {
            let Sequence {
                oid,
                schema,
                name,
                start,
                owner,
                recorded,
            } = sequence;
            let (value, is_called) = match prepare {
                Prepare::Baseline => *recorded,
                _ => (*start, false),
            };
            ProbedSequence {
                oid: *oid,
                name: sql::qualified(schema, name),
                owner: *owner,
                value,
                is_called,
            }
        })
        .collect()
}

/// The error for a probe that failed for no reason that is dealt with.
pub(super) fn failed(database: &str, error: tokio_postgres::Error) -> dagz_core::Error {
    error::statement(
        ErrorKind::Prepare,
        format!("cannot look for what earlier tests left in database `{database}`"),
        error,
    )
}
