//! What is locked while `reset/hold.rs` holds a database, and how it is looked into then.
//!
//! Methods of [`Probe`], which knows the tables. With a gate (`provision/gate.rs`) one lock stands for most of them. Who has
//! tables locked may read no others, so another session looks there.

use mysql_async::Conn;

use super::{
    probe::{Findings, Probe, Step, StoppedAt},
    tables::ProbedTable,
};
use crate::{
    schema::{GATE_TABLE, STAMP_TABLE},
    server::Flavour,
};

impl Probe {
    /// Whether one lock keeps everybody from writing to most tables.
    pub(super) fn has_gate(&self) -> bool {
        self.all().any(|table| table.is_gated)
    }

    /// All tables, those that are not looked into as well.
    fn all(&self) -> impl Iterator<Item = &ProbedTable> {
        self.tables.iter().chain(&self.kept)
    }

    /// What is locked beside the stamp, and in which way.
    pub(super) fn held(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let gate = self.has_gate().then_some(GATE_TABLE);
        let is_blind = gate.is_some() && self.blind == Some("ungated");
        let tables = self.all().filter(move |table| !table.is_gated && !is_blind);
        let tables = gate.into_iter().chain(tables.map(|table| &*table.quoted));
        let tables = tables.enumerate().map(|(index, name)| match index {
            // One of this kind must be among them, for which the schema's lock is shared; and those who share the
            // gate's lock wait for no other.
            0 => (name, "WRITE"),
            // What others write waits for the weaker kind as well, which is given back in less time; and MySQL takes
            // milliseconds for the stronger.
            _ => (name, "READ"),
        });
        let sequences = self.sequences.iter();
        // They give values to everybody under the weaker kind.
        tables.chain(sequences.map(|sequence| (&*sequence.quoted, "WRITE")))
    }

    /// The statement that locks all that is looked at, so that nobody else changes it.
    pub(super) fn locking(&self, flavour: Flavour) -> String {
        if self.blind == Some("tables") {
            return format!("LOCK TABLES {STAMP_TABLE} WRITE");
        }
        // Others may want to know whose the database is.
        let mut statement = format!("LOCK TABLES {STAMP_TABLE} READ");
        for (name, kind) in self.held() {
            statement.extend([", ", name, " ", kind]);
        }
        match flavour {
            Flavour::MariaDb => statement + " NOWAIT",
            Flavour::MySql => statement,
        }
    }

    /// Looks while nobody may write, and leaves all locks as they are: by the session that has them, and by the `looker`,
    /// if there is one, into what has none. Changes of the schema are not counted.
    pub(super) async fn run_inside(
        &self,
        conn: &mut Conn,
        looker: Option<&mut Conn>,
    ) -> Result<Findings, StoppedAt> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.retain(|(step, _)| {
            !matches!(
                step,
                Step::Newest | Step::Changes | Step::Watch | Step::Unlock
            )
        });
        let Some(looker) = looker.filter(|_| self.has_gate()) else {
            return self.look(conn, &steps, true).await;
        };
        let (locked, open): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|(step, _)| *step == Step::Sequences);
        let mut findings = self.look(looker, &open, true).await?;
        if !locked.is_empty() {
            findings.sequences = self.look(conn, &locked, true).await?.sequences;
        }
        Ok(findings)
    }
}
