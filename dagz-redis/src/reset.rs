//! Brings a worker's database to its start state, in one round trip.
//!
//! [`Keeper`] (`reset/keeper.rs`) is the connection that is kept for it, one per database and process. A
//! claim (`reset/claim.rs`) takes the lock (`reset/lock.rs`), flushes, and brings the start state back
//! (`reset/baseline.rs`) in one transaction; in the same round trip it learns whom earlier tests left in
//! the database (`reset/clients.rs`). `reset/whole.rs` is for private servers. [`prepare`] is where the
//! driver enters.

mod baseline;
mod claim;
mod clients;
mod keeper;
mod lock;
mod whole;

use dagz_core::{Result, Target, driver::Failure};

use self::claim::Want;
pub(crate) use self::{baseline::key as baseline_key, keeper::Keeper, whole::Whole};
use crate::{
    Driver, Prepare,
    driver::{Database, configured},
    provision,
};

/// Removes every key of `target`'s database; for use in
/// [`Config::prepare_with`](crate::Config::prepare_with), or in the middle of a test.
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn flush(target: &Target) -> Result<()> {
    by_hand(configured()?, target, Prepare::Flush).await
}

/// Brings `target`'s database back to what `worker_init` left; for use in
/// [`Config::prepare_with`](crate::Config::prepare_with), or in the middle of a test.
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn baseline(target: &Target) -> Result<()> {
    by_hand(configured()?, target, Prepare::Baseline).await
}

impl Driver {
    /// [`flush`](crate::flush) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn flush(&self, target: &Target) -> Result<()> {
        by_hand(self, target, Prepare::Flush).await
    }

    /// [`baseline`](crate::baseline) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn baseline(&self, target: &Target) -> Result<()> {
        by_hand(self, target, Prepare::Baseline).await
    }
}

/// What is to be done with a database.
#[derive(Clone, Copy, Debug)]
enum Work {
    Claim(Want),
    ByHand(Prepare),
}

/// Resets the database of `target` as `mode` says, and takes its lock until [`release`]. Also with
/// [`Prepare::None`] the stamp is checked and the lock taken: two runs must not share a database.
pub(crate) async fn prepare(driver: &Driver, target: &Target, mode: Prepare) -> Result<()> {
    work(driver, target, Work::Claim(Want::Reset(mode))).await
}

/// Takes the database of `target` into the books, and fills it.
pub(crate) async fn make(driver: &Driver, target: &Target) -> Result<()> {
    let made = work(driver, target, Work::Claim(Want::Make)).await;
    // Those that wait for it need not wait for this test.
    release(&driver.database(target)).await;
    made
}

async fn by_hand(driver: &Driver, target: &Target, mode: Prepare) -> Result<()> {
    work(driver, target, Work::ByHand(mode)).await
}

async fn work(driver: &Driver, target: &Target, work: Work) -> Result<()> {
    let database = driver.database(target);
    let mut slot = database.keeper.lock().await;
    if let Some(fleet) = driver.fleet() {
        fleet.tell(target)?;
    }
    let (mut lost, mut is_replaced) = (false, false);
    loop {
        let mut keeper = match slot.take() {
            Some(keeper) => keeper,
            None => provision::keeper(driver, target, lost).await?,
        };
        keeper.blind = driver.config().blind;
        let done = match work {
            Work::Claim(want) => keeper.claim(driver, target, want).await,
            Work::ByHand(mode) => keeper.reset(driver, target, mode).await,
        };
        match done {
            Ok(()) => {
                *slot = Some(keeper);
                return Ok(());
            }
            Err(Failure::Lost(_)) if !lost => lost = true,
            Err(failure)
                if !is_replaced && keeper.gives_up(driver, target, work, &failure).await =>
            {
                is_replaced = true;
            }
            Err(Failure::Lost(error)) => return Err(error),
            Err(Failure::Final(error)) => {
                // It may hold the lock, which `release` gives back.
                *slot = Some(keeper);
                return Err(error);
            }
        }
    }
}

/// Gives the database back: other runs may use it.
pub(crate) async fn release(database: &Database) {
    if let Some(keeper) = database.keeper.lock().await.as_mut() {
        keeper.unlock();
    }
}
