//! Makes workers' databases: from a template, or by the user's own function.
//!
//! `provision/admin.rs` holds the connection on which databases are made, and `provision/dropping.rs` dropped,
//! `provision/stamp.rs` decides whose a database is, `provision/template.rs` makes templates,
//! `provision/migrations.rs` reads and runs SQL files, `provision/clone.rs` copies by definitions, `provision/gate.rs`
//! adds what keeps writers out between tests, and `provision/cleanup.rs` lists and removes what dagz made. [`init`] is
//! where the driver enters.

mod admin;
mod cleanup;
mod clone;
mod doctor;
mod dropping;
mod gate;
mod migrations;
mod stamp;
mod template;

use std::time::Instant;

use dagz_core::{
    Error, ErrorKind, Result, Target,
    driver::{Failure, Role},
    event::Event,
};
use mysql_async::{Conn, prelude::Queryable as _};
use sha2::{Digest, Sha256};

use self::admin::Admin;
pub(crate) use self::{
    admin::look,
    migrations::FORMAT,
    stamp::{Owner, Row, Stamp},
};
pub use self::{
    cleanup::{Stamped, databases, remove},
    doctor::doctor,
};
use crate::{
    Driver,
    driver::{Database, NAME, configured},
    error,
    reset::{
        baseline::{self, Sequence},
        lock,
    },
    schema::{Kind, Schema},
    sql,
};

/// Makes the database of `target` exist, made by dagz for this project and up to date.
pub(crate) async fn init(driver: &Driver, target: &Target) -> Result<()> {
    let database = driver.database(target)?;
    // A connection kept from an earlier job knows another database of that name.
    let kept = database.keeper.lock().await.take();
    if let Some(mut keeper) = kept {
        keeper.unlock(target.name()).await;
    }
    let why = match target.is_fresh() {
        true => Why::Fresh,
        false => Why::Missing,
    };
    provide(driver, &database, target, why).await
}

/// Makes the database of `target` anew, by the same means as at first.
///
/// `is_fenced` says that a session of this process holds its lock, so that nobody else can be
/// using it.
pub(crate) async fn rebuild(
    driver: &Driver,
    database: &Database,
    target: &Target,
    is_fenced: bool,
) -> Result<()> {
    database.shelf.clear();
    provide(driver, database, target, Why::Changed { is_fenced }).await
}

/// Why a database is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// There may be none, or one that will do.
    Missing,
    /// The test is to find one that no other has used.
    Fresh,
    /// What there is must go.
    Changed { is_fenced: bool },
}

async fn provide(driver: &Driver, database: &Database, target: &Target, why: Why) -> Result<()> {
    let mut admin = Admin::connect(&database.server, target.worker()).await?;
    // Held until the database is complete: nobody takes one that is being made for a ruin.
    admin.lock(target.name()).await?;
    let result = provide_locked(driver, database, target, why, &mut admin).await;
    admin.finish(target.name()).await;
    result
}

async fn provide_locked(
    driver: &Driver,
    database: &Database,
    target: &Target,
    why: Why,
    admin: &mut Admin<'_>,
) -> Result<()> {
    let existing = admin.row(target.name()).await?;
    let is_changed = matches!(why, Why::Changed { .. });
    let is_emptied = is_changed && existing.as_ref().is_some_and(|row| row.is_empty);
    let owner = existing.as_ref().map(|row| owner_behind(target, row));

    if driver.config().worker_init.is_some() {
        if owner.as_ref().is_some_and(Owner::is_ours) || is_emptied {
            drop_ours(admin, database, target, why).await?;
        } else if let Some(owner @ (Owner::Foreign(_) | Owner::Later(_))) = owner {
            return Err(owner.refusal(NAME, "use", target.name()));
        }
        return init_by_user(driver, database, target, admin).await;
    }

    let template = template::ensure(driver, admin, target).await?;
    let fingerprint = fingerprint(driver, &template.fingerprint);
    match owner {
        None => {}
        Some(Owner::Ours(stamp)) if why == Why::Missing && stamp.fingerprint == fingerprint => {
            return Ok(());
        }
        Some(owner) if owner.is_ours() || is_emptied => {
            drop_ours(admin, database, target, why).await?;
        }
        Some(owner) => return Err(owner.refusal(NAME, "reset", target.name())),
    }
    copy(driver, admin, target, &template, &fingerprint).await
}

async fn drop_ours(
    admin: &mut Admin<'_>,
    database: &Database,
    target: &Target,
    why: Why,
) -> Result<()> {
    database.shelf.clear();
    if matches!(why, Why::Changed { is_fenced: true }) {
        return admin.drop_database(target.name()).await;
    }
    lock::wait(&mut admin.conn, target.name())
        .await
        .map_err(Failure::into_error)?;
    let dropped = admin.drop_database(target.name()).await;
    // A connection that cannot unlock is gone, and its locks with it.
    drop(lock::give_back(&mut admin.conn, &lock::key("use", target.name())).await);
    dropped
}

/// What a worker's database is made by, beside what it is made `from`.
fn fingerprint(driver: &Driver, from: &str) -> String {
    match driver.config().write_gate {
        true => format!("{from} gated"),
        false => from.to_owned(),
    }
}

async fn copy(
    driver: &Driver,
    admin: &mut Admin<'_>,
    target: &Target,
    template: &template::Template,
    fingerprint: &str,
) -> Result<()> {
    let started = Instant::now();
    let name = target.name();
    let (source, mut start) = template::content(admin, template).await?;
    let stamp = Stamp::new(target, Role::Worker, fingerprint, ());
    let defaults = Some((&*source.charset, &*source.collation));
    admin.create_database(name, &stamp, defaults).await?;
    clone::objects(&mut admin.conn, &source, name, &start.events).await?;
    let read = |error| {
        let message = format!("cannot read what was copied to database `{name}`");
        error::statement(ErrorKind::WorkerInit, message, error)
    };
    // As the server spells it here, which is what it is compared with.
    let mut made = Schema::read(&mut admin.conn, name).await.map_err(read)?;
    if driver.config().write_gate {
        made = gate::add(&mut admin.conn, made, &mut start).await?;
    }
    start.schema = made.fingerprint(driver.config().blind);
    admin
        .stamp(name, &stamp.complete(), &start.to_json())
        .await?;
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
    admin: &mut Admin<'_>,
) -> Result<()> {
    let Some(init) = &driver.config().worker_init else {
        return Ok(());
    };
    let opts = database.server.opts_for(target.name());
    init.call(target, opts).await?;
    match admin.row(target.name()).await? {
        None => Err(Error::new(
            ErrorKind::WorkerInit,
            format!(
                "the `worker_init` function did not create database `{}`",
                target.name()
            ),
        )),
        Some(row) => match owner_behind(target, &row) {
            Owner::Ours(_) => Ok(()),
            owner => Err(owner.refusal(NAME, "reset", target.name())),
        },
    }
}

/// Declares that the database of `target`, created by the user's own code, is dagz's to reset and
/// to drop, and takes its present content as its start state.
///
/// Called in [`Config::worker_init`](crate::Config::worker_init), after the database is complete.
/// The rows that it has are copied to a database beside it, to be restored from there.
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
        let mut admin = Admin::connect(&server, target.worker()).await?;
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
        let owner = owner_behind(target, &row);
        if matches!(owner, Owner::Foreign(_) | Owner::Later(_)) {
            return Err(owner.refusal(NAME, "adopt", target.name()));
        }
        let failed = |error| {
            let message = format!(
                "cannot record the start state of database `{}`",
                target.name()
            );
            error::statement(ErrorKind::WorkerInit, message, error)
        };
        let schema = Schema::read(&mut admin.conn, target.name())
            .await
            .map_err(failed)?;
        let blind = self.config().blind;
        let mut start = baseline::capture(&mut admin.conn, &schema, true, blind)
            .await
            .map_err(failed)?;
        for sequence in &start.sequences {
            let name = sql::qualified(target.name(), &sequence.name);
            let restart = Sequence::restart(&name, sequence.next);
            admin.conn.query_drop(restart).await.map_err(failed)?;
        }
        start.rows_in = keep_rows(&mut admin, target, &schema, &start).await?;
        if self.config().write_gate {
            let gated = gate::add(&mut admin.conn, schema, &mut start).await?;
            start.schema = gated.fingerprint(blind);
        }
        let stamp = Stamp::new(target, Role::Worker, "adopted", ()).complete();
        admin.stamp(target.name(), &stamp, &start.to_json()).await?;
        admin.keep().await;
        Ok(())
    }
}

/// Copies the rows of an adopted database, if it has any, to one beside it, and tells its name.
async fn keep_rows(
    admin: &mut Admin<'_>,
    target: &Target,
    schema: &Schema,
    start: &baseline::Start,
) -> Result<String> {
    let digest = Sha256::digest(format!("rows of {}", target.name()));
    let name = template::beside(target.name(), &dagz_core::migrations::hexadecimal(&digest));
    if let Some(row) = admin.row(&name).await? {
        let owner = stamp::owner(target.project(), &name, &row);
        if !owner.is_ours() {
            return Err(owner.refusal(NAME, "replace", &name));
        }
        admin.drop_database(&name).await?;
    }
    let has_rows = |table: &str| start.tables.iter().any(|t| t.name == table && t.rows > 0);
    let mut filled = schema.clone();
    filled.objects.retain(|object| {
        object.kind == Kind::Sequence || has_rows(&object.name) && object.kind.is_table()
    });
    if filled.of_kind(Kind::is_table).next().is_none() {
        return Ok(String::new());
    }
    let stamp = Stamp::new(target, Role::Rows, "adopted", ()).named(&name);
    let defaults = Some((&*schema.charset, &*schema.collation));
    admin.create_database(&name, &stamp, defaults).await?;
    clone::objects(&mut admin.conn, &filled, &name, &[]).await?;
    admin.stamp(&name, &stamp.complete(), "").await?;
    Ok(name)
}

/// How dagz's own sessions for `target` are called on the server.
pub(crate) fn session_name(target: &Target, purpose: &str) -> String {
    format!("dagz {} {purpose}", target.worker())
}

/// Whose the database of `target` is, as its stamp says.
pub(crate) fn owner_of(target: &Target, stamp: &str) -> Owner {
    let row = Row {
        stamp: Some(stamp.to_owned()),
        collation: String::new(),
        is_empty: false,
    };
    owner_behind(target, &row)
}

/// Whose the database of `target` is, as the server says.
pub(crate) fn owner_behind(target: &Target, row: &Row) -> Owner {
    stamp::owner(target.project(), target.name(), row)
}

/// The stamp in the database `name`, if there is one.
pub(crate) async fn stamp_behind(
    conn: &mut Conn,
    name: &str,
) -> Result<Option<String>, mysql_async::Error> {
    Ok(look(conn, name).await?.and_then(|row| row.stamp))
}
