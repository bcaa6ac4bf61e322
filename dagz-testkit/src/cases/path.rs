//! The first five steps of the one path: when a name passes unchanged, and when it must not.

use std::thread;

use anyhow::{Context, Result, ensure};
use dagz_core::{Access, Endpoint, ErrorKind, Scope};
use serde_json::{Value, json};

use super::Case;
use crate::{
    Choice, Contract,
    play::{Play, joined, refused},
    stage::Stage,
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::alone("path::off_passes_names_unchanged", off).with(&[("DAGZ", "off")]),
        Case::alone("path::no_workers_is_off", off).with(&[("DAGZ_WORKERS", "0")]),
        Case::alone("path::unconfigured_is_an_error", unconfigured),
        Case::alone("path::configuring_twice_is_an_error", configured_twice),
        Case::alone("path::bypass_opens_the_base", bypassed),
        Case::alone("path::main_worker_opens_the_base", main_worker),
        Case::alone("path::main_worker_may_be_rerouted", main_worker_rerouted),
        Case::alone("path::a_single_worker_may_use_the_base", single)
            .with(&[("DAGZ_WORKERS", "1")]),
        Case::alone("path::one_of_two_workers_may_not", one_of_two),
        Case::alone("path::the_filter_passes_names_unchanged", filtered),
        Case::alone("path::system_databases_are_not_rerouted", system)
            .needing(|can| can.system_database.is_some()),
        Case::alone("path::an_empty_name_is_not_rerouted", empty),
        Case::alone("path::the_workers_own_name_is_not_rerouted", own_name),
        Case::alone("path::another_workers_name_is_an_error", foreign_name),
        Case::alone(
            "path::outside_while_tests_run_is_an_error",
            outside_of_a_test,
        ),
        Case::directed(
            "path::outside_while_none_runs_is_a_warning",
            outside_of_all,
            vec![("open outside", open_outside)],
        ),
        Case::alone("path::outside_is_an_error_when_strict", strict),
        Case::alone(
            "path::outside_is_an_error_when_the_environment_is_strict",
            strict_by_environment,
        )
        .with(&[("DAGZ_STRICT", "true")]),
    ]
}

/// Makes the case's base database and returns its name.
fn made_base<C: Contract>(play: &Play<'_, C>) -> Result<String> {
    let base = play.base();
    play.wait(play.contract().create(&base))??;
    Ok(base)
}

/// Opens `base` and makes sure that it is exactly that.
async fn opens_unchanged<C: Contract>(play: &Play<'_, C>, base: &str) -> Result<()> {
    let database = play.database(base).await?;
    ensure!(
        database == base,
        "`{base}` must be opened unchanged, and `{database}` was"
    );
    Ok(())
}

/// Opens `base` and makes sure that it is the worker's own.
async fn opens_rerouted<C: Contract>(play: &Play<'_, C>, scope: &Scope, base: &str) -> Result<()> {
    let database = play.database(base).await?;
    let expected = play.worker_name(scope, base)?;
    ensure!(
        database == expected && database != base,
        "`{base}` must be opened as `{expected}`, and `{database}` was"
    );
    Ok(())
}

fn off<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = made_base(play)?;
    // Not even a configuration is asked for.
    play.test("off", async |_| opens_unchanged(play, &base).await)?;
    play.wait(opens_unchanged(play, &base))?
}

fn unconfigured<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let driver = play.contract().driver();
    let base = play.base();
    let expected = format!(
        "connection attempted without configuration: call dagz::{driver}::configure(..) first"
    );
    play.test("unconfigured", async |_| {
        let error = refused(play.open(&base).await, ErrorKind::Unconfigured, &[])?;
        ensure!(error.to_string() == expected, "the error says: {error}");
        Ok(())
    })?;
    refused(
        play.wait(play.open(&base))?,
        ErrorKind::Unconfigured,
        &[&expected],
    )
    .map(drop)
}

fn configured_twice<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let driver = play.contract().driver();
    let again = play.configure(&Choice::default());
    refused(again, ErrorKind::AlreadyConfigured, &[&driver, &"twice"])?;
    let base = play.base();
    play.test("still works", async |scope| {
        opens_rerouted(play, scope, &base).await
    })
}

fn bypassed<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = made_base(play)?;
    play.configure(&Choice::default())?;
    play.test("bypasses", async |scope| {
        opens_rerouted(play, scope, &base).await?;
        let bypass = dagz_core::bypass();
        let session = play.open(&base).await?;
        let database = play.contract().database(&session).await?;
        ensure!(database == base, "`{database}` was opened in a bypass");
        play.contract().put(&session, "mine", "kept").await?;
        drop(bypass);
        opens_rerouted(play, scope, &base).await
    })?;
    play.test("looks again", async |scope| {
        opens_rerouted(play, scope, &base).await?;
        let _bypass = dagz_core::bypass();
        let session = play.open(&base).await?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries == [("mine".to_owned(), "kept".to_owned())],
            "the base database was changed: {entries:?}"
        );
        Ok(())
    })
}

fn main_worker<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = made_base(play)?;
    play.configure(&Choice::default())?;
    let marked = Scope::builder("marked").main_worker(true);
    play.enter(marked, async |_| {
        let session = play.open(&base).await?;
        play.contract().put(&session, "mine", "kept").await?;
        opens_unchanged(play, &base).await?;
        let entries = play.entries(&session).await?;
        ensure!(
            entries.len() == 1,
            "the base database was prepared: {entries:?}"
        );
        Ok(())
    })?;
    play.test("not marked", async |scope| {
        opens_rerouted(play, scope, &base).await
    })
}

fn main_worker_rerouted<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        main_worker_bypass: false,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    let marked = Scope::builder("marked").main_worker(true);
    play.enter(marked, async |scope| {
        opens_rerouted(play, scope, &base).await
    })
}

fn single<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = made_base(play)?;
    let choice = Choice {
        single_worker_disable: true,
        ..Choice::default()
    };
    play.configure(&choice)?;
    play.test("single", async |_| opens_unchanged(play, &base).await)
}

fn one_of_two<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        single_worker_disable: true,
        ..Choice::default()
    };
    play.configure(&choice)?;
    let base = play.base();
    play.test("one of two", async |scope| {
        opens_rerouted(play, scope, &base).await
    })
}

fn filtered<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let base = play.base();
    let shared = play.base_named("shared");
    play.wait(play.contract().create(&shared))??;
    let choice = Choice {
        unfiltered: Some(shared.clone()),
        ..Choice::default()
    };
    play.configure(&choice)?;
    play.test("filtered", async |scope| {
        opens_unchanged(play, &shared).await?;
        opens_rerouted(play, scope, &base).await
    })
}

fn system<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let capabilities = play.contract().capabilities();
    let system = capabilities
        .system_database
        .context("the driver has no system database")?;
    play.configure(&Choice::default())?;
    play.test("system", async |_| opens_unchanged(play, system).await)
}

fn empty<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let driver = play.contract().driver();
    play.test("empty", async |_| {
        let access = Access::new(Endpoint::new("contract"), "");
        let route = dagz_core::resolve(driver, access).await?;
        ensure!(
            route.name().is_empty() && route.target().is_none(),
            "{route:?}"
        );
        Ok(())
    })
}

fn own_name<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("own name", async |scope| {
        let first = play.open(&base).await?;
        play.contract().put(&first, "key", "value").await?;
        let name = play.contract().database(&first).await?;
        ensure!(
            name == play.worker_name(scope, &base)?,
            "`{name}` was opened"
        );
        let again = play.open(&name).await?;
        ensure!(
            play.contract().database(&again).await? == name,
            "rerouted twice"
        );
        let entries = play.entries(&again).await?;
        ensure!(entries.len() == 1, "prepared twice: {entries:?}");
        Ok(())
    })
}

fn foreign_name<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    // Taken by the name that the driver gives it, which need not be a suffix.
    let foreign = play.test("one", async |scope| {
        let own = play.worker_name(scope, &base)?;
        // The next test must run on the other worker, so this one is held meanwhile.
        let other = thread::scope(|threads| {
            joined(
                threads.spawn(|| play.test("other", async |scope| play.worker_name(scope, &base))),
            )
        })?;
        ensure!(own != other, "two workers have the one name `{own}`");
        Ok(other)
    })?;
    play.test("takes the wrong one", async |scope| {
        let error = refused(
            play.open(&foreign).await,
            ErrorKind::ForeignWorker,
            &[&foreign, &scope.worker(), &"jw01", &"takes the wrong one"],
        )?;
        ensure!(
            scope.worker().to_string() == "jw00",
            "{}: {error}",
            scope.worker()
        );
        Ok(())
    })
}

fn outside_of_a_test<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    play.configure(&Choice::default())?;
    let base = play.base();
    play.test("has a thread", async |_| {
        let outcome =
            thread::scope(|threads| joined(threads.spawn(|| play.wait(play.open(&base)))))?;
        refused(
            outcome,
            ErrorKind::OutsideScope,
            &[&base, &"outside a test", &"scope.run", &"scope.carry"],
        )
        .map(drop)
    })
}

fn outside_of_all<C: Contract>(stage: &Stage<C>) -> Result<()> {
    let (_, complaints) = stage.actor("open outside").start()?.finish_heard()?;
    let driver = stage.contract().driver();
    for name in [
        stage.contract().base(stage.prefix()),
        stage.base_named("second"),
    ] {
        let warning = format!("accessing dagz_{driver} database outside a test worker: {name}\n");
        let count = complaints.matches(&warning).count();
        ensure!(count == 1, "warned {count} times of `{name}`: {complaints}");
    }
    Ok(())
}

fn open_outside<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let base = made_base(play)?;
    let second = play.base_named("second");
    play.wait(play.contract().create(&second))??;
    play.configure(&Choice::default())?;
    for name in [&base, &base, &second] {
        play.wait(opens_unchanged(play, name))??;
    }
    Ok(json!(null))
}

fn strict<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    let choice = Choice {
        strict: true,
        ..Choice::default()
    };
    refused_outside(play, &choice)
}

fn strict_by_environment<C: Contract>(play: &Play<'_, C>) -> Result<()> {
    refused_outside(play, &Choice::default())
}

fn refused_outside<C: Contract>(play: &Play<'_, C>, choice: &Choice) -> Result<()> {
    let base = made_base(play)?;
    play.configure(choice)?;
    let outcome = play.wait(play.open(&base))?;
    refused(outcome, ErrorKind::OutsideScope, &[&base, &"strict"])?;
    play.test("inside", async |scope| {
        opens_rerouted(play, scope, &base).await
    })
}
