//! What a test may take as an argument, as an axum handler takes its extractors.
//!
//! Driver crates implement [`FromScope`] for the client types of their libraries.

use std::future::Future;

use crate::{Result, Scope, Worker};

/// A type that `#[dagz::test]` can make for a test.
///
/// `Marker` is inferred: a driver crate implements the trait with a marker type of its own, since it
/// could not implement it for another library's client otherwise. Users implement it for the
/// fixtures of their suites.
///
/// ```
/// use dagz_core::{FromScope, Result, Scope};
///
/// struct UploadDirectory(std::path::PathBuf);
/// struct Fixtures;
///
/// impl FromScope<Fixtures> for UploadDirectory {
///     async fn from_scope(scope: &Scope) -> Result<Self> {
///         let directory = std::env::temp_dir().join(format!("uploads-{}", scope.worker()));
///         Ok(Self(directory))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`#[dagz::test]` cannot make a `{Self}`",
    label = "not an argument that a test can take",
    note = "drivers make their clients, such as `dagz::postgres::Client`; implement `dagz::FromScope` for a fixture of your own"
)]
pub trait FromScope<Marker>: Sized {
    /// Makes the argument for the test of `scope`, on the test's own runtime.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being made; the test then fails with it.
    fn from_scope(scope: &Scope) -> impl Future<Output = Result<Self>> + Send;
}

/// Marks the arguments that the core itself makes.
#[derive(Debug)]
pub enum Core {}

impl FromScope<Core> for Scope {
    async fn from_scope(scope: &Scope) -> Result<Self> {
        Ok(scope.clone())
    }
}

impl FromScope<Core> for Worker {
    async fn from_scope(scope: &Scope) -> Result<Self> {
        Ok(scope.worker())
    }
}
