//! Sessions and prepared transactions that earlier tests left behind, and how they end.
//!
//! A transaction that is open elsewhere is invisible to the reset, and its rows appear when it
//! commits, in the next test. So the reset first makes sure that there is none: [`end`] waits a
//! bounded time, names the culprit, and ends it.

use std::time::{Duration, Instant};

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::Failure,
    event::{self, Event},
};
use tokio_postgres::{Client, error::SqlState};

use super::failure;
use crate::{driver, error, sql};

/// How long a session that was told to end may take.
const ENDING: Duration = Duration::from_secs(5);

/// Whether the session `a` was left by an earlier test than that of `tag`: it has a transaction
/// open, or it carries another test's tag. Sessions of dagz's own do not count, nor idle ones
/// that no test is known to have opened, such as a developer's `psql`. An idle one has a transaction for a moment when it
/// catches up with what others did to catalogs, and the server says that it is as old as its last statement.
///
/// Only a superuser may be sure to see all that this asks about; for others, there is [`is_leftover_of_any`].
pub(super) fn is_leftover(a: &str, tag: &str) -> String {
    format!(
        "{} AND {a}.backend_type = 'client backend' \
         AND ({a}.xact_start IS NOT NULL AND {a}.state <> 'idle' OR {})",
        is_of_others(a, tag),
        is_tagged(a)
    )
}

/// The same of sessions as [`any`] lists them.
pub(super) fn is_leftover_of_any(a: &str, tag: &str) -> String {
    format!(
        "CASE WHEN {a}.hidden_open IS NULL THEN {} ELSE {} AND ({a}.hidden_open OR {}) END",
        is_leftover(a, tag),
        is_of_others(a, tag),
        is_tagged(a)
    )
}

/// The sessions of `source`, with one more column. Whoever is neither a member of a session's role nor of
/// `pg_read_all_stats` is not shown what it does. `hidden_open` says of such a session whether it has a transaction open,
/// which its locks tell everybody, and is NULL of others. What vacuums by itself has no role; a background worker that has
/// one cannot be told from a client.
pub(super) fn any(source: &str) -> String {
    format!(
        "(SELECT a.*, CASE WHEN a.backend_type IS NULL AND a.usesysid IS NOT NULL THEN {} END AS hidden_open \
          FROM {source} OFFSET 0)",
        has_transaction("a.pid")
    )
}

/// Whether the session `pid` has a transaction open, by its locks: that is dear, and true for an idle one, too, which
/// catches up.
pub(super) fn has_transaction(pid: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_locks l WHERE l.pid = {pid} AND l.locktype = 'virtualxid' AND l.granted)"
    )
}

fn is_of_others(a: &str, tag: &str) -> String {
    format!(
        "{a}.pid <> pg_backend_pid() AND NOT starts_with({a}.application_name || ' ', {tag} || ' ')"
    )
}

fn is_tagged(a: &str) -> String {
    format!("{a}.application_name ~ '^jw[0-9]+[.]t[0-9]+( |$)'")
}

struct Session {
    pid: i32,
    name: String,
    is_open: bool,
    /// What is known beside that, unless it is hidden.
    doing: Option<String>,
    /// How dagz's user would get the right to end it.
    remedy: String,
}

impl Session {
    /// For people: who it is, and what it was doing.
    fn describe(&self) -> String {
        let Self { pid, name, .. } = self;
        let state = match self.is_open {
            true => "has a transaction open",
            false => "is left of an ended test",
        };
        let doing = self.doing.as_deref().unwrap_or_default();
        format!("session {pid} of `{name}` {state}{doing}")
    }
}

/// Ends what earlier tests left in the database of `target`, giving open transactions `patience`
/// to end by themselves.
pub(super) async fn end(client: &Client, target: &Target, patience: Duration) -> Result<()> {
    let started = Instant::now();
    let mut told: Vec<i32> = Vec::new();
    let mut pause = Duration::from_millis(1);
    loop {
        let sessions = list(client, target).await?;
        if sessions.is_empty() {
            break;
        }
        let patience_is_over = started.elapsed() >= patience;
        for session in &sessions {
            if told.contains(&session.pid) || session.is_open && !patience_is_over {
                continue;
            }
            match terminate(client, session).await {
                Ok(()) => {
                    told.push(session.pid);
                    tell(target, session);
                }
                // It may be closing just now.
                Err(error) if is_forbidden(&error) && !patience_is_over => {}
                Err(error) => return Err(not_ended(target, session, error)),
            }
        }
        if started.elapsed() > patience + ENDING {
            let session = &sessions[0];
            return Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "{} in database `{}`, and does not end though it was told to",
                    session.describe(),
                    target.name()
                ),
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    for transaction in roll_back_prepared(client).await? {
        leaked(
            target,
            &format!(
                "prepared transaction `{transaction}` was left in database `{}` and is rolled back",
                target.name()
            ),
        );
    }
    Ok(())
}

/// Ends the sessions `pids`, kept ones that did not become clean, as far as they are still there.
pub(super) async fn end_unclean(
    client: &Client,
    target: &Target,
    pids: &[i32],
) -> Result<(), Failure> {
    if pids.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    loop {
        // In this database only: a number may have passed to a session that is nobody's business.
        let left: i64 = client
            .query_one(
                "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a \
                 WHERE a.datname = current_database() AND a.pid = ANY ($1)",
                &[&pids],
            )
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| {
                failure(error, |error| {
                    let name = target.name();
                    let message = format!("cannot end unclean sessions in database `{name}`");
                    error::statement(ErrorKind::Prepare, message, error)
                })
            })?;
        if left == 0 {
            return Ok(());
        }
        if started.elapsed() > ENDING {
            let message = format!(
                "sessions {pids:?} of an earlier test in database `{}` do not end though they were told to",
                target.name()
            );
            return Err(Failure::Final(Error::new(ErrorKind::InUse, message)));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn list(client: &Client, target: &Target) -> Result<Vec<Session>> {
    let statement = format!(
        "SELECT a.pid, coalesce(nullif(a.application_name, ''), 'a session without a name'), \
                coalesce(a.hidden_open, a.xact_start IS NOT NULL), \
                CASE WHEN a.hidden_open IS NULL \
                     THEN concat(' since ' || to_char(a.xact_start, 'HH24:MI:SS.MS'), ', last doing `', left(a.query, 200), '`') END, \
                CASE WHEN (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = a.usesysid) \
                     THEN 'only a superuser may; close it, or have dagz connect as one' \
                     ELSE format('`GRANT pg_signal_backend, pg_read_all_stats TO %1$I`, or `GRANT %2$I TO %1$I`', current_user, coalesce(a.usename, 'its role')) END \
         FROM {} a WHERE {}",
        any("pg_stat_activity a WHERE a.datname = current_database()"),
        is_leftover_of_any("a", "$1")
    );
    let rows = client
        .query(&statement, &[&target.tag()])
        .await
        .map_err(|error| {
            error::statement(
                ErrorKind::Prepare,
                format!("cannot list the sessions in database `{}`", target.name()),
                error,
            )
        })?;
    Ok(rows
        .into_iter()
        .map(|row| Session {
            pid: row.get(0),
            name: row.get(1),
            is_open: row.get(2),
            doing: row.get(3),
            remedy: row.get(4),
        })
        .collect())
}

async fn terminate(client: &Client, session: &Session) -> Result<(), tokio_postgres::Error> {
    client
        .query_one("SELECT pg_terminate_backend($1)", &[&session.pid])
        .await
        .map(drop)
}

fn is_forbidden(error: &tokio_postgres::Error) -> bool {
    error::has_code(error, &SqlState::INSUFFICIENT_PRIVILEGE)
}

fn not_ended(target: &Target, session: &Session, error: tokio_postgres::Error) -> Error {
    let (session_of, database) = (session.describe(), target.name());
    let message = if is_forbidden(&error) {
        let remedy = &session.remedy;
        format!("{session_of} in database `{database}`, and dagz's user may not end it: {remedy}")
    } else {
        format!("{session_of} in database `{database}`, and cannot be ended")
    };
    error::statement(ErrorKind::Prepare, message, error)
}

/// Tells that a session is ended.
fn tell(target: &Target, session: &Session) {
    if session.is_open {
        leaked(
            target,
            &format!(
                "{} in database `{}`; it is ended",
                session.describe(),
                target.name()
            ),
        );
    } else {
        tracing::debug!(
            target: "dagz",
            database = target.name(),
            session = session.name,
            "an idle session of an ended test is ended"
        );
    }
}

fn leaked(target: &Target, what: &str) {
    event::warn(Some(driver::NAME), what);
    Event::new("leak").target(target).detail(what).record();
}

/// Rolls back the prepared transactions of this database, and tells their names.
pub(crate) async fn roll_back_prepared(client: &Client) -> Result<Vec<String>> {
    let failed = |error| {
        error::statement(
            ErrorKind::Prepare,
            "cannot roll back prepared transactions that earlier tests left",
            error,
        )
    };
    let rows = client
        .query(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
            &[],
        )
        .await
        .map_err(failed)?;
    let mut names = Vec::new();
    for row in rows {
        let name: String = row.get(0);
        client
            .batch_execute(&format!("ROLLBACK PREPARED {}", sql::literal(&name)))
            .await
            .map_err(failed)?;
        names.push(name);
    }
    Ok(names)
}
