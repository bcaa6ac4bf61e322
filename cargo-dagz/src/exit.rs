//! With which code the command ends, and the one line it says about a failure.
//!
//! The codes are part of what users rely on; the README lists them. A panic, which is a bug of dagz's own, ends
//! with 101 by itself.

use std::fmt;

use dagz_core::{Error, ErrorKind};

/// Done, and nothing is wrong.
pub(crate) const OK: u8 = 0;
/// The command was given what it cannot use: a word, a job, a setting, a folder that is no workspace.
pub(crate) const USAGE: u8 = 2;
/// Something outside of the command does not work: a server is away, a file cannot be read.
pub(crate) const ENVIRONMENT: u8 = 3;
/// `cargo dagz test` found no test to run.
pub(crate) const NO_TESTS: u8 = 4;
/// `cargo dagz test` could not build the tests.
pub(crate) const BUILD_FAILED: u8 = 5;
/// `cargo dagz test` ran the tests, and some failed.
pub(crate) const TESTS_FAILED: u8 = 100;
/// Ctrl-C ended it.
pub(crate) const INTERRUPTED: u8 = 130;
/// A bug of dagz's own.
pub(crate) const BUG: u8 = 101;

/// What a subcommand ends with: an exit code, or why it could not do its work.
pub(crate) type Outcome<T = u8> = Result<T, Failure>;

/// Why the command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// One that whoever called the command can mend by calling it otherwise.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            text: text.into(),
        }
    }

    /// One that has its cause outside of the command.
    pub(crate) fn environment(text: impl Into<String>) -> Self {
        Self {
            code: ENVIRONMENT,
            text: text.into(),
        }
    }

    /// The exit code that goes with it.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Settings => USAGE,
            ErrorKind::Internal => BUG,
            _ => ENVIRONMENT,
        };
        Self {
            code,
            text: error.report().to_string(),
        }
    }
}
