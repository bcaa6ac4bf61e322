//! The tables of a start state, as `reset/probe.rs` compares them and `reset/repair.rs` brings them back to it.

use super::baseline::{self, Column, Start, Table};
use crate::{Identity, Prepare, sql};

/// A table and what it should hold.
#[derive(Clone, Debug)]
pub(super) struct ProbedTable {
    pub(super) name: String,
    /// Quoted.
    pub(super) quoted: String,
    pub(super) start: TableStart,
    /// Where its counter should stand, if it has one that counts.
    pub(super) counter: Option<u64>,
    pub(super) has_insert_trigger: bool,
    pub(super) has_delete_trigger: bool,
    pub(super) is_versioned: bool,
    /// Whether who writes to it shares the lock of the gate.
    pub(super) is_gated: bool,
    /// The other tables that refer to it, quoted.
    pub(super) referring: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TableStart {
    Empty,
    Rows {
        count: u64,
        checksum: String,
        columns: Vec<Column>,
    },
}

impl ProbedTable {
    /// What to select from, for a row that is no more than a former one to count, too.
    pub(super) fn all_rows(&self) -> String {
        baseline::rows_of(&self.name, self.is_versioned)
    }

    fn new(table: Table, prepare: Prepare, identity: Identity) -> Self {
        let Table {
            name,
            columns,
            rows,
            checksum,
            counter,
            is_versioned,
            has_insert_trigger,
            has_delete_trigger,
            is_gated,
            referring,
        } = table;
        let (start, counter) = match (prepare, rows) {
            (Prepare::Baseline, 1..) => (
                TableStart::Rows {
                    count: rows,
                    checksum,
                    columns,
                },
                counter,
            ),
            (_, 0) => (TableStart::Empty, counter),
            (_, _) => (TableStart::Empty, counter.map(|_| 1)),
        };
        Self {
            quoted: sql::identifier(&name),
            name,
            start,
            counter: counter.filter(|_| identity == Identity::Restore),
            has_insert_trigger,
            has_delete_trigger,
            is_versioned,
            is_gated,
            referring: referring.iter().map(|name| sql::identifier(name)).collect(),
        }
    }
}

/// The tables of `start`: those that are kept as they are, and those that are compared.
pub(super) fn of(
    start: &Start,
    prepare: Prepare,
    identity: Identity,
    keep_tables: &[String],
) -> (Vec<ProbedTable>, Vec<ProbedTable>) {
    let tables = start.tables.iter().cloned();
    tables
        .map(|table| ProbedTable::new(table, prepare, identity))
        .partition(|table| prepare == Prepare::Truncate && keep_tables.contains(&table.name))
}
