//! A scope on other threads, on other runtimes, and in child processes.

use std::thread;

use anyhow::{Context, Result, bail, ensure};
use dagz_core::{ErrorKind, HandOver};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::{Case, Role};
use crate::{
    Choice, Contract, Prepare,
    play::{Play, joined, refused},
    stage::Stage,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("handed_over::to_a_thread", to_a_thread),
        Case::alone("handed_over::to_another_runtime", to_a_runtime),
        Case::directed("handed_over::to_a_child_process", to_a_child, roles()),
        Case::directed(
            "handed_over::to_a_child_that_comes_first",
            child_first,
            roles(),
        ),
    ]
}

fn to_a_thread<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("has a thread", async |scope| {
        let session = play.open(&base).await?;
        play.contract().put(&session, "key", "value").await?;
        let (database, entries) = thread::scope(|threads| {
            joined(threads.spawn(|| {
                scope.run(|| {
                    play.wait(async {
                        let session = play.open(&base).await?;
                        let database = play.contract().database(&session).await?;
                        Ok((database, play.entries(&session).await?))
                    })?
                })
            }))
        })?;
        ensure!(
            database == play.worker_name(scope, &base)?,
            "`{database}` was opened"
        );
        ensure!(entries.len() == 1, "the thread sees {entries:?}");
        Ok(())
    })
}

fn to_a_runtime<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("has another runtime", async |scope| {
        let session = play.open(&base).await?;
        play.contract().put(&session, "key", "value").await?;
        thread::scope(|threads| {
            joined(threads.spawn(|| {
                let elsewhere = Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()?;
                elsewhere.block_on(async {
                    let stranger = play.open(&base).await;
                    refused(stranger, ErrorKind::OutsideScope, &[&base, &"scope.carry"])?;
                    scope
                        .carry(async {
                            tokio::task::yield_now().await;
                            let session = play.open(&base).await?;
                            let entries = play.entries(&session).await?;
                            ensure!(entries.len() == 1, "the task sees {entries:?}");
                            Ok(())
                        })
                        .await
                })
            }))
        })
    })
}

fn roles<C: Contract>() -> Vec<(&'static str, Role<C>)> {
    vec![("parent", parent), ("child", child)]
}

fn to_a_child<C: Contract>(stage: &Stage<C>) -> Result<()> {
    stage.actor("parent").with(json!("parent first")).run()?;
    prepared(stage, 2)
}

fn child_first<C: Contract>(stage: &Stage<C>) -> Result<()> {
    stage.actor("parent").with(json!("child first")).run()?;
    prepared(stage, 2)
}

fn prepared<C: Contract>(stage: &Stage<C>, times: usize) -> Result<()> {
    let log = stage.log();
    ensure!(
        log.len() == times,
        "prepared so often in two tests: {log:?}"
    );
    Ok(())
}

fn configured<C: Contract>(play: &Play<'_, C>) -> Result<String> {
    let choice = Choice {
        prepare: Prepare::Own(play.hook("prepare")),
        ..Choice::default()
    };
    play.configure(&choice)?;
    Ok(play.base())
}

fn parent<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let is_first = play.arguments::<String>()? == "parent first";
    let base = configured(play)?;
    play.test("has a child", async |scope| {
        let name = play.worker_name(scope, &base)?;
        if is_first {
            let session = play.open(&base).await?;
            play.contract().put(&session, "parent", "value").await?;
        }
        // Twice: a second child must not prepare again either.
        for count in 1..=2 {
            let output = play
                .command("child")?
                .env("DAGZ_CONTRACT_KEY", format!("child {count}"))
                .hand_over()?
                .output()?;
            let text = String::from_utf8(output.stdout)?;
            let answer: Result<Value, String> =
                serde_json::from_str(text.lines().last().context("the child said nothing")?)?;
            let answer = match answer {
                Ok(answer) => answer,
                Err(failure) => bail!("the child failed: {failure}"),
            };
            ensure!(
                answer["database"] == json!(name),
                "the child opened {answer}"
            );
            let earlier = usize::from(is_first) + count - 1;
            ensure!(
                answer["entries"].as_array().map(Vec::len) == Some(earlier),
                "child {count} saw {answer}"
            );
        }
        let entries = play.entries(&play.open(&base).await?).await?;
        ensure!(
            entries.len() == usize::from(is_first) + 2,
            "the parent sees {entries:?}"
        );
        Ok(())
    })?;
    play.test("comes after it", async |_| {
        let entries = play.entries(&play.open(&base).await?).await?;
        ensure!(entries.is_empty(), "it starts with {entries:?}");
        Ok(json!(null))
    })
}

fn child<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let base = configured(play)?;
    let key = std::env::var("DAGZ_CONTRACT_KEY")?;
    play.wait(async {
        let session = play.open(&base).await?;
        let database = play.contract().database(&session).await?;
        let entries = play.entries(&session).await?;
        play.contract().put(&session, &key, "value").await?;
        Ok(json!({"database": database, "entries": entries}))
    })?
}
