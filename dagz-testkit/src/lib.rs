#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! `contract.rs` and `choice.rs` are what a driver's author sees. `promises.rs` reads what is promised,
//! `declaration.rs` what of it a driver declines; [`main`] chooses the cases by both. A case (`cases/`) is directed in
//! the process that the runner started, on a stage of its own (`stage.rs`), and played in processes
//! that it starts (`actor.rs`), which see it as `play.rs` shows it. `relay.rs` stands between a driver
//! and a server that is to go away. [`site`] is for what a driver tests beside the contract, [`random`] for whether a
//! reset undoes whatever a test does.

mod actor;
mod cases;
mod choice;
mod contract;
mod declaration;
mod play;
mod promises;
pub mod random;
mod relay;
pub mod site;
mod stage;

use std::{
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::Arc,
};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    cases::{Case, Run},
    declaration::Declaration,
    promises::Promises,
    stage::Stage,
};
pub use crate::{
    choice::{Choice, Hook, Prepare, SEED},
    contract::{Contract, Fault, FaultyAddress, Made},
};

/// Runs the contract for a driver; the whole `main` of its `tests/contract.rs`, whose `[[test]]`
/// entry says `harness = false`.
///
/// It takes libtest's arguments, so that `cargo test` and nextest run it like any other test
/// binary. Cases that need what [`Contract::DECLARATION`] declines are not listed.
pub fn main<C: Contract>(contract: C) -> ExitCode {
    if let Some(code) = play::perform(&contract) {
        return code;
    }
    match trials(contract) {
        Ok(trials) => libtest_mimic::run(&Arguments::from_args(), trials).exit_code(),
        Err(error) => {
            // Where even this cannot be written, the exit code says the rest.
            drop(writeln!(io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The cases that `contract` must pass, of those that are promised.
fn trials<C: Contract>(contract: C) -> anyhow::Result<Vec<Trial>> {
    let promises = Promises::all()?;
    let driver = Declaration::of(C::DECLARATION, &promises)?;
    let cases = cases::all::<C>();
    promises.check_cases(cases.iter().map(|case| case.name))?;
    let contract = Arc::new(contract);
    let must_pass = |case: &Case<C>| {
        promises
            .needs(case.name)
            .is_some_and(|needs| driver.can_all(needs))
    };
    Ok(cases
        .into_iter()
        .filter(must_pass)
        .map(|case| {
            let contract = Arc::clone(&contract);
            let driver = driver.driver;
            Trial::test(case.name, move || run(&contract, driver, &case))
        })
        .collect())
}

/// Runs one case and cleans up behind it, whatever became of it.
fn run<C: Contract>(contract: &Arc<C>, driver: &'static str, case: &Case<C>) -> Result<(), Failed> {
    let stage = Stage::new(Arc::clone(contract), driver, case.name).map_err(failed)?;
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
