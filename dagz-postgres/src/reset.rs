//! Brings a worker's database to its start state, at the cost of what a test dirtied.
//!
//! [`Keeper`] (`reset/keeper.rs`) is the connection that is kept for it, one per database and
//! process. As a superuser it resets by a log of writes (`reset/log.rs`), which one call reads and
//! undoes (`reset/quick.rs`, `reset/function.rs`, `reset/answer.rs`), or, where all was found out behind the test
//! before, one statement (`reset/ahead.rs`). Elsewhere it looks
//! (`reset/looking.rs`). Its probe (`reset/probe.rs`, written from `reset/catalog.rs`) finds what
//! differs in one round trip, which also takes the lock (`reset/lock.rs`); `reset/repair.rs` undoes it
//! in a second one; `reset/sessions.rs` ends what earlier tests left running; `reset/baseline.rs` records the start state when the database is made. Where a repair
//! cannot be exact, as after a change of the schema, the database is made anew by `provision`.

mod ahead;
mod answer;
mod baseline;
mod catalog;
mod function;
mod keeper;
mod lock;
mod log;
mod looking;
mod probe;
mod quick;
mod repair;
mod schema;
mod sessions;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dagz_core::{
    Error, ErrorKind, Result, Target, Worker,
    driver::{Failure, Lull},
    event::Event,
    runtime,
};
use tokio_postgres::{Client, error::SqlState};

use self::keeper::{Opened, Outcome};
pub(crate) use self::{
    baseline::{CaptureFor, capture},
    keeper::Keeper,
    log::WriteLog,
    sessions::roll_back_prepared,
};
use crate::{
    Driver, Prepare,
    client::Kept,
    driver::{Database, configured},
    error, provision,
    server::Server,
};

/// How long the sessions of a test that has ended may take to be gone, as a rule.
const CLOSING: Duration = Duration::from_millis(5);

/// Empties every table of `target`'s database, except the kept ones, and sets every sequence to
/// its start; for use in [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn truncate(target: &Target) -> Result<()> {
    prepare(configured()?, target, Prepare::Truncate).await
}

/// Brings `target`'s database back to what its creation left, rows and sequences included; for use
/// in [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn baseline(target: &Target) -> Result<()> {
    prepare(configured()?, target, Prepare::Baseline).await
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

/// Resets the database of `target` as `mode` says, and takes its lock until [`release`]. Also with
/// [`Prepare::None`] the stamp is checked and the lock taken: two runs must not share a database.
pub(crate) async fn prepare(driver: &Driver, target: &Target, mode: Prepare) -> Result<()> {
    let database = driver.database(target)?;
    database.lull.end();
    let mut slot = database.keeper.lock().await;
    let (mut lost, mut rebuilt) = (false, 0);
    loop {
        let mut keeper = match slot.take() {
            Some(keeper) if !keeper.client.is_closed() => keeper,
            _ => match Keeper::open(&database.server, target).await? {
                Opened::Keeper(keeper) => *keeper,
                Opened::Missing => {
                    // Dropped by somebody, or by a rebuild that was killed half-way.
                    rebuild(driver, &database, target, None, "it is gone", rebuilt).await?;
                    rebuilt += 1;
                    continue;
                }
                Opened::Ruin(client) => {
                    let reason = "its start state is not recorded completely";
                    let client = Some(*client);
                    rebuild(driver, &database, target, client, reason, rebuilt).await?;
                    rebuilt += 1;
                    continue;
                }
            },
        };
        keeper.shelved = database.shelf.each(Kept::pid);
        let unclean = database.take_unclean();
        let outcome = match sessions::end_unclean(&keeper.client, target, &unclean).await {
            Ok(()) => keeper.reset(driver, target, mode).await,
            Err(failure) => {
                unclean
                    .into_iter()
                    .for_each(|pid| database.note_unclean(pid));
                Err(failure)
            }
        };
        match outcome {
            Ok(Outcome::Clean) => {
                *slot = Some(keeper);
                return Ok(());
            }
            Ok(Outcome::Rebuild(reason)) => {
                let client = Some(keeper.client);
                rebuild(driver, &database, target, client, &reason, rebuilt).await?;
                rebuilt += 1;
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

/// How often one prepare makes a database anew: from the template, and from one that is made anew, too, since that may
/// have lost the rows of unlogged tables in a crash. More would be for ever.
const REBUILDS: usize = 2;

/// Makes the database anew, which was done `before` so often.
async fn rebuild(
    driver: &Driver,
    database: &Database,
    target: &Target,
    fence: Option<Client>,
    reason: &str,
    before: usize,
) -> Result<()> {
    if before >= REBUILDS {
        return Err(Error::new(
            ErrorKind::Prepare,
            format!(
                "database `{}` was made anew and still is not in its start state: {reason}",
                target.name()
            ),
        ));
    }
    let started = Instant::now();
    provision::rebuild(driver, database, target, fence, before > 0).await?;
    Event::new("drift")
        .target(target)
        .duration(started.elapsed())
        .detail(format!("made anew: {reason}"))
        .record();
    Ok(())
}

/// Gives the database back: kept clients are clean, and other runs may use it.
pub(crate) async fn release(database: Arc<Database>) {
    database.shelf.settle().await;
    if let Some(keeper) = database.keeper.lock().await.as_mut() {
        keeper.unlock();
    }
    let Some(number) = database.lull.begin() else {
        return;
    };
    runtime::spawn(async move {
        let look_ahead = async || match database.keeper.lock().await.as_mut() {
            Some(keeper) if database.lull.lasts(number) => {
                keeper.shelved = database.shelf.each(Kept::pid);
                keeper.look_ahead().await
            }
            _ => false,
        };
        tokio::time::sleep(Lull::AT_ONCE).await;
        let is_unsettled = look_ahead().await;
        if is_unsettled {
            tokio::time::sleep(CLOSING).await;
            look_ahead().await;
        }
    });
}

/// A session in the database `name` that holds its lock, so that nobody else can be using it.
/// `None` where nobody can be in it.
pub(crate) async fn fence(server: &Server, name: &str, worker: Worker) -> Result<Option<Client>> {
    let client = match server.connect(name, &format!("dagz {worker} init")).await {
        Ok(client) => client,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let failed = |error| {
        error::statement(
            ErrorKind::WorkerInit,
            format!("cannot lock database `{name}`"),
            error,
        )
    };
    let lock = lock::prepare(&client).await.map_err(failed)?;
    lock::wait(&client, &lock, name)
        .await
        .map_err(Failure::into_error)?;
    Ok(Some(client))
}

/// Tells a connection that is gone from a statement that failed; `map` says what it was for.
fn failure(
    error: tokio_postgres::Error,
    map: impl FnOnce(tokio_postgres::Error) -> Error,
) -> Failure {
    Failure::new(error::is_connection_lost(&error), map(error))
}

/// Whether nobody can be in that database: there is none, or it takes no connections, as after a
/// drop that was interrupted.
fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
        .is_some_and(|native| {
            error::has_code(native, &SqlState::INVALID_CATALOG_NAME)
                || error::has_code(native, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
        })
}
