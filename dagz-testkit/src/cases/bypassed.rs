//! Step three: the base database, for those who ask for it.

use anyhow::{Result, ensure};
use dagz_core::Scope;

use super::{Case, ONE_WORKER};
use crate::{Choice, Contract, play::Play};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("bypassed::bypass_opens_the_base", bypassed),
        Case::alone("bypassed::main_worker_opens_the_base", main_worker),
        Case::alone(
            "bypassed::main_worker_may_be_rerouted",
            main_worker_rerouted,
        ),
        Case::alone("bypassed::a_single_worker_may_use_the_base", single).with(ONE_WORKER),
        Case::alone("bypassed::one_of_two_workers_may_not", one_of_two),
    ]
}

fn bypassed<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = play.made_base()?;
    play.configure(&Choice::default())?;
    play.test("bypasses", async |scope| {
        play.opens_rerouted(scope, &base).await?;
        let bypass = dagz_core::bypass();
        let session = play.open(&base).await?;
        let database = play.contract().database(&session).await?;
        ensure!(database == base, "`{database}` was opened in a bypass");
        play.contract().put(&session, "mine", "kept").await?;
        drop(bypass);
        play.opens_rerouted(scope, &base).await
    })?;
    play.test("looks again", async |scope| {
        play.opens_rerouted(scope, &base).await?;
        let _bypass = dagz_core::bypass();
        let session = play.open(&base).await?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries == [("mine".to_owned(), "kept".to_owned())],
            "the base database was changed: {entries:?}"
        );
        Ok(())
    })
}

fn main_worker<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = play.made_base()?;
    play.configure(&Choice::default())?;
    let marked = Scope::builder("marked").main_worker(true);
    play.enter(marked, async |_| {
        let session = play.open(&base).await?;
        play.contract().put(&session, "mine", "kept").await?;
        play.opens_unchanged(&base).await?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries.len() == 1,
            "the base database was prepared: {entries:?}"
        );
        Ok(())
    })?;
    play.test("not marked", async |scope| {
        play.opens_rerouted(scope, &base).await
    })
}

fn main_worker_rerouted<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        main_worker_bypass: false,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    let marked = Scope::builder("marked").main_worker(true);
    play.enter(marked, async |scope| {
        play.opens_rerouted(scope, &base).await
    })
}

fn single<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = play.made_base()?;
    let choice = Choice {
        single_worker_disable: true,
        ..Choice::default()
    };
    play.configure(&choice)?;
    play.test("single", async |_| play.opens_unchanged(&base).await)
}

fn one_of_two<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        single_worker_disable: true,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    play.test("one of two", async |scope| {
        play.opens_rerouted(scope, &base).await
    })
}
