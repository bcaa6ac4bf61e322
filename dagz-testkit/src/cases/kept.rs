//! Failed state is kept on request: another worker takes the place of the one whose test failed.

use anyhow::{Context, Result, bail, ensure};
use dagz_core::Scope;
use serde_json::{Value, json};

use super::{Case, ONE_WORKER};
use crate::{
    Choice, Contract,
    play::{Play, runtime},
    stage::Stage,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::directed(
            "kept::what_a_failed_test_left",
            left,
            vec![("fails and goes on", fails), ("comes later", comes_later)],
        ),
        Case::alone("kept::nothing_unless_asked_for", unasked).with(ONE_WORKER),
    ]
}

fn left<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let one = |role: &str| stage.actor(role).set("DAGZ_WORKERS", "1");
    let first = one("fails and goes on").set("DAGZ_KEEP_FAILED", "true");
    let kept = first.run()?;
    let name = kept.as_str().context("no name")?;
    let events = stage.events()?;
    let told: Vec<_> = events
        .iter()
        .filter(|event| event["kind"] == "kept")
        .collect();
    let [told] = told.as_slice() else {
        bail!("one state is kept, and told are {told:?}");
    };
    ensure!(
        told["database"] == name && told["test"] == "fails" && told["worker"] == json!(0),
        "{told}"
    );
    let command = told["detail"].as_str().unwrap_or_default();
    ensure!(
        command.contains(name),
        "`{command}` does not lead to `{name}`"
    );
    // Another process, and another job, that did not ask for anything to be kept.
    let later = one("comes later").set("DAGZ_JOB", "later");
    later.with(kept).run()?;
    Ok(())
}

fn fails<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    play.configure(&Choice::default())?;
    let base = play.base();
    let kept = ends("fails", false, async |scope| {
        ensure!(scope.worker().number() == 0, "{}", scope.worker());
        let session = play.open(&base).await?;
        play.contract().put(&session, "key", "value").await?;
        play.contract().database(&session).await
    })?;
    for test in ["the next", "the one after it"] {
        ends(test, true, async |scope| {
            ensure!(scope.worker().number() == 1, "{}", scope.worker());
            play.opens_rerouted(scope, &base).await?;
            let session = play.open(&base).await?;
            let entries = play.entries(&session).await?;
            ensure!(entries.is_empty(), "it starts with {entries:?}");
            play.contract().put(&session, "key", "other").await
        })?;
    }
    still_there(play, &kept)?;
    Ok(json!(kept))
}

fn comes_later<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    play.configure(&Choice::default())?;
    let kept: String = play.arguments()?;
    let base = play.base();
    ends("a test of another job", true, async |scope| {
        let name = play.database(&base).await?;
        ensure!(
            name != kept && scope.worker().number() == 1,
            "`{name}` on {}",
            scope.worker()
        );
        Ok(())
    })?;
    still_there(play, &kept)?;
    Ok(Value::Null)
}

fn unasked<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    for passes in [false, true] {
        ends("a test", passes, async |scope| {
            ensure!(scope.worker().number() == 0, "{}", scope.worker());
            let session = play.open(&base).await?;
            let entries = play.entries(&session).await?;
            ensure!(entries.is_empty(), "it starts with {entries:?}");
            play.contract().put(&session, "key", "value").await
        })?;
    }
    Ok(())
}

/// What the failed test wrote, seen as a person sees it.
fn still_there<C: Contract>(play: &Play<'_, C>, kept: &str) -> Result<()> {
    ends("looks", true, async |_| {
        let _unchanged = dagz_core::bypass();
        let session = play.open(kept).await?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries == [("key".to_owned(), "value".to_owned())],
            "`{kept}` holds {entries:?}"
        );
        Ok(())
    })
}

/// Runs `body` as a test that passes or fails in the end, whatever `body` tells.
fn ends<T>(name: &str, passes: bool, body: impl AsyncFnOnce(&Scope) -> Result<T>) -> Result<T> {
    let mut guard = Scope::builder(name).enter()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(body(guard.scope()));
    drop(runtime);
    guard.set_passed(passes);
    drop(guard);
    outcome
}
