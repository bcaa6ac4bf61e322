//! Waiting for the future of a client library that has no blocking calls: [`on`].

use std::future::Future;

use anyhow::{Context, Result};

/// Runs `future` to its end, on a runtime that ends with it.
pub(crate) fn on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to make a runtime")?
        .block_on(future)
}
