//! Lists, removes and adopts vhosts, for `cargo dagz clean` and for users.
//!
//! [`databases`] lists, [`remove`] deletes one unless somebody uses it, [`adopt`] takes one that the user made.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dagz_core::{DbConfig as _, Error, ErrorKind, Result, Settings, Worker};
use serde_json::Value;

use super::{
    Look, Owner, Stamp, Start,
    stamp::{self, ADOPTED},
};
use crate::{
    Config, Driver,
    login,
    management::part,
    reset::{Claim, Failure, Keeper},
    server::Server,
};

/// A vhost that dagz made for a project.
#[derive(Clone, Debug)]
pub struct Stamped {
    config: Config,
    vhost: String,
    stamp: Stamp,
}

impl Stamped {
    /// Its name.
    pub fn name(&self) -> String {
        self.vhost.clone()
    }

    /// The project it was made for.
    pub fn project(&self) -> &str {
        &self.stamp.project
    }

    /// The job it was made in.
    pub fn job(&self) -> Option<&str> {
        Some(self.stamp.job.as_str()).filter(|job| !job.is_empty())
    }

    /// The worker it belongs to.
    pub fn worker(&self) -> Option<Worker> {
        Some(Worker::new(self.stamp.worker))
    }

    /// The base vhost it stands for.
    pub fn base(&self) -> Option<&str> {
        Some(self.stamp.base.as_str()).filter(|base| !base.is_empty())
    }

    /// When it was made.
    pub fn made(&self) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(self.stamp.made))
    }
}

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
            (stamp.project == project).then(|| Stamped {
                config: config.clone(),
                vhost: vhost["name"].as_str().unwrap_or_default().to_owned(),
                stamp,
            })
        })
        .collect();
    found.sort_by(|one, other| one.vhost.cmp(&other.vhost));
    Ok(found)
}

/// Deletes the vhost and its users, if it still is of the project for which [`databases`] saw it.
///
/// # Errors
/// [`ErrorKind::InUse`] where a run uses it, [`ErrorKind::Refused`] where it is not the project's any more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let Stamped {
        config,
        vhost,
        stamp,
    } = database;
    let server = server_of(config);
    let look = Look::at(&server, vhost, None).await?;
    match look.owner(&stamp.project) {
        Owner::Vacant => return Ok(()),
        owner if owner.is_ours() => {}
        owner => return Err(owner.refusal("delete", vhost)),
    }
    let mut keeper = Keeper::open(&server, vhost, "clean").await?;
    let claimed = keeper.claim("a clean-up", config.lock_timeout).await;
    claimed.map_err(Failure::into_error)?;
    delete(&server, vhost, &look.users).await
}

/// Deletes the vhost and its users. Whoever calls has made sure that it is dagz's, and holds it.
pub(super) async fn delete(server: &Server, vhost: &str, users: &[String]) -> Result<()> {
    for user in users {
        login::remove(server, user).await?;
    }
    for path in [
        format!("/api/vhosts/{}", part(vhost)),
        super::start_path(vhost),
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
    let Some(worker) = Driver::new(config.clone()).worker_of(vhost) else {
        return Err(Error::new(
            ErrorKind::InvalidName,
            format!("cannot adopt vhost `{vhost}`: it is not named as a worker's"),
        ));
    };
    let project = Settings::current()?.project().to_owned();
    let server = server_of(config);
    let look = Look::at(&server, vhost, None).await?;
    match look.owner(&project) {
        Owner::Ours(_) => return Ok(()),
        Owner::HalfMade | Owner::Unstamped => {}
        Owner::Vacant => {
            return Err(Error::new(
                ErrorKind::WorkerInit,
                format!(
                    "cannot adopt vhost `{vhost}`: it does not exist at `{}`",
                    server.shown()
                ),
            ));
        }
        owner => return Err(owner.refusal("adopt", vhost)),
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
    let stamp = Stamp::bare(&project, worker.number(), &super::nonce());
    let stamp = stamp.finished(ADOPTED, &start.id);
    stamp::write(&server, vhost, &stamp, None).await
}
