//! Step five: what opening a database outside of any test comes to.

use std::thread;

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;
use serde_json::{Value, json};

use super::Case;
use crate::{
    Choice, Contract,
    play::{Play, joined, refused},
    stage::{Other, Stage},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone(
            "scoped::outside_while_tests_run_is_an_error",
            outside_of_a_test,
        ),
        Case::directed(
            "scoped::outside_while_none_runs_is_a_warning",
            outside_of_all,
            vec![("open outside", open_outside)],
        ),
        Case::alone("scoped::outside_is_an_error_when_strict", strict),
        Case::alone(
            "scoped::outside_is_an_error_when_the_environment_is_strict",
            strict_by_environment,
        )
        .with(&[("DAGZ_STRICT", "true")]),
    ]
}

fn outside_of_a_test<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("has a thread", async |_| {
        let outcome =
            thread::scope(|threads| joined(threads.spawn(|| play.wait(play.open(&base)))))?;
        refused(
            outcome,
            ErrorKind::OutsideScope,
            &[&base, &"outside a test", &"scope.run", &"scope.carry"],
        )
        .map(drop)
    })
}

fn outside_of_all<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let (_, complaints) = stage.actor("open outside").start()?.finish_heard()?;
    let driver = stage.driver();
    for name in [stage.base(), stage.other_base(Other::Second)] {
        let warning = format!("accessing dagz_{driver} database outside a test worker: {name}\n");
        let count = complaints.matches(&warning).count();
        ensure!(count == 1, "warned {count} times of `{name}`: {complaints}");
    }
    Ok(())
}

fn open_outside<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let base = play.made_base()?;
    let second = play.other_base(Other::Second);
    play.wait(play.contract().create(&second))??;
    play.configure(&Choice::default())?;
    for name in [&base, &base, &second] {
        play.wait(play.opens_unchanged(name))??;
    }
    Ok(json!(null))
}

fn strict<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        strict: true,
        ..Choice::default()
    };
    refused_outside(play, &choice)
}

fn strict_by_environment<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    refused_outside(play, &Choice::default())
}

fn refused_outside<C: Contract>(play: &Play<'_, C>, choice: &Choice) -> Result<()> {
    let base = play.made_base()?;
    play.configure(choice)?;
    let outcome = play.wait(play.open(&base))?;
    refused(outcome, ErrorKind::OutsideScope, &[&base, &"strict"])?;
    play.test("inside", async |scope| {
        play.opens_rerouted(scope, &base).await
    })
}
