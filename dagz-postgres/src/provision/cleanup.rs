//! Lists and removes what dagz has made on a server, for `cargo dagz clean`.
//!
//! [`databases`] lists, [`remove`] drops one, unless somebody uses it.

use std::time::Duration;

use dagz_core::{
    Error, ErrorKind, Result, Worker,
    driver::{self, Role},
};

use super::{
    admin::Admin,
    stamp::{self, Owner},
};
use crate::{Config, driver::NAME, reset, server::Server};

/// A database that dagz made, or was making, for a project.
pub type Stamped = driver::Stamped<tokio_postgres::Config>;

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
            // Who began to drop what is not whole is not written down.
            Owner::HalfMade if row.is_whole() => None,
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
/// [`ErrorKind::InUse`] where a run uses it or makes it, [`ErrorKind::Refused`] where it is not
/// dagz's any more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let server = Server::new(database.at());
    let admin = Admin::connect_as(&server, "dagz clean").await?;
    admin
        .lock_within(database.name(), Duration::from_secs(2))
        .await?;
    let Some(row) = admin.row(database.name()).await? else {
        return Ok(());
    };
    let owner = stamp::owner(database.project(), database.name(), &row);
    let is_template = match &owner {
        Owner::Ours(stamp) => stamp.role == Role::Template,
        // Which of the two it was to become is not written down.
        Owner::HalfMade if row.is_whole() => true,
        _ => return Err(owner.refusal(NAME, "drop", database.name())),
    };
    if is_template {
        if is_connected(&admin, database.name()).await? {
            return Err(Error::new(
                ErrorKind::InUse,
                format!("database `{}` is being used", database.name()),
            ));
        }
        return admin.drop_template(database.name()).await;
    }
    let worker = database.worker().unwrap_or_else(|| Worker::new(0));
    let fence = reset::fence(&server, database.name(), worker).await?;
    admin.drop_database(database.name(), fence).await
}

/// An autovacuum worker does not count: dropping ends it.
async fn is_connected(admin: &Admin<'_>, name: &str) -> Result<bool> {
    let row = admin
        .client()
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend')",
            &[&name],
        )
        .await
        .map_err(|error| admin.failed(format!("cannot look into `{name}`"), error))?;
    Ok(row.get(0))
}
