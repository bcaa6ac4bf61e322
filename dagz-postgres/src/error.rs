//! Turns `tokio_postgres::Error` into [`dagz_core::Error`], by SQLSTATE.
//!
//! The native error is kept as the source, and each message says what was tried, where, and what
//! to do next. Used by every module that talks to a server.

use std::{error::Error as _, fmt::Display, io};

use dagz_core::{Error, ErrorKind, driver::connection_ended};
use tokio_postgres::error::SqlState;

/// Where a connection was going, for the message of one that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    /// `host:port`, as people know it.
    pub(crate) endpoint: &'a str,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// The error for a connection that could not be opened.
pub(crate) fn connecting(to: Destination<'_>, error: tokio_postgres::Error) -> Error {
    let Destination {
        endpoint,
        database,
        user,
    } = to;
    let (kind, message) = match Cause::of(&error) {
        Cause::Credentials => (
            ErrorKind::AccessDenied,
            format!(
                "Postgres at `{endpoint}` refuses user `{user}` for database `{database}`: check the user, the password and `pg_hba.conf`"
            ),
        ),
        Cause::Rights => (
            ErrorKind::AccessDenied,
            format!(
                "user `{user}` may not connect to database `{database}` at `{endpoint}`: `GRANT CONNECT ON DATABASE {} TO {}`",
                crate::sql::identifier(database),
                crate::sql::identifier(user)
            ),
        ),
        Cause::TooManyConnections => (
            ErrorKind::Unreachable,
            format!(
                "Postgres at `{endpoint}` has no connection left for database `{database}`: raise `max_connections`, or run with fewer workers (`DAGZ_WORKERS`)"
            ),
        ),
        Cause::MissingDatabase => (
            ErrorKind::WorkerInit,
            format!("database `{database}` does not exist at `{endpoint}`"),
        ),
        Cause::NotReady => (
            ErrorKind::Unreachable,
            format!(
                "Postgres at `{endpoint}` does not accept connections to `{database}` yet: is it starting up or shutting down?"
            ),
        ),
        Cause::Unreachable => (
            ErrorKind::Unreachable,
            format!(
                "cannot reach Postgres at `{endpoint}` for database `{database}`: is it running?"
            ),
        ),
        Cause::Settings => (
            ErrorKind::Settings,
            format!("the connection to `{database}` at `{endpoint}` is not configured well enough"),
        ),
        Cause::Other | Cause::Busy => (
            ErrorKind::Unreachable,
            format!("cannot open a connection to database `{database}` at `{endpoint}`"),
        ),
    };
    Error::new(kind, message).with_source(error)
}

/// The error for a connection that took longer than `seconds`.
pub(crate) fn connecting_took_too_long(to: Destination<'_>, seconds: u64) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "Postgres at `{}` did not answer within {seconds} s for database `{}`: is it running, and is the port right?",
            to.endpoint, to.database
        ),
    )
}

/// The error for a statement that failed: `message` says what it was for, `otherwise` its kind
/// where the SQLSTATE does not say more.
pub(crate) fn statement(
    otherwise: ErrorKind,
    message: impl Display,
    error: tokio_postgres::Error,
) -> Error {
    let cause = Cause::of(&error);
    let kind = match cause {
        Cause::Credentials | Cause::Rights => ErrorKind::AccessDenied,
        Cause::TooManyConnections | Cause::NotReady | Cause::Unreachable => ErrorKind::Unreachable,
        Cause::Busy => ErrorKind::InUse,
        Cause::MissingDatabase | Cause::Settings | Cause::Other => otherwise,
    };
    let message = match cause {
        Cause::Unreachable => connection_ended(message),
        _ => message.to_string(),
    };
    Error::new(kind, message).with_source(error)
}

/// Whether the connection itself is gone, so that another one may do better.
pub(crate) fn is_connection_lost(error: &tokio_postgres::Error) -> bool {
    matches!(Cause::of(error), Cause::Unreachable | Cause::NotReady)
}

/// Whether `error` carries this SQLSTATE.
pub(crate) fn has_code(error: &tokio_postgres::Error, code: &SqlState) -> bool {
    error.code() == Some(code)
}

/// Whether the server says that something a statement names, or its shape, is not there any more.
pub(crate) fn is_shape_changed(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            &SqlState::UNDEFINED_TABLE,
            &SqlState::UNDEFINED_COLUMN,
            &SqlState::UNDEFINED_OBJECT,
            &SqlState::UNDEFINED_FUNCTION,
            &SqlState::INVALID_SCHEMA_NAME,
            &SqlState::WRONG_OBJECT_TYPE,
            &SqlState::DATATYPE_MISMATCH,
            // "cached plan must not change result type"
            &SqlState::FEATURE_NOT_SUPPORTED,
        ]
        .contains(&code)
    })
}

/// What lies behind a native error, as far as dagz acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Credentials,
    Rights,
    TooManyConnections,
    MissingDatabase,
    NotReady,
    Busy,
    Unreachable,
    Settings,
    Other,
}

impl Cause {
    fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(code) = error.code() {
            return Self::of_state(code);
        }
        if error.is_closed()
            || error
                .source()
                .is_some_and(|source| source.is::<io::Error>())
        {
            return Self::Unreachable;
        }
        // tokio-postgres has no public kind: its words are all there is to tell these two apart.
        let words = error.to_string();
        if words.starts_with("authentication error")
            || error
                .source()
                .is_some_and(|source| source.to_string() == "password missing")
        {
            Self::Credentials
        } else if words.starts_with("invalid configuration") {
            Self::Settings
        } else {
            Self::Other
        }
    }

    fn of_state(code: &SqlState) -> Self {
        match *code {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Self::Credentials
            }
            SqlState::INSUFFICIENT_PRIVILEGE => Self::Rights,
            SqlState::TOO_MANY_CONNECTIONS => Self::TooManyConnections,
            SqlState::INVALID_CATALOG_NAME => Self::MissingDatabase,
            SqlState::CANNOT_CONNECT_NOW => Self::NotReady,
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::DATABASE_DROPPED
            | SqlState::IDLE_SESSION_TIMEOUT
            | SqlState::CONNECTION_EXCEPTION
            | SqlState::CONNECTION_FAILURE
            | SqlState::CONNECTION_DOES_NOT_EXIST => Self::Unreachable,
            SqlState::LOCK_NOT_AVAILABLE | SqlState::OBJECT_IN_USE => Self::Busy,
            _ => Self::Other,
        }
    }
}
