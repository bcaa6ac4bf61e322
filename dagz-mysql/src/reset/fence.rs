//! Closes a database's schema: nobody creates, alters or drops anything in it meanwhile.
//!
//! No statement locks a schema. But whoever is to change one, be it a table, a view, a routine or an event, shares a
//! lock on it, a statement about the database itself wants that lock alone, and behind one who waits for it everybody
//! else waits. So a [`Fence`] waits: it says `CREATE DATABASE IF NOT EXISTS` of a database that exists, while
//! `reset/hold.rs` holds tables of it locked, for which the server shares the lock, too. When those are given back, the
//! fence gets its turn, in which there is nothing to do. That nobody drops the database before is what it has to be seen
//! waiting for, and nobody else ([`Fence::end`]).

use dagz_core::{Result, runtime};
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::task::JoinHandle;

use crate::{
    server::{Flavour, Server},
    sql,
};

/// How the statement of a fence begins, by which other fences know it.
pub(super) const MARK: &str = "/* dagz fence */";

/// A session that waits to have a schema for itself.
pub(super) struct Fence {
    pub(super) session: u32,
    /// What MySQL calls it where it tells who waits.
    pub(super) thread: u64,
    /// Threads of the storage engine's, which lock tables now and then to count what is in them, and change nothing.
    pub(super) engines_own: Vec<u64>,
    state: State,
}

enum State {
    Open(Box<Conn>),
    Closed(JoinHandle<Option<Conn>>),
    Lost,
}

impl Fence {
    /// Opens a session in no database, so that it is not taken for one that a test left there.
    pub(super) async fn new(server: &Server, flavour: Flavour, name: &str) -> Result<Self> {
        let mut conn = server.connect(None, name).await?;
        let session = conn.id();
        let mut threads: Vec<(u64, bool)> = Vec::new();
        if flavour == Flavour::MySql {
            let query = "SELECT THREAD_ID, THREAD_ID <=> PS_CURRENT_THREAD_ID() FROM performance_schema.threads \
                         WHERE THREAD_ID = PS_CURRENT_THREAD_ID() OR NAME LIKE 'thread/innodb/%'";
            threads = conn.query(query).await.unwrap_or_default();
        }
        let (own, engines_own): (Vec<_>, Vec<_>) =
            threads.into_iter().partition(|(_, is_own)| *is_own);
        Ok(Self {
            session,
            thread: own.first().map_or(0, |(id, _)| *id),
            engines_own: engines_own.into_iter().map(|(id, _)| id).collect(),
            state: State::Open(Box::new(conn)),
        })
    }

    /// Begins to wait for the schema of `database`; others wait behind it once the server says that it does. Tells
    /// whether there is a session for that.
    pub(super) async fn close(&mut self, database: &str) -> bool {
        self.pass().await;
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Open(mut conn) => {
                let database = sql::identifier(database);
                self.state = State::Closed(runtime::spawn(async move {
                    let statement = format!("{MARK} CREATE DATABASE IF NOT EXISTS {database}");
                    // One that waited too long is closed with its session.
                    conn.query_drop(statement).await.ok().map(|()| *conn)
                }));
                true
            }
            _ => false,
        }
    }

    /// Ends the session before it is its turn, while `conn` still keeps it from that. To be done where somebody may
    /// have come before it: who drops the database, and it would make it again.
    pub(super) async fn end(mut self, conn: &mut Conn) {
        if matches!(self.state, State::Closed(_)) {
            // It may have ended by itself.
            drop(conn.query_drop(format!("KILL {}", self.session)).await);
            self.pass().await;
        }
    }

    /// Waits until it was its turn, when all is done to the schema that was begun before. Tells whether it came.
    pub(super) async fn pass(&mut self) -> bool {
        let State::Closed(waiting) = &mut self.state else {
            return matches!(self.state, State::Open(_));
        };
        self.state = match waiting.await {
            Ok(Some(conn)) => State::Open(Box::new(conn)),
            _ => State::Lost,
        };
        matches!(self.state, State::Open(_))
    }
}
