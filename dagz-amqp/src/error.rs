//! Turns `lapin::Error` into [`dagz_core::Error`], by its reply code.
//!
//! The native error is kept as the source, and each message says what was tried, where, and what to do
//! next. What the management API refuses is told by `management.rs`.

use std::{fmt::Display, io, time::Duration};

use dagz_core::{Error, ErrorKind, driver::connection_ended};
use lapin::uri::AMQPUri;

use crate::route;

/// Where a connection was going, for the message of one that failed.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    endpoint: String,
    vhost: String,
    user: String,
}

impl Destination {
    /// Where `uri` leads.
    pub(crate) fn of(uri: &AMQPUri) -> Self {
        Self {
            endpoint: route::endpoint(uri).to_string(),
            vhost: uri.vhost.clone(),
            user: uri.authority.userinfo.username.clone(),
        }
    }
}

/// The error for a connection that could not be opened.
pub(crate) fn connecting(to: Destination, error: lapin::Error) -> Error {
    let Destination {
        endpoint,
        vhost,
        user,
    } = to;
    let (kind, message) = match Cause::of(&error) {
        Cause::AccessRefused => (
            ErrorKind::AccessDenied,
            format!(
                "RabbitMQ at `{endpoint}` refuses user `{user}` for vhost `{vhost}`: check the user, the password and `rabbitmqctl list_permissions -p {vhost}`"
            ),
        ),
        // What the broker says of a vhost that is not there, or that the user may not enter.
        Cause::NotAllowed => (
            ErrorKind::AccessDenied,
            format!(
                "RabbitMQ at `{endpoint}` does not let user `{user}` into vhost `{vhost}`: does it exist? `rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'`"
            ),
        ),
        Cause::Unreachable => (
            ErrorKind::Unreachable,
            format!("cannot reach RabbitMQ at `{endpoint}` for vhost `{vhost}`: is it running?"),
        ),
        Cause::NotRabbitMq => (
            ErrorKind::Unsupported,
            format!("what answers at `{endpoint}` does not speak AMQP 0-9-1: check host and port"),
        ),
        Cause::Down => (
            ErrorKind::Unreachable,
            format!(
                "vhost `{vhost}` at `{endpoint}` is down: see the broker's log, or delete it (`rabbitmqctl delete_vhost {vhost}`)"
            ),
        ),
        Cause::NotFound | Cause::Locked | Cause::NotImplemented | Cause::Other => (
            ErrorKind::Unreachable,
            format!("cannot open a connection to vhost `{vhost}` at `{endpoint}`"),
        ),
    };
    Error::new(kind, message).with_source(error)
}

/// The error for a connection on which nothing happened.
pub(crate) fn silent(to: Destination, waited: Duration) -> Error {
    let Destination {
        endpoint, vhost, ..
    } = to;
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "RabbitMQ at `{endpoint}` did not answer within {waited:?} for vhost `{vhost}`: is it out of memory, disk or file descriptors?"
        ),
    )
}

/// The error for a connection that was opened, and on which nothing more happened.
pub(crate) fn interrupted(vhost: &str, endpoint: impl Display, waited: Duration) -> Error {
    Error::new(
        ErrorKind::InUse,
        format!(
            "vhost `{vhost}` at `{endpoint}` did not answer within {waited:?}: is another run making it anew?"
        ),
    )
}

/// The error for a connection that broke off as soon as it was opened.
pub(crate) fn closing(vhost: &str, endpoint: impl Display, error: lapin::Error) -> Error {
    Error::new(
        ErrorKind::InUse,
        format!(
            "vhost `{vhost}` at `{endpoint}` was closed while it was opened: is another run making it anew?"
        ),
    )
    .with_source(error)
}

/// The error for a command that failed: `message` says what it was for.
pub(crate) fn command(message: impl Display, error: lapin::Error) -> Error {
    let kind = match Cause::of(&error) {
        Cause::AccessRefused => ErrorKind::AccessDenied,
        Cause::Unreachable => ErrorKind::Unreachable,
        _ => ErrorKind::Prepare,
    };
    let message = match kind {
        ErrorKind::Unreachable => connection_ended(message),
        _ => message.to_string(),
    };
    Error::new(kind, message).with_source(error)
}

/// What lies behind a native error, as far as dagz acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    AccessRefused,
    NotAllowed,
    NotFound,
    Locked,
    /// The kind of queue does not do that, or the broker fails at it where the same channel knew the queue as one of
    /// another kind.
    NotImplemented,
    Unreachable,
    /// The vhost is there, and its part of the broker does not run: it starts, ends, or failed.
    Down,
    NotRabbitMq,
    Other,
}

/// Whether a vhost lets nobody in: it is not there, is being made or deleted, or the
/// user has no rights in it.
pub(crate) fn is_closed(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let Some(native) = source.and_then(|source| source.downcast_ref::<lapin::Error>()) else {
        return error.kind() == ErrorKind::InUse;
    };
    error.kind() == ErrorKind::InUse
        || matches!(Cause::of(native), Cause::NotAllowed | Cause::Down)
        || is_broken_off(native)
}

/// Whether a vhost, or the broker, has as many connections as it may have.
pub(crate) fn is_full(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let native = source.and_then(|source| source.downcast_ref::<lapin::Error>());
    native.is_some_and(|native| {
        Cause::of(native) == Cause::NotAllowed && native.to_string().contains("connection limit")
    })
}

/// Whether the broker took a connection and then dropped it, as it does when a vhost is deleted at that moment.
fn is_broken_off(error: &lapin::Error) -> bool {
    let lapin::ErrorKind::IOError(error) = error.kind() else {
        return false;
    };
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
    )
}

impl Cause {
    /// Whether a queue is not there, or another one in its place, which is one connection's or gives only to consumers.
    pub(crate) fn is_otherwise(self) -> bool {
        matches!(self, Self::NotFound | Self::Locked)
    }

    pub(crate) fn of(error: &lapin::Error) -> Self {
        use lapin::ErrorKind as Native;
        match error.kind() {
            Native::ProtocolError(told) => match told.get_id() {
                403 => Self::AccessRefused,
                404 => Self::NotFound,
                405 => Self::Locked,
                // `CONNECTION_FORCED`: closed by an operator, or going down.
                320 => Self::Unreachable,
                530 => Self::NotAllowed,
                541 if told.get_message().as_str().contains("is down") => Self::Down,
                540 | 541 => Self::NotImplemented,
                _ => Self::Other,
            },
            Native::InvalidProtocolVersion(_) | Native::ParsingError(_) => Self::NotRabbitMq,
            Native::IOError(_)
            | Native::RuntimeShutdownError(_)
            | Native::InvalidConnectionState(_)
            | Native::InvalidChannelState(..)
            | Native::MissingHeartbeatError => Self::Unreachable,
            _ => Self::Other,
        }
    }
}
