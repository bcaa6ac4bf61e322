//! Brings a worker's database to its start state, at the cost of what a test dirtied.
//!
//! [`Keeper`] (`reset/keeper.rs`) is the connection that is kept for it, one per database and
//! process. Its probe (`reset/probe.rs`) finds what differs in one round trip, which also takes the
//! lock (`reset/lock.rs`); `reset/repair.rs` undoes it in a second one; `reset/sessions.rs` ends what
//! earlier tests left running, and `reset/prepared.rs` finds what goes on without a session. Where it can,
//! `reset/hold.rs` looks when a test ends, under the locks of `reset/locked.rs`, so that the next one waits for the repair
//! only; `reset/baseline.rs` records the start state when the database is made, whose tables are compared as
//! `reset/tables.rs` has them; `reset/owner.rs` looks whose it is.
//! Where a repair cannot be exact, as after a change of the schema, the database is made anew by
//! `provision`.

pub(crate) mod baseline;
mod changes;
mod fence;
mod hold;
mod keeper;
pub(crate) mod lock;
mod locked;
mod owner;
pub(crate) mod prepared;
mod probe;
mod repair;
pub(crate) mod sessions;
mod tables;
mod waiting;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::{Failure, Lull, PrepareWith},
    event::Event,
    runtime,
};
use mysql_async::Conn;
use tokio::sync::OwnedMutexGuard;

use self::keeper::{Opened, Outcome};
pub(crate) use self::{hold::SPARE_TABLES, keeper::Keeper};
use crate::{
    Driver, Prepare,
    driver::{Database, configured},
    error, provision,
};

/// Empties every table of `target`'s database, except the kept ones, and sets every counter to its
/// start; for use in [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn truncate(target: &Target) -> Result<()> {
    configured()?.truncate(target).await
}

/// Brings `target`'s database back to what its creation left, rows and counters included; for use
/// in [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn baseline(target: &Target) -> Result<()> {
    configured()?.baseline(target).await
}

impl Driver {
    /// [`truncate`](crate::truncate) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn truncate(&self, target: &Target) -> Result<()> {
        prepare(self, target, Prepare::Truncate).await?.settle();
        Ok(())
    }

    /// [`baseline`](crate::baseline) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn baseline(&self, target: &Target) -> Result<()> {
        prepare(self, target, Prepare::Baseline).await?.settle();
        Ok(())
    }
}

/// A database that a test may use, while there is something left to do that the test need not wait for.
#[must_use]
pub(crate) struct Prepared {
    keeper: OwnedMutexGuard<Option<Keeper>>,
}

impl Prepared {
    /// One that was prepared before.
    pub(crate) async fn again(database: &Database) -> Self {
        Self {
            keeper: Arc::clone(&database.keeper).lock_owned().await,
        }
    }

    /// Gives back, in the background, the locks that kept all as it was found; who writes before that waits for it.
    pub(crate) fn settle(mut self) {
        if self.keeper.as_ref().is_some_and(Keeper::is_to_let_go) {
            runtime::spawn(async move {
                if let Some(keeper) = self.keeper.as_mut() {
                    keeper.let_go().await;
                }
            });
        }
    }

    /// The same; and notes on the server that the test of `target` uses the database from now on, which is only for the
    /// next one.
    pub(crate) fn note(mut self, target: &Target) {
        let target = target.clone();
        runtime::spawn(async move {
            if let Some(keeper) = self.keeper.as_mut() {
                keeper.let_go().await;
                keeper.note(&target).await;
            }
        });
    }
}

/// Resets the database of `target` as `mode` says, and takes its lock until [`release`]. Also with
/// [`Prepare::None`] the stamp is checked and the lock taken: two runs must not share a database.
pub(crate) async fn prepare(driver: &Driver, target: &Target, mode: Prepare) -> Result<Prepared> {
    let database = driver.database(target)?;
    database.lull.end();
    let mut slot = Arc::clone(&database.keeper).lock_owned().await;
    let (mut lost, mut rebuilt) = (false, false);
    loop {
        let mut keeper = match slot.take() {
            Some(keeper) if !keeper.conn.is_disconnected() => keeper,
            _ => match Keeper::open(driver, &database, target).await? {
                Opened::Keeper(keeper) => *keeper,
                Opened::Missing => {
                    // Dropped by somebody, or by a rebuild that was killed half-way.
                    rebuild(driver, &database, target, None, "it is gone", rebuilt).await?;
                    rebuilt = true;
                    continue;
                }
                Opened::Ruin(conn) => {
                    let reason = "its start state is not recorded completely";
                    let fence = Some(*conn);
                    rebuild(driver, &database, target, fence, reason, rebuilt).await?;
                    rebuilt = true;
                    continue;
                }
            },
        };
        match keeper.reset(driver, &database, target, mode).await {
            Ok(Outcome::Clean) => {
                *slot = Some(keeper);
                return Ok(Prepared { keeper: slot });
            }
            Ok(Outcome::Rebuild(reason)) => {
                let fence = Some(keeper.conn);
                rebuild(driver, &database, target, fence, &reason, rebuilt).await?;
                rebuilt = true;
            }
            Err(Failure::Lost(error)) if lost => return Err(error),
            Err(Failure::Lost(_)) => lost = true,
            Err(Failure::Final(error)) => {
                // It may hold the lock, which `release` gives back.
                *slot = Some(keeper);
                return Err(error);
            }
        }
    }
}

/// Makes the database anew, while `fence` holds its lock. A second time in one prepare would be for
/// ever.
async fn rebuild(
    driver: &Driver,
    database: &Database,
    target: &Target,
    fence: Option<Conn>,
    reason: &str,
    again: bool,
) -> Result<()> {
    if again {
        return Err(Error::new(
            ErrorKind::Prepare,
            format!(
                "database `{}` was made anew and still is not in its start state: {reason}",
                target.name()
            ),
        ));
    }
    let started = Instant::now();
    provision::rebuild(driver, database, target, fence.is_some()).await?;
    if let Some(fence) = fence {
        // Waited for, so that its lock is free for the one that comes next.
        drop(fence.disconnect().await);
    }
    Event::new("drift")
        .target(target)
        .duration(started.elapsed())
        .detail(format!("made anew: {reason}"))
        .record();
    Ok(())
}

/// Gives the database back: kept clients are clean, and other runs may use it. The test that ends does not wait while
/// it is looked at what it left; whoever wants the database next waits a little.
pub(crate) async fn release(driver: &Driver, database: Arc<Database>, target: &Target) {
    database.shelf.settle().await;
    let held = driver.config().hold;
    let mode = match driver.config().prepare {
        PrepareWith::Own(mode) if held > Duration::ZERO => mode,
        _ => Prepare::None,
    };
    let mut slot = Arc::clone(&database.keeper).lock_owned().await;
    let lull = database.lull.begin();
    let target = target.clone();
    runtime::spawn(async move {
        let Some(keeper) = slot.as_mut() else { return };
        let can_hold = keeper.end(mode);
        let Some(number) = lull.filter(|_| can_hold) else {
            return keeper.unlock(target.name()).await;
        };
        drop(slot);
        tokio::time::sleep(Lull::AT_ONCE).await;
        let mut slot = database.keeper.lock().await;
        let lasts = database.lull.lasts(number);
        let Some(keeper) = slot.as_mut().filter(|_| lasts) else {
            return;
        };
        if !database.lull.is_long() || !keeper.hold(&database.server, &target, mode, number).await {
            return keeper.unlock(target.name()).await;
        }
        drop(slot);
        database.lull.looked(number);
        tokio::time::sleep(held).await;
        let mut slot = database.keeper.lock().await;
        if let Some(keeper) = slot.as_mut().filter(|keeper| keeper.holds(number)) {
            keeper.unlock(target.name()).await;
        }
    });
}

/// Tells a connection that is gone from a statement that failed; `map` says what it was for.
fn failure(error: mysql_async::Error, map: impl FnOnce(mysql_async::Error) -> Error) -> Failure {
    Failure::new(error::is_connection_lost(&error), map(error))
}

/// The error for a look, or a repair, that failed for no reason that is dealt with.
fn failed(database: &str, error: mysql_async::Error) -> Error {
    error::statement(
        ErrorKind::Prepare,
        format!("cannot reset database `{database}`"),
        error,
    )
}

/// Why a database is made anew whose schema is not what it was, as `error` says.
fn shape(error: &mysql_async::Error) -> String {
    let what = match error {
        mysql_async::Error::Server(error) => &*error.message,
        _ => "",
    };
    format!("schema changed: {what}")
}
