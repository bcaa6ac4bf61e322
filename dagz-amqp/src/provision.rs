//! Makes workers' vhosts: as copies of the base vhost's definitions, or by the user's own function.
//!
//! `provision/stamp.rs` decides whose a vhost is, `provision/source.rs` what goes into it, `provision/start.rs` what
//! it is then, and `provision/cleanup.rs` lists and removes what dagz made. [`init`] is where the driver enters;
//! [`keeper`] and [`make`] are for a reset that finds nothing.

mod cleanup;
mod doctor;
mod source;
mod stamp;
mod start;

use std::{
    hash::{BuildHasher, RandomState},
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use dagz_core::{Error, ErrorKind, Result, Target, event::Event};
use serde_json::{Value, json};

pub use self::{
    cleanup::{Stamped, adopt, databases, remove},
    doctor::doctor,
};
use self::{
    source::Source,
    stamp::{ADOPTED, Stamp},
};
pub(crate) use self::{
    stamp::{Owner, owner, refusal},
    start::{Look, Start},
};
use crate::{
    Driver, error, login,
    management::part,
    reset::{Claim, Failure, Keeper, Order, Sweep},
    server::Server,
    topology::Topology,
};

/// How often others may come in between while a vhost is made.
const TRIES: u32 = 60;

/// How long a connection with its channel may take to open: longer than the connection alone.
const OPENING: Duration = Duration::from_secs(25);

/// How long the broker may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What lets nobody in for this long, and stays what it is, was left so by a run that was killed.
const BROKEN_OFF: Duration = Duration::from_secs(2);

/// How long to wait for others after the try of this number.
fn pause(number: u32) -> Duration {
    Duration::from_millis(1 << number.min(6))
}

/// Makes the vhost of `target` exist, made by dagz for this project and up to date.
pub(crate) async fn init(driver: &Driver, target: &Target) -> Result<()> {
    let server = driver.server(target.endpoint())?;
    let database = driver.database(target);
    let mut slot = database.keeper.lock().await;
    if driver.config().worker_init.is_none() && !target.is_fresh() {
        let (look, source) = futures_util::future::try_join(
            Look::at(&server, target.name(), None),
            Source::of(&server, target.base()),
        )
        .await?;
        if let Some(Owner::Ours(stamp)) = look.owner(target.project())
            && look.start.is_some()
            && (stamp.fingerprint == source.id
                || stamp.fingerprint == ADOPTED
                || driver.config().blind == Some("source"))
        {
            return Ok(());
        }
    }
    drop(slot.take());
    *slot = Some(make(driver, target).await?);
    Ok(())
}

/// A connection for the vhost of `target`; to one that is made, where there is none.
pub(crate) async fn keeper(driver: &Driver, target: &Target) -> Result<Keeper> {
    let server = driver.server(target.endpoint())?;
    let error = match open(&server, target).await {
        Ok(keeper) => return Ok(keeper),
        Err(error) => error,
    };
    if !error::is_closed(&error) {
        return Err(error);
    }
    // It may not be there: the broker has lost its data since `worker_init`, or somebody deleted it. Or another run
    // is making it anew just now.
    for pause in (0..TRIES).map(pause) {
        let look = Look::at(&server, target.name(), None).await?;
        match look.owner(target.project()) {
            None => return make(driver, target).await,
            Some(owner) if owner.is_ours() => {}
            Some(owner) => return Err(refusal(&owner, "reset", target.name())),
        }
        if let Some(keeper) = enter(&server, target).await? {
            return Ok(keeper);
        }
        tokio::time::sleep(pause).await;
    }
    Err(error)
}

async fn open(server: &Arc<Server>, target: &Target) -> Result<Keeper> {
    let worker = target.worker().to_string();
    let opened = Keeper::open(server, target.name(), &worker);
    match tokio::time::timeout(OPENING, opened).await {
        Ok(opened) => opened,
        Err(_) => Err(error::interrupted(target.name(), server.shown(), OPENING)),
    }
}

/// A connection for the vhost of `target`, which is dagz's, and where its own user gets the rights; `None` where the
/// vhost lets nobody in, as one that is being made or deleted.
async fn enter(server: &Arc<Server>, target: &Target) -> Result<Option<Keeper>> {
    // Whoever makes a vhost gets them, but not if the request breaks off there.
    let user = part(&server.management().address().user);
    let path = format!("/api/permissions/{}/{user}", part(target.name()));
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    match server.management().put(&path, all).await {
        Err(trouble) if !trouble.is_refused() => {
            let doing = format!("enter vhost `{}`", target.name());
            return Err(trouble.into_error(ErrorKind::WorkerInit, &doing));
        }
        _ => {}
    }
    let mut opened = open(server, target).await;
    if opened.as_ref().is_err_and(error::is_full) {
        // A test has let nobody in.
        server.lift_limits(target.name()).await?;
        opened = open(server, target).await;
    }
    match opened {
        Ok(keeper) => Ok(Some(keeper)),
        Err(error) if error::is_closed(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the vhost of `target` anew. Nobody has it when this returns.
pub(crate) async fn make(driver: &Driver, target: &Target) -> Result<Keeper> {
    let server = driver.server(target.endpoint())?;
    let patience = driver.config().lock_timeout;
    let vhost = target.name();
    let holder = target.worker().to_string();
    let source = Source::of(&server, target.base()).await?;
    // Since when nobody is let into which vhost.
    let mut closed: Option<(Instant, Option<Value>)> = None;
    for pause in (0..TRIES).map(pause) {
        let look = Look::at(&server, vhost, None).await?;
        let mut emptied = None;
        match look.owner(target.project()) {
            None => {}
            Some(owner) if owner.is_ours() => {
                // Only who has it may empty or delete it.
                let claimed = match enter(&server, target).await? {
                    Some(mut keeper) => {
                        closed = None;
                        let taken = async {
                            let mut claim = keeper.claim(&holder, patience).await?;
                            if claim == Claim::Missing {
                                // Or another run is making it, and has not come to them yet.
                                keeper.declare_again().await?;
                                claim = keeper.claim(&holder, patience).await?;
                            }
                            // The broker goes on deleting when the vhost is not to be seen any more, and
                            // would delete the next one of its name, too: so it is emptied, if that will do.
                            let is_empty = claim != Claim::Missing
                                && empty(&server, &mut keeper, target).await?;
                            Ok((claim, is_empty))
                        };
                        match tokio::time::timeout(patience + ANSWER, taken).await {
                            Ok(Ok((claim, is_empty))) => {
                                emptied = is_empty.then_some(keeper);
                                Ok(claim)
                            }
                            Ok(Err(failure)) => Err(failure),
                            Err(_) => continue,
                        }
                    }
                    None => {
                        let since = match &closed {
                            Some((since, vhost)) if *vhost == look.vhost => *since,
                            _ => closed.insert((Instant::now(), look.vhost.clone())).0,
                        };
                        if since.elapsed() < BROKEN_OFF {
                            // Another run is making or deleting it.
                            tokio::time::sleep(pause).await;
                            continue;
                        }
                        // Its making or its deletion was broken off, and nobody can be in it.
                        Ok(Claim::Missing)
                    }
                };
                match claimed {
                    Ok(_) if emptied.is_some() => {}
                    Ok(_) => {
                        // Two deletions at once, and the broker fails at one of them.
                        let deleted = cleanup::delete(&server, vhost).await;
                        if deleted.is_err() {
                            tokio::time::sleep(pause).await;
                            continue;
                        }
                    }
                    Err(Failure::Lost(_) | Failure::Gone) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    Err(failure) => return Err(failure.into_error()),
                }
            }
            Some(owner) => return Err(refusal(&owner, "use", vhost)),
        }
        let started = Instant::now();
        let nonce = nonce();
        let mut stamp = stamp::stamp(target, &source.id, &nonce);
        stamp::write(&server, vhost, &stamp, source.kind.as_deref()).await?;
        let mut keeper = match emptied {
            // It has the lease already.
            Some(keeper) => keeper,
            None => {
                let Some(mut keeper) = enter(&server, target).await? else {
                    tokio::time::sleep(pause).await;
                    continue;
                };
                let claimed = async {
                    keeper.declare_own().await?;
                    keeper.claim(&holder, patience).await
                };
                // An answer may never come where another run deletes the vhost meanwhile.
                let Ok(claimed) = tokio::time::timeout(patience + ANSWER, claimed).await else {
                    continue;
                };
                match claimed {
                    Ok(Claim::Missing) | Err(Failure::Lost(_) | Failure::Gone) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    Ok(_) => keeper,
                    Err(failure) => return Err(failure.into_error()),
                }
            }
        };
        if !is_made_by(&server, vhost, &nonce).await? {
            tokio::time::sleep(pause).await;
            continue;
        }
        source.fill(driver, target, &server, &mut keeper).await?;
        let start = Start::read(&server, vhost).await?;
        start.save(&server, vhost).await?;
        start.id.clone_into(&mut stamp.more.start);
        stamp::write(&server, vhost, &stamp.complete(), None).await?;
        Event::new("vhost")
            .target(target)
            .duration(started.elapsed())
            .record();
        keeper.know(start);
        keeper.unlock(false).await.map_err(Failure::into_error)?;
        return Ok(keeper);
    }
    Err(Error::new(
        ErrorKind::InUse,
        format!("others make vhost `{vhost}` at the same time, again and again"),
    ))
}

/// Takes everything out of the vhost, which `keeper` has, and ends what is connected to it as an earlier test.
/// False where it does not come to rest.
async fn empty(server: &Server, keeper: &mut Keeper, target: &Target) -> Result<bool, Failure> {
    let users = login::all(server, target.name())
        .await
        .map_err(Failure::Final)?;
    let removed = users.iter().map(|user| login::remove(server, user, None));
    futures_util::future::try_join_all(removed)
        .await
        .map_err(Failure::Final)?;
    let nothing = Start {
        id: String::new(),
        topology: Topology::default(),
    };
    Ok(keeper.sweep(target, &nothing, Order::Together).await? == Sweep::Clean)
}

async fn is_made_by(server: &Server, vhost: &str, nonce: &str) -> Result<bool> {
    let told = server.vhost(vhost).await?;
    let text = told.as_ref().and_then(|told| told["description"].as_str());
    let stamp = text.and_then(|text| serde_json::from_str::<Stamp>(text).ok());
    Ok(stamp.is_some_and(|stamp| stamp.more.nonce == nonce))
}

/// A word that never was before.
fn nonce() -> String {
    let time = Instant::now();
    format!(
        "{:016x}",
        RandomState::new().hash_one((process::id(), time))
    )
}
