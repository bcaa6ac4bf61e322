//! Brings a worker's keyspace to its start state, at the cost of what a test dirtied.
//!
//! [`Keeper`] (`reset/keeper.rs`) knows what there is to reset, and finds what differs, by one request per
//! table, all at once; `reset/repair.rs` undoes that; `reset/clear.rs` empties a table; `reset/state.rs` is the
//! start state, recorded when the keyspace is made: its rows are read by `reset/rows.rs` and written by
//! `reset/sow.rs`. `reset/notes.rs` is what one reset tells the next, and `reset/lease.rs` keeps other runs off. Where a repair cannot be exact, as after a change of the
//! schema, the keyspace is made anew by `provision`.

mod clear;
mod keeper;
mod lease;
mod notes;
mod repair;
mod rows;
mod sow;
mod state;

use std::{sync::Arc, time::Instant};

use dagz_core::{Error, ErrorKind, Result, Settings, Target, driver::Failure, event::Event};
use scylla::client::session::Session;

use self::{clear::Clock, keeper::Outcome};
pub(crate) use self::{
    keeper::Keeper,
    lease::{BOOKS, Leases, claim},
    state::State,
};
use crate::{
    Driver, Prepare,
    driver::configured,
    error,
    provision::{self, Owner, owner, refusal},
    schema::Schema,
    server::{all, is_single, moment},
};

/// How many tables are cleared at a time. Truncating one makes the server flush it, and a small server is
/// soon behind.
const AT_ONCE: usize = 8;

/// Empties every table of `target`'s keyspace, except the kept ones; for use in
/// [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the keyspace is not dagz's own, another run uses it, or it cannot be reset.
pub async fn truncate(target: &Target) -> Result<()> {
    let (driver, target) = (configured()?.clone(), target.clone());
    dagz_core::runtime::run(async move { driver.truncate(&target).await }).await?
}

/// Brings `target`'s keyspace back to the rows that its creation left; for use in
/// [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the keyspace is not dagz's own, another run uses it, or it cannot be reset.
pub async fn baseline(target: &Target) -> Result<()> {
    let (driver, target) = (configured()?.clone(), target.clone());
    dagz_core::runtime::run(async move { driver.baseline(&target).await }).await?
}

/// Empties every table of `keyspace` by any session on its cluster, whatever its settings, if the keyspace is
/// dagz's own and of this project. `keyspace` is spelled as the server spells it. Nothing is restored.
///
/// # Errors
/// [`ErrorKind::Refused`] where the keyspace does not carry this project's stamp, and what kept a table from
/// being emptied.
pub async fn truncate_session(session: &Session, keyspace: &str) -> Result<()> {
    let failed = |error| {
        let message = format!("emptying keyspace `{keyspace}` failed");
        error::statement(ErrorKind::Prepare, message, keyspace, None, error)
    };
    let schema = Schema::read(session, keyspace).await.map_err(failed)?;
    let schema = schema.ok_or_else(|| {
        Error::new(
            ErrorKind::Prepare,
            format!("cannot empty keyspace `{keyspace}`: it does not exist"),
        )
    })?;
    match owner(Settings::current()?.project(), &schema) {
        Some(owner) if owner.is_ours() => {}
        owner => {
            return Err(refusal(
                &owner.unwrap_or(Owner::Unstamped),
                "empty",
                keyspace,
            ));
        }
    }
    let clock = Clock::new(moment(session).await.map_err(failed)?, is_single(session));
    let tables = schema.tables.iter();
    let cleared = tables.map(|table| async move {
        let keys = clear::keys(session, keyspace, table).await?;
        // A counter that was deleted is not there, and does not count from nothing.
        if table.is_counter {
            clear::truncate(session, keyspace, table).await?;
        } else if !keys.is_empty() {
            clear::clear(session, keyspace, table, keys, None, clock, None).await?;
        }
        Ok(())
    });
    all(AT_ONCE, cleared.collect()).await.map_err(failed)?;
    clock.settle().await;
    Ok(())
}

impl Driver {
    /// [`truncate`](crate::truncate) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn truncate(&self, target: &Target) -> Result<()> {
        prepare(self, target, Prepare::Truncate).await
    }

    /// [`baseline`](crate::baseline) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn baseline(&self, target: &Target) -> Result<()> {
        prepare(self, target, Prepare::Baseline).await
    }
}

/// Resets the keyspace of `target` as `mode` says. Also with [`Prepare::None`] the stamp is checked and the
/// lease taken: two runs must not share a keyspace.
pub(crate) async fn prepare(driver: &Driver, target: &Target, mode: Prepare) -> Result<()> {
    let database = driver.database(target);
    let mut keeper = database.keeper.lock().await;
    let kept = driver.kept_for(target)?;
    let (mut is_second, mut is_rebuilt) = (false, false);
    loop {
        let session = kept.get().await?;
        let outcome = match keeper.reset(driver, target, mode, &session).await {
            Ok(Outcome::Clean) => return Ok(()),
            Ok(Outcome::Rebuild(reason)) => {
                keeper.clear();
                let made = rebuild(driver, target, &session, &reason, is_rebuilt).await;
                is_rebuilt = true;
                made
            }
            Err(stop) => Err(stop),
        };
        match outcome {
            Ok(()) => {}
            Err(Failure::Lost(_)) if !is_second => {
                is_second = true;
                kept.forget(&session).await;
            }
            Err(stop) => return Err(stop.into_error()),
        }
    }
}

/// Makes the keyspace anew. A second time in one prepare would be for ever.
async fn rebuild(
    driver: &Driver,
    target: &Target,
    session: &Arc<Session>,
    reason: &str,
    again: bool,
) -> Result<(), Failure> {
    if again {
        return Err(Failure::Final(Error::new(
            ErrorKind::Prepare,
            format!(
                "keyspace `{}` was made anew and still is not in its start state: {reason}",
                target.name()
            ),
        )));
    }
    let started = Instant::now();
    provision::rebuild(driver, target, session).await?;
    Event::new("drift")
        .target(target)
        .duration(started.elapsed())
        .detail(format!("made anew: {reason}"))
        .record();
    Ok(())
}
