//! Step four: which names pass unchanged, and which must not be taken at all.

use std::thread;

use anyhow::{Context, Result, ensure};
use dagz_core::{Access, Endpoint, ErrorKind};

use super::Case;
use crate::{
    Choice, Contract,
    play::{Play, joined, refused},
    stage::Other,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("rerouted::an_empty_name_is_not", empty),
        Case::alone("rerouted::system_databases_are_not", system),
        Case::alone("rerouted::the_filter_passes_names_unchanged", filtered),
        Case::alone("rerouted::the_workers_own_name_is_not", own_name),
        Case::alone("rerouted::another_workers_name_is_an_error", foreign_name),
    ]
}

fn empty<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let driver = play.driver();
    play.test("empty", async |_| {
        let access = Access::new(Endpoint::new("contract"), "");
        let route = dagz_core::resolve(driver, access).await?;
        ensure!(
            route.name().is_empty() && route.target().is_none(),
            "{route:?}"
        );
        Ok(())
    })
}

fn system<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let system = play
        .declaration()
        .system_database
        .context("the driver has no system database")?;
    play.configure(&Choice::default())?;
    play.test("system", async |_| play.opens_unchanged(system).await)
}

fn filtered<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = play.base();
    let shared = play.other_base(Other::Second);
    play.wait(play.contract().create(&shared))??;
    let choice = Choice {
        unfiltered: Some(shared.clone()),
        ..Choice::default()
    };
    play.configure(&choice)?;
    play.test("filtered", async |scope| {
        play.opens_unchanged(&shared).await?;
        play.opens_rerouted(scope, &base).await
    })
}

fn own_name<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("own name", async |scope| {
        let first = play.open(&base).await?;
        play.contract().put(&first, "key", "value").await?;
        let name = play.contract().database(&first).await?;
        ensure!(
            name == play.worker_name(scope, &base)?,
            "`{name}` was opened"
        );
        let again = play.open(&name).await?;
        ensure!(
            play.contract().database(&again).await? == name,
            "rerouted twice"
        );
        let entries = play.entries(&again).await?;
        ensure!(entries.len() == 1, "prepared twice: {entries:?}");
        Ok(())
    })
}

fn foreign_name<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    // Taken by the name that the driver gives it, which need not be a suffix.
    let foreign = play.test("one", async |scope| {
        let own = play.worker_name(scope, &base)?;
        // The next test must run on the other worker, so this one is held meanwhile.
        let other = thread::scope(|threads| {
            joined(
                threads.spawn(|| play.test("other", async |scope| play.worker_name(scope, &base))),
            )
        })?;
        ensure!(own != other, "two workers have the one name `{own}`");
        Ok(other)
    })?;
    play.test("takes the wrong one", async |scope| {
        let error = refused(
            play.open(&foreign).await,
            ErrorKind::ForeignWorker,
            &[&foreign, &scope.worker(), &"jw01", &"takes the wrong one"],
        )?;
        ensure!(
            scope.worker().to_string() == "jw00",
            "{}: {error}",
            scope.worker()
        );
        Ok(())
    })
}
