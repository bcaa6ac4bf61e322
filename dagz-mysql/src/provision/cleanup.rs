//! Lists and removes what dagz has made on a server, for `cargo dagz clean`.
//!
//! [`databases`] lists, [`remove`] drops one, unless somebody uses it.

use std::time::Duration;

use dagz_core::{
    Result,
    driver::{self, Failure},
};
use mysql_async::{Opts, prelude::Queryable as _};

use super::{
    admin::Admin,
    stamp::{self, Owner},
};
use crate::{
    Config,
    driver::{NAME, is_system},
    reset::lock,
    server::Server,
};

/// A database that dagz made, or was making, for a project.
pub type Stamped = driver::Stamped<Opts>;

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
    for name in names.into_iter().filter(|name| !is_system(name)) {
        let Some(row) = admin.row(&name).await? else {
            continue;
        };
        let stamp = match stamp::owner(project, &name, &row) {
            Owner::Ours(stamp) => Some(stamp),
            Owner::HalfMade => None,
            _ => continue,
        };
        found.push(Stamped::new(
            config.base.clone(),
            project,
            name,
            stamp.as_deref(),
        ));
    }
    Ok(found)
}

/// Drops `database`, if it still is what [`databases`] saw.
///
/// # Errors
/// [`ErrorKind::InUse`](dagz_core::ErrorKind::InUse) where a run uses it or makes it,
/// [`ErrorKind::Refused`](dagz_core::ErrorKind::Refused) where it is not dagz's any more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let server = Server::new(database.at());
    let mut admin = Admin::connect_as(&server, "dagz clean").await?;
    admin
        .lock_within(database.name(), Duration::from_secs(2))
        .await?;
    let Some(row) = admin.row(database.name()).await? else {
        return Ok(());
    };
    let owner = stamp::owner(database.project(), database.name(), &row);
    if !owner.is_ours() {
        return Err(owner.refusal(NAME, "drop", database.name()));
    }
    // A run that uses it holds this; a template is used only while its own lock is held.
    lock::wait(&mut admin.conn, database.name())
        .await
        .map_err(Failure::into_error)?;
    admin.drop_database(database.name()).await
}
