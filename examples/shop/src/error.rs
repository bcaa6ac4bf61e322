//! What can go wrong in a request, and which HTTP status says so.
//!
//! Handlers return [`Error`] and use `?` on database calls: constraint violations become the client's errors here, in one
//! place, instead of a check before each statement that another transaction could overtake.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use deadpool_postgres::PoolError;
use serde_json::json;
use tokio_postgres::error::SqlState;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The named thing does not exist: 404.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The state of things forbids it: 409.
    #[error("{0}")]
    Conflict(String),
    /// The request contradicts itself or the rules: 422.
    #[error("{0}")]
    Invalid(String),
    /// No token, or one that is unknown or expired: 401.
    #[error("a valid bearer token is needed")]
    Unauthorized,
    /// A token whose owner may not do this: 403.
    #[error("permission `{0}` is needed")]
    Forbidden(&'static str),
    /// The database did not hand out a connection in time: 503.
    #[error("no database connection")]
    Pool(#[from] PoolError),
    /// The database refused a statement; the status depends on its SQLSTATE.
    #[error("database error")]
    Database(#[from] tokio_postgres::Error),
    /// The cache does not answer, or refused: 503.
    #[error("cache error")]
    Cache(#[from] redis::RedisError),
    /// The books do not answer, or refused: 503.
    #[error("ledger error")]
    Ledger(#[from] mysql_async::Error),
    /// The broker does not answer, or refused: 503.
    #[error("broker error")]
    Broker(#[from] lapin::Error),
    /// The visitors' history does not answer, or refused: 503.
    #[error("history error")]
    Views(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict(message.into())
    }

    /// The driver has an error of its own for each step.
    pub(crate) fn views(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Views(Box::new(error))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// The HTTP status that tells a client about this error.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Pool(_) | Self::Cache(_) | Self::Ledger(_) | Self::Broker(_) | Self::Views(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Database(error) => match error.code() {
                Some(&SqlState::UNIQUE_VIOLATION) => StatusCode::CONFLICT,
                Some(
                    &SqlState::FOREIGN_KEY_VIOLATION
                    | &SqlState::CHECK_VIOLATION
                    | &SqlState::NOT_NULL_VIOLATION
                    | &SqlState::STRING_DATA_RIGHT_TRUNCATION
                    | &SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                ) => StatusCode::UNPROCESSABLE_ENTITY,
                Some(
                    &SqlState::LOCK_NOT_AVAILABLE
                    | &SqlState::QUERY_CANCELED
                    | &SqlState::T_R_DEADLOCK_DETECTED
                    | &SqlState::T_R_SERIALIZATION_FAILURE,
                ) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// What the client reads: the constraint that was violated is its business, other database texts are not.
    fn public_message(&self) -> String {
        match self {
            Self::Database(error) => {
                match error.as_db_error().and_then(|refused| refused.constraint()) {
                    Some(constraint) => format!("violates `{constraint}`"),
                    None => self.to_string(),
                }
            }
            _ => self.to_string(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (
            self.status(),
            Json(json!({ "error": self.public_message() })),
        )
            .into_response()
    }
}
