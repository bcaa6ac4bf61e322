//! What an earlier test leaves open does not reach the next one.

use std::thread;

use anyhow::{Result, ensure};
use tokio::runtime::Builder;

use super::{Case, ONE_WORKER};
use crate::{
    Choice, Contract, Prepare,
    play::{Play, joined},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("never_blind::an_open_transaction", |play| {
            transaction(play, Prepare::Empty)
        })
        .with(ONE_WORKER),
        Case::alone("never_blind::an_open_transaction_and_a_baseline", |play| {
            transaction(play, Prepare::Baseline)
        })
        .with(ONE_WORKER),
        Case::alone("never_blind::an_open_session", session).with(ONE_WORKER),
    ]
}

/// A test leaves a transaction open, with a write in it that is committed during the next test.
fn transaction<C: Contract>(play: &Play<'_, C>, prepare: Prepare) -> Result<()> {
    let choice = Choice {
        prepare,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    // Where the leaked session lives on, as on a runtime that a suite keeps in a static.
    let elsewhere = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (leaked, start) = play.test("leaks", async |scope| {
        thread::scope(|threads| {
            joined(threads.spawn(|| {
                elsewhere.block_on(scope.carry(async {
                    let session = play.open(&base).await?;
                    let start = play.entries(&session).await?;
                    let contract = play.contract();
                    contract
                        .put_uncommitted(&session, "leaked", "value")
                        .await?;
                    Ok((session, start))
                }))
            }))
        })
    })?;
    play.test("comes next", async |_| {
        let session = play.open(&base).await?;
        let entries = play.entries(&session).await?;
        ensure!(entries == start, "it starts with {entries:?}");
        let committed = thread::scope(|threads| {
            joined(threads.spawn(|| Ok(elsewhere.block_on(play.contract().commit(&leaked)))))
        })?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries == start,
            "the transaction of the test before became visible, its commit having said {committed:?}: {entries:?}"
        );
        play.contract().put(&session, "own", "value").await
    })?;
    play.test("comes last", async |_| {
        let entries = play.entries(&play.open(&base).await?).await?;
        ensure!(entries == start, "it starts with {entries:?}");
        Ok(())
    })?;
    drop(leaked);
    Ok(())
}

/// A test leaves an idle session open, as a pool in a static does.
fn session<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    let elsewhere = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut leaked = Vec::new();
    for round in 0..3 {
        let session = play.test("leaks", async |scope| {
            let entries = play.entries(&play.open(&base).await?).await?;
            ensure!(entries.is_empty(), "round {round} starts with {entries:?}");
            thread::scope(|threads| {
                joined(threads.spawn(|| {
                    elsewhere.block_on(scope.carry(async {
                        let session = play.open(&base).await?;
                        play.contract().put(&session, "key", "value").await?;
                        Ok(session)
                    }))
                }))
            })
        })?;
        leaked.push(session);
    }
    Ok(())
}
