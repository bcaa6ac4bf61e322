//! Undoes what the probe found, in one batch.
//!
//! [`plan`] turns [`Findings`] into statements, or says that only a new copy of the database will
//! do. Rows are deleted, in one transaction; `TRUNCATE`, which takes milliseconds on InnoDB however
//! little there is, is for tables where it is the cheaper way: those with many rows, those whose
//! counter has to be set back, and those whose triggers must not run.

use std::collections::{BTreeSet, HashSet};

use dagz_core::{Target, driver::Failure};
use mysql_async::prelude::Queryable as _;

use super::{
    baseline::{Sequence, Start},
    failed, failure,
    keeper::Keeper,
    probe::{Findings, Probe},
    shape,
    tables::{ProbedTable, TableStart},
};
use crate::{
    batch::{self, Outcome, Stopped},
    error,
    server::Flavour,
    sql,
};

/// From this many rows on, giving a table new files is faster than deleting its rows.
pub(super) const TRUNCATE_FROM: u64 = 2_000;

/// What to do about the findings.
pub(super) enum Plan {
    Batch(Batch),
    /// Make the database anew, for this reason.
    Rebuild(String),
}

/// Statements that undo it.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) statements: Vec<String>,
    /// For each statement that deletes a bounded number of rows, which one, and of which table.
    pub(super) bounded: Vec<(usize, usize)>,
    /// How many of them the server counts as changes of a schema.
    pub(super) changes: i64,
    /// Whether triggers of the user's may have run, which may have written anything.
    pub(super) has_side_effects: bool,
}

/// Decides what undoes `findings`; `large` are the tables that were too large before.
pub(super) fn plan(
    flavour: Flavour,
    start: &Start,
    probe: &Probe,
    findings: &Findings,
    large: &HashSet<usize>,
) -> Plan {
    let mut batch = Batch::default();
    let (mut truncated, mut deleted, mut restored) = (Vec::new(), Vec::new(), Vec::new());
    let mut set_back: Vec<_> = findings.counters.clone();
    for index in &findings.tables {
        let table = &probe.tables[*index];
        if table.is_versioned && probe.blind != Some("versioned") {
            return Plan::Rebuild(format!("table {} keeps what was in it", table.quoted));
        }
        let is_empty = table.start == TableStart::Empty;
        let sets_counter_back = flavour == Flavour::MariaDb
            && is_empty
            && table.counter == Some(1)
            && set_back.contains(index);
        let has_delete_trigger = table.has_delete_trigger && probe.blind != Some("delete triggers");
        if has_delete_trigger || large.contains(index) || sets_counter_back {
            truncated.push(*index);
            // It sets the counter to 1, also one that stood where it should.
            set_back.retain(|other| other != index);
            if table.counter.is_some() && !(table.counter == Some(1) && is_empty) {
                set_back.push(*index);
            }
        } else {
            deleted.push(*index);
        }
        if !is_empty {
            restored.push(*index);
        }
    }
    // It ends a transaction, so it comes before there is one.
    let truncates = truncated.into_iter().map(|index| {
        let table = &probe.tables[index];
        (table, format!("TRUNCATE TABLE {}", table.quoted))
    });
    batch.statements.extend(undisturbed(flavour, truncates));
    batch.statements.push("START TRANSACTION".to_owned());
    for index in deleted {
        let table = &probe.tables[index];
        if table.start == TableStart::Empty {
            batch.bounded.push((batch.statements.len(), index));
            batch.statements.push(format!(
                "DELETE FROM {} LIMIT {TRUNCATE_FROM}",
                table.quoted
            ));
        } else {
            batch
                .statements
                .push(format!("DELETE FROM {}", table.quoted));
        }
    }
    for index in restored {
        let table = &probe.tables[index];
        let TableStart::Rows { columns, .. } = &table.start else {
            continue;
        };
        let columns: Vec<_> = columns
            .iter()
            .map(|column| sql::identifier(&column.name))
            .collect();
        let columns = columns.join(", ");
        batch.statements.push(format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {}",
            table.quoted,
            sql::qualified(&start.rows_in, &table.name)
        ));
        batch.has_side_effects |=
            table.has_insert_trigger && probe.blind != Some("insert triggers");
    }
    batch.statements.push("COMMIT".to_owned());
    let alters: Vec<_> = set_back
        .into_iter()
        .filter_map(|index| {
            let table = &probe.tables[index];
            let (counter, name) = (table.counter?, &table.quoted);
            Some((
                table,
                format!("ALTER TABLE {name} AUTO_INCREMENT = {counter}"),
            ))
        })
        .collect();
    batch.changes += i64::try_from(alters.len()).unwrap_or_default();
    batch
        .statements
        .extend(undisturbed(flavour, alters.into_iter()));
    for index in &findings.sequences {
        let sequence = &probe.sequences[*index];
        batch
            .statements
            .push(Sequence::restart(&sequence.quoted, sequence.next));
        batch.changes += 1;
    }
    Plan::Batch(batch)
}

/// Statements that change a table each, kept from waiting for others while they have it for themselves.
///
/// MariaDB takes the tables that refer to one only then, and two sessions that wait for each other so never end: it is
/// no use to kill them, and no timeout counts. With those tables locked there is nothing to wait for.
fn undisturbed<'a>(
    flavour: Flavour,
    statements: impl Iterator<Item = (&'a ProbedTable, String)>,
) -> Vec<String> {
    let (referred, others): (Vec<_>, Vec<_>) = statements
        .partition(|(table, _)| flavour == Flavour::MariaDb && !table.referring.is_empty());
    let mut undisturbed: Vec<_> = others.into_iter().map(|(_, statement)| statement).collect();
    let locked: BTreeSet<_> = referred
        .iter()
        .flat_map(|(table, _)| std::iter::once(&table.quoted).chain(&table.referring))
        .collect();
    if !locked.is_empty() {
        let locks: Vec<_> = locked.iter().map(|name| format!("{name} WRITE")).collect();
        undisturbed.push(format!("LOCK TABLES {}", locks.join(", ")));
        undisturbed.extend(referred.into_iter().map(|(_, statement)| statement));
        undisturbed.push("UNLOCK TABLES".to_owned());
    }
    undisturbed
}

/// What became of a repair.
pub(super) enum Ran {
    Clean,
    Again,
    Held,
    Rebuild(String),
}

impl Keeper {
    /// Runs a repair; notes in `large` which tables have more rows than it deletes.
    pub(super) async fn run(
        &mut self,
        batch: &Batch,
        target: &Target,
        large: &mut HashSet<usize>,
    ) -> Result<Ran, Failure> {
        match batch::run(&mut self.conn, &batch.statements.join(";\n")).await {
            Ok(outcomes) => Ok(self.repaired(batch, &outcomes, large)),
            Err(stopped) => self.stopped(target, stopped).await,
        }
    }

    /// What the `outcomes` of all statements of a repair mean.
    pub(super) fn repaired(
        &mut self,
        batch: &Batch,
        outcomes: &[Outcome],
        large: &mut HashSet<usize>,
    ) -> Ran {
        self.changes = self.changes.map(|changes| changes + batch.changes);
        for (statement, table) in &batch.bounded {
            if outcomes
                .get(*statement)
                .is_some_and(|o| o.affected >= TRUNCATE_FROM)
                && self.blind != Some("large")
            {
                large.insert(*table);
            }
        }
        match batch.has_side_effects || !large.is_empty() {
            true => Ran::Again,
            false => Ran::Clean,
        }
    }

    /// After a repair that stopped half-way.
    pub(super) async fn stopped(
        &mut self,
        target: &Target,
        stopped: Stopped,
    ) -> Result<Ran, Failure> {
        let lost = |error| failure(error, |error| failed(target.name(), error));
        if error::is_connection_lost(&stopped.error) {
            return Err(lost(stopped.error));
        }
        // In this order: the second would commit what the first takes back.
        let statement = "ROLLBACK; UNLOCK TABLES";
        match self.conn.query_drop(statement).await {
            Err(error) if error::is_connection_lost(&error) => return Err(lost(error)),
            // A table may be in a state in which nothing can be taken back.
            Err(error) => return Ok(Ran::Rebuild(shape(&error))),
            Ok(()) => {}
        }
        // Which of its changes came about nobody knows.
        self.changes = None;
        // Somebody came between probe and repair: looking again finds them.
        if error::is_busy(&stopped.error) {
            return Ok(Ran::Held);
        }
        let reason = failed(target.name(), stopped.error).report().to_string();
        Ok(Ran::Rebuild(format!("the reset failed: {reason}")))
    }
}
