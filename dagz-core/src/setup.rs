//! The project's own set-up: functions marked `#[dagz::setup]`, run once per process.
//!
//! They register themselves before `main` (by `inventory`), and run when the first scope is
//! entered, after its lease and before its body.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::OnceLock,
};

use crate::{Error, ErrorKind, Result, event::Event};

/// A set-up function that registered itself.
#[derive(Debug)]
pub struct Setup {
    /// Its name, for the error when it fails.
    pub name: &'static str,
    /// The function.
    pub run: fn() -> Result<()>,
}

inventory::collect!(Setup);

/// Runs the set-up functions, or tells how that went.
///
/// # Errors
///
/// [`ErrorKind::Setup`], the same at every call.
pub(crate) fn run_once() -> Result<()> {
    static DONE: OnceLock<Result<()>> = OnceLock::new();
    DONE.get_or_init(|| {
        for setup in inventory::iter::<Setup> {
            run(setup)?;
        }
        Ok(())
    })
    .clone()
}

fn run(setup: &Setup) -> Result<()> {
    let start = std::time::Instant::now();
    // A panic must reach every test as this one failure, not poison the others' waiting.
    let result = panic::catch_unwind(AssertUnwindSafe(setup.run));
    Event::new("setup")
        .detail(setup.name)
        .duration(start.elapsed())
        .record();
    let name = setup.name;
    match result {
        Ok(result) => result.map_err(|error| {
            Error::new(ErrorKind::Setup, format!("the set-up `{name}` failed")).with_source(error)
        }),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Error::new(
                ErrorKind::Setup,
                format!("the set-up `{name}` panicked: {text}"),
            ))
        }
    }
}
