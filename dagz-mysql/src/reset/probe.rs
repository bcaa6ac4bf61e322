//! Finds what an earlier test left, by one batch of statements.
//!
//! The batch is written once per kept connection from the [`Start`], and is run in one round trip:
//! it takes the lock, asks whose the database is, who else is in it, whether any schema on the
//! server changed, and which tables, counters and sequences differ from the start state.
//! `reset/repair.rs` acts on its [`Findings`].

use mysql_async::Conn;

use super::{
    baseline::{self, Start},
    changes, lock,
    sessions::Watch,
    tables::{self, ProbedTable, TableStart},
    waiting,
};
use crate::{
    Identity, Prepare,
    batch::{self, Outcome, Stopped, column, text},
    schema::STAMP_TABLE,
    server::Facts,
    sql,
};

/// Asks whose the database is.
const STAMP: &str = "SELECT stamp FROM dagz_stamp WHERE id = 1";

/// The probes of one database, written when they are needed first.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) truncate: Option<Probe>,
    pub(super) baseline: Option<Probe>,
}

impl Probes {
    pub(super) fn of(&self, mode: Prepare) -> Option<&Probe> {
        match mode {
            Prepare::Truncate => self.truncate.as_ref(),
            _ => self.baseline.as_ref(),
        }
    }
}

/// The start state that a database is compared with, and the statements that compare.
pub(super) struct Probe {
    pub(super) tables: Vec<ProbedTable>,
    /// Those that stay as they are. They are not looked into, but who has one of them locked is in the next test's way.
    pub(super) kept: Vec<ProbedTable>,
    pub(super) sequences: Vec<ProbedSequence>,
    pub(super) watch: Watch,
    /// What tests have shown that something depends on.
    pub(super) blind: Option<&'static str>,
    pub(super) steps: Vec<(Step, String)>,
    lock: String,
}

#[derive(Clone, Debug)]
pub(super) struct ProbedSequence {
    pub(super) quoted: String,
    pub(super) next: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Lock,
    Stamp,
    Newest,
    Changes,
    Watch,
    Filled,
    Seeds,
    Sequences,
    Unlock,
    Counters,
}

/// What differs from the start state.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) is_locked: bool,
    pub(super) stamp: Option<String>,
    /// The newest session on the server.
    pub(super) newest: Option<u64>,
    pub(super) changes: i64,
    /// Whether others hold locks on tables.
    pub(super) is_held: bool,
    /// Indexes into [`Probe::tables`] of those whose rows differ, and of those whose counters do.
    pub(super) tables: Vec<usize>,
    pub(super) counters: Vec<usize>,
    /// Indexes into [`Probe::sequences`].
    pub(super) sequences: Vec<usize>,
}

impl Findings {
    pub(super) fn is_clean(&self) -> bool {
        self.tables.is_empty() && self.sequences.is_empty() && self.counters.is_empty()
    }

    /// Whether the database still has the `stamp` that it was opened with.
    pub(super) fn have_stamp(&self, stamp: &str) -> bool {
        self.stamp.as_deref() == Some(stamp)
    }
}

/// A probe that stopped half-way.
pub(super) struct StoppedAt {
    pub(super) step: Step,
    pub(super) before: Findings,
    pub(super) error: mysql_async::Error,
}

impl Probe {
    /// A probe of `database` for the start state that `prepare` means.
    pub(super) fn new(
        facts: &Facts,
        database: &str,
        start: &Start,
        prepare: Prepare,
        identity: Identity,
        keep_tables: &[String],
        blind: Option<&'static str>,
    ) -> Self {
        let (kept, tables) = tables::of(start, prepare, identity, keep_tables);
        let sequences: Vec<_> = start
            .sequences
            .iter()
            .map(|sequence| ProbedSequence {
                quoted: sql::identifier(&sequence.name),
                next: match prepare {
                    Prepare::Baseline => sequence.next,
                    _ => sequence.start,
                },
            })
            .collect();
        let all = tables.iter().chain(&kept);
        let names: Vec<_> = all.map(|table| table.quoted.clone()).collect();
        let watch = Watch::new(facts, database, &names);
        let mut steps = vec![
            (Step::Stamp, STAMP.to_owned()),
            (Step::Newest, waiting::SESSIONS.to_owned()),
            (Step::Changes, changes::statement(facts.flavour).to_owned()),
        ];
        match &watch {
            _ if blind == Some("sessions") => {}
            Watch::Ask(statement) => steps.push((Step::Watch, statement.clone())),
            Watch::Take(statements) => {
                steps.extend(
                    statements
                        .iter()
                        .map(|statement| (Step::Watch, statement.clone())),
                );
                // Before it is looked: under locks, opening a table takes as long as there are locks.
                steps.push((Step::Unlock, "UNLOCK TABLES".to_owned()));
            }
        }
        let all_rows = |table: &ProbedTable| match blind == Some("former rows") {
            true => table.quoted.clone(),
            false => table.all_rows(),
        };
        let empty = tables
            .iter()
            .enumerate()
            .filter(|(_, table)| table.start == TableStart::Empty)
            .map(|(index, table)| (index, all_rows(table)));
        let empty: Vec<_> = empty.collect();
        let probes = baseline::probes(empty.iter().map(|(index, text)| (*index, &**text)));
        steps.extend(probes.into_iter().map(|probe| (Step::Filled, probe)));
        let seeds: Vec<_> = tables
            .iter()
            .enumerate()
            .filter_map(|(index, table)| match &table.start {
                TableStart::Empty => None,
                TableStart::Rows { columns, .. } => Some(format!(
                    "SELECT {index}, {} FROM {}",
                    baseline::sum(columns, blind),
                    all_rows(table)
                )),
            })
            .collect();
        let seeds = seeds.chunks(baseline::AT_ONCE);
        steps.extend(seeds.map(|seeds| (Step::Seeds, seeds.join(" UNION ALL "))));
        let states: Vec<_> = sequences
            .iter()
            .enumerate()
            .map(|(index, sequence)| {
                format!(
                    "SELECT {index}, next_not_cached_value, cycle_count FROM {}",
                    sequence.quoted
                )
            })
            .collect();
        let states = states.chunks(baseline::AT_ONCE);
        steps.extend(states.map(|states| (Step::Sequences, states.join(" UNION ALL "))));
        if tables.iter().any(|table| table.counter.is_some()) {
            let counters = format!(
                "SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = {} AND AUTO_INCREMENT IS NOT NULL",
                sql::literal(database)
            );
            steps.push((Step::Counters, counters));
        }
        Self {
            tables,
            kept,
            sequences,
            watch,
            blind,
            steps,
            lock: lock::key("use", database),
        }
    }

    /// Looks, taking the lock first unless it `is_locked`; does no more where it is not free.
    pub(super) async fn run(
        &self,
        conn: &mut Conn,
        is_locked: bool,
    ) -> Result<Findings, StoppedAt> {
        let lock = lock::taking(&self.lock, std::time::Duration::ZERO);
        let lock = (Step::Lock, lock);
        let first = (!is_locked).then_some(&lock);
        let steps: Vec<_> = first.into_iter().chain(&self.steps).collect();
        self.look(conn, &steps, is_locked).await
    }

    /// Runs these of the [`steps`](Self::steps).
    pub(super) async fn look(
        &self,
        conn: &mut Conn,
        steps: &[&(Step, String)],
        is_locked: bool,
    ) -> Result<Findings, StoppedAt> {
        let statements: Vec<_> = steps.iter().map(|(_, statement)| &**statement).collect();
        let (outcomes, error) = match batch::run(conn, &statements.join(";\n")).await {
            Ok(outcomes) => (outcomes, None),
            Err(Stopped { before, error }) => (before, Some(error)),
        };
        let mut findings = Findings {
            is_locked,
            ..Findings::default()
        };
        for ((step, _), outcome) in steps.iter().zip(&outcomes) {
            self.note(*step, outcome, &mut findings);
        }
        match error {
            None => Ok(findings),
            Some(error) => Err(StoppedAt {
                step: steps
                    .get(outcomes.len())
                    .map_or(Step::Unlock, |(step, _)| *step),
                before: findings,
                error,
            }),
        }
    }

    fn note(&self, step: Step, outcome: &Outcome, findings: &mut Findings) {
        let rows = &outcome.rows;
        let detection = match step {
            Step::Filled => "rows",
            Step::Seeds => "seeds",
            Step::Sequences => "sequences",
            Step::Counters => "counters",
            Step::Lock
            | Step::Stamp
            | Step::Newest
            | Step::Changes
            | Step::Watch
            | Step::Unlock => "",
        };
        if self.blind == Some(detection) {
            return;
        }
        match step {
            Step::Lock => {
                let taken: Option<u8> = rows.first().and_then(|row| column(row, 0));
                findings.is_locked = taken == Some(1);
            }
            Step::Stamp => findings.stamp = rows.first().and_then(|row| text(row, 0)),
            Step::Newest => findings.newest = waiting::newest(rows),
            Step::Changes => findings.changes = changes::count(rows, self.blind),
            Step::Watch => {
                let holders: Option<u64> = rows.first().and_then(|row| column(row, 0));
                findings.is_held = holders.is_some_and(|holders| holders > 0);
            }
            Step::Filled => {
                let filled = rows.iter().filter_map(|row| column::<usize>(row, 0));
                findings.tables.extend(filled);
            }
            Step::Seeds => {
                let differ = rows.iter().filter_map(|row| {
                    let index = column::<usize>(row, 0)?;
                    let TableStart::Rows {
                        count, checksum, ..
                    } = &self.tables.get(index)?.start
                    else {
                        return None;
                    };
                    let is_sum = text(row, 2)? == *checksum || self.blind == Some("checksums");
                    let is_same = column::<u64>(row, 1)? == *count && is_sum;
                    (!is_same).then_some(index)
                });
                findings.tables.extend(differ);
            }
            Step::Sequences => {
                let moved = rows.iter().filter_map(|row| {
                    let index = column::<usize>(row, 0)?;
                    let next = column::<i64>(row, 1)?;
                    // One that came back to where it was tells by this, which is none after each restart.
                    let cycles = column::<i64>(row, 2)?;
                    (self.sequences.get(index)?.next != next || cycles != 0).then_some(index)
                });
                findings.sequences.extend(moved);
            }
            Step::Counters => {
                let moved = rows.iter().filter_map(|row| {
                    let name = text(row, 0)?;
                    let index = self.tables.iter().position(|table| table.name == name)?;
                    let expected = self.tables[index].counter?;
                    (column::<u64>(row, 1)? != expected).then_some(index)
                });
                findings.counters.extend(moved);
            }
            Step::Unlock => {}
        }
    }
}

/// What is read of a database that is opened: its stamp and its start state, and who used it last.
pub(super) fn opening() -> String {
    format!(
        "SELECT stamp, start FROM {STAMP_TABLE} WHERE id = 1; SELECT test, changes, newest FROM {} WHERE id = 1",
        crate::schema::STATE_TABLE
    )
}
