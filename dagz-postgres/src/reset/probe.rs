//! Finds what an earlier test left, by one prepared statement.
//!
//! The statement is written once per kept connection from the [`Catalog`], but for its first run,
//! and answers in one row: whose the database is, who else is in it, whether the schema changed, and which tables and
//! sequences differ from the start state. `reset/repair.rs` acts on its [`Findings`].

use dagz_core::{ErrorKind, Result};
use futures_util::future::join;
use tokio_postgres::{Client, Row, Statement, types::Type};

use super::{
    baseline::{EVENT_TRIGGER_STATE, OBJECT_CONTENTS, SETTINGS_STATE},
    catalog::{COUNTS, Catalog, NEWER, Sequence, Table},
    log, sessions,
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
    /// A materialised view of so many rows, which only a new copy of the database restores.
    View(i64),
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
    ) -> Result<Self, tokio_postgres::Error> {
        let tables = tables(catalog, prepare, keep_tables);
        let sequences = sequences(catalog, prepare, keep_tables);
        let probed: Vec<_> = (0..tables.len()).collect();
        let text = statement(catalog, &tables, &probed, &sequences);
        let (present, statement) = join(
            client.prepare_typed(&leftovers(catalog), &[Type::TEXT]),
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
                leftovers(catalog),
                statement(catalog, &tables, &probed, &sequences),
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
                // Event triggers tell when a view is refreshed.
                (_, true, _) if catalog.is_watched => return None,
                (_, true, rows) => TableStart::View(rows.unwrap_or(0)),
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

/// Whether sessions or prepared transactions of earlier tests are still there.
fn leftovers(catalog: &Catalog) -> String {
    let database = catalog.database;
    let present = format!("pg_stat_get_activity(NULL) a WHERE a.datid = {database}");
    let left = if catalog.is_superuser {
        format!("{present} AND {}", sessions::is_leftover("a", "$1"))
    } else {
        let (any, is_left) = (
            sessions::any(&present),
            sessions::is_leftover_of_any("a", "$1"),
        );
        format!("{any} a WHERE {is_left}")
    };
    let prepared = if catalog.has_prepared {
        format!(" OR EXISTS (SELECT FROM pg_prepared_xact() p WHERE p.dbid = {database})")
    } else {
        String::new()
    };
    format!("SELECT EXISTS (SELECT FROM {left}){prepared}")
}

fn statement(
    catalog: &Catalog,
    tables: &[ProbedTable],
    probed: &[usize],
    sequences: &[ProbedSequence],
) -> String {
    let database = catalog.database;
    // The first reason that holds; NULL where none does.
    let noted = if catalog.is_watched {
        "WHEN EXISTS (SELECT FROM dagz_baseline.drift) THEN (SELECT concat_ws(' ', command, object) FROM dagz_baseline.drift LIMIT 1)"
            .to_owned()
    } else {
        format!("WHEN s.catalogs IS DISTINCT FROM {COUNTS} OR {NEWER} THEN 'the catalogs differ'")
    };
    let drift = format!(
        "CASE {noted} \
              WHEN s.event_triggers <> {EVENT_TRIGGER_STATE} THEN 'the event triggers differ' \
              WHEN s.settings <> {SETTINGS_STATE} THEN 'ALTER DATABASE … SET' END"
    );
    let contents = match catalog.large_objects {
        0 => String::new(),
        _ => format!(" OR s.object_contents <> {OBJECT_CONTENTS}"),
    };
    let tables: Vec<_> = probed
        .iter()
        .map(|index| table_expression(&tables[*index]))
        .collect();
    let sequences = moved(sequences, catalog.reads_sequences);
    format!(
        "SELECT (SELECT description FROM pg_shdescription WHERE objoid = {database} AND classoid = 1262), \
                {drift}, \
                (SELECT count(*) <> s.large_objects OR coalesce(bool_or(age(xmin) < s.age), false) FROM pg_largeobject_metadata){contents}, \
                ARRAY[{}]::bigint[], {sequences} \
         FROM (SELECT *, age(mark::xid) AS age FROM dagz_baseline.state OFFSET 0) s",
        tables.join(", ")
    )
}

/// For each sequence, whether it stands elsewhere than it should. Where the server `reads_sequences`
/// by a function, that takes 1.5 µs each; else each is a query of its own, of 10 µs, since
/// `pg_sequence_last_value` is blind to `setval(…, false)`.
pub(super) fn moved(sequences: &[ProbedSequence], reads_sequences: bool) -> String {
    if !reads_sequences || sequences.is_empty() {
        let moved: Vec<_> = sequences
            .iter()
            .map(|sequence| {
                format!(
                    "(SELECT last_value <> {} OR is_called <> {} FROM {})",
                    sequence.value, sequence.is_called, sequence.name
                )
            })
            .collect();
        return format!("ARRAY[{}]::boolean[]", moved.join(", "));
    }
    let list = |each: &dyn Fn(&ProbedSequence) -> String| {
        let all: Vec<_> = sequences.iter().map(each).collect();
        all.join(",")
    };
    // One that is gone reads as NULLs.
    format!(
        "(SELECT array_agg(coalesce((r.now).last_value <> r.value OR (r.now).is_called <> r.is_called, true) ORDER BY r.place) \
          FROM (SELECT u.*, pg_get_sequence_data(u.oid) AS now \
                FROM unnest('{{{}}}'::oid[], '{{{}}}'::bigint[], '{{{}}}'::boolean[]) \
                     WITH ORDINALITY u (oid, value, is_called, place) OFFSET 0) r)",
        list(&|sequence| sequence.oid.to_string()),
        list(&|sequence| sequence.value.to_string()),
        list(&|sequence| sequence.is_called.to_string()),
    )
}

/// The table's size if it differs from its start, else NULL.
fn table_expression(table: &ProbedTable) -> String {
    let ProbedTable { oid, name, start } = table;
    match start {
        TableStart::Empty => {
            format!("CASE WHEN EXISTS (SELECT FROM ONLY {name}) THEN pg_relation_size({oid}) END")
        }
        TableStart::Rows(rows) | TableStart::View(rows) => format!(
            "CASE WHEN (SELECT count(*) <> {rows} OR coalesce(bool_or(age(xmin) < s.age), false) FROM ONLY {name}) \
             THEN 0::bigint END"
        ),
    }
}

/// The error for a probe that failed for no reason that is dealt with.
pub(super) fn failed(database: &str, error: tokio_postgres::Error) -> dagz_core::Error {
    error::statement(
        ErrorKind::Prepare,
        format!("cannot look for what earlier tests left in database `{database}`"),
        error,
    )
}
