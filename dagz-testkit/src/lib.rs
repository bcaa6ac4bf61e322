#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! `contract.rs` and `choice.rs` are what a driver's author sees. A case (`cases/`) is directed in
//! the process that the runner started, on a stage of its own (`stage.rs`), and played in processes
//! that it starts (`actor.rs`), which see it as `play.rs` shows it.

mod actor;
mod cases;
mod choice;
mod contract;
mod play;
mod stage;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::Arc,
};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    cases::{Case, Run},
    stage::Stage,
};
pub use crate::{
    choice::{Choice, Hook, Prepare, SEED},
    contract::{Capabilities, Contract, Fault, FaultyAddress, Made},
};

/// Runs the contract for a driver; the whole `main` of its `tests/contract.rs`, whose `[[test]]`
/// entry says `harness = false`.
///
/// It takes libtest's arguments, so that `cargo test` and nextest run it like any other test
/// binary. Cases that need what [`Contract::capabilities`] denies are not listed.
pub fn main<C: Contract>(contract: C) -> ExitCode {
    if let Some(code) = play::perform(&contract) {
        return code;
    }
    let contract = Arc::new(contract);
    let capabilities = contract.capabilities();
    let trials = cases::all::<C>()
        .into_iter()
        .filter(|case| (case.needs)(&capabilities))
        .map(|case| {
            let contract = Arc::clone(&contract);
            Trial::test(case.name, move || run(&contract, &case))
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs one case and cleans up behind it, whatever became of it.
fn run<C: Contract>(contract: &Arc<C>, case: &Case<C>) -> Result<(), Failed> {
    let stage = Stage::new(Arc::clone(contract), case.name).map_err(failed)?;
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| match &case.run {
        Run::Alone { environment, .. } => {
            let actor = environment
                .iter()
                .fold(stage.actor(case.name), |actor, (name, value)| {
                    actor.set(name, value)
                });
            actor.run().map(drop)
        }
        Run::Directed { direct, .. } => direct(&stage),
    }));
    let cleaned = stage.clean();
    match outcome {
        Ok(outcome) => outcome.and(cleaned).map_err(failed),
        Err(panic) => panic::resume_unwind(panic),
    }
}

/// The whole chain of an error: what `?` would do is to print its first link only.
fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}
