//! A lock that an earlier test left behind holds nobody up for long, and its culprit is named.
//!
//! The lock is on what the reset of the next test needs: on an entry that it must remove, or on all
//! that there is. It lives on as a session that a suite keeps in a static does, and, under a runner
//! that starts a process for each test, as one of a process that has not ended yet.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::{Case, Role};
use crate::{
    Choice, Contract, Prepare,
    play::{Play, joined},
    stage::Stage,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::directed(
            "never_hangs::a_locked_entry",
            |stage| in_one_process(stage, Lock::on_an_entry(false)),
            roles(),
        ),
        Case::directed(
            "never_hangs::a_locked_entry_and_a_baseline",
            |stage| in_one_process(stage, Lock::on_an_entry(true)),
            roles(),
        ),
        Case::directed(
            "never_hangs::a_locked_database",
            |stage| in_one_process(stage, Lock::on_everything()),
            roles(),
        ),
        Case::directed(
            "never_hangs::a_locked_database_of_an_earlier_process",
            in_two_processes,
            roles(),
        ),
    ]
}

fn roles<C: Contract>() -> Vec<(&'static str, Role<C>)> {
    vec![
        ("leaves and goes on", leaves_and_goes_on),
        ("leaves a lock", leaves),
        ("comes after", comes_after),
    ]
}

/// The longest that a lock may hold up the next test, on a busy machine.
const BOUND: Duration = Duration::from_secs(10);

/// The test that leaves the lock.
const CULPRIT: &str = "the culprit";

/// The test that must not wait for it.
const VICTIM: &str = "the next one";

/// What is left locked.
#[derive(Debug, Serialize, Deserialize)]
struct Lock {
    is_on_everything: bool,
    has_baseline: bool,
}

impl Lock {
    fn on_an_entry(has_baseline: bool) -> Self {
        Self {
            is_on_everything: false,
            has_baseline,
        }
    }

    fn on_everything() -> Self {
        Self {
            is_on_everything: true,
            has_baseline: false,
        }
    }
}

fn in_one_process<C: Contract>(stage: &Stage<C>, lock: Lock) -> Result<()> {
    let actor = stage.actor("leaves and goes on").set("DAGZ_WORKERS", "1");
    let (_, complaints) = actor.with(json!(lock)).start()?.finish_heard()?;
    culprit_is_named(stage, &complaints)
}

fn in_two_processes<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let actor = |role| {
        let actor = stage.actor(role).set("DAGZ_WORKERS", "1");
        actor.with(json!(Lock::on_everything()))
    };
    let first = actor("leaves a lock").start()?;
    stage.wait_for("left")?;
    let second = actor("comes after")
        .start()
        .and_then(|second| second.finish_heard());
    // Also after a failure, for the first to end.
    stage.signal("go on")?;
    first.finish()?;
    let (_, complaints) = second?;
    culprit_is_named(stage, &complaints)
}

/// Makes sure that a warning and an event say whose lock it was, once.
fn culprit_is_named<C: Contract>(stage: &Stage<C>, complaints: &str) -> Result<()> {
    let count = complaints.matches(CULPRIT).count();
    ensure!(
        count == 1,
        "`{CULPRIT}` is named {count} times in what the next test was told: {complaints:?}"
    );
    let events = stage.events()?;
    let leak = events
        .iter()
        .find(|event| event["kind"] == "leak")
        .with_context(|| format!("there is no event of the kind `leak`: {events:#?}"))?;
    let detail = leak["detail"].as_str().unwrap_or_default();
    ensure!(
        detail.contains(CULPRIT) && leak["test"] == VICTIM && leak["database"].is_string(),
        "the event does not say who held whom up: {leak}"
    );
    Ok(())
}

fn leaves_and_goes_on<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let lock: Lock = play.arguments()?;
    let elsewhere = elsewhere()?;
    let (leaked, start) = leave(play, &lock, &elsewhere)?;
    not_held_up(play, &start)?;
    drop(leaked);
    Ok(json!(null))
}

fn leaves<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let lock: Lock = play.arguments()?;
    let elsewhere = elsewhere()?;
    let leaked = leave(play, &lock, &elsewhere)?;
    play.signal("left")?;
    play.wait_for("go on")?;
    drop(leaked);
    Ok(json!(null))
}

fn comes_after<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    configured(play, &play.arguments()?)?;
    not_held_up(play, &[])?;
    Ok(json!(null))
}

/// Where a leaked session lives on.
fn elsewhere() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(1).enable_all().build()?)
}

fn configured<C: Contract>(play: &Play<'_, C>, lock: &Lock) -> Result<()> {
    let prepare = match lock.has_baseline {
        true => Prepare::Baseline,
        false => Prepare::Empty,
    };
    Ok(play.configure(&Choice {
        prepare,
        ..Choice::default()
    })?)
}

type Entries = Vec<(String, String)>;

/// Runs the test that leaves the lock; tells the session that has it, and how the test began.
fn leave<C: Contract>(
    play: &Play<'_, C>,
    lock: &Lock,
    elsewhere: &Runtime,
) -> Result<(C::Session, Entries)> {
    configured(play, lock)?;
    let base = play.base();
    play.test(CULPRIT, async |scope| {
        let session = play.open(&base).await?;
        let start = play.entries(&session).await?;
        let contract = play.contract();
        contract.put(&session, "locked", "committed").await?;
        let leaked = thread::scope(|threads| {
            joined(threads.spawn(|| {
                elsewhere.block_on(scope.carry(async {
                    let session = play.open(&base).await?;
                    match lock.is_on_everything {
                        true => contract.lock(&session).await?,
                        false => contract.put_uncommitted(&session, "locked", "held").await?,
                    }
                    Ok(session)
                }))
            }))
        })?;
        Ok((leaked, start))
    })
}

fn not_held_up<C: Contract>(play: &Play<'_, C>, start: &[(String, String)]) -> Result<()> {
    let base = play.base();
    play.test(VICTIM, async |_| {
        let before = Instant::now();
        // More than the bound, for the failure to say how long it was.
        let session = tokio::time::timeout(3 * BOUND, play.open(&base))
            .await
            .with_context(|| format!("it was held up for {:?}", 3 * BOUND))??;
        let entries = play.entries(&session).await?;
        let waited = before.elapsed();
        ensure!(waited < BOUND, "it was held up for {waited:?}");
        ensure!(entries == start, "it starts with {entries:?}");
        play.contract().put(&session, "locked", "no more").await
    })
}
