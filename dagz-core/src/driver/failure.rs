//! Why a reset stopped, and whether it is worth another connection.

use std::fmt::Display;

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

/// What an error says where the connection was ended in the middle of what `message` tells.
pub fn connection_ended(message: impl Display) -> String {
    format!("{message}: the server ended the connection, is it running?")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}
