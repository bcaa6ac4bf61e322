//! The control runtime: one thread on which dagz's own connections live.
//!
//! A connection dies with the runtime that made it, or hangs with one that idles, so whatever dagz
//! keeps for the life of the process is made and driven here, and reached by handle from async and
//! from blocking code alike. Tests keep runtimes of their own.

use std::{future::Future, sync::OnceLock, sync::mpsc};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use crate::{Error, ErrorKind, Result};

/// One worker thread, running whether or not anybody waits: a `current_thread` runtime would stand
/// still between calls, and with it every connection that it drives.
fn control() -> Result<&'static Runtime> {
    static CONTROL: OnceLock<Result<Runtime>> = OnceLock::new();
    CONTROL
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("dagz-control")
                .enable_all()
                .build()
                .map_err(|error| {
                    Error::new(
                        ErrorKind::Internal,
                        "starting dagz's control runtime failed",
                    )
                    .with_source(error)
                })
        })
        .as_ref()
        .map_err(Clone::clone)
}

/// Starts `future` on the control runtime.
///
/// # Panics
///
/// When the process cannot start a thread for the runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match control() {
        Ok(runtime) => runtime.spawn(future),
        Err(error) => panic!("{}", error.report()),
    }
}

/// Runs `future` on the control runtime and waits for it, from any runtime. It goes on when the
/// caller stops waiting.
///
/// # Errors
///
/// [`ErrorKind::Internal`] when `future` panicked.
pub async fn run<F>(future: F) -> Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    control()?.spawn(future).await.map_err(panicked)
}

/// Runs `future` on the control runtime and blocks this thread until it is done.
///
/// It waits on a channel and blocks on no runtime, so it is sound inside one too; there it keeps
/// the calling thread from other work meanwhile.
///
/// # Errors
///
/// [`ErrorKind::Internal`] when `future` panicked.
pub fn wait<F>(future: F) -> Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = control()?.spawn(future);
    control()?.spawn(async move {
        // The receiver waits until this is sent, so sending cannot fail.
        drop(sender.send(task.await));
    });
    match receiver.recv() {
        Ok(output) => output.map_err(panicked),
        Err(error) => Err(
            Error::new(ErrorKind::Internal, "dagz's control runtime has ended").with_source(error),
        ),
    }
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "a task on dagz's control runtime did not finish",
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_works_outside_and_inside_a_runtime() {
        assert_eq!(wait(async { 1 }).unwrap(), 1);
        let inside = Builder::new_current_thread().build().unwrap();
        inside.block_on(async {
            assert_eq!(wait(async { 2 }).unwrap(), 2);
            assert_eq!(run(async { 3 }).await.unwrap(), 3);
        });
    }

    fn certainly_not() -> bool {
        false
    }

    #[test]
    fn a_panic_is_an_error_and_ends_nothing_else() {
        let error = wait(async { assert!(certainly_not(), "boom") }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(
            error.report().to_string().contains("boom"),
            "{}",
            error.report()
        );
        assert_eq!(wait(async { 4 }).unwrap(), 4);
    }
}
