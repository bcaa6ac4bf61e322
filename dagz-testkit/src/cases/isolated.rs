//! Isolation: no write of one test is ever seen by another, at any number of workers, over threads,
//! processes and runs.
//!
//! The role `hammer` runs tests on many threads, each of which expects an empty database, writes
//! the same keys as all the others with a value of its own, and reads back. The negative control
//! does the same without dagz and must see foreign values, or else the check is worth nothing.

use std::{
    collections::BTreeMap,
    process,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Case, Role};
use crate::{
    Choice, Contract,
    actor::Actor,
    play::{Play, joined, locked},
    stage::Stage,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::directed(
            "isolated::one_worker",
            |stage| in_one_process(stage, 1),
            hammer_role(),
        ),
        Case::directed(
            "isolated::two_workers",
            |stage| in_one_process(stage, 2),
            hammer_role(),
        ),
        Case::directed(
            "isolated::eight_workers",
            |stage| in_one_process(stage, 8),
            hammer_role(),
        ),
        Case::directed(
            "isolated::without_dagz_it_is_violated",
            control,
            hammer_role(),
        ),
        Case::directed("isolated::over_processes", over_processes, hammer_role()),
        Case::directed("isolated::two_runs_of_one_state", two_runs, hammer_role()),
    ]
}

pub(crate) fn hammer_role<C: Contract>() -> Vec<(&'static str, Role<C>)> {
    vec![("hammer", hammer)]
}

/// How long is hammered.
const WHILE: Duration = Duration::from_millis(2_000);

/// What a hammering process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hammering {
    /// How many threads run tests.
    pub(crate) threads: usize,
    /// For how long, in milliseconds.
    pub(crate) millis: u64,
    /// Whether the base database is made first, for want of rerouting.
    pub(crate) on_base: bool,
    /// Whether a database in use by another run may be the end of a test.
    pub(crate) in_use_expected: bool,
}

impl Hammering {
    /// Tests on `threads` threads for the usual time.
    pub(crate) fn on(threads: usize) -> Self {
        Self {
            threads,
            millis: WHILE.as_millis().try_into().unwrap_or(u64::MAX),
            on_base: false,
            in_use_expected: false,
        }
    }

    /// As arguments of an actor.
    pub(crate) fn told(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// What was seen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Finished tests by worker.
    pub(crate) rounds: BTreeMap<String, u64>,
    /// Entries of somebody else, in a database that had to be empty.
    pub(crate) leftovers: u64,
    /// Values of somebody else, under a key just written.
    pub(crate) foreign: u64,
    /// One of them, for the report.
    pub(crate) example: Option<String>,
    /// Tests that were refused because another run uses their database.
    pub(crate) in_use: u64,
}

impl Seen {
    /// Adds up what several saw.
    pub(crate) fn together(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), |mut sum, part| {
            for (worker, rounds) in part.rounds {
                *sum.rounds.entry(worker).or_default() += rounds;
            }
            sum.leftovers += part.leftovers;
            sum.foreign += part.foreign;
            sum.example = sum.example.or(part.example);
            sum.in_use += part.in_use;
            sum
        })
    }

    /// Makes sure that nothing foreign was seen, on exactly `workers` workers.
    pub(crate) fn is_isolated(&self, workers: usize) -> Result<()> {
        ensure!(
            self.leftovers == 0 && self.foreign == 0,
            "foreign values were seen: {self:?}"
        );
        ensure!(
            self.rounds.len() == workers && self.rounds.values().all(|rounds| *rounds > 0),
            "{workers} workers had to run tests: {self:?}"
        );
        Ok(())
    }
}

/// Starts all of `actors` at once, and adds up what they saw.
pub(crate) fn seen_by(actors: Vec<Actor>) -> Result<Seen> {
    let running: Vec<_> = actors
        .into_iter()
        .map(Actor::start)
        .collect::<Result<_>>()?;
    let seen: Vec<Seen> = running
        .into_iter()
        .map(|running| Ok(serde_json::from_value(running.finish()?)?))
        .collect::<Result<_>>()?;
    Ok(Seen::together(seen))
}

fn in_one_process<C: Contract>(stage: &Stage<C>, workers: usize) -> Result<()> {
    // One thread more than workers, so that there is always one that waits.
    let actor = stage
        .actor("hammer")
        .set("DAGZ_WORKERS", &workers.to_string())
        .with(Hammering::on(workers + 1).told());
    seen_by(vec![actor])?.is_isolated(workers)
}

fn control<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let mut hammering = Hammering::on(2);
    hammering.on_base = true;
    let actor = stage
        .actor("hammer")
        .set("DAGZ", "off")
        .with(hammering.told());
    let seen = seen_by(vec![actor])?;
    ensure!(
        seen.leftovers > 0 && seen.foreign > 0,
        "the check sees nothing foreign even without dagz: {seen:?}"
    );
    Ok(())
}

fn over_processes<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let actors = (0..4)
        .map(|_| stage.actor("hammer").set("DAGZ_WORKERS", "4"))
        .map(|actor| actor.with(Hammering::on(2).told()))
        .collect();
    seen_by(actors)?.is_isolated(4)
}

fn two_runs<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let actors = ["first", "first", "second", "second"]
        .into_iter()
        .map(|run| stage.actor("hammer").set("DAGZ_JOB", run))
        .map(|actor| actor.set("DAGZ_WORKERS", "3"))
        .map(|actor| actor.with(Hammering::on(2).told()))
        .collect();
    seen_by(actors)?.is_isolated(3)
}

fn hammer<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let hammering: Hammering = play.arguments()?;
    let base = play.base();
    if hammering.on_base {
        play.wait(play.contract().create(&base))??;
    } else {
        play.configure(&Choice::default())?;
    }
    let seen = Mutex::new(Seen::default());
    let until = Instant::now() + Duration::from_millis(hammering.millis);
    thread::scope(|threads| {
        let threads: Vec<_> = (0..hammering.threads)
            .map(|number| {
                let (base, seen, hammering) = (&base, &seen, &hammering);
                threads.spawn(move || {
                    for round in 0.. {
                        if Instant::now() > until {
                            break;
                        }
                        let mine = format!("{}.{number}.{round}", process::id());
                        match play.test(&mine, async |scope| {
                            one_round(play, base, &mine, &scope.worker().to_string(), seen).await
                        }) {
                            Err(error) if hammering.in_use_expected && is_in_use(&error) => {
                                locked(seen).in_use += 1;
                            }
                            outcome => outcome?,
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    Ok(json!(seen.into_inner()?))
}

fn is_in_use(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<dagz_core::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::InUse)
}

async fn one_round<C: Contract>(
    play: &Play<'_, C>,
    base: &str,
    mine: &str,
    worker: &str,
    seen: &Mutex<Seen>,
) -> Result<()> {
    let contract = play.contract();
    let session = play.open(base).await?;
    let before = contract.entries(&session).await?;
    for key in ["first", "second"] {
        contract.put(&session, key, mine).await?;
    }
    // Others get their chance to interfere.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let second = play.open(base).await?;
    let after = contract.entries(&second).await?;
    let foreign = after.iter().find(|(_, value)| value != mine);

    let mut seen = locked(seen);
    *seen.rounds.entry(worker.to_owned()).or_default() += 1;
    seen.leftovers += before.len() as u64;
    if after.len() != 2 || foreign.is_some() {
        seen.foreign += 1;
        seen.example = Some(format!("{mine} on {worker} read {after:?}"));
    }
    Ok(())
}
