//! Sessions that earlier tests left behind, and how they end.
//!
//! A transaction that is open elsewhere is invisible to the reset, and its rows appear when it
//! commits, in the next test. So the reset first makes sure that no other session holds a lock on
//! any of the tables, which is what an open transaction does that read or wrote them: MySQL tells
//! so, in `performance_schema`; elsewhere the tables are locked, some at a time, before it is looked
//! into them.
//! (`INNODB_TRX` will not do: the server answers from a copy that may be old.) Where somebody
//! does, [`end`] waits a bounded time, names the culprit, and ends it.

use std::time::{Duration, Instant};

use dagz_core::{
    Error, ErrorKind, Result, Target,
    event::{self, Event},
};
use mysql_async::{Conn, prelude::Queryable as _};

use super::{lock, prepared::REMEDY};
use crate::{
    batch::{self, column, text},
    driver, error,
    error::code,
    server::{Facts, Flavour},
    sql,
};

/// How many tables are locked at once. A server compares each lock with all that the session has.
const AT_ONCE: usize = 100;

/// How often a session that does something is looked at before it counts as one in the database, and how much longer
/// each pause between is than the one before: at an even pace, one who comes by at that pace would be met each time.
const LOOKS: u32 = 10;
const LONGER: Duration = Duration::from_millis(1);

/// How long a session that was told to end may take.
const ENDING: Duration = Duration::from_secs(5);

/// How it is found out whether others hold locks on these tables.
#[derive(Clone, Debug)]
pub(super) enum Watch {
    /// A statement that answers with a number, 0 for nobody.
    Ask(String),
    /// Statements that take the locks, each of some tables after giving back those of the one before. The first that
    /// cannot fails. If none does, every transaction that was open at the beginning is over at the end.
    Take(Vec<String>),
}

impl Watch {
    pub(super) fn new(facts: &Facts, database: &str, tables: &[String]) -> Self {
        if facts.shows_locks {
            return Self::Ask(format!("SELECT COUNT(*) {}", holders(database)));
        }
        // MySQL has no such word; its sessions wait for the shortest time that it knows, a second.
        let at_once = match facts.flavour {
            Flavour::MariaDb => " NOWAIT",
            Flavour::MySql => "",
        };
        let locks = tables.chunks(AT_ONCE);
        let locks =
            locks.map(|tables| format!("LOCK TABLES {} WRITE{at_once}", tables.join(" WRITE, ")));
        Self::Take(locks.collect())
    }

    pub(super) async fn is_free(&self, conn: &mut Conn) -> Result<bool, mysql_async::Error> {
        match self {
            Self::Ask(statement) => {
                let holders: Option<u64> = conn.query_first(statement).await?;
                Ok(holders == Some(0))
            }
            Self::Take(statements) => {
                for statement in statements {
                    // One that fails has given back those of the one before, too.
                    match conn.query_drop(statement).await {
                        Ok(()) => {}
                        Err(error) if error::is_busy(&error) => return Ok(false),
                        Err(error) => return Err(error),
                    }
                }
                conn.query_drop("UNLOCK TABLES").await.map(|()| true)
            }
        }
    }
}

/// The locks that other sessions hold on tables of `database`.
fn holders(database: &str) -> String {
    format!(
        "FROM performance_schema.metadata_locks l WHERE l.OBJECT_TYPE = 'TABLE' AND l.OBJECT_SCHEMA = {} \
         AND l.OWNER_THREAD_ID <> PS_CURRENT_THREAD_ID() AND l.LOCK_STATUS = 'GRANTED'",
        sql::literal(database)
    )
}

struct Session {
    id: u64,
    user: String,
    /// Which test opened it, if it says so.
    test: Option<String>,
    seconds: i64,
    query: Option<String>,
    /// Whether it is known to have one open.
    has_transaction: bool,
}

/// The test that used a database last.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) test: String,
    /// The newest session that there was on the server when it began, as far as that is known. Later ones have greater
    /// numbers.
    pub(super) newest: Option<u64>,
}

impl Session {
    /// For people: who it is, and what it was doing; `last` is the test that used the database
    /// before.
    fn describe(&self, last: Option<&Last>) -> String {
        let Self {
            id,
            user,
            test,
            seconds,
            query,
            ..
        } = self;
        let test = match (test.as_deref(), last) {
            (Some(test), _) => format!(", opened by `{test}`,"),
            (None, Some(Last { test, newest })) => match newest {
                Some(newest) if id > newest => format!(", left by `{test}`,"),
                // It may have idled since an earlier test, and begun only then.
                _ => format!(", left by `{test}` or a test before it,"),
            },
            (None, None) => String::new(),
        };
        let query = query
            .as_ref()
            .map_or_else(String::new, |query| format!(", last doing `{query}`"));
        format!("session {id} of user `{user}`{test} holds locks since {seconds} s{query}")
    }
}

/// What is known of those who may be in the way.
pub(super) struct Suspects<'a> {
    pub(super) facts: &'a Facts,
    pub(super) watch: &'a Watch,
    /// The test that used the database before this one.
    pub(super) last: Option<&'a Last>,
    /// Whether that was this very test, whose sessions are its own business.
    pub(super) are_own: bool,
    /// dagz's own idle sessions.
    pub(super) spared: &'a [u32],
}

/// Ends the sessions of earlier tests that hold locks in the database of `target`, giving them
/// `patience` to end by themselves.
pub(super) async fn end(
    conn: &mut Conn,
    target: &Target,
    suspects: &Suspects<'_>,
    patience: Duration,
) -> Result<()> {
    let database = target.name();
    let started = Instant::now();
    let mut told: Vec<u64> = Vec::new();
    let mut pause = Duration::from_millis(1);
    loop {
        let is_free = suspects.watch.is_free(conn).await;
        // What is not there any more is not locked; the next look says so better.
        if is_free.as_ref().is_err_and(error::is_shape_changed) {
            return Ok(());
        }
        let is_free = is_free.map_err(|error| cannot_list(database, error))?;
        if is_free {
            return Ok(());
        }
        if started.elapsed() >= patience {
            let sessions = list(conn, suspects.facts, database, Among::Holding).await?;
            let sessions: Vec<_> = sessions
                .into_iter()
                .filter(|session| {
                    !suspects
                        .spared
                        .iter()
                        .any(|id| u64::from(*id) == session.id)
                })
                .collect();
            if let Some(error) = hopeless(&sessions, target, suspects, started, patience) {
                return Err(error);
            }
            let mut new: Vec<_> = sessions
                .iter()
                .filter(|session| !told.contains(&session.id))
                .collect();
            // Where the server does not tell who holds the locks, those with a transaction go
            // first, and the others only if that was not enough.
            if new.iter().any(|session| session.has_transaction) {
                new.retain(|session| session.has_transaction);
            }
            if !new.is_empty() {
                // One name is enough of the test that left them all.
                leaked(target, &new, suspects.last.filter(|_| told.is_empty()));
            }
            for session in new {
                told.push(session.id);
                kill(conn, session, database).await?;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The error where there is nobody to end, or nobody who would.
fn hopeless(
    sessions: &[Session],
    target: &Target,
    suspects: &Suspects<'_>,
    started: Instant,
    patience: Duration,
) -> Option<Error> {
    let database = target.name();
    let message = match sessions.first() {
        Some(session) if suspects.are_own => format!(
            "cannot reset database `{database}` in the middle of a test that has a transaction open in it: {}; commit it first",
            session.describe(suspects.last)
        ),
        Some(session) if started.elapsed() > patience + ENDING => format!(
            "{} in database `{database}`, and does not end though it was told to",
            session.describe(suspects.last)
        ),
        None if started.elapsed() > patience + ENDING => format!(
            "cannot reset database `{database}`: locks on its tables are held by no session that this user may see, but by one that `SHOW PROCESSLIST` shows with more rights, or by a transaction that was prepared, and whose session is gone; {REMEDY}"
        ),
        _ => return None,
    };
    Some(Error::new(ErrorKind::InUse, message))
}

/// Which sessions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// Those that are in the database.
    Inside,
    /// Those that hold locks in it, wherever they are; where the server does not tell, those inside.
    Holding,
}

/// The sessions in `database` that `among` means, but this one and the one that holds its lock.
async fn list(
    conn: &mut Conn,
    facts: &Facts,
    database: &str,
    among: Among,
) -> Result<Vec<Session>> {
    let mut sessions = look(conn, facts, database, among).await?;
    if facts.shows_locks && among == Among::Holding {
        return Ok(sessions);
    }
    // MariaDB shows who reads what triggers there are as one in each database that it gets to, for a moment.
    for pause in 1..=LOOKS {
        if sessions.iter().all(|session| session.query.is_none()) {
            break;
        }
        tokio::time::sleep(LONGER * pause).await;
        let before = sessions;
        sessions = look(conn, facts, database, among).await?;
        sessions.retain(|session| before.iter().any(|earlier| earlier.id == session.id));
    }
    Ok(sessions)
}

/// What the server shows of them at this moment.
async fn look(
    conn: &mut Conn,
    facts: &Facts,
    database: &str,
    among: Among,
) -> Result<Vec<Session>> {
    let literal = sql::literal(database);
    let key = sql::literal(&lock::key("use", database));
    let statement = if facts.shows_locks && among == Among::Holding {
        format!(
            "SELECT t.PROCESSLIST_ID, t.PROCESSLIST_USER, {literal}, t.PROCESSLIST_TIME, \
                    LEFT(COALESCE(t.PROCESSLIST_INFO, s.SQL_TEXT), 200), a.ATTR_VALUE \
             FROM (SELECT DISTINCT l.OWNER_THREAD_ID AS id {}) h \
             JOIN performance_schema.threads t ON t.THREAD_ID = h.id \
             LEFT JOIN performance_schema.events_statements_current s ON s.THREAD_ID = h.id AND s.NESTING_EVENT_ID IS NULL \
             LEFT JOIN performance_schema.session_connect_attrs a \
                    ON a.PROCESSLIST_ID = t.PROCESSLIST_ID AND a.ATTR_NAME = 'program_name'",
            holders(database)
        )
    } else {
        format!(
            "SELECT ID, USER, DB, TIME, LEFT(INFO, 200), NULL FROM information_schema.PROCESSLIST \
             WHERE DB = {literal} AND ID <> CONNECTION_ID() AND ID <> COALESCE(IS_USED_LOCK({key}), 0)"
        )
    };
    let outcomes = batch::run(conn, &statement)
        .await
        .map_err(|stopped| cannot_list(database, stopped.error))?;
    let transactions = "SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX";
    let transactions: Vec<u64> = match conn.query(transactions).await {
        Ok(transactions) => transactions,
        // Without the right to see them there is one thing less to tell sessions apart by.
        Err(error) if error::is_denied(&error) => Vec::new(),
        Err(error) => return Err(cannot_list(database, error)),
    };
    Ok(outcomes
        .iter()
        .flat_map(|outcome| &outcome.rows)
        .filter(|row| text(row, 2).as_deref() == Some(database))
        .map(|row| (column(row, 0).unwrap_or_default(), row))
        .map(|(id, row)| Session {
            id,
            has_transaction: transactions.contains(&id),
            user: text(row, 1).unwrap_or_default(),
            seconds: column(row, 3).unwrap_or_default(),
            query: text(row, 4),
            test: text(row, 5),
        })
        .collect())
}

async fn kill(conn: &mut Conn, session: &Session, database: &str) -> Result<()> {
    match conn.query_drop(format!("KILL {}", session.id)).await {
        Ok(()) => Ok(()),
        Err(error) if error::has_code(&error, code::NO_SUCH_THREAD) => Ok(()),
        Err(error) => Err(error::statement(
            ErrorKind::Prepare,
            format!(
                "{} in database `{database}`, and dagz's user may not end it: `GRANT CONNECTION_ADMIN ON *.*` (MySQL) or `GRANT CONNECTION ADMIN ON *.*` (MariaDB) to that user, or let tests use its account",
                session.describe(None)
            ),
            error,
        )),
    }
}

/// Ends the sessions that `among` means in `database`, but the one that holds its lock.
pub(crate) async fn end_all(
    conn: &mut Conn,
    facts: &Facts,
    database: &str,
    among: Among,
) -> Result<()> {
    for session in list(conn, facts, database, among).await? {
        tracing::debug!(
            target: "dagz",
            database,
            session = session.id,
            "a session in a database that is to be dropped is ended"
        );
        kill(conn, &session, database).await?;
    }
    Ok(())
}

fn cannot_list(database: &str, error: mysql_async::Error) -> Error {
    error::statement(
        ErrorKind::Prepare,
        format!("cannot list the sessions in database `{database}`"),
        error,
    )
}

fn leaked(target: &Target, sessions: &[&Session], last: Option<&Last>) {
    let described: Vec<_> = sessions
        .iter()
        .enumerate()
        .map(|(index, session)| session.describe(last.filter(|_| index == 0)))
        .collect();
    let what = format!(
        "{} in database `{}`; {} ended",
        described.join("; "),
        target.name(),
        if sessions.len() == 1 {
            "it is"
        } else {
            "they are"
        }
    );
    event::warn(Some(driver::NAME), &what);
    Event::new("leak").target(target).detail(what).record();
}
