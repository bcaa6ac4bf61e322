//! Makes workers' keyspaces: as a copy of another's schema, by migrations, or by the user's own function.
//!
//! `provision/stamp.rs` decides whose a keyspace is, and `provision/cleanup.rs` lists and removes what dagz
//! made. [`init`] is where the driver enters. Who makes a keyspace holds its lease (`reset/lease.rs`), so that
//! it is made once, however many ask.

mod cleanup;
mod stamp;

use std::{path::Path, sync::Arc, time::Instant};

use dagz_core::{Error, ErrorKind, Result, Target, event::Event, migrations::Migration};
use scylla::client::{execution_profile::ExecutionProfileHandle, session::Session};

pub use self::cleanup::{Stamped, databases, remove};
pub(crate) use self::stamp::{Owner, Stamp, owner};
use crate::{
    Config, Driver,
    config::PrepareWith,
    cql,
    driver::configured,
    error::{self, Native},
    reset::State,
    schema::{STAMP_TABLE, Schema},
    server::{Source, ask_slowly, pinned},
};

/// Where a keyspace's replication is said nowhere.
const REPLICATION: &str = "{'class': 'SimpleStrategy', 'replication_factor': 1}";

/// What keyspaces depend on that `config` has made, but for what they are copied from.
pub(crate) fn fingerprint(config: &Config) -> String {
    // Files that cannot be read are an error where they are run.
    let files = migrations(config).unwrap_or_default();
    let tag = config.migrate_with.as_ref().map(|(tag, _)| &**tag);
    let format = format!(
        "cassandra {} {:?} {:?}",
        stamp::FORMAT,
        config.template,
        config.replication
    );
    dagz_core::migrations::fingerprint(&format, &files, tag)
}

fn migrations(config: &Config) -> Result<Vec<Migration>> {
    match &config.migrations {
        Some(directory) => dagz_core::migrations::read_ending(Path::new(directory), "cql"),
        None => Ok(Vec::new()),
    }
}

/// Makes the keyspace of `target` exist, made by dagz for this project and up to date.
pub(crate) async fn init(driver: &Driver, target: &Target) -> Result<()> {
    let database = driver.database(target);
    // What is known from an earlier job may be of another keyspace of that name.
    database.keeper.lock().await.clear();
    let mut is_second = false;
    loop {
        let kept = driver.kept_for(target)?;
        let session = kept.get().await?;
        match provide(driver, target, &session, false).await {
            Err(Stop::Lost(_)) if !is_second => kept.forget(&session).await,
            outcome => return outcome.map_err(Stop::into_error),
        }
        is_second = true;
    }
}

/// Makes the keyspace of `target` anew, by the same means as at first.
pub(crate) async fn rebuild(
    driver: &Driver,
    target: &Target,
    session: &Arc<Session>,
) -> Result<(), Stop> {
    provide(driver, target, session, true).await
}

/// Why something stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The session reaches nobody any more; another one may do.
    Lost(Error),
    Final(Error),
}

impl Stop {
    /// Tells a session that is lost from a statement that failed; `what` says what it was for.
    pub(crate) fn of(
        kind: ErrorKind,
        what: &str,
        source: &Source,
        keyspace: &str,
        error: Native,
    ) -> Self {
        let is_lost = error.is_lost();
        let message = format!("{what} `{keyspace}` failed at `{}`", source.shown());
        let error = error::statement(kind, message, keyspace, source.user(), error);
        if is_lost {
            Self::Lost(error)
        } else {
            Self::Final(error)
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Final(error) => error,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

async fn provide(
    driver: &Driver,
    target: &Target,
    session: &Arc<Session>,
    anew: bool,
) -> Result<(), Stop> {
    let config = driver.config();
    let source = driver.server(target.endpoint())?.source.clone();
    let failed = |what: &'static str| {
        let source = source.clone();
        let name = target.name().to_owned();
        move |error| Stop::of(ErrorKind::WorkerInit, what, &source, &name, error)
    };
    driver
        .leases()
        .take(session, target)
        .await
        .map_err(|error| error.into_stop(&source, target))?;
    let found = Schema::read(session, target.name())
        .await
        .map_err(failed("reading keyspace"))?;
    let owner = found.as_ref().map(|schema| owner(target.project(), schema));
    match &owner {
        Some(owner @ (Owner::Foreign(_) | Owner::Later(_))) => {
            return Err(owner.refusal("use", target.name()).into());
        }
        Some(owner @ (Owner::Unstamped | Owner::Moved(_))) if config.worker_init.is_none() => {
            return Err(owner.refusal("reset", target.name()).into());
        }
        _ => {}
    }

    if config.worker_init.is_some() {
        if owner.as_ref().is_some_and(Owner::is_ours) {
            drop_keyspace(session, target.name())
                .await
                .map_err(failed("dropping keyspace"))?;
        }
        return init_by_user(driver, target, session)
            .await
            .map_err(Stop::Final);
    }

    let model = model(config, session, target, &source).await?;
    let print = match &model {
        Some(model) if config.migrations.is_none() => {
            format!("{}-{}", fingerprint(config), model.fingerprint())
        }
        _ => fingerprint(config),
    };
    if let Some(Owner::Ours(stamp)) = &owner {
        let is_complete = !anew
            && stamp.fingerprint == print
            && State::read(session, target.name())
                .await
                .map_err(failed("reading keyspace"))?
                .is_some_and(|state| {
                    found
                        .as_ref()
                        .is_some_and(|found| found.fingerprint() == state.fingerprint)
                });
        if is_complete {
            return Ok(());
        }
        drop_keyspace(session, target.name())
            .await
            .map_err(failed("dropping keyspace"))?;
    }
    let started = Instant::now();
    make(driver, target, session, model.as_ref(), &print).await?;
    let detail = match &model {
        Some(model) if config.migrations.is_none() => format!("from `{}`", model.keyspace),
        _ => "by migrations".to_owned(),
    };
    Event::new("clone")
        .target(target)
        .duration(started.elapsed())
        .detail(detail)
        .record();
    Ok(())
}

/// The keyspace that workers' are copied from, or have at least their replication from.
async fn model(
    config: &Config,
    session: &Session,
    target: &Target,
    source: &Source,
) -> Result<Option<Schema>, Stop> {
    let name = config.template.as_deref().unwrap_or(target.base());
    let found = Schema::read(session, name).await.map_err(|error| {
        Stop::of(
            ErrorKind::WorkerInit,
            "reading keyspace",
            source,
            name,
            error,
        )
    })?;
    let is_copied =
        config.migrations.is_none() && (config.migrate_with.is_none() || config.template.is_some());
    if found.is_none() && is_copied {
        return Err(Error::new(
            ErrorKind::Settings,
            format!(
                "keyspace `{name}` does not exist at `{}`, so there is nothing to copy: tell dagz how to make it by `.migrations(..)`, `.migrate_with(..)`, `.template(..)` or `.worker_init(..)`",
                source.shown()
            ),
        )
        .into());
    }
    Ok(found)
}

async fn make(
    driver: &Driver,
    target: &Target,
    kept: &Arc<Session>,
    model: Option<&Schema>,
    print: &str,
) -> Result<(), Stop> {
    let config = driver.config();
    let name = target.name();
    let source = driver.server(target.endpoint())?.source.clone();
    let failed = |what: &'static str| {
        let source = source.clone();
        move |error| Stop::of(ErrorKind::WorkerInit, what, &source, name, error)
    };
    let files = migrations(config)?;
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
    ask_slowly(&session, create, &profile)
        .await
        .map_err(failed("creating keyspace"))?;
    let stamp = Stamp::new(target, print);
    create_stamp(&session, name, &stamp, &profile)
        .await
        .map_err(failed("stamping keyspace"))?;

    let is_copied =
        config.migrations.is_none() && (config.migrate_with.is_none() || config.template.is_some());
    if let Some(model) = model.filter(|_| is_copied) {
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
    if let Some((_, migrate)) = &config.migrate_with {
        kept.use_keyspace(name, true)
            .await
            .map_err(Native::from)
            .map_err(failed("using keyspace"))?;
        migrate(Arc::clone(kept)).await.map_err(|error| {
            Error::new(
                ErrorKind::WorkerInit,
                format!("the `migrate_with` function failed for `{name}`"),
            )
            .with_source(error)
        })?;
    }
    record(driver, target, kept).await
}

async fn agree(session: &Session) -> Result<(), Native> {
    session.await_schema_agreement().await?;
    Ok(())
}

async fn create_stamp(
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
async fn record(driver: &Driver, target: &Target, session: &Session) -> Result<(), Stop> {
    let source = driver.server(target.endpoint())?.source.clone();
    let failed = |error| {
        Stop::of(
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
    let state = State::capture(session, &schema, target.project(), &config.keep_tables)
        .await
        .map_err(failed)?;
    if matches!(config.prepare, PrepareWith::Own(crate::Prepare::Baseline)) {
        state.can_be_restored(target.name())?;
    }
    state.write(session, target.name()).await.map_err(failed)
}

async fn drop_keyspace(session: &Session, name: &str) -> Result<(), Native> {
    let statement = format!("DROP KEYSPACE IF EXISTS {}", cql::identifier(name));
    ask_slowly(session, statement, &pinned(session)).await?;
    session.await_schema_agreement().await?;
    Ok(())
}

/// Runs the user's function, and makes sure that it did what is expected of it.
async fn init_by_user(driver: &Driver, target: &Target, session: &Arc<Session>) -> Result<()> {
    let Some(init) = &driver.config().worker_init else {
        return Ok(());
    };
    init(target.clone(), Arc::clone(session))
        .await
        .map_err(|error| {
            Error::new(
                ErrorKind::WorkerInit,
                format!("the `worker_init` function failed for `{}`", target.name()),
            )
            .with_source(error)
        })?;
    let found = Schema::read(session, target.name())
        .await
        .map_err(|error| {
            let source = &driver.config().base;
            Stop::of(
                ErrorKind::WorkerInit,
                "reading keyspace",
                source,
                target.name(),
                error,
            )
            .into_error()
        })?;
    match found.map(|schema| owner(target.project(), &schema)) {
        None => Err(Error::new(
            ErrorKind::WorkerInit,
            format!(
                "the `worker_init` function did not create keyspace `{}`",
                target.name()
            ),
        )),
        Some(Owner::Ours(_)) => Ok(()),
        Some(owner) => Err(owner.refusal("reset", target.name())),
    }
}

/// Declares that the keyspace of `target`, created by the user's own code, is dagz's to reset and
/// to drop, and takes its present content as its start state.
///
/// Called in [`Config::worker_init`](crate::Config::worker_init), after the keyspace is complete. Makes
/// the table `dagz_stamp` in it, which holds the rows that are to be restored.
///
/// # Errors
/// [`ErrorKind::Refused`] where it carries another project's stamp, [`ErrorKind::WorkerInit`]
/// where it does not exist, and whatever keeps its state from being recorded.
pub async fn adopt(target: &Target) -> Result<()> {
    let (driver, target) = (configured()?.clone(), target.clone());
    dagz_core::runtime::run(async move { driver.adopt(&target).await }).await?
}

impl Driver {
    /// [`adopt`](crate::adopt) for this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn adopt(&self, target: &Target) -> Result<()> {
        let source = self.server(target.endpoint())?.source.clone();
        let session = self.kept_for(target)?.get().await?;
        let failed = |error| {
            Stop::of(
                ErrorKind::WorkerInit,
                "adopting keyspace",
                &source,
                target.name(),
                error,
            )
            .into_error()
        };
        let schema = Schema::read(&session, target.name())
            .await
            .map_err(failed)?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::WorkerInit,
                    format!(
                        "cannot adopt keyspace `{}`: it does not exist at `{}`",
                        target.name(),
                        source.shown()
                    ),
                )
            })?;
        let owner = owner(target.project(), &schema);
        if matches!(owner, Owner::Foreign(_) | Owner::Later(_)) {
            return Err(owner.refusal("adopt", target.name()));
        }
        let stamp = Stamp::new(target, "adopted");
        create_stamp(&session, target.name(), &stamp, &pinned(&session))
            .await
            .map_err(failed)?;
        agree(&session).await.map_err(failed)?;
        record(self, target, &session)
            .await
            .map_err(Stop::into_error)
    }
}

/// Undoes what a test added to the schema, if that is all that it did; says whether it was.
pub(crate) async fn drop_extras(
    session: &Session,
    schema: &Schema,
    state: &State,
) -> Result<bool, Native> {
    let Some(statements) = schema.extras(&state.objects) else {
        return Ok(false);
    };
    let profile = pinned(session);
    for statement in statements {
        ask_slowly(session, statement, &profile).await?;
    }
    session.await_schema_agreement().await?;
    let after = Schema::read(session, &schema.keyspace).await?;
    Ok(after.is_some_and(|after| after.fingerprint() == state.fingerprint))
}
