//! Lists, removes and adopts vhosts, for `cargo dagz clean` and for users.
//!
//! [`databases`] lists, [`remove`] deletes one unless somebody uses it, [`adopt`] takes one that the user made.

use std::sync::Arc;

use dagz_core::{DbConfig as _, Error, ErrorKind, Result, Settings, driver};
use serde_json::Value;

use super::{
    Look, Owner, Start,
    stamp::{self, Stamp},
};
use crate::{
    Config, Driver, login,
    management::part,
    reset::{Claim, Failure, Keeper},
    server::Server,
};

/// A vhost that dagz made for a project.
pub type Stamped = driver::Stamped<Config>;

fn server_of(config: &Config) -> Arc<Server> {
    Arc::new(Server::new(
        &config.base,
        config.management_address().clone(),
    ))
}

/// All vhosts that dagz has made for `project` on the broker of `config`, in their order.
///
/// # Errors
/// Where the management API cannot be reached or asked.
pub async fn databases(config: &Config, project: &str) -> Result<Vec<Stamped>> {
    let server = server_of(config);
    let told = server.management().get("/api/vhosts").await;
    let told = told.map_err(|trouble| {
        let doing = "list what dagz made";
        trouble.into_error(ErrorKind::Unsupported, doing)
    })?;
    let vhosts = told.as_ref().and_then(Value::as_array);
    let mut found: Vec<_> = vhosts
        .into_iter()
        .flatten()
        .filter_map(|vhost| {
            let text = vhost["description"].as_str()?;
            let stamp: Stamp = serde_json::from_str(text).ok()?;
            let name = vhost["name"].as_str().unwrap_or_default().to_owned();
            (stamp.project == project)
                .then(|| Stamped::new(config.clone(), project, name, Some(&stamp)))
        })
        .collect();
    found.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(found)
}

/// Deletes the vhost and its users, if it still is of the project for which [`databases`] saw it.
///
/// # Errors
/// [`ErrorKind::InUse`] where a run uses it, [`ErrorKind::Refused`] where it is not the project's any more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let (config, vhost) = (database.at(), database.name());
    let server = server_of(config);
    let look = Look::at(&server, vhost, None).await?;
    match look.owner(database.project()) {
        None => return Ok(()),
        Some(owner) if owner.is_ours() => {}
        Some(owner) => return Err(stamp::refusal(&owner, "delete", vhost)),
    }
    let mut keeper = Keeper::open(&server, vhost, "clean").await?;
    let claimed = keeper.claim("a clean-up", config.lock_timeout).await;
    claimed.map_err(Failure::into_error)?;
    delete(&server, vhost).await
}

/// Deletes the vhost and its users. Whoever calls has made sure that it is dagz's, and holds it.
pub(super) async fn delete(server: &Server, vhost: &str) -> Result<()> {
    login::remove_all(server, vhost).await?;
    for path in [
        format!("/api/vhosts/{}", part(vhost)),
        super::start::start_path(vhost),
    ] {
        let deleted = server.management().delete(&path).await;
        deleted.map_err(|trouble| {
            let doing = format!("delete vhost `{vhost}`");
            trouble.into_error(ErrorKind::WorkerInit, &doing)
        })?;
    }
    Ok(())
}

/// Declares that `vhost` on the broker of `config`, with all that is in it, is dagz's to reset and to delete,
/// for the current project; what is declared in it now is its start state. It must be named as a worker's.
///
/// With a [`worker_init`](Config::worker_init), it will be made anew by that.
///
/// # Errors
/// [`ErrorKind::Refused`] where it belongs to another project, [`ErrorKind::InvalidName`] where it is no worker's
/// name, [`ErrorKind::WorkerInit`] where it does not exist.
pub async fn adopt(config: &Config, vhost: &str) -> Result<()> {
    if Driver::new(config.clone()).worker_of(vhost).is_none() {
        return Err(Error::new(
            ErrorKind::InvalidName,
            format!("cannot adopt vhost `{vhost}`: it is not named as a worker's"),
        ));
    }
    let project = Settings::current()?.project().to_owned();
    let server = server_of(config);
    let look = Look::at(&server, vhost, None).await?;
    match look.owner(&project) {
        Some(Owner::Ours(_)) => return Ok(()),
        Some(Owner::HalfMade | Owner::Moved(_) | Owner::Unstamped) => {}
        None => {
            return Err(Error::new(
                ErrorKind::WorkerInit,
                format!(
                    "cannot adopt vhost `{vhost}`: it does not exist at `{}`",
                    server.shown()
                ),
            ));
        }
        Some(owner) => return Err(stamp::refusal(&owner, "adopt", vhost)),
    }
    let mut keeper = Keeper::open(&server, vhost, "adopt").await?;
    keeper.declare_own().await.map_err(Failure::into_error)?;
    let claimed = keeper.claim("an adoption", config.lock_timeout).await;
    if claimed.map_err(Failure::into_error)? == Claim::Missing {
        return Err(Error::new(
            ErrorKind::Prepare,
            format!("somebody deletes dagz's queues in vhost `{vhost}`"),
        ));
    }
    let start = Start::read(&server, vhost).await?;
    start.save(&server, vhost).await?;
    let mut stamp = stamp::adopted(&project, vhost, &super::nonce()).complete();
    stamp.more.start = start.id;
    stamp::write(&server, vhost, &stamp, None).await
}
