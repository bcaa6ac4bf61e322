//! Makes workers' databases: from a template, or by the user's own function.
//!
//! `provision/admin.rs` holds the connection on which databases are made and dropped,
//! `provision/stamp.rs` decides whose a database is, `provision/template.rs` makes templates,
//! `provision/migrations.rs` reads and runs SQL files, and `provision/cleanup.rs` lists and removes
//! what dagz made. [`init`] is where the driver enters.

mod admin;
mod cleanup;
mod doctor;
mod migrations;
mod stamp;
mod template;

use std::time::Instant;

use dagz_core::{Error, ErrorKind, Result, Target, driver::Role, event::Event};
use tokio_postgres::Client;

use self::{
    admin::{Admin, Row},
    stamp::stamp,
};
pub use self::{
    cleanup::{Stamped, databases, remove},
    doctor::doctor,
};
pub(crate) use self::{migrations::FORMAT, stamp::Owner};
use crate::{
    Driver,
    driver::{Database, NAME, configured},
    reset::{self, CaptureFor},
};

/// Makes the database of `target` exist, made by dagz for this project and up to date.
pub(crate) async fn init(driver: &Driver, target: &Target) -> Result<()> {
    let database = driver.database(target)?;
    // A connection kept from an earlier job would hold up the drop, or miss the new database.
    drop(database.keeper.lock().await.take());
    let anew = target.is_fresh().then(Anew::default);
    provide(driver, &database, target, anew).await
}

/// Makes the database of `target` anew, by the same means as at first.
///
/// `fence` is a session in the old one that holds its lock, so that nobody else can be using it. Where the
/// `template_is_doubtful` that is made anew, too.
pub(crate) async fn rebuild(
    driver: &Driver,
    database: &Database,
    target: &Target,
    fence: Option<Client>,
    template_is_doubtful: bool,
) -> Result<()> {
    database.shelf.clear();
    let anew = Anew {
        fence,
        template_is_doubtful,
    };
    provide(driver, database, target, Some(anew)).await
}

/// That a database which exists must go.
#[derive(Default)]
struct Anew {
    /// A session in it that holds its lock.
    fence: Option<Client>,
    template_is_doubtful: bool,
}

async fn provide(
    driver: &Driver,
    database: &Database,
    target: &Target,
    anew: Option<Anew>,
) -> Result<()> {
    let admin = Admin::connect(&database.server, target.worker()).await?;
    // Held until the database is complete: nobody takes one that is being made for a ruin.
    admin.lock(target.name()).await?;
    let result = provide_locked(driver, database, target, anew, &admin).await;
    admin.finish(target.name()).await;
    result
}

async fn provide_locked(
    driver: &Driver,
    database: &Database,
    target: &Target,
    anew: Option<Anew>,
    admin: &Admin<'_>,
) -> Result<()> {
    let existing = admin.row(target.name()).await?;
    let is_whole = existing.as_ref().is_some_and(Row::is_whole);
    let owner = existing
        .as_ref()
        .map(|row| stamp::owner(target.project(), target.name(), row));

    if driver.config().worker_init.is_some() {
        if owner.as_ref().is_some_and(Owner::is_ours) {
            drop_ours(admin, database, target, anew.and_then(|anew| anew.fence)).await?;
        } else if let Some(owner @ (Owner::Foreign(_) | Owner::Later(_))) = owner {
            return Err(owner.refusal(NAME, "use", target.name()));
        }
        return init_by_user(driver, database, target, admin).await;
    }

    let is_doubtful = anew.as_ref().is_some_and(|anew| anew.template_is_doubtful);
    let template = template::ensure(driver, admin, target, is_doubtful).await?;
    match owner {
        None => {}
        Some(Owner::Ours(stamp))
            if anew.is_none() && is_whole && stamp.fingerprint == template.fingerprint =>
        {
            return Ok(());
        }
        Some(owner) if owner.is_ours() => {
            drop_ours(admin, database, target, anew.and_then(|anew| anew.fence)).await?;
        }
        Some(owner) => return Err(owner.refusal(NAME, "reset", target.name())),
    }
    clone(admin, target, &template).await
}

async fn drop_ours(
    admin: &Admin<'_>,
    database: &Database,
    target: &Target,
    fence: Option<Client>,
) -> Result<()> {
    database.shelf.clear();
    let fence = match fence {
        Some(fence) => Some(fence),
        None => reset::fence(&database.server, target.name(), target.worker()).await?,
    };
    admin.drop_database(target.name(), fence).await
}

async fn clone(admin: &Admin<'_>, target: &Target, template: &template::Template) -> Result<()> {
    let started = Instant::now();
    let row = admin
        .create_database(target.project(), target.name(), Some(&template.name))
        .await?;
    let stamp = stamp(target, Role::Worker, &row, &template.fingerprint);
    admin.stamp(target.name(), &stamp).await?;
    Event::new("clone")
        .target(target)
        .duration(started.elapsed())
        .detail(format!("from `{}`", template.name))
        .record();
    Ok(())
}

/// Runs the user's function, and makes sure that it did what is expected of it.
async fn init_by_user(
    driver: &Driver,
    database: &Database,
    target: &Target,
    admin: &Admin<'_>,
) -> Result<()> {
    let Some(init) = &driver.config().worker_init else {
        return Ok(());
    };
    let config = database.server.config_for(target.name());
    init.call(target, config).await?;
    match admin.row(target.name()).await? {
        None => Err(Error::new(
            ErrorKind::WorkerInit,
            format!(
                "the `worker_init` function did not create database `{}`",
                target.name()
            ),
        )),
        Some(row) => match stamp::owner(target.project(), target.name(), &row) {
            Owner::Ours(_) => Ok(()),
            owner => Err(owner.refusal(NAME, "reset", target.name())),
        },
    }
}

/// Declares that the database of `target`, created by the user's own code, is dagz's to reset and
/// to drop, and takes its present content as its start state.
///
/// Called in [`Config::worker_init`](crate::Config::worker_init), after the database is complete.
///
/// # Errors
/// [`ErrorKind::Refused`] where it carries another project's stamp, [`ErrorKind::WorkerInit`]
/// where it does not exist, and whatever keeps its state from being recorded.
pub async fn adopt(target: &Target) -> Result<()> {
    configured()?.adopt(target).await
}

impl Driver {
    /// [`adopt`](crate::adopt) for this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn adopt(&self, target: &Target) -> Result<()> {
        let server = self.server(target.endpoint())?;
        let admin = Admin::connect(&server, target.worker()).await?;
        let row = admin.row(target.name()).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::WorkerInit,
                format!(
                    "cannot adopt database `{}`: it does not exist at `{}`",
                    target.name(),
                    server.shown()
                ),
            )
        })?;
        let owner = stamp::owner(target.project(), target.name(), &row);
        if matches!(owner, Owner::Foreign(_) | Owner::Later(_)) {
            return Err(owner.refusal(NAME, "adopt", target.name()));
        }
        let client = server
            .connect(target.name(), &session_name(target, "adopt"))
            .await?;
        reset::capture(&client, target.name(), CaptureFor::Itself, self.config()).await?;
        let stamp = stamp(target, Role::Worker, &row, "adopted");
        admin.stamp(target.name(), &stamp).await?;
        admin.keep();
        Ok(())
    }
}

/// How dagz's own sessions for `target` are called on the server.
pub(crate) fn session_name(target: &Target, purpose: &str) -> String {
    format!("dagz {} {purpose}", target.worker())
}

/// Whose database a comment and an oid, read from `pg_database`, say it is.
pub(crate) fn owner_of(target: &Target, oid: u32, comment: Option<&str>, limit: i32) -> Owner {
    let row = Row {
        oid,
        comment: comment.map(str::to_owned),
        connection_limit: limit,
    };
    stamp::owner(target.project(), target.name(), &row)
}
