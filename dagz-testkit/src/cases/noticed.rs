//! Two runs that do not know of each other, for want of a common state directory, and one server.

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Case,
    isolated::{Hammering, hammer_role, seen_by},
};
use crate::{
    Choice, Contract,
    play::{Play, refused},
    stage::Stage,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::directed(
            "noticed::two_states_fail_loudly",
            two_states,
            vec![("holds a database", hold), ("wants the same", want)],
        ),
        Case::directed(
            "noticed::two_states_never_mix",
            two_states_hammering,
            hammer_role(),
        ),
    ]
}

/// Two machines that think they are the same node, or two containers of one checkout: each has a
/// first worker of its own, and both have the same name for its database.
fn two_states<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let other_state = stage.path().join("other-state");
    let other = |role| {
        let actor = stage.actor(role).set("DAGZ_JOB", "other");
        actor.set("DAGZ_STATE_DIR", &other_state.to_string_lossy())
    };
    let first = stage.actor("holds a database").start()?;
    stage.wait_for("held")?;
    let refusal = other("wants the same")
        .with(json!({"is_free": false}))
        .run();
    // Also after a failure, for the first to end.
    stage.signal("go on")?;
    first.finish()?;
    refusal?;
    other("wants the same")
        .with(json!({"is_free": true}))
        .run()?;
    Ok(())
}

fn hold<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("holds it", async |_| {
        let session = play.open(&base).await?;
        play.contract().put(&session, "mine", "kept").await?;
        play.signal("held")?;
        play.wait_for("go on")?;
        let entries = play.entries(&play.open(&base).await?).await?;
        ensure!(
            entries == [("mine".to_owned(), "kept".to_owned())],
            "the other run changed it to {entries:?}"
        );
        Ok(json!(null))
    })
}

#[derive(Deserialize)]
struct Wanted {
    is_free: bool,
}

fn want<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let wanted: Wanted = play.arguments()?;
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("wants it", async |scope| {
        let name = play.worker_name(scope, &base)?;
        let outcome = play.open(&base).await;
        if wanted.is_free {
            let entries = play.entries(&outcome?).await?;
            ensure!(entries.is_empty(), "it starts with {entries:?}");
        } else {
            let told: [&dyn std::fmt::Display; 3] = [&name, &scope.worker(), &"wants it"];
            refused(outcome, ErrorKind::InUse, &told)?;
        }
        Ok(json!(null))
    })
}

fn two_states_hammering<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let mut hammering = Hammering::on(2);
    hammering.in_use_expected = true;
    let actors = ["state-1", "state-2"]
        .into_iter()
        .map(|state| (state, stage.path().join(state)))
        .map(|(run, state)| {
            let actor = stage.actor("hammer").set("DAGZ_JOB", run);
            let actor = actor.set("DAGZ_STATE_DIR", &state.to_string_lossy());
            actor.with(hammering.told())
        })
        .collect();
    // Whether one waits for the other or is told, neither may see what the other wrote.
    seen_by(actors)?.is_isolated(2)
}
