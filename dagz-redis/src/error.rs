//! Turns `redis::RedisError` into [`dagz_core::Error`], by its code.
//!
//! The native error is kept as the source, and each message says what was tried, where, and what
//! to do next. Used by every module that talks to a server.

use std::fmt::Display;

use dagz_core::{Error, ErrorKind, driver::connection_ended};
use redis::{ConnectionInfo, RedisError, ServerErrorKind};

use crate::route;

/// What dagz's own user must be allowed, for the advice where something is missing.
pub(crate) const RIGHTS: &str = "+@connection +@transaction +client +select +flushdb +dbsize +scan +dump +restore +pttl +get +mget +set +del +rpush +lrange +config|get ~*";

/// Where a connection was going, for the message of one that failed.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    endpoint: String,
    index: i64,
    user: String,
}

impl Destination {
    /// Where `info` leads.
    pub(crate) fn of(info: &ConnectionInfo) -> Self {
        Self {
            endpoint: route::endpoint(info).to_string(),
            index: info.redis_settings().db(),
            user: user(info),
        }
    }
}

/// The user that a connection by `info` logs in as.
pub(crate) fn user(info: &ConnectionInfo) -> String {
    let user = info.redis_settings().username();
    user.unwrap_or("default").to_owned()
}

/// The error for a connection that could not be opened.
pub(crate) fn connecting(to: Destination, error: RedisError) -> Error {
    let Destination {
        endpoint,
        index,
        user,
    } = to;
    let (kind, message) = match Cause::of(&error) {
        Cause::Credentials => (
            ErrorKind::AccessDenied,
            format!(
                "Redis at `{endpoint}` refuses user `{user}` for database `{index}`: check the user, the password and `ACL LIST`"
            ),
        ),
        Cause::Rights => (
            ErrorKind::AccessDenied,
            format!(
                "user `{user}` may not use database `{index}` at `{endpoint}`: `ACL SETUSER {user} {RIGHTS}`"
            ),
        ),
        Cause::OutOfRange => (
            ErrorKind::Unsupported,
            format!(
                "Redis at `{endpoint}` has no database `{index}`: raise `databases` in its configuration"
            ),
        ),
        Cause::TooManyConnections => (
            ErrorKind::Unreachable,
            format!(
                "Redis at `{endpoint}` has no connection left for database `{index}`: raise `maxclients`, or run with fewer workers (`DAGZ_WORKERS`)"
            ),
        ),
        Cause::NotReady => (
            ErrorKind::Unreachable,
            format!(
                "Redis at `{endpoint}` does not answer for database `{index}` yet: is it starting up?"
            ),
        ),
        Cause::Unreachable => (
            ErrorKind::Unreachable,
            format!("cannot reach Redis at `{endpoint}` for database `{index}`: is it running?"),
        ),
        Cause::NotRedis => (
            ErrorKind::Unsupported,
            format!(
                "what answers at `{endpoint}` does not speak Redis' protocol: check host and port"
            ),
        ),
        Cause::Settings => (
            ErrorKind::Settings,
            format!(
                "the connection to database `{index}` at `{endpoint}` cannot be made as configured"
            ),
        ),
        Cause::ReadOnly | Cause::Other => (
            ErrorKind::Unreachable,
            format!("cannot open a connection to database `{index}` at `{endpoint}`"),
        ),
    };
    Error::new(kind, message).with_source(error)
}

/// The error for a command that failed: `message` says what it was for, `otherwise` its kind where the
/// code does not say more.
pub(crate) fn command(
    otherwise: ErrorKind,
    message: impl Display,
    user: &str,
    error: RedisError,
) -> Error {
    let (kind, advice) = match Cause::of(&error) {
        Cause::Credentials => (ErrorKind::AccessDenied, String::new()),
        Cause::Rights => (
            ErrorKind::AccessDenied,
            format!(": user `{user}` lacks a right, `ACL SETUSER {user} {RIGHTS}`"),
        ),
        Cause::Unreachable => {
            return Error::new(ErrorKind::Unreachable, connection_ended(message))
                .with_source(error);
        }
        Cause::TooManyConnections | Cause::NotReady => (ErrorKind::Unreachable, String::new()),
        Cause::ReadOnly => (
            ErrorKind::Unsupported,
            ": it is a replica, connect to its master".to_owned(),
        ),
        Cause::OutOfRange | Cause::NotRedis | Cause::Settings | Cause::Other => {
            (otherwise, String::new())
        }
    };
    Error::new(kind, format!("{message}{advice}")).with_source(error)
}

/// Whether the connection itself is gone, so that another one may do better.
pub(crate) fn is_connection_lost(error: &RedisError) -> bool {
    matches!(Cause::of(error), Cause::Unreachable | Cause::NotReady)
}

/// Whether the server says that it has no database of that index.
pub(crate) fn is_out_of_range(error: &RedisError) -> bool {
    Cause::of(error) == Cause::OutOfRange
}

/// What lies behind a native error, as far as dagz acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Credentials,
    Rights,
    OutOfRange,
    TooManyConnections,
    NotReady,
    Unreachable,
    NotRedis,
    ReadOnly,
    Settings,
    Other,
}

impl Cause {
    fn of(error: &RedisError) -> Self {
        // Neither of these has a code of its own.
        let words = error.to_string();
        if words.contains("DB index is out of range") || words.contains("invalid DB index") {
            return Self::OutOfRange;
        }
        if words.contains("max number of clients") {
            return Self::TooManyConnections;
        }
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed => Self::Credentials,
            redis::ErrorKind::Io => Self::Unreachable,
            redis::ErrorKind::Parse => Self::NotRedis,
            redis::ErrorKind::InvalidClientConfig => Self::Settings,
            redis::ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Rights,
            redis::ErrorKind::Server(
                ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
            ) => Self::NotReady,
            redis::ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            _ => match error.code() {
                Some("NOAUTH" | "WRONGPASS") => Self::Credentials,
                _ => Self::Other,
            },
        }
    }
}
