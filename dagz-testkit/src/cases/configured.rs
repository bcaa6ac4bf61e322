//! Step two: a driver is configured before it is used, and once.

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;

use super::Case;
use crate::{
    Choice, Contract,
    play::{Play, refused},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("configured::unconfigured_is_an_error", unconfigured),
        Case::alone("configured::twice_is_an_error", configured_twice),
    ]
}

fn unconfigured<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let driver = play.driver();
    let base = play.base();
    let expected = format!(
        "connection attempted without configuration: call dagz::{driver}::configure(..) first"
    );
    play.test("unconfigured", async |_| {
        let error = refused(play.open(&base).await, ErrorKind::Unconfigured, &[])?;
        ensure!(error.to_string() == expected, "the error says: {error}");
        Ok(())
    })?;
    refused(
        play.wait(play.open(&base))?,
        ErrorKind::Unconfigured,
        &[&expected],
    )
    .map(drop)
}

fn configured_twice<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let driver = play.driver();
    let again = play.configure(&Choice::default());
    refused(again, ErrorKind::AlreadyConfigured, &[&driver, &"twice"])?;
    let base = play.base();
    play.test("still works", async |scope| {
        play.opens_rerouted(scope, &base).await
    })
}
