//! Lists and removes what dagz has made on a server, for `cargo dagz clean`.
//!
//! [`databases`] lists, [`remove`] drops one, unless somebody uses it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dagz_core::{Result, Worker};

use mysql_async::{Opts, prelude::Queryable as _};

use super::{
    admin::Admin,
    stamp::{self, Owner, Role},
};
use crate::{
    Config, driver,
    reset::{Failure, lock},
    server::Server,
};

/// A database that dagz made, or was making, for a project.
#[derive(Clone)]
pub struct Stamped {
    opts: Opts,
    name: String,
    project: String,
    job: Option<String>,
    worker: Option<Worker>,
    base: Option<String>,
    made: Option<SystemTime>,
    is_template: bool,
}

/// Shows what it is, without the password it is reached by.
impl fmt::Debug for Stamped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stamped")
            .field("name", &self.name)
            .field("project", &self.project)
            .field("job", &self.job)
            .field("base", &self.base)
            .field("is_template", &self.is_template)
            .finish_non_exhaustive()
    }
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

    /// The worker it belongs to; `None` for a template, or what else rows are restored from.
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

    /// Whether it is a template, or holds the rows of an adopted database.
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
    let mut admin = Admin::connect_as(&server, "dagz clean").await?;
    let names: Vec<String> = admin
        .conn
        .query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME")
        .await
        .map_err(|error| admin.failed("cannot list databases".to_owned(), error))?;
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !driver::is_system(name)) {
        let Some(row) = admin.row(&name).await? else {
            continue;
        };
        let stamp = match stamp::owner(project, &name, &row) {
            Owner::Ours(stamp) => Some(stamp),
            Owner::HalfMade => None,
            _ => continue,
        };
        let is_template = stamp.as_ref().is_some_and(|s| s.role != Role::Worker);
        found.push(Stamped {
            opts: config.base.clone(),
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
/// [`ErrorKind::InUse`](dagz_core::ErrorKind::InUse) where a run uses it or makes it,
/// [`ErrorKind::Refused`](dagz_core::ErrorKind::Refused) where it is not dagz's any more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let server = Server::new(&database.opts);
    let mut admin = Admin::connect_as(&server, "dagz clean").await?;
    admin
        .lock_within(&database.name, Duration::from_secs(2))
        .await?;
    let Some(row) = admin.row(&database.name).await? else {
        return Ok(());
    };
    let owner = stamp::owner(&database.project, &database.name, &row);
    if !owner.is_ours() {
        return Err(owner.refusal("drop", &database.name));
    }
    // A run that uses it holds this; a template is used only while its own lock is held.
    lock::wait(&mut admin.conn, &database.name)
        .await
        .map_err(Failure::into_error)?;
    admin.drop_database(&database.name).await
}
