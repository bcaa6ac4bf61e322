//! Turns `mysql_async::Error` into [`dagz_core::Error`], by the server's error numbers.
//!
//! The native error is kept as the source, and each message says what was tried, where, and what
//! to do next. Used by every module that talks to a server.

use std::{fmt::Display, io};

use dagz_core::{Error, ErrorKind, driver::connection_ended};
use mysql_async::{DriverError, IoError, ServerError};

/// Where a connection was going, for the message of one that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    /// `host:port`, as people know it.
    pub(crate) endpoint: &'a str,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// The error numbers that dagz acts on.
pub(crate) mod code {
    pub(crate) const DATABASE_EXISTS: u16 = 1007;
    pub(crate) const DATABASE_IS_GONE: u16 = 1008;
    pub(crate) const DIRECTORY_IS_NOT_EMPTY: u16 = 1010;
    pub(crate) const TOO_MANY_CONNECTIONS: u16 = 1040;
    pub(crate) const NO_RIGHT_ON_DATABASE: u16 = 1044;
    pub(crate) const WRONG_CREDENTIALS: u16 = 1045;
    pub(crate) const NO_DATABASE_CHOSEN: u16 = 1046;
    pub(crate) const UNKNOWN_DATABASE: u16 = 1049;
    pub(crate) const UNKNOWN_TABLE: u16 = 1051;
    pub(crate) const SHUTTING_DOWN: u16 = 1053;
    pub(crate) const UNKNOWN_COLUMN: u16 = 1054;
    pub(crate) const NO_SUCH_THREAD: u16 = 1094;
    pub(crate) const TABLE_NOT_IN_SYSTEM_DATABASE: u16 = 1109;
    pub(crate) const HOST_NOT_ALLOWED: u16 = 1130;
    pub(crate) const NO_RIGHT_ON_TABLE: u16 = 1142;
    pub(crate) const NO_RIGHT_ON_COLUMN: u16 = 1143;
    pub(crate) const NO_SUCH_TABLE: u16 = 1146;
    pub(crate) const CONNECTION_ABORTED: u16 = 1152;
    pub(crate) const USER_HAS_TOO_MANY: u16 = 1203;
    pub(crate) const LOCK_WAIT_TIMEOUT: u16 = 1205;
    pub(crate) const DEADLOCK: u16 = 1213;
    pub(crate) const RIGHT_IS_MISSING: u16 = 1227;
    pub(crate) const INVALID_VIEW: u16 = 1356;
    pub(crate) const NO_RIGHT_ON_ROUTINE: u16 = 1370;
    pub(crate) const LOG_MAY_BREAK: u16 = 1418;
    pub(crate) const LOG_NEEDS_SUPER: u16 = 1419;
    pub(crate) const QUERY_WAS_ENDED: u16 = 1317;
    pub(crate) const TABLESPACE_DISCARDED: u16 = 1814;
    pub(crate) const CONNECTION_WAS_ENDED: u16 = 1927;
    pub(crate) const DATABASE_IS_READ_ONLY: u16 = 3989;
    pub(crate) const NOT_A_SEQUENCE: u16 = 4089;
    pub(crate) const UNKNOWN_SEQUENCE: u16 = 4091;
}

/// The error for a connection that could not be opened.
pub(crate) fn connecting(to: Destination<'_>, error: mysql_async::Error) -> Error {
    let Destination {
        endpoint,
        database,
        user,
    } = to;
    let (kind, message) = match Cause::of(&error) {
        Cause::Credentials => (
            ErrorKind::AccessDenied,
            format!(
                "MySQL at `{endpoint}` refuses user `{user}` for database `{database}`: check the user, the password, and from which hosts it may log in"
            ),
        ),
        Cause::Rights => (
            ErrorKind::AccessDenied,
            format!(
                "user `{user}` may not use database `{database}` at `{endpoint}`: {}",
                grant(database, user)
            ),
        ),
        Cause::TooManyConnections => (
            ErrorKind::Unreachable,
            format!(
                "MySQL at `{endpoint}` has no connection left for database `{database}`: raise `max_connections`, or run with fewer workers (`DAGZ_WORKERS`)"
            ),
        ),
        Cause::MissingDatabase => (
            ErrorKind::WorkerInit,
            format!("database `{database}` does not exist at `{endpoint}`"),
        ),
        Cause::Unreachable => (
            ErrorKind::Unreachable,
            format!("cannot reach MySQL at `{endpoint}` for database `{database}`: is it running?"),
        ),
        Cause::Protocol => (
            ErrorKind::Unsupported,
            format!(
                "what listens at `{endpoint}` does not speak as MySQL and MariaDB do: is the port right?"
            ),
        ),
        Cause::Settings => (
            ErrorKind::Settings,
            format!(
                "the connection to `{database}` at `{endpoint}` cannot be made as it is configured"
            ),
        ),
        Cause::Busy | Cause::Other => (
            ErrorKind::Unreachable,
            format!("cannot open a connection to database `{database}` at `{endpoint}`"),
        ),
    };
    Error::new(kind, message).with_source(inner(error))
}

/// The statement that gives `user` what dagz needs for `database` and its like.
pub(crate) fn grant(database: &str, account: &str) -> String {
    // All workers' databases, and the template they are made from, share a beginning.
    let stem = database
        .rfind("_jw")
        .map_or(database, |at| &database[..at + "_jw".len()]);
    let account = crate::sql::account(account);
    format!(
        "`GRANT ALL PRIVILEGES ON `{}%`.* TO {account}`",
        crate::sql::in_grant(stem)
    )
}

/// The error for a connection that took longer than `seconds`.
pub(crate) fn connecting_took_too_long(to: Destination<'_>, seconds: u64) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "MySQL at `{}` did not answer within {seconds} s for database `{}`: is it running, and is the port right?",
            to.endpoint, to.database
        ),
    )
}

/// The error for a statement that failed: `message` says what it was for, `otherwise` its kind
/// where the error's number does not say more.
pub(crate) fn statement(
    otherwise: ErrorKind,
    message: impl Display,
    error: mysql_async::Error,
) -> Error {
    let cause = Cause::of(&error);
    let kind = match cause {
        Cause::Credentials | Cause::Rights => ErrorKind::AccessDenied,
        Cause::TooManyConnections | Cause::Unreachable => ErrorKind::Unreachable,
        Cause::Busy => ErrorKind::InUse,
        Cause::MissingDatabase | Cause::Settings | Cause::Protocol | Cause::Other => otherwise,
    };
    let message = match cause {
        Cause::Unreachable => connection_ended(message),
        _ => message.to_string(),
    };
    Error::new(kind, message).with_source(inner(error))
}

/// The error inside mysql_async's, whose own words repeat it.
fn inner(error: mysql_async::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        mysql_async::Error::Server(error) => error.into(),
        mysql_async::Error::Driver(error) => error.into(),
        mysql_async::Error::Io(IoError::Io(error)) => error.into(),
        error => error.into(),
    }
}

/// Whether the server said, as the reason of `error`, that there is no such database.
pub(crate) fn says_database_is_missing(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<ServerError>())
        .is_some_and(|error| Cause::of_code(error.code) == Cause::MissingDatabase)
}

/// Whether the connection itself is gone, so that another one may do better.
pub(crate) fn is_connection_lost(error: &mysql_async::Error) -> bool {
    Cause::of(error) == Cause::Unreachable
}

/// Whether a right is missing.
pub(crate) fn is_denied(error: &mysql_async::Error) -> bool {
    Cause::of(error) == Cause::Rights
}

/// Whether somebody else's lock is in the way.
pub(crate) fn is_busy(error: &mysql_async::Error) -> bool {
    Cause::of(error) == Cause::Busy
}

/// Whether `error` carries this number.
pub(crate) fn has_code(error: &mysql_async::Error, code: u16) -> bool {
    matches!(error, mysql_async::Error::Server(error) if error.code == code)
}

/// Whether the server says that something a statement names is not there any more.
pub(crate) fn is_shape_changed(error: &mysql_async::Error) -> bool {
    [
        code::NO_SUCH_TABLE,
        code::UNKNOWN_TABLE,
        code::TABLE_NOT_IN_SYSTEM_DATABASE,
        code::UNKNOWN_COLUMN,
        code::UNKNOWN_DATABASE,
        code::NO_DATABASE_CHOSEN,
        code::INVALID_VIEW,
        code::TABLESPACE_DISCARDED,
        code::NOT_A_SEQUENCE,
        code::UNKNOWN_SEQUENCE,
    ]
    .iter()
    .any(|code| has_code(error, *code))
}

/// What lies behind a native error, as far as dagz acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Credentials,
    Rights,
    TooManyConnections,
    MissingDatabase,
    Busy,
    Unreachable,
    Protocol,
    Settings,
    Other,
}

impl Cause {
    fn of(error: &mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(error) => Self::of_code(error.code),
            // What mysql_async cannot take for packets it calls so; the system never does.
            mysql_async::Error::Io(IoError::Io(error)) if error.kind() == io::ErrorKind::Other => {
                Self::Protocol
            }
            mysql_async::Error::Io(_) => Self::Unreachable,
            mysql_async::Error::Url(_) => Self::Settings,
            mysql_async::Error::Driver(error) => match error {
                DriverError::ConnectionClosed | DriverError::PoolDisconnected => Self::Unreachable,
                DriverError::CantParseServerVersion { .. }
                | DriverError::PacketOutOfOrder
                | DriverError::UnexpectedPacket { .. } => Self::Protocol,
                DriverError::UnknownAuthPlugin { .. }
                | DriverError::MysqlOldPasswordDisabled
                | DriverError::CleartextPluginDisabled
                | DriverError::NoClientSslFlagFromServer => Self::Settings,
                _ => Self::Other,
            },
            mysql_async::Error::Other(_) => Self::Other,
        }
    }

    fn of_code(number: u16) -> Self {
        match number {
            code::WRONG_CREDENTIALS | code::HOST_NOT_ALLOWED => Self::Credentials,
            code::NO_RIGHT_ON_DATABASE
            | code::NO_RIGHT_ON_TABLE
            | code::NO_RIGHT_ON_COLUMN
            | code::RIGHT_IS_MISSING
            | code::NO_RIGHT_ON_ROUTINE
            | code::LOG_MAY_BREAK
            | code::LOG_NEEDS_SUPER => Self::Rights,
            code::TOO_MANY_CONNECTIONS | code::USER_HAS_TOO_MANY => Self::TooManyConnections,
            code::UNKNOWN_DATABASE | code::DATABASE_IS_GONE => Self::MissingDatabase,
            code::SHUTTING_DOWN
            | code::CONNECTION_ABORTED
            | code::QUERY_WAS_ENDED
            | code::CONNECTION_WAS_ENDED => Self::Unreachable,
            code::LOCK_WAIT_TIMEOUT | code::DEADLOCK => Self::Busy,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_cover_all_workers_and_nothing_else() {
        assert_eq!(
            grant("my_shop_jw03", "app@%"),
            r"`GRANT ALL PRIVILEGES ON `my\_shop\_jw%`.* TO 'app'@'%'`"
        );
    }
}
