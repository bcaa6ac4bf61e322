//! Turns scylla's errors into [`dagz_core::Error`], by the server's error codes.
//!
//! The native error is kept as the source, and each message says what was tried, where, and what
//! to do next. Used by every module that talks to a server.

use std::{fmt, fmt::Display};

use dagz_core::{Error, ErrorKind};
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError, SchemaAgreementError,
    UseKeyspaceError,
};

use crate::server::Source;

/// Whatever a session answers with when it fails.
#[derive(Clone, Debug)]
pub(crate) enum Native {
    Execution(ExecutionError),
    Prepare(PrepareError),
    UseKeyspace(UseKeyspaceError),
    Agreement(SchemaAgreementError),
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
                Self::$variant(error)
            }
        }
    )+};
}
native!(Execution: ExecutionError, Prepare: PrepareError, UseKeyspace: UseKeyspaceError, Agreement: SchemaAgreementError);

impl Native {
    pub(crate) fn unexpected(error: impl Display) -> Self {
        Self::Unexpected(error.to_string())
    }

    fn database(&self) -> Option<(&DbError, &str)> {
        let attempt = match self {
            Self::Execution(ExecutionError::LastAttemptError(error)) => error,
            Self::Execution(ExecutionError::PrepareError(PrepareError::AllAttemptsFailed {
                first_attempt,
                ..
            }))
            | Self::Prepare(PrepareError::AllAttemptsFailed { first_attempt, .. }) => first_attempt,
            Self::Execution(ExecutionError::UseKeyspaceError(UseKeyspaceError::RequestError(
                error,
            )))
            | Self::UseKeyspace(UseKeyspaceError::RequestError(error)) => error,
            _ => return None,
        };
        match attempt {
            RequestAttemptError::DbError(error, text) => Some((error, text)),
            _ => None,
        }
    }

    /// Whether the session cannot reach the server any more, so that another one may do better.
    pub(crate) fn is_lost(&self) -> bool {
        let attempt_is_lost = |error: &RequestAttemptError| {
            matches!(error, RequestAttemptError::BrokenConnectionError(_))
        };
        let prepare_is_lost = |error: &PrepareError| match error {
            PrepareError::ConnectionPoolError(_) => true,
            PrepareError::AllAttemptsFailed { first_attempt, .. } => attempt_is_lost(first_attempt),
            _ => false,
        };
        match self {
            Self::Execution(error) => match error {
                ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan => true,
                ExecutionError::LastAttemptError(error) => attempt_is_lost(error),
                ExecutionError::PrepareError(error) => prepare_is_lost(error),
                ExecutionError::SchemaAgreementError(_) | ExecutionError::MetadataError(_) => true,
                _ => matches!(
                    self.database(),
                    Some((DbError::IsBootstrapping | DbError::Overloaded, _))
                ),
            },
            Self::Prepare(error) => prepare_is_lost(error),
            Self::UseKeyspace(UseKeyspaceError::RequestError(error)) => attempt_is_lost(error),
            Self::UseKeyspace(_) | Self::Unexpected(_) => false,
            Self::Agreement(_) => true,
        }
    }

    /// Whether the server says that a keyspace, a table or a column is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.database(), Some((DbError::Invalid, _)))
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

    fn is_denied(&self) -> bool {
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
    let kind = if error.is_lost() {
        ErrorKind::Unreachable
    } else {
        otherwise
    };
    Error::new(kind, message.to_string()).with_source(error)
}

/// What gives `user` the rights that dagz needs.
fn grant(keyspace: &str, user: Option<&str>) -> String {
    let user = user.unwrap_or("(the session's)");
    format!(
        "user `{user}` may not make keyspaces such as `{keyspace}`, `GRANT ALL PERMISSIONS ON ALL KEYSPACES TO {user}`; a test server's user needs no less, since a keyspace cannot be granted before it exists"
    )
}
