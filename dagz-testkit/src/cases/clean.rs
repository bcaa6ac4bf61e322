//! The start state: what a test finds in its database, whatever the one before it did.

use std::thread;

use anyhow::{Result, ensure};

use super::{Case, ONE_WORKER};
use crate::{Choice, Contract, Prepare, SEED, play::Play};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("clean::none_keeps_what_is_there", none).with(ONE_WORKER),
        Case::alone("clean::empty_after_any_test", empty).with(ONE_WORKER),
        Case::alone("clean::baseline_restores_the_seed", baseline).with(ONE_WORKER),
        Case::alone("clean::after_a_panic", panicked).with(ONE_WORKER),
    ]
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

/// Tests that write little, nothing, much, and over what they wrote.
fn empty<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    for count in [1, 0, 150, 3] {
        play.test("writes", async |_| {
            let session = play.open(&base).await?;
            let entries = play.entries(&session).await?;
            ensure!(entries.is_empty(), "it starts with {entries:?}");
            for number in 0..count {
                let key = format!("key {number}");
                play.contract().put(&session, &key, "first").await?;
            }
            if count > 1 {
                play.contract().put(&session, "key 1", "second").await?;
                play.contract().remove(&session, "key 0").await?;
            }
            Ok(())
        })?;
    }
    play.test("reads", async |_| {
        let entries = play.entries(&play.open(&base).await?).await?;
        ensure!(entries.is_empty(), "it starts with {entries:?}");
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
