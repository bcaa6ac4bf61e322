//! Step eight: `prepare`, once per scope and database.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;

use super::{Case, ONE_WORKER};
use crate::{
    Choice, Contract, Prepare,
    play::{Play, joined, refused},
    stage::Other,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("prepared::once_per_scope", once).with(ONE_WORKER),
        Case::alone("prepared::once_when_many_ask_at_once", many_at_once).with(ONE_WORKER),
        Case::alone("prepared::manual_init_skips_it", manual).with(ONE_WORKER),
    ]
}

fn once<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    for round in 0..3 {
        play.test("writes", async |_| {
            let session = play.open(&base).await?;
            let entries = play.entries(&session).await?;
            ensure!(entries.is_empty(), "round {round} starts with {entries:?}");
            play.contract().put(&session, "key", "value").await?;
            let second = play.open(&base).await?;
            let entries = play.entries(&second).await?;
            ensure!(
                entries == [("key".to_owned(), "value".to_owned())],
                "the second access of round {round} sees {entries:?}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn many_at_once<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        prepare: Prepare::Own(play.hook("prepare").slow(Duration::from_millis(50))),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    play.test("asks eight times at once", async |scope| {
        thread::scope(|threads| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let base = &base;
                    threads.spawn(move || {
                        scope.run(|| {
                            play.wait(async {
                                let session = play.open(base).await?;
                                let key = format!("key {number}");
                                play.contract().put(&session, &key, "value").await
                            })?
                        })
                    })
                })
                .collect();
            threads.into_iter().try_for_each(joined)
        })?;
        let session = play.open(&base).await?;
        let entries = play.entries(&session).await?;
        ensure!(entries.len() == 8, "prepared again in between: {entries:?}");
        Ok(())
    })?;
    let log = play.log();
    ensure!(log.len() == 1, "prepared so often: {log:?}");
    Ok(())
}

fn manual<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let driver = play.driver();
    let base = play.base();
    let other = play.other_base(Other::Second);
    play.test("writes", async |_| {
        for name in [&base, &other] {
            let session = play.open(name).await?;
            play.contract().put(&session, "key", "value").await?;
        }
        let late = dagz_core::manual_init(driver, &base);
        refused(late, ErrorKind::Prepare, &[&base, &"too late", &"writes"]).map(drop)
    })?;
    play.test("prepares itself", async |scope| {
        dagz_core::manual_init(driver, &base)?;
        let session = play.open(&base).await?;
        let database = play.contract().database(&session).await?;
        ensure!(
            database == play.worker_name(scope, &base)?,
            "`{database}` was opened: it must still be rerouted"
        );
        let entries = play.entries(&session).await?;
        ensure!(
            entries.len() == 1,
            "it was prepared all the same: {entries:?}"
        );
        let entries = play.entries(&play.open(&other).await?).await?;
        ensure!(entries.is_empty(), "the other one was not: {entries:?}");
        Ok(())
    })?;
    play.test("does not", async |_| {
        let entries = play.entries(&play.open(&base).await?).await?;
        ensure!(entries.is_empty(), "it was not prepared again: {entries:?}");
        Ok(())
    })
}
