//! Brings a worker's vhost to its start state.
//!
//! Most of it happens when a test ends, while nobody waits: [`release`] ends the test's connections, sweeps the
//! vhost (`reset/sweep.rs`), makes the user as which the next test will log in, and gives the vhost back with a
//! mark. Where the next test finds that mark, one round trip proves that the vhost is as it was left, since nobody
//! has had credentials for it: that is [`prepare`]. Where it does not, as in a new process, it does all of that
//! itself. `reset/keeper.rs` has the connection, the lease and the mark; `reset/settings.rs` what only the
//! management API can change.

mod keeper;
mod settings;
mod sweep;

use std::time::Instant;

use dagz_core::{Error, ErrorKind, Result, Target, event::Event, runtime};

use self::sweep::Sweep;
pub(crate) use self::keeper::{Claim, Keeper, MARK};
use crate::{
    Driver, Prepare,
    config::PrepareWith,
    driver::configured,
    error::{self, Cause},
    login,
    provision::{self, Look, Owner},
};

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
    let mut lost = false;
    loop {
        let mut keeper = match slot.take() {
            Some(keeper) => keeper,
            None => provision::keeper(driver, target).await?,
        };
        let done = take(driver, target, &mut keeper, mode).await;
        match done {
            Ok(()) => {
                *slot = Some(keeper);
                return Ok(());
            }
            Err(Failure::Lost(error)) if lost => return Err(error),
            Err(Failure::Lost(_)) => lost = true,
            Err(Failure::Gone) if lost => {
                let told = format!("vhost `{}` goes away again and again", target.name());
                return Err(Error::new(ErrorKind::Prepare, told));
            }
            Err(Failure::Gone) => {
                lost = true;
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
) -> Result<(), Failure> {
    let database = driver.database(target);
    let patience = driver.config().lock_timeout;
    let holder = format!(
        "project {}, job {}, worker {}",
        target.project(),
        target.job(),
        target.worker()
    );
    let mut claim = keeper.claim(&holder, patience).await?;
    if claim == Claim::Kept
        && let Some(login) = keeper.next.take()
    {
        database.logs_in(target, Some(login));
        return Ok(());
    }
    keeper.next = None;
    let server = &driver.server(target.endpoint()).map_err(Failure::Final)?;
    let look = Look::at(server, target.name(), keeper.start.as_ref()).await;
    let look = look.map_err(Failure::Final)?;
    let start = match look.owner(target.project()) {
        Owner::Ours(_) => look.start,
        Owner::HalfMade | Owner::Vacant => None,
        owner => return Err(Failure::Final(owner.refusal("reset", target.name()))),
    };
    let Some(start) = start.or_else(|| keeper.start.clone()) else {
        return Err(Failure::Gone);
    };
    keeper.start = Some(start.clone());
    if claim == Claim::Missing {
        // A test has deleted dagz's queues.
        keeper.declare_own().await?;
        claim = keeper.claim(&holder, patience).await?;
        if claim == Claim::Missing {
            return Err(Failure::Gone);
        }
    }
    let rights = server.rights(target.base()).await.map_err(Failure::Final)?;
    let removed = futures_util::future::try_join_all(
        look.users.iter().map(|user| login::remove(server, user)),
    );
    let (login, removed) = futures_util::future::join(
        login::create(server, target.name(), &rights),
        removed,
    )
    .await;
    removed.map_err(Failure::Final)?;
    let login = login.map_err(Failure::Final)?;
    if mode == Prepare::Reset && keeper.sweep(target, &start, true).await? == Sweep::Stuck {
        Event::new("rebuild").target(target).record();
        return Err(Failure::Gone);
    }
    database.logs_in(target, Some(login));
    Ok(())
}

async fn by_hand(driver: &Driver, target: &Target) -> Result<()> {
    let database = driver.database(target);
    let slot = database.keeper.lock().await;
    let not_ours = || {
        Error::new(
            ErrorKind::Prepare,
            format!(
                "cannot reset vhost `{}` by hand: this process has not prepared it for the test",
                target.name()
            ),
        )
    };
    let keeper = slot.as_ref().ok_or_else(not_ours)?;
    let start = keeper.start.clone().ok_or_else(not_ours)?;
    let swept = keeper.sweep(target, &start, true).await;
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

/// Ends the test's connections and gives the vhost back, reset for the next test. Nobody waits for it but
/// whoever prepares the vhost next.
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
        let done = wind_up(&driver, &target, &mut keeper, login.as_ref()).await;
        match done {
            // What is not known to be clean is not called so; the next test looks for itself.
            Ok(clean) => match keeper.unlock(clean).await {
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

/// Whether the vhost is clean now, and a user made for the next test.
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
    let next = login::create(server, target.name(), &rights);
    let swept = async {
        // Nothing is removed from a vhost that has lost its stamp meanwhile.
        let (removed, stamped) = futures_util::future::join(
            login::remove(server, &login.user),
            server.vhost(target.name()),
        )
        .await;
        removed.map_err(Failure::Final)?;
        let stamped = stamped.map_err(Failure::Final)?;
        match provision::owner(target.project(), stamped.as_ref()) {
            Owner::Ours(_) => {}
            _ => return Ok(Sweep::Stuck),
        }
        match driver.config().prepare {
            PrepareWith::Own(Prepare::Reset) => keeper.sweep(target, &start, false).await,
            _ => Ok(Sweep::Clean),
        }
    };
    let (next, swept) = futures_util::future::join(next, swept).await;
    let next = next.map_err(Failure::Final)?;
    let swept = swept?;
    keeper.next = Some(next);
    Ok(swept == Sweep::Clean)
}

/// Why a reset stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection is gone; another one may do.
    Lost(Error),
    /// The vhost, or what dagz knows of it, is gone, or only making it anew helps.
    Gone,
    Final(Error),
}

impl Failure {
    /// Tells a connection that is gone from a command that failed.
    pub(crate) fn of(message: &str, error: lapin::Error) -> Self {
        let lost = Cause::of(&error) == Cause::Unreachable;
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
