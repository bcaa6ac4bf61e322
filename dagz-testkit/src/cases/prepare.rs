//! Step eight: `prepare`, once per scope and database.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use dagz_core::{ErrorKind, Scope};

use super::Case;
use crate::{
    Choice, Contract, Hook, Prepare, SEED,
    play::{Play, joined, refused, said},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("prepare::once_per_scope", once).with(ONE),
        Case::alone("prepare::once_when_many_ask_at_once", many_at_once).with(ONE),
        Case::alone("prepare::none_keeps_what_is_there", none).with(ONE),
        Case::alone("prepare::baseline_restores_the_seed", baseline)
            .with(ONE)
            .needing(|can| can.baseline),
        Case::alone("prepare::manual_init_skips_it", manual).with(ONE),
        Case::alone("prepare::a_failure_names_the_database", failure).with(ONE),
        Case::alone("prepare::a_panic_leaves_nothing_behind", panicked).with(ONE),
        Case::alone("prepare::a_test_without_databases_makes_none", untouched).with(ONE),
    ]
}

/// One worker, so that a test finds what the one before it left.
const ONE: &[(&str, &str)] = &[("DAGZ_WORKERS", "1")];

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

fn none<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        prepare: Prepare::None,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    play.test("writes", async |_| {
        let session = play.open(&base).await?;
        play.contract().put(&session, "key", "value").await
    })?;
    play.test("reads", async |_| {
        let session = play.open(&base).await?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries.contains(&("key".to_owned(), "value".to_owned())),
            "it was emptied, though nothing was to be prepared: {entries:?}"
        );
        Ok(())
    })
}

fn baseline<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        prepare: Prepare::Baseline,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    let (key, value) = SEED;
    let spoilt = async |round: &str, spoil: &str| {
        let session = play.open(&base).await?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries == [(key.to_owned(), value.to_owned())],
            "the {round} test starts with {entries:?}"
        );
        match spoil {
            "remove" => play.contract().remove(&session, key).await,
            "change" => play.contract().put(&session, key, "spoilt").await,
            _ => play.contract().put(&session, "other", "value").await,
        }
    };
    for (round, spoil) in [
        ("first", "remove"),
        ("second", "change"),
        ("third", "add"),
        ("fourth", "remove"),
    ] {
        play.test(round, async |_| spoilt(round, spoil).await)?;
    }
    Ok(())
}

fn manual<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let driver = play.contract().driver();
    let base = play.base();
    let other = play.base_named("other");
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

fn failure<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        prepare: Prepare::Own(play.hook("prepare").failing()),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    for name in ["fails", "fails as well"] {
        play.test(name, async |scope| {
            let database = play.worker_name(scope, &base)?;
            for _ in 0..2 {
                let Err(error) = play.open(&base).await else {
                    anyhow::bail!("`{database}` was opened although preparing it fails");
                };
                said(&error, &[&database, &scope.worker(), &name, &Hook::FAILURE])?;
            }
            Ok(())
        })?;
    }
    let log = play.log();
    ensure!(log.len() == 2, "tried so often in two tests: {log:?}");
    Ok(())
}

fn panicked<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    // The hook that prints panics would only confuse whoever reads the report.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicking = thread::scope(|threads| {
        threads
            .spawn(|| {
                play.test("panics", async |_| {
                    let session = play.open(&base).await?;
                    play.contract().put(&session, "key", "value").await?;
                    if session_is_open(&session) {
                        panic!("as tests do");
                    }
                    Ok(())
                })
            })
            .join()
    });
    std::panic::set_hook(hook);
    ensure!(panicking.is_err(), "the test was to panic: {panicking:?}");
    play.test("comes after it", async |scope| {
        ensure!(scope.worker().number() == 0, "{}", scope.worker());
        let entries = play.entries(&play.open(&base).await?).await?;
        ensure!(entries.is_empty(), "it starts with {entries:?}");
        Ok(())
    })
}

/// Keeps the compiler from seeing that a test always panics.
fn session_is_open<S>(_: &S) -> bool {
    true
}

fn untouched<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        worker_init: Some(play.hook("init")),
        prepare: Prepare::Own(play.hook("prepare")),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let guard = Scope::builder("opens nothing").enter()?;
    drop(guard);
    let log = play.log();
    ensure!(log.is_empty(), "a test that opens nothing caused {log:?}");
    Ok(())
}
