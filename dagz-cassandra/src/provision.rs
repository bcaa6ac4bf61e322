//! Makes workers' keyspaces: as a copy of another's schema, by migrations, or by the user's own function.
//!
//! `provision/stamp.rs` decides whose a keyspace is, `provision/make.rs` makes one, and `provision/cleanup.rs` lists and removes what dagz
//! made. [`init`] is where the driver enters. Who makes a keyspace holds its lease (`reset/lease.rs`), so that
//! it is made once, however many ask.

mod cleanup;
mod doctor;
mod make;
mod stamp;

use std::{sync::Arc, time::Instant};

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::{Failure, Role},
    event::Event,
};
use scylla::client::session::Session;

pub(crate) use self::stamp::{Owner, owner, refusal};
pub use self::{
    cleanup::{Stamped, databases, remove},
    doctor::doctor,
};
use self::{
    make::{agree, create_stamp, drop_keyspace, make, record},
    stamp::Stamp,
};
use crate::{
    Config, Driver,
    driver::configured,
    error::{self, Native},
    reset::State,
    schema::Schema,
    server::{ask_slowly, pinned},
    source::Source,
};

/// Changes whenever what an earlier version made must not be used any more.
const FORMAT: u32 = 1;

/// What keyspaces depend on that `config` has made, but for what they are copied from.
pub(crate) fn fingerprint(config: &Config) -> String {
    let format = format!(
        "cassandra {FORMAT} {:?} {:?}",
        config.template, config.replication
    );
    // Files that cannot be read are an error where they are run.
    config.migrations.fingerprint(&format).unwrap_or_default()
}

/// Whether the schema of another keyspace is copied.
fn is_copied(config: &Config) -> bool {
    config.migrations.directory.is_none()
        && (config.migrations.function.is_none() || config.template.is_some())
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
        match provide(driver, target, &session, target.is_fresh()).await {
            Err(Failure::Lost(_)) if !is_second => kept.forget(&session).await,
            outcome => return outcome.map_err(Failure::into_error),
        }
        is_second = true;
    }
}

/// Makes the keyspace of `target` anew, by the same means as at first.
pub(crate) async fn rebuild(
    driver: &Driver,
    target: &Target,
    session: &Arc<Session>,
) -> Result<(), Failure> {
    provide(driver, target, session, true).await
}

async fn provide(
    driver: &Driver,
    target: &Target,
    session: &Arc<Session>,
    anew: bool,
) -> Result<(), Failure> {
    let config = driver.config();
    let source = driver.server(target.endpoint())?.source.clone();
    let failed = |what: &'static str| {
        let source = source.clone();
        let name = target.name().to_owned();
        move |error| error::failure(ErrorKind::WorkerInit, what, &source, &name, error)
    };
    if config.blind != Some("lease") {
        driver
            .leases()
            .take(session, target)
            .await
            .map_err(|error| error.into_failure(&source, target.name()))?;
    }
    let found = Schema::read(session, target.name())
        .await
        .map_err(failed("reading keyspace"))?
        .map(|schema| schema.without(config.blind));
    let owner = found
        .as_ref()
        .and_then(|schema| owner(target.project(), schema))
        .filter(|_| config.blind != Some("stamp"));
    match &owner {
        Some(owner @ (Owner::Foreign(_) | Owner::Later(_))) => {
            return Err(refusal(owner, "use", target.name()).into());
        }
        Some(owner @ (Owner::Unstamped | Owner::Moved(_))) if config.worker_init.is_none() => {
            return Err(refusal(owner, "reset", target.name()).into());
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
            .map_err(Failure::Final);
    }

    let model = model(config, session, target, &source).await?;
    let print = match &model {
        Some(model) if is_copied(config) => {
            format!("{}-{}", fingerprint(config), model.fingerprint())
        }
        _ => fingerprint(config),
    };
    if let Some(Owner::Ours(stamp)) = &owner {
        let is_complete = !anew
            && (stamp.fingerprint == print || config.blind == Some("origin"))
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
        Some(model) if is_copied(config) => format!("from `{}`", model.keyspace),
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
) -> Result<Option<Schema>, Failure> {
    let name = config.template.as_deref().unwrap_or(target.base());
    let found = Schema::read(session, name).await.map_err(|error| {
        error::failure(
            ErrorKind::WorkerInit,
            "reading keyspace",
            source,
            name,
            error,
        )
    })?;
    if found.is_none() && is_copied(config) {
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

/// Runs the user's function, and makes sure that it did what is expected of it.
async fn init_by_user(driver: &Driver, target: &Target, session: &Arc<Session>) -> Result<()> {
    let Some(init) = &driver.config().worker_init else {
        return Ok(());
    };
    init.call(target, Arc::clone(session)).await?;
    let found = Schema::read(session, target.name())
        .await
        .map_err(|error| {
            let source = &driver.config().base;
            error::failure(
                ErrorKind::WorkerInit,
                "reading keyspace",
                source,
                target.name(),
                error,
            )
            .into_error()
        })?;
    let Some(found) = found else {
        return Err(Error::new(
            ErrorKind::WorkerInit,
            format!(
                "the `worker_init` function did not create keyspace `{}`",
                target.name()
            ),
        ));
    };
    match owner(target.project(), &found) {
        Some(Owner::Ours(_)) => Ok(()),
        owner => {
            let owner = owner.unwrap_or(Owner::Unstamped);
            Err(refusal(&owner, "reset", target.name()))
        }
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
            error::failure(
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
        if let Some(owner @ (Owner::Foreign(_) | Owner::Later(_))) =
            owner(target.project(), &schema)
        {
            return Err(refusal(&owner, "adopt", target.name()));
        }
        let stamp = Stamp::new(target, Role::Worker, "adopted", ()).complete();
        create_stamp(&session, target.name(), &stamp, &pinned(&session))
            .await
            .map_err(failed)?;
        agree(&session).await.map_err(failed)?;
        record(self, target, &session)
            .await
            .map_err(Failure::into_error)
    }
}

/// Undoes what a test added to the schema, if that is all that it did; says whether it was.
pub(crate) async fn drop_extras(
    session: &Session,
    schema: &Schema,
    state: &State,
    blind: Option<&'static str>,
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
    Ok(after.is_some_and(|after| after.without(blind).fingerprint() == state.fingerprint))
}
