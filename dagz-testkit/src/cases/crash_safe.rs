//! `kill -9` at any moment leaves nothing that blocks or corrupts the next run.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use super::{
    Case,
    isolated::{self, Hammering, Seen},
};
use crate::{Contract, stage::Stage};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::directed(
            "crash_safe::while_databases_are_made",
            while_made,
            isolated::hammer_role(),
        ),
        Case::directed(
            "crash_safe::while_tests_run",
            while_tests_run,
            isolated::hammer_role(),
        ),
    ]
}

/// Kills runs in the time in which a fresh project's databases are made.
fn while_made<C: Contract>(stage: &Stage<C>) -> Result<()> {
    killed_between(stage, &[0..80, 30..120, 60..160, 80..250, 0..400])
}

/// Kills runs that are well under way, and none of which comes to an end by itself.
fn while_tests_run<C: Contract>(stage: &Stage<C>) -> Result<()> {
    killed_between(stage, &[300..600, 300..900, 400..700])
}

fn killed_between<C: Contract>(stage: &Stage<C>, moments: &[std::ops::Range<u64>]) -> Result<()> {
    let mut endless = Hammering::on(3);
    endless.millis = 60_000;
    let mut history = Vec::new();
    for (number, moment) in moments.iter().enumerate() {
        // Every other time in the same job, whose `worker_init` may have been cut off.
        let run = format!("run {}", number / 2);
        let mut actor = stage
            .actor("hammer")
            .set("DAGZ_JOB", &run)
            .with(endless.told())
            .start()?;
        let after = Duration::from_millis(moment.start + random() % (moment.end - moment.start));
        thread::sleep(after);
        actor.kill()?;
        history.push(after);
    }
    for run in ["run 0", "afterwards"] {
        let mut brief = Hammering::on(3);
        brief.millis = 700;
        let answer = stage
            .actor("hammer")
            .set("DAGZ_JOB", run)
            .with(brief.told())
            .run()
            .and_then(|answer| serde_json::from_value::<Seen>(answer)?.is_isolated(2));
        answer
            .with_context(|| format!("the job `{run}`, after runs were killed at {history:?}"))?;
    }
    Ok(())
}

/// A number that differs from one call to the next; no more is asked of it.
fn random() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::from(elapsed.subsec_nanos()) / 1_000)
}
