//! What can go wrong, as one type for the core and every driver.
//!
//! Drivers map the failures they know to an [`ErrorKind`] and keep the native error as the
//! [source](std::error::Error::source). The main type is [`Error`]; [`Report`] prints a whole chain.

use std::{error, fmt, sync::Arc};

type Source = Box<dyn error::Error + Send + Sync>;

/// `Result` with [`Error`] as its usual error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is, for code that decides on it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A driver was used before its `configure`.
    Unconfigured,
    /// A driver was configured twice in one process.
    AlreadyConfigured,
    /// A setting in code, environment or `dagz.toml` cannot be used.
    Settings,
    /// A database was opened outside a test, while tests run in this process.
    OutsideScope,
    /// A scope was entered on a thread that is in one already.
    NestedScope,
    /// A name belongs to a worker other than the one that asks for it.
    ForeignWorker,
    /// A name cannot be rewritten for a worker.
    InvalidName,
    /// No worker, or no turn for a mark, became free in time.
    LeaseTimeout,
    /// The state directory cannot be read or written.
    Io,
    /// A worker's database, or something of its set-up, could not be made.
    WorkerInit,
    /// A worker's database could not be brought to its start state.
    Prepare,
    /// An operation was refused because dagz cannot prove that a database is its own.
    Refused,
    /// A server cannot be reached.
    Unreachable,
    /// A server refused the credentials, or a right is missing.
    AccessDenied,
    /// A server, or a configuration of it, is not supported.
    Unsupported,
    /// Another run is using the very same database.
    InUse,
    /// A flow needs a mark that the test does not carry.
    Mark,
    /// The project's own set-up function failed.
    Setup,
    /// A bug in dagz.
    Internal,
}

impl ErrorKind {
    /// The word for this kind in the files dagz keeps, stable over versions.
    pub(crate) fn word(self) -> &'static str {
        KINDS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("internal", |(_, word)| word)
    }

    pub(crate) fn from_word(word: &str) -> Self {
        KINDS
            .iter()
            .find(|(_, known)| *known == word)
            .map_or(Self::Internal, |(kind, _)| *kind)
    }
}

const KINDS: &[(ErrorKind, &str)] = &[
    (ErrorKind::Unconfigured, "unconfigured"),
    (ErrorKind::AlreadyConfigured, "already-configured"),
    (ErrorKind::Settings, "settings"),
    (ErrorKind::OutsideScope, "outside-scope"),
    (ErrorKind::NestedScope, "nested-scope"),
    (ErrorKind::ForeignWorker, "foreign-worker"),
    (ErrorKind::InvalidName, "invalid-name"),
    (ErrorKind::LeaseTimeout, "lease-timeout"),
    (ErrorKind::Io, "io"),
    (ErrorKind::WorkerInit, "worker-init"),
    (ErrorKind::Prepare, "prepare"),
    (ErrorKind::Refused, "refused"),
    (ErrorKind::Unreachable, "unreachable"),
    (ErrorKind::AccessDenied, "access-denied"),
    (ErrorKind::Unsupported, "unsupported"),
    (ErrorKind::InUse, "in-use"),
    (ErrorKind::Mark, "mark"),
    (ErrorKind::Setup, "setup"),
    (ErrorKind::Internal, "internal"),
];

/// A failure of dagz: a [kind](Error::kind), a sentence about its own layer, and its source.
///
/// Cloning is cheap: one failure is reported to every test that meets it.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind` saying `message`: a lowercase fragment, names in backticks, no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::build(kind, message.into(), None)
    }

    /// The same error with `source` as its cause, which the message must not repeat.
    #[must_use]
    pub fn with_source(self, source: impl Into<Source>) -> Self {
        let Inner { kind, message, .. } = &*self.inner;
        Self::build(*kind, message.clone(), Some(source.into()))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::LeaseTimeout | ErrorKind::Unreachable | ErrorKind::InUse
        )
    }

    /// Prints the error with its whole chain of causes, `a: b: c`.
    pub fn report(&self) -> Report<'_> {
        Report(self)
    }

    fn build(kind: ErrorKind, message: String, source: Option<Source>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                message,
                source,
            }),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

/// Prints the chain, because a test that returns `Err` is shown by its `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.kind(), self.report())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.inner
            .source
            .as_ref()
            .map(|source| &**source as &(dyn error::Error + 'static))
    }
}

/// An [`Error`] and its causes on one line; made by [`Error::report`].
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(&'a Error);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Makes `std::io` failures of the state directory into [`Error`]s that name the path.
pub(crate) fn io_error(
    doing: &str,
    path: &std::path::Path,
) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!(
        "{doing} `{}` failed; check its permissions, or point `DAGZ_STATE_DIR` elsewhere",
        path.display()
    );
    move |source| Error::new(ErrorKind::Io, message).with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_prints_each_layer_once() {
        let inner = Error::new(ErrorKind::Unreachable, "connection refused");
        let outer =
            Error::new(ErrorKind::Prepare, "preparing `myapp_jw03` failed").with_source(inner);
        assert_eq!(outer.to_string(), "preparing `myapp_jw03` failed");
        assert_eq!(
            outer.report().to_string(),
            "preparing `myapp_jw03` failed: connection refused"
        );
    }

    #[test]
    fn every_kind_survives_being_written_down() {
        for (kind, word) in KINDS {
            assert_eq!(kind.word(), *word);
            assert_eq!(ErrorKind::from_word(word), *kind);
        }
        assert_eq!(
            ErrorKind::from_word("from a newer dagz"),
            ErrorKind::Internal
        );
    }
}
