//! Lists and removes what dagz has made on a server, for `cargo dagz clean`.
//!
//! [`databases`] lists, [`remove`] drops one, unless somebody uses it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dagz_core::{Error, ErrorKind, Result, Worker};

use super::{
    admin::Admin,
    stamp::{self, Owner, Role},
};
use crate::{Config, reset, server::Server};

/// A database that dagz made, or was making, for a project.
#[derive(Clone, Debug)]
pub struct Stamped {
    config: tokio_postgres::Config,
    name: String,
    project: String,
    job: Option<String>,
    worker: Option<Worker>,
    base: Option<String>,
    made: Option<SystemTime>,
    is_template: bool,
}

impl Stamped {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The project it was made for.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The job it was made in; `None` where dagz was killed before it could write that down.
    pub fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// The worker it belongs to; `None` for a template.
    pub fn worker(&self) -> Option<Worker> {
        self.worker
    }

    /// The base database it stands for.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// When it was made.
    pub fn made(&self) -> Option<SystemTime> {
        self.made
    }

    /// Whether it is a template.
    pub fn is_template(&self) -> bool {
        self.is_template
    }
}

/// All databases that dagz has made for `project` on the server of `config`, by name.
///
/// # Errors
/// Where the server cannot be reached or asked.
pub async fn databases(config: &Config, project: &str) -> Result<Vec<Stamped>> {
    let server = Server::new(&config.base);
    let admin = Admin::connect_as(&server, "dagz clean").await?;
    let rows = admin
        .client()
        .query("SELECT datname FROM pg_database ORDER BY datname", &[])
        .await
        .map_err(|error| admin.failed("cannot list databases".to_owned(), error))?;
    let mut found = Vec::new();
    for row in rows {
        let name: String = row.get(0);
        let Some(row) = admin.row(&name).await? else {
            continue;
        };
        let stamp = match stamp::owner(project, &name, &row) {
            Owner::Ours(stamp) => Some(stamp),
            Owner::HalfMade => None,
            _ => continue,
        };
        let is_template = stamp.as_ref().is_some_and(|s| s.role == Role::Template);
        found.push(Stamped {
            config: config.base.clone(),
            project: project.to_owned(),
            job: stamp.as_ref().map(|stamp| stamp.job.clone()),
            worker: stamp
                .as_ref()
                .filter(|_| !is_template)
                .map(|stamp| Worker::new(stamp.worker)),
            base: stamp.as_ref().map(|stamp| stamp.base.clone()),
            made: stamp
                .as_ref()
                .map(|stamp| UNIX_EPOCH + Duration::from_secs(stamp.made)),
            is_template,
            name,
        });
    }
    Ok(found)
}

/// Drops `database`, if it still is what [`databases`] saw.
///
/// # Errors
/// [`ErrorKind::InUse`] where a run uses it or makes it, [`ErrorKind::Refused`] where it is not
/// dagz's any more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let server = Server::new(&database.config);
    let admin = Admin::connect_as(&server, "dagz clean").await?;
    admin
        .lock_within(&database.name, Duration::from_secs(2))
        .await?;
    let Some(row) = admin.row(&database.name).await? else {
        return Ok(());
    };
    let owner = stamp::owner(&database.project, &database.name, &row);
    let is_template = match &owner {
        Owner::Ours(stamp) => stamp.role == Role::Template,
        // Which of the two it was to become is not written down.
        Owner::HalfMade => true,
        _ => return Err(owner.refusal("drop", &database.name)),
    };
    if is_template {
        if is_connected(&admin, &database.name).await? {
            return Err(Error::new(
                ErrorKind::InUse,
                format!("database `{}` is being used", database.name),
            ));
        }
        return admin.drop_template(&database.name).await;
    }
    let worker = database.worker.unwrap_or_else(|| Worker::new(0));
    let fence = reset::fence(&server, &database.name, worker).await?;
    admin.drop_database(&database.name, fence).await
}

async fn is_connected(admin: &Admin<'_>, name: &str) -> Result<bool> {
    let row = admin
        .client()
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)",
            &[&name],
        )
        .await
        .map_err(|error| admin.failed(format!("cannot look into `{name}`"), error))?;
    Ok(row.get(0))
}
