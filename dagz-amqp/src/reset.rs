//! Brings a worker's vhost to its start state.
//!
//! Much of it happens when a test ends, while nobody waits: [`release`] ends the test's connections, looks what it
//! left, makes the user as which the next test will log in, and gives the vhost back with a mark. Where the next
//! test finds that mark, one round trip proves that the vhost is as it was seen, since nobody has had credentials
//! for it: so [`prepare`] undoes what is known to differ, and nothing else. Where it does not find it, as in a new
//! process, it does all of that itself. `reset/keeper.rs` has the connection, the lease and the mark,
//! `reset/sweep.rs` looks and undoes, by the commands of `reset/step.rs`; `reset/settings.rs` does what only the
//! management API can.

mod keeper;
mod settings;
mod step;
mod sweep;

use std::time::{Duration, Instant};

use dagz_core::{Error, ErrorKind, Result, Target, driver::PrepareWith, event::Event, runtime};

use self::sweep::Found;
pub(crate) use self::{
    keeper::{Claim, Keeper, MARK},
    sweep::{Order, Sweep},
};
use crate::{
    Driver, Prepare,
    driver::configured,
    error::{self, Cause},
    login,
    provision::{self, Look, Owner},
};

/// How often others may come in between while a vhost is taken: runs that do not know of each other each make it anew.
const TRIES: u32 = 8;

/// How long the broker may take for what a vhost needs. An answer may never come where it is deleted meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// Brings `target`'s vhost back to its start state, without closing anybody's connection; for use in
/// [`Config::prepare_with`](crate::Config::prepare_with), or in the middle of a test.
///
/// Messages that a consumer of the test holds unacknowledged stay with it.
///
/// # Errors
/// Those of a prepare: the vhost is not dagz's own, another run uses it, or it cannot be reset.
pub async fn reset(target: &Target) -> Result<()> {
    configured()?.reset(target).await
}

impl Driver {
    /// [`reset`](crate::reset()) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn reset(&self, target: &Target) -> Result<()> {
        let (driver, target) = (self.clone(), target.clone());
        runtime::run(async move { by_hand(&driver, &target).await }).await?
    }
}

/// Takes the vhost of `target` until [`release`], in the state that `mode` says. Also with [`Prepare::None`]
/// the stamp is checked and the lease taken: two runs must not share a vhost.
pub(crate) async fn prepare(driver: &Driver, target: &Target, mode: Prepare) -> Result<()> {
    let database = driver.database(target);
    // Whatever `release` began is done once this is locked.
    let mut slot = database.keeper.lock().await;
    database.logs_in(target, None);
    let mut tries = 0;
    loop {
        let mut keeper = match slot.take() {
            Some(keeper) => keeper,
            None => {
                // What is asked for below, while the connection opens.
                let rights = async {
                    let server = driver.server(target.endpoint())?;
                    server.rights(target.base()).await
                };
                let opened = provision::keeper(driver, target);
                let (keeper, _) = futures_util::future::join(opened, rights).await;
                keeper?
            }
        };
        let order = match tries {
            0 => Order::Together,
            _ => Order::LookFirst,
        };
        let take = take(driver, target, &mut keeper, mode, order);
        let taken = tokio::time::timeout(PATIENCE, take).await;
        tries += 1;
        match taken.unwrap_or_else(|_| Err(Failure::Lost(silent(target)))) {
            Ok(()) => {
                *slot = Some(keeper);
                return Ok(());
            }
            Err(Failure::Lost(error)) if tries == TRIES => return Err(error),
            Err(Failure::Lost(_)) => tokio::time::sleep(Duration::from_millis(1 << tries)).await,
            Err(Failure::Gone) if tries == TRIES => {
                let told = format!("vhost `{}` goes away again and again", target.name());
                return Err(Error::new(ErrorKind::Prepare, told));
            }
            Err(Failure::Gone) => {
                drop(keeper);
                *slot = Some(provision::make(driver, target).await?);
            }
            Err(Failure::Final(error)) => return Err(error),
        }
    }
}

/// Takes the vhost for a test, and finds or makes its start state.
async fn take(
    driver: &Driver,
    target: &Target,
    keeper: &mut Keeper,
    mode: Prepare,
    order: Order,
) -> Result<(), Failure> {
    let database = driver.database(target);
    let patience = driver.config().lock_timeout;
    keeper.blind = driver.config().blind;
    let holder = format!(
        "project {}, job {}, worker {}",
        target.project(),
        target.job(),
        target.worker()
    );
    let mut claim = keeper.claim(&holder, patience).await?;
    let (next, found) = (keeper.next.take(), keeper.found.take());
    if let (Claim::Kept, Some(login), Some(found), Some(start)) =
        (claim, next, found, keeper.start.clone())
    {
        let undo = keeper.undo_found(target, &start, found, order);
        if mode == Prepare::Reset && undo.await? == Sweep::Stuck {
            return Err(stuck(target));
        }
        database.logs_in(target, Some(login));
        return Ok(());
    }
    let server = &driver.server(target.endpoint()).map_err(Failure::Final)?;
    let look = Look::at(server, target.name(), keeper.start.as_ref()).await;
    let look = look.map_err(Failure::Final)?;
    let start = match look.owner(target.project()) {
        _ if keeper.blind == Some("remade") && keeper.start.is_some() => keeper.start.clone(),
        Some(Owner::Ours(_)) => look.start,
        Some(Owner::HalfMade) | None => None,
        Some(_) if keeper.blind == Some("stamp") => look.start,
        Some(owner) => {
            let refusal = provision::refusal(&owner, "reset", target.name());
            return Err(Failure::Final(refusal));
        }
    };
    let Some(start) = start.or_else(|| keeper.start.clone()) else {
        return Err(Failure::Gone);
    };
    keeper.start = Some(start.clone());
    let mut users = look.users;
    if claim == Claim::Missing {
        keeper.declare_again().await?;
        claim = keeper.claim(&holder, patience).await?;
        if claim == Claim::Missing {
            return Err(Failure::Gone);
        }
        // Somebody else may have had it until now.
        let told = login::all(server, target.name()).await;
        users = told.map_err(Failure::Final)?;
    }
    let rights = server.rights(target.base()).await.map_err(Failure::Final)?;
    let removed = futures_util::future::try_join_all(
        users
            .iter()
            .map(|user| login::remove(server, user, keeper.blind)),
    );
    let (login, removed) =
        futures_util::future::join(login::create(server, target.name(), &rights), removed).await;
    removed.map_err(Failure::Final)?;
    let login = login.map_err(Failure::Final)?;
    if mode == Prepare::Reset && keeper.sweep(target, &start, order).await? == Sweep::Stuck {
        return Err(stuck(target));
    }
    database.logs_in(target, Some(login));
    Ok(())
}

fn silent(target: &Target) -> Error {
    let told = format!(
        "RabbitMQ did not answer within {PATIENCE:?} for vhost `{}`",
        target.name()
    );
    Error::new(ErrorKind::Unreachable, told)
}

/// Only making the vhost anew helps.
fn stuck(target: &Target) -> Failure {
    Event::new("rebuild").target(target).record();
    Failure::Gone
}

async fn by_hand(driver: &Driver, target: &Target) -> Result<()> {
    let database = driver.database(target);
    let mut slot = database.keeper.lock().await;
    let not_ours = || {
        Error::new(
            ErrorKind::Prepare,
            format!(
                "cannot reset vhost `{}` by hand: this process has not prepared it for the test",
                target.name()
            ),
        )
    };
    let keeper = slot.as_mut().ok_or_else(not_ours)?;
    let start = keeper.start.clone().ok_or_else(not_ours)?;
    let swept = keeper.sweep(target, &start, Order::LookFirst).await;
    match swept.map_err(Failure::into_error)? {
        Sweep::Clean => Ok(()),
        Sweep::Stuck => Err(Error::new(
            ErrorKind::Prepare,
            format!(
                "vhost `{}` does not come to its start state while the test's connections change it",
                target.name()
            ),
        )),
    }
}

/// Ends the test's connections, looks what they left, and gives the vhost back. Nobody waits for it but whoever
/// prepares the vhost next.
pub(crate) async fn release(driver: &Driver, target: &Target) {
    let database = driver.database(target);
    let mut slot = database.keeper.clone().lock_owned().await;
    let login = database.logs_in(target, None);
    let (driver, target) = (driver.clone(), target.clone());
    runtime::spawn(async move {
        let Some(mut keeper) = slot.take() else {
            return;
        };
        let started = Instant::now();
        let done = wind_up(&driver, &target, &mut keeper, login.as_ref());
        let done = tokio::time::timeout(PATIENCE, done).await;
        match done.unwrap_or_else(|_| Err(Failure::Lost(silent(&target)))) {
            Ok(known) => match keeper.unlock(known).await {
                Ok(()) => {
                    Event::new("release")
                        .target(&target)
                        .duration(started.elapsed())
                        .record();
                    *slot = Some(keeper);
                }
                Err(failure) => tell(&target, failure),
            },
            Err(failure) => tell(&target, failure),
        }
    });
}

fn tell(target: &Target, failure: Failure) {
    let error = failure.into_error();
    tracing::debug!(target: "dagz", vhost = target.name(), error = %error.report(), "not reset after the test");
}

/// Whether all is known of the vhost now, and a user made for the next test.
async fn wind_up(
    driver: &Driver,
    target: &Target,
    keeper: &mut Keeper,
    login: Option<&login::Login>,
) -> Result<bool, Failure> {
    let (Some(login), Some(start)) = (login, keeper.start.clone()) else {
        return Ok(false);
    };
    let server = &driver.server(target.endpoint()).map_err(Failure::Final)?;
    let rights = server.rights(target.base()).await.map_err(Failure::Final)?;
    login::remove(server, &login.user, keeper.blind)
        .await
        .map_err(Failure::Final)?;
    // Who has taken the vhost meanwhile ends whom it finds there, and nobody who is made later. Where connections are not
    // ended, the broker would do it while this is asked.
    if keeper.blind != Some("connections") {
        keeper.still_has().await?;
    }
    let next = login::create(server, target.name(), &rights);
    let found = async {
        match driver.config().prepare {
            PrepareWith::Own(Prepare::Reset) => keeper.find(&start).await,
            // Nobody wants to know, and a look is a delivery, of which a queue may allow only so many.
            _ => Ok(Found::default()),
        }
    };
    // Nothing is removed from a vhost that has lost its stamp meanwhile.
    let (next, found, stamped) =
        futures_util::future::join3(next, found, server.vhost(target.name())).await;
    let stamped = stamped.map_err(Failure::Final)?;
    let is_ours = provision::owner(target.project(), stamped.as_ref());
    keeper.next = Some(next.map_err(Failure::Final)?);
    keeper.found = Some(found?);
    Ok(matches!(is_ours, Some(Owner::Ours(_))) || keeper.blind == Some("stamp"))
}

/// Why a reset stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection, or the vhost behind it, is gone; another one may do.
    Lost(Error),
    /// The vhost, or what dagz knows of it, is gone, or only making it anew helps.
    Gone,
    Final(Error),
}

impl Failure {
    /// Tells what is gone from a command that failed.
    pub(crate) fn of(message: &str, error: lapin::Error) -> Self {
        // Dagz's own user is refused, and what was there is not, where another run has deleted the vhost. What a kind of
        // queue does not do, or what the broker fails at, costs the connection.
        let lost = matches!(
            Cause::of(&error),
            Cause::Unreachable | Cause::AccessRefused | Cause::NotFound | Cause::NotImplemented
        );
        let error = error::command(message, error);
        if lost {
            Self::Lost(error)
        } else {
            Self::Final(error)
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Final(error) => error,
            Self::Gone => Error::new(ErrorKind::Prepare, "the vhost has to be made anew"),
        }
    }
}
