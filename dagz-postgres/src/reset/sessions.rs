//! Sessions and prepared transactions that earlier tests left behind, and how they end.
//!
//! A transaction that is open elsewhere is invisible to the reset, and its rows appear when it
//! commits, in the next test. So the reset first makes sure that there is none: [`end`] waits a
//! bounded time, names the culprit, and ends it.

use std::time::{Duration, Instant};

use dagz_core::{
    Error, ErrorKind, Result, Target,
    event::{self, Event},
};
use tokio_postgres::Client;

use crate::{driver, error, sql};

/// How long a session that was told to end may take.
const ENDING: Duration = Duration::from_secs(5);

/// Whether the session `a` was left by an earlier test than that of `tag`: it has a transaction
/// open, or it carries another test's tag. Sessions of dagz's own do not count, nor idle ones
/// that no test is known to have opened, such as a developer's `psql`. An idle one has a transaction for a moment when it
/// catches up with what others did to catalogs, and the server says that it is as old as its last statement.
pub(super) fn is_leftover(a: &str, tag: &str) -> String {
    format!(
        "{a}.pid <> pg_backend_pid() AND {a}.backend_type = 'client backend' \
         AND NOT starts_with({a}.application_name || ' ', {tag} || ' ') \
         AND ({a}.xact_start IS NOT NULL AND {a}.state <> 'idle' OR {a}.application_name ~ '^jw[0-9]+[.]t[0-9]+( |$)')"
    )
}

struct Session {
    pid: i32,
    name: String,
    /// Since when its transaction is open, if one is.
    since: Option<String>,
    query: String,
}

impl Session {
    /// For people: who it is, and what it was doing.
    fn describe(&self) -> String {
        let Self {
            pid,
            name,
            since,
            query,
        } = self;
        let since = since.as_deref().unwrap_or("some time");
        format!(
            "session {pid} of `{name}` has a transaction open since {since}, last doing `{query}`"
        )
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
            if told.contains(&session.pid) || session.since.is_some() && !patience_is_over {
                continue;
            }
            told.push(session.pid);
            terminate(client, target, session).await?;
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
pub(super) async fn end_unclean(client: &Client, target: &Target, pids: &[i32]) -> Result<()> {
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
                error::statement(
                    ErrorKind::Prepare,
                    format!(
                        "cannot end unclean sessions in database `{}`",
                        target.name()
                    ),
                    error,
                )
            })?;
        if left == 0 {
            return Ok(());
        }
        if started.elapsed() > ENDING {
            return Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "sessions {pids:?} of an earlier test in database `{}` do not end though they were told to",
                    target.name()
                ),
            ));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn list(client: &Client, target: &Target) -> Result<Vec<Session>> {
    let statement = format!(
        "SELECT a.pid, coalesce(nullif(a.application_name, ''), 'a session without a name'), \
                to_char(a.xact_start, 'HH24:MI:SS.MS'), coalesce(left(a.query, 200), '') \
         FROM pg_stat_activity a WHERE a.datname = current_database() AND {}",
        is_leftover("a", "$1")
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
            since: row.get(2),
            query: row.get(3),
        })
        .collect())
}

async fn terminate(client: &Client, target: &Target, session: &Session) -> Result<()> {
    if session.since.is_some() {
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
    client
        .query_one("SELECT pg_terminate_backend($1)", &[&session.pid])
        .await
        .map(drop)
        .map_err(|error| {
            error::statement(
                ErrorKind::Prepare,
                format!(
                    "{} in database `{}`, and dagz's user may not end it: `GRANT pg_signal_backend` to that user",
                    session.describe(),
                    target.name()
                ),
                error,
            )
        })
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
