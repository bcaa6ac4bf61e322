//! Turns scylla's errors into [`dagz_core::Error`], by the server's error codes.
//!
//! The native error is kept as the source, and each message says what was tried, where, and what
//! to do next. Used by every module that talks to a server.

use std::{fmt, fmt::Display};

use dagz_core::{
    Error, ErrorKind,
    driver::{Failure, connection_ended},
};
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError, SchemaAgreementError,
    UseKeyspaceError,
};

use crate::source::Source;

/// Whatever a session answers with when it fails.
#[derive(Clone, Debug)]
pub(crate) enum Native {
    Execution(Box<ExecutionError>),
    Prepare(Box<PrepareError>),
    UseKeyspace(Box<UseKeyspaceError>),
    Agreement(Box<SchemaAgreementError>),
    /// It answered, and not as it should.
    Unexpected(String),
}

impl Display for Native {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Execution(error) => error.fmt(formatter),
            Self::Prepare(error) => error.fmt(formatter),
            Self::UseKeyspace(error) => error.fmt(formatter),
            Self::Agreement(error) => error.fmt(formatter),
            Self::Unexpected(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for Native {}

macro_rules! native {
    ($($variant:ident: $error:ty),+) => {$(
        impl From<$error> for Native {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        }
    )+};
}
native!(Execution: ExecutionError, Prepare: PrepareError, UseKeyspace: UseKeyspaceError, Agreement: SchemaAgreementError);

impl Native {
    pub(crate) fn unexpected(error: impl Display) -> Self {
        Self::Unexpected(error.to_string())
    }

    /// The one attempt at the request, if it came to that.
    fn attempt(&self) -> Option<&RequestAttemptError> {
        fn of_prepare(error: &PrepareError) -> Option<&RequestAttemptError> {
            match error {
                PrepareError::AllAttemptsFailed { first_attempt, .. } => Some(first_attempt),
                _ => None,
            }
        }
        fn of_use(error: &UseKeyspaceError) -> Option<&RequestAttemptError> {
            match error {
                UseKeyspaceError::RequestError(error) => Some(error),
                _ => None,
            }
        }
        match self {
            Self::Execution(error) => match &**error {
                ExecutionError::LastAttemptError(error) => Some(error),
                ExecutionError::PrepareError(error) => of_prepare(error),
                ExecutionError::UseKeyspaceError(error) => of_use(error),
                _ => None,
            },
            Self::Prepare(error) => of_prepare(error),
            Self::UseKeyspace(error) => of_use(error),
            Self::Agreement(_) | Self::Unexpected(_) => None,
        }
    }

    fn database(&self) -> Option<(&DbError, &str)> {
        match self.attempt()? {
            RequestAttemptError::DbError(error, text) => Some((error, text)),
            _ => None,
        }
    }

    /// Whether the session cannot reach the server any more, so that another one may do better.
    pub(crate) fn is_lost(&self) -> bool {
        if self.is_connection_ended() {
            return true;
        }
        if let Some(RequestAttemptError::DbError(error, _)) = self.attempt() {
            return matches!(error, DbError::IsBootstrapping | DbError::Overloaded);
        }
        match self {
            Self::Execution(error) => matches!(
                **error,
                ExecutionError::ConnectionPoolError(_)
                    | ExecutionError::EmptyPlan
                    | ExecutionError::PrepareError(PrepareError::ConnectionPoolError(_))
                    | ExecutionError::SchemaAgreementError(_)
                    | ExecutionError::MetadataError(_)
            ),
            Self::Prepare(error) => matches!(**error, PrepareError::ConnectionPoolError(_)),
            Self::Agreement(_) => true,
            Self::UseKeyspace(_) | Self::Unexpected(_) => false,
        }
    }

    /// Whether it was on its way over a connection that is gone.
    fn is_connection_ended(&self) -> bool {
        let attempt = self.attempt();
        matches!(attempt, Some(RequestAttemptError::BrokenConnectionError(_)))
    }

    /// Whether the server says that a keyspace, a table or a column is not there.
    pub(crate) fn is_missing(&self) -> bool {
        match self.database() {
            Some((DbError::Invalid, _)) => true,
            // What it says where the table is dropped while it reads.
            Some((DbError::ServerError, told)) => told.contains("Unknown CF"),
            _ => false,
        }
    }

    /// Whether a keyspace or a table that a statement makes is there already.
    pub(crate) fn is_already_there(&self) -> bool {
        matches!(self.database(), Some((DbError::AlreadyExists { .. }, _)))
    }

    /// Whether reading met more tombstones than the server bears.
    pub(crate) fn is_read_failure(&self) -> bool {
        matches!(
            self.database(),
            Some((DbError::ReadFailure { .. } | DbError::ReadTimeout { .. }, _))
        )
    }

    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            self.database(),
            Some((DbError::Unauthorized | DbError::AuthenticationError, _))
        )
    }
}

/// The error for a session that could not be opened.
pub(crate) fn connecting(source: &Source, error: NewSessionError) -> Error {
    let (shown, keyspace) = (source.shown(), source.keyspace());
    let pool = match &error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(
            ConnectionPoolError::Broken {
                last_connection_error,
            },
        )) => Some(last_connection_error),
        _ => None,
    };
    let setup = match pool {
        Some(ConnectionError::ConnectionSetupRequestError(setup)) => Some(setup.get_error()),
        _ => None,
    };
    let (kind, message) = match (setup, &error) {
        (
            Some(
                ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)
                | ConnectionSetupRequestErrorKind::MissingAuthentication,
            ),
            _,
        ) => (
            ErrorKind::AccessDenied,
            format!(
                "Cassandra at `{shown}` refuses user `{}`: check the user, the password, and whether the role may log in",
                source.user().unwrap_or("(none)")
            ),
        ),
        (Some(ConnectionSetupRequestErrorKind::DbError(DbError::IsBootstrapping, _)), _) => (
            ErrorKind::Unreachable,
            format!("Cassandra at `{shown}` is starting, and takes no sessions yet"),
        ),
        (Some(kind), _)
            if !matches!(kind, ConnectionSetupRequestErrorKind::BrokenConnection(_)) =>
        {
            (
                ErrorKind::Unsupported,
                format!(
                    "what listens at `{shown}` does not speak as Cassandra does: is the port right, and is TLS as the server wants it?"
                ),
            )
        }
        (_, NewSessionError::UseKeyspaceError(_)) => (
            ErrorKind::WorkerInit,
            format!("keyspace `{keyspace}` cannot be used at `{shown}`"),
        ),
        (_, NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_)) => (
            ErrorKind::Settings,
            format!("the session for `{keyspace}` cannot be made as it is configured"),
        ),
        _ if keyspace.is_empty() => (
            ErrorKind::Unreachable,
            format!("cannot reach Cassandra at `{shown}`: is it running?"),
        ),
        _ => (
            ErrorKind::Unreachable,
            format!(
                "cannot reach Cassandra at `{shown}` for keyspace `{keyspace}`: is it running?"
            ),
        ),
    };
    Error::new(kind, message).with_source(error)
}

/// The error for a statement that failed: `message` says what it was for, `otherwise` its kind
/// where the server's code does not say more.
pub(crate) fn statement(
    otherwise: ErrorKind,
    message: impl Display,
    keyspace: &str,
    user: Option<&str>,
    error: Native,
) -> Error {
    if error.is_denied() {
        return Error::new(
            ErrorKind::AccessDenied,
            format!("{message}: {}", grant(keyspace, user)),
        )
        .with_source(error);
    }
    let (kind, message) = if error.is_connection_ended() {
        (ErrorKind::Unreachable, connection_ended(message))
    } else if error.is_lost() {
        (ErrorKind::Unreachable, message.to_string())
    } else {
        (otherwise, message.to_string())
    };
    Error::new(kind, message).with_source(error)
}

/// What stopped a statement that was to do `what` to `keyspace`, and whether another session may do better.
pub(crate) fn failure(
    kind: ErrorKind,
    what: &str,
    source: &Source,
    keyspace: &str,
    error: Native,
) -> Failure {
    let is_lost = error.is_lost();
    let message = format!("{what} `{keyspace}` failed at `{}`", source.shown());
    let error = statement(kind, message, keyspace, source.user(), error);
    Failure::new(is_lost, error)
}

/// What gives `user` the rights that dagz needs.
fn grant(keyspace: &str, user: Option<&str>) -> String {
    let user = user.unwrap_or("(the session's)");
    format!(
        "user `{user}` may not make keyspaces such as `{keyspace}`, `GRANT ALL PERMISSIONS ON ALL KEYSPACES TO {user}`; a test server's user needs no less, since a keyspace cannot be granted before it exists"
    )
}
