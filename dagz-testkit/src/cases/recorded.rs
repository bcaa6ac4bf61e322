//! The job's event log tells what was done, for whom, and how long it took.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::{Choice, Contract, play::Play, stage::Stage};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![Case::directed(
        "recorded::two_tests",
        told,
        vec![("two tests", two_tests)],
    )]
}

const TESTS: [&str; 2] = ["the first", "the second"];

fn told<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let name = stage.actor("two tests").set("DAGZ_WORKERS", "1").run()?;
    let events = stage.events()?;
    let driver = stage.driver();
    let count = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    for (kind, expected) in [
        ("lease", 2),
        ("leave", 2),
        ("init", 1),
        ("prepare", 2),
        ("route", 4),
    ] {
        let count = count(kind);
        ensure!(
            count == expected,
            "{count} events of kind `{kind}`: {events:#?}"
        );
    }
    for (number, test) in TESTS.iter().enumerate() {
        let tag = format!("jw00.t{:03}", number + 1);
        for kind in ["lease", "prepare", "route", "leave"] {
            let event = events
                .iter()
                .find(|event| event["kind"] == kind && event["test"] == *test)
                .with_context(|| format!("no `{kind}` of `{test}`: {events:#?}"))?;
            let is_complete = event["tag"] == json!(tag)
                && event["worker"] == json!(0)
                && event["v"] == json!(1)
                && event["at"].is_u64()
                && event["pid"].is_u64();
            ensure!(is_complete, "{event}");
            if kind != "route" {
                ensure!(event["micros"].is_u64(), "no duration: {event}");
            }
            if matches!(kind, "prepare" | "route") {
                let is_told = event["driver"] == json!(driver) && event["database"] == name;
                ensure!(is_told, "neither driver nor database: {event}");
            }
        }
    }
    let init = events
        .iter()
        .find(|event| event["kind"] == "init")
        .context("no `init`")?;
    ensure!(
        init["database"] == name && init["micros"].is_u64() && init["test"] == TESTS[0],
        "{init}"
    );
    Ok(())
}

fn two_tests<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    play.configure(&Choice::default())?;
    let base = play.base();
    let mut name = String::new();
    for test in TESTS {
        name = play.test(test, async |_| {
            play.open(&base).await?;
            play.database(&base).await
        })?;
    }
    Ok(json!(name))
}
