//! Why a reset stopped, and whether it is worth another connection.

use crate::Error;

/// Why something on a kept connection stopped.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The connection is gone; another one may do.
    Lost(Error),
    /// No other connection would do better.
    Final(Error),
}

impl Failure {
    /// One that says `error`; `is_lost` where the connection is gone.
    pub fn new(is_lost: bool, error: Error) -> Self {
        match is_lost {
            true => Self::Lost(error),
            false => Self::Final(error),
        }
    }

    /// What it says, for whoever has no other connection to try.
    pub fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Final(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}
