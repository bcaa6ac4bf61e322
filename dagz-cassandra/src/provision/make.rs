//! Makes one worker's keyspace, from its first statement to the record of its start state.
//!
//! [`make`] does it by dagz's own means; [`create_stamp`] and [`record`] are also for keyspaces that the user made.

use std::sync::Arc;

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::{Failure, PrepareWith, Role},
    migrations::Migration,
};
use scylla::client::{execution_profile::ExecutionProfileHandle, session::Session};

use super::{Stamp, is_copied};
use crate::{
    Driver, Prepare, cql,
    error::{self, Native},
    reset::State,
    schema::{STAMP_TABLE, Schema},
    server::{ask_slowly, pinned},
};

/// Where a keyspace's replication is said nowhere.
const REPLICATION: &str = "{'class': 'SimpleStrategy', 'replication_factor': 1}";

/// How often a keyspace is created that is gone before it has its stamp.
const CREATIONS: usize = 3;

pub(super) async fn make(
    driver: &Driver,
    target: &Target,
    kept: &Arc<Session>,
    model: Option<&Schema>,
    print: &str,
) -> Result<(), Failure> {
    let config = driver.config();
    let name = target.name();
    let source = driver.server(target.endpoint())?.source.clone();
    let failed = |what: &'static str| {
        let source = source.clone();
        move |error| error::failure(ErrorKind::WorkerInit, what, &source, name, error)
    };
    let files = config.migrations.read()?;
    let session = source.open_for_schema().await?;
    let profile = pinned(&session);
    let options = match (&config.replication, model.and_then(Schema::options)) {
        (Some(replication), _) => format!("replication = {replication}"),
        (None, Some(options)) => options.to_owned(),
        (None, None) => format!("replication = {REPLICATION}"),
    };
    let create = format!(
        "CREATE KEYSPACE IF NOT EXISTS {} WITH {options}",
        cql::identifier(name)
    );
    let stamp = Stamp::new(target, Role::Worker, print, ()).complete();
    for left in (0..CREATIONS).rev() {
        ask_slowly(&session, &*create, &profile)
            .await
            .map_err(failed("creating keyspace"))?;
        match create_stamp(&session, name, &stamp, &profile).await {
            // A run that was killed had asked to drop it, and the server got to that only now.
            Err(error) if error.is_missing() && left > 0 => {}
            stamped => {
                stamped.map_err(failed("stamping keyspace"))?;
                break;
            }
        }
    }

    if let Some(model) = model.filter(|_| is_copied(config)) {
        for statement in model.statements_for(name) {
            let outcome = ask_slowly(&session, &*statement, &profile).await;
            outcome.map_err(failed("copying the schema to keyspace"))?;
        }
    }
    if !files.is_empty() {
        agree(&session).await.map_err(failed("making keyspace"))?;
        session
            .use_keyspace(name, true)
            .await
            .map_err(Native::from)
            .map_err(failed("using keyspace"))?;
        for file in &files {
            run(&session, file, name, &profile).await?;
        }
    }
    // Once, for all that was changed.
    agree(&session).await.map_err(failed("making keyspace"))?;
    if let Some(migrate) = &config.migrations.function {
        kept.use_keyspace(name, true)
            .await
            .map_err(Native::from)
            .map_err(failed("using keyspace"))?;
        migrate.call(name, Arc::clone(kept)).await?;
    }
    record(driver, target, kept).await
}

pub(super) async fn agree(session: &Session) -> Result<(), Native> {
    session.await_schema_agreement().await?;
    Ok(())
}

pub(super) async fn create_stamp(
    session: &Session,
    keyspace: &str,
    stamp: &Stamp,
    profile: &ExecutionProfileHandle,
) -> Result<(), Native> {
    let table = cql::qualified(keyspace, STAMP_TABLE);
    let statement = format!(
        "CREATE TABLE {table} (part text PRIMARY KEY, body text) WITH comment = {}",
        cql::literal(&stamp.to_json())
    );
    match ask_slowly(session, statement, profile).await {
        Err(error) if error.is_already_there() => {
            let statement = format!(
                "ALTER TABLE {table} WITH comment = {}",
                cql::literal(&stamp.to_json())
            );
            ask_slowly(session, statement, profile).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}

/// Runs one file of CQL in the keyspace that the session uses.
async fn run(
    session: &Session,
    file: &Migration,
    keyspace: &str,
    profile: &ExecutionProfileHandle,
) -> Result<()> {
    for (number, statement) in cql::statements(file.text()).into_iter().enumerate() {
        let place = format!("statement {} of `{}`", number + 1, file.path().display());
        if cql::concerns_keyspaces(&statement) {
            return Err(Error::new(
                ErrorKind::Settings,
                format!(
                    "{place} would leave the worker's keyspace `{keyspace}`: take `USE` and statements that make, change or drop keyspaces out of the migrations, and say `Config::replication` where that matters"
                ),
            ));
        }
        ask_slowly(session, statement, profile)
            .await
            .map_err(|error| {
                Error::new(
                    ErrorKind::WorkerInit,
                    format!("{place} failed in keyspace `{keyspace}`"),
                )
                .with_source(error)
            })?;
    }
    Ok(())
}

/// Notes what is in the keyspace of `target` as its start state.
pub(super) async fn record(
    driver: &Driver,
    target: &Target,
    session: &Session,
) -> Result<(), Failure> {
    let source = driver.server(target.endpoint())?.source.clone();
    let failed = |error| {
        error::failure(
            ErrorKind::WorkerInit,
            "recording the start state of keyspace",
            &source,
            target.name(),
            error,
        )
    };
    let schema = Schema::read(session, target.name())
        .await
        .map_err(failed)?
        .ok_or_else(|| {
            Error::new(
                ErrorKind::WorkerInit,
                format!("keyspace `{}` was dropped while it was made", target.name()),
            )
        })?;
    let config = driver.config();
    let schema = schema.without(config.blind);
    let state = State::capture(session, &schema, target.project(), config)
        .await
        .map_err(failed)?;
    if matches!(config.prepare, PrepareWith::Own(Prepare::Baseline)) {
        state.can_be_restored(target.name())?;
    }
    state.write(session, target.name()).await.map_err(failed)
}

pub(super) async fn drop_keyspace(session: &Session, name: &str) -> Result<(), Native> {
    let statement = format!("DROP KEYSPACE IF EXISTS {}", cql::identifier(name));
    ask_slowly(session, statement, &pinned(session)).await?;
    session.await_schema_agreement().await?;
    Ok(())
}
