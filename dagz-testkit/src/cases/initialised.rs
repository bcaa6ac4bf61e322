//! Step seven: `worker_init`, once per worker and job across processes, and what a failure does.

use std::{
    collections::{HashMap, HashSet},
    fs::OpenOptions,
    io::Write,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use dagz_core::{Error, ErrorKind};
use serde_json::{Value, json};

use super::Case;
use crate::{
    Choice, Contract, Hook, Prepare,
    play::{Play, joined, locked, said},
    stage::{PATIENCE, Stage},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::directed(
            "initialised::once_per_worker_and_job",
            once_per_worker_and_job,
            vec![("tests with a worker_init", tests_with_init)],
        ),
        Case::directed(
            "initialised::a_failure_is_told_and_not_repeated",
            failure,
            vec![("tests with a failing worker_init", tests_with_failing_init)],
        ),
        Case::directed(
            "initialised::anew_for_a_test_that_is_to_find_it_fresh",
            fresh,
            vec![("a test that adds one entry", adding_test)],
        ),
        Case::directed(
            "initialised::on_the_worker_that_a_test_had_before",
            same_worker,
            vec![("a test that waits on its worker", waiting_test)],
        ),
        Case::alone("initialised::callbacks_then_init_then_prepare", order),
    ]
}

/// How many lines of `word` each worker has in the log.
fn calls(log: &[String], word: &str) -> Result<HashMap<String, usize>> {
    let mut calls = HashMap::new();
    for line in log {
        let mut parts = line.split(' ');
        if parts.next() == Some(word) {
            let worker = parts.next().with_context(|| format!("log line `{line}`"))?;
            *calls.entry(worker.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(calls)
}

fn once_per_worker_and_job<C: Contract>(stage: &Stage<C>) -> Result<()> {
    for (run, so_far) in [("first", 1), ("second", 2)] {
        let processes: Vec<_> = (0..3)
            .map(|_| stage.actor("tests with a worker_init").set("DAGZ_JOB", run))
            .map(|actor| actor.start())
            .collect::<Result<_>>()?;
        for process in processes {
            process.finish()?;
        }
        let calls = calls(&stage.log(), "init")?;
        ensure!(
            calls.len() == 2 && calls.values().all(|count| *count == so_far),
            "after the {run} job, the workers were initialised so often: {calls:?}"
        );
    }
    Ok(())
}

fn tests_with_init<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let choice = Choice {
        worker_init: Some(play.hook("init")),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    // Until this process has been on both workers; others want them, too.
    let seen = Mutex::new(HashSet::new());
    let deadline = Instant::now() + PATIENCE;
    thread::scope(|threads| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                threads.spawn(|| {
                    while locked(&seen).len() < 2 {
                        ensure!(Instant::now() < deadline, "only one worker was ever free");
                        play.test("initialised", async |scope| {
                            let session = play.open(&base).await?;
                            play.contract().put(&session, "key", "value").await?;
                            locked(&seen).insert(scope.worker());
                            tokio::time::sleep(Duration::from_millis(5)).await;
                            Ok(())
                        })?;
                        // Whoever waits for a worker looks every few milliseconds.
                        thread::sleep(Duration::from_millis(20));
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    Ok(json!(null))
}

fn failure<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let mut reports = Vec::new();
    for _ in 0..2 {
        let told = stage
            .actor("tests with a failing worker_init")
            .set("DAGZ_WORKERS", "1")
            .run()?;
        let told: Vec<(String, String)> = serde_json::from_value(told)?;
        reports.extend(told);
    }
    ensure!(reports.len() == 4, "four tests must fail: {reports:?}");
    let calls = calls(&stage.log(), "init")?;
    ensure!(
        calls.values().sum::<usize>() == 1,
        "a `worker_init` that fails was run so often: {calls:?}"
    );
    let (first, _) = &reports[0];
    ensure!(
        reports.iter().all(|(report, _)| report == first),
        "the one failure is reported in different words: {reports:?}"
    );
    Ok(())
}

fn tests_with_failing_init<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let choice = Choice {
        worker_init: Some(play.hook("init").failing()),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    let mut reports = Vec::new();
    for _ in 0..2 {
        reports.push(play.test("fails", async |scope| {
            let name = play.worker_name(scope, &base)?;
            let Err(error) = play.open(&base).await else {
                bail!("`{name}` was opened although its `worker_init` fails");
            };
            said(
                &error,
                &[&name, &scope.worker(), &"`fails`", &Hook::FAILURE],
            )?;
            Ok((error.report().to_string(), format!("{:?}", error.kind())))
        })?);
    }
    Ok(json!(reports))
}

fn fresh<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let found = |again: &str| -> Result<usize> {
        let told = stage
            .actor("a test that adds one entry")
            .set("DAGZ_WORKERS", "1")
            .set("DAGZ_AGAIN", again)
            .run()?;
        Ok(serde_json::from_value(told)?)
    };
    let first = found("")?;
    let kept = found("worker")?;
    ensure!(
        kept == first + 1,
        "a test that is run again on its worker, and prepares nothing, must find what it left: \
         {first} entries at first, {kept} then"
    );
    for turn in 0..2 {
        let fresh = found("fresh")?;
        ensure!(
            fresh == first,
            "at turn {turn} a test found {fresh} entries in a database made anew, and {first} in the very first"
        );
    }
    Ok(())
}

/// Tells how many entries it found, other than the seed.
fn adding_test<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let choice = Choice {
        prepare: Prepare::None,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    let found = play.test("adds", async |_| {
        let session = play.open(&base).await?;
        let found = play.entries(&session).await?.len();
        let key = format!("entry {found}");
        play.contract().put(&session, &key, "value").await?;
        Ok(found)
    })?;
    Ok(json!(found))
}

fn same_worker<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let start = |test: &str, again: &str| {
        stage
            .actor("a test that waits on its worker")
            .set("DAGZ_WORKERS", "3")
            .set("DAGZ_AGAIN", again)
            .with(json!(test))
            .start()
    };
    let mut running = Vec::new();
    for test in ["one", "two", "three"] {
        running.push(start(test, "")?);
        stage.wait_for(&format!("{test} runs"))?;
    }
    stage.signal("go")?;
    let mut workers = Vec::new();
    for process in running {
        workers.push(process.finish()?);
    }
    ensure!(workers == [json!(0), json!(1), json!(2)], "{workers:?}");
    for (test, expected) in ["three", "one", "two"].into_iter().zip([2, 0, 1]) {
        let worker = start(test, "worker")?.finish()?;
        ensure!(
            worker == json!(expected),
            "`{test}` ran on worker {expected} at first, and on {worker} again"
        );
    }
    Ok(())
}

/// Tells the number of its worker.
fn waiting_test<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    play.configure(&Choice::default())?;
    let name: String = play.arguments()?;
    let worker = play.test(&name, async |scope| {
        play.signal(&format!("{name} runs"))?;
        play.wait_for("go")?;
        Ok(scope.worker().number())
    })?;
    Ok(json!(worker))
}

fn order<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        worker_init: Some(play.hook("init")),
        prepare: Prepare::Own(play.hook("prepare")),
        ..Choice::default()
    };
    play.configure(&choice)?;
    let log = play.log_path();
    dagz_core::add_worker_init("contract", move |worker| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .and_then(|mut log| writeln!(log, "callback {worker}"))
            .map_err(|error| {
                Error::new(ErrorKind::WorkerInit, "writing the log failed").with_source(error)
            })
    });
    let base = play.base();
    let words = || -> Vec<String> {
        let log = play.log();
        log.iter()
            .filter_map(|line| Some(line.split(' ').next()?.to_owned()))
            .collect()
    };
    play.test("opens nothing", async |_| Ok(()))?;
    ensure!(words() == ["callback"], "{:?}", words());
    for _ in 0..2 {
        play.test("opens", async |_| Ok(play.open(&base).await.map(drop)?))?;
    }
    ensure!(
        words() == ["callback", "init", "prepare", "prepare"],
        "{:?}",
        words()
    );
    Ok(())
}
