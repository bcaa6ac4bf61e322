//! Who waits for a lock in a database, or is doing anything there.
//!
//! `reset/hold.rs` asks whether anybody does before it relies on what it found earlier ([`Waiting`]), and
//! `reset/changes.rs` waits for those who may be changing a schema before it compares that ([`is_busy`]).

use std::borrow::Cow;

use mysql_async::Row;

use super::fence::{Fence, MARK};
use crate::{
    batch::{column, shown},
    server::Flavour,
    sql,
};

/// The statement that tells who does anything, to a user who may know of everybody or only of its own sessions.
pub(super) const SESSIONS: &str = "SHOW PROCESSLIST";

/// What tells who waits for a lock in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The sessions, as a user sees them who may see all. On MariaDB the table of the same takes three times as long.
    Sessions,
    /// MySQL's table of locks, which tells who holds one, too, and takes longer.
    Locks,
}

impl Source {
    /// What tells it before anything is known. Who holds a lock on MySQL need not be in the way of one who reads.
    pub(super) fn first(flavour: Flavour) -> Self {
        match flavour {
            Flavour::MariaDb => Self::Sessions,
            Flavour::MySql => Self::Locks,
        }
    }

    /// The statement that asks for `database`.
    pub(super) fn statement(self, database: &str) -> String {
        match self {
            Self::Sessions => SESSIONS.to_owned(),
            Self::Locks => format!(
                "SELECT OWNER_THREAD_ID, LOCK_STATUS FROM performance_schema.metadata_locks \
                 WHERE OBJECT_SCHEMA = {} AND OWNER_THREAD_ID <> PS_CURRENT_THREAD_ID()",
                sql::literal(database)
            ),
        }
    }
}

/// Who waits for a lock in a database.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Whether the fence does.
    pub(super) is_closed: bool,
    pub(super) are_others: bool,
}

impl Waiting {
    /// Reads what `source` tells the sessions `own`, whose fence is `fence`.
    pub(super) fn read(
        rows: &[Row],
        source: Source,
        own: &[u32],
        fence: &Fence,
        database: &str,
    ) -> Self {
        let mut waiting = Self::default();
        for row in rows {
            match source {
                Source::Locks => match column(row, 0) {
                    Some(thread) if thread == fence.thread => {
                        waiting.is_closed |= shown(row, 1).as_deref() == Some("PENDING");
                    }
                    Some(thread) if fence.engines_own.contains(&thread) => {}
                    _ => waiting.are_others = true,
                },
                Source::Sessions => {
                    let session = Session::of(row);
                    if session.id == Some(fence.session) {
                        waiting.is_closed |= session.waits();
                    } else if !session.is_of(own) && !session.is_fence() {
                        // Whoever is in another database may do something in this one, and where such a session
                        // waits the server does not tell.
                        waiting.are_others |= session.waits() || session.is_busy(database);
                    }
                }
            }
        }
        waiting
    }
}

/// Whether others than `own` do anything in `database`, and, where not, whether there are any of whom nobody knows;
/// as [`SESSIONS`] tells.
pub(super) fn is_busy(rows: &[Row], own: &[u32], database: &str) -> (bool, bool) {
    let sessions = rows.iter().map(Session::of);
    let others: Vec<_> = sessions
        // Another run waits its turn by such a lock, and does nothing before it gets it.
        .filter(|session| session.state != "User lock")
        .filter(|session| !session.is_of(own) && !session.is_fence())
        .collect();
    (
        others.iter().any(|session| session.is_busy(database)),
        others.iter().any(Session::waits),
    )
}

/// The newest session, as [`SESSIONS`] tells.
pub(super) fn newest(rows: &[Row]) -> Option<u64> {
    rows.iter().filter_map(|row| column(row, 0)).max()
}

struct Session<'a> {
    id: Option<u32>,
    database: Cow<'a, str>,
    command: Cow<'a, str>,
    state: Cow<'a, str>,
    statement: Cow<'a, str>,
}

impl<'a> Session<'a> {
    fn of(row: &'a Row) -> Self {
        let at = |index| shown(row, index).unwrap_or_default();
        Self {
            id: column(row, 0),
            database: at(3),
            command: at(4),
            state: at(6),
            statement: at(7),
        }
    }

    fn is_of(&self, own: &[u32]) -> bool {
        self.id.is_some_and(|id| own.contains(&id))
    }

    fn is_fence(&self) -> bool {
        self.statement.starts_with(MARK)
    }

    fn waits(&self) -> bool {
        self.state.starts_with("Waiting for ") && self.state.contains("lock")
    }

    fn is_busy(&self, database: &str) -> bool {
        let is_here = self.database == database || self.statement.contains(database);
        is_here && self.command != "Sleep"
    }
}
