//! Lists and removes the keyspaces that dagz made, for `cargo dagz clean` and for tests.

use dagz_core::{Error, ErrorKind, Result, driver, runtime};

use super::{Owner, drop_keyspace, owner, refusal};
use crate::{
    Config, cql,
    error::{self, Native},
    reset,
    schema::{STAMP_TABLE, Schema},
    server::{ask, rows},
    source::Source,
};

/// A keyspace that dagz made, or adopted, for a project.
pub type Stamped = driver::Stamped<Config>;

/// The keyspaces on `config`'s cluster that carry the stamp of `project`.
///
/// # Errors
/// What keeps the cluster from being asked.
pub async fn databases(config: &Config, project: &str) -> Result<Vec<Stamped>> {
    let (config, project) = (config.clone(), project.to_owned());
    runtime::run(async move {
        let source = &config.base;
        let session = source.open(false).await?;
        let failed = |error| failed(source, "", "listing keyspaces", error);
        let query = "SELECT keyspace_name, table_name FROM system_schema.tables";
        let found = ask(&session, query).await.and_then(rows);
        let found: Vec<(String, String)> = found.map_err(failed)?;
        let mut stamped = Vec::new();
        for (name, _) in found.into_iter().filter(|(_, table)| table == STAMP_TABLE) {
            // One may be dropped meanwhile.
            let Some(schema) = Schema::read(&session, &name).await.map_err(failed)? else {
                continue;
            };
            if let Some(Owner::Ours(stamp)) = owner(&project, &schema) {
                stamped.push(Stamped::new(config.clone(), &project, name, Some(&stamp)));
            }
        }
        Ok(stamped)
    })
    .await?
}

/// Drops a keyspace that dagz made.
///
/// # Errors
/// [`ErrorKind::InUse`] where a run of another state directory uses it, [`ErrorKind::Refused`] where it does not
/// carry the project's stamp any more, and whatever keeps it from being dropped.
pub async fn remove(database: &Stamped) -> Result<()> {
    let database = database.clone();
    runtime::run(async move {
        let (source, name) = (&database.at().base, database.name());
        let session = source.open(false).await?;
        let failed = |error| failed(source, name, "dropping keyspace", error);
        let Some(schema) = Schema::read(&session, name).await.map_err(failed)? else {
            return Ok(());
        };
        match owner(database.project(), &schema) {
            Some(owner) if owner.is_ours() => {}
            owner => return Err(refusal(&owner.unwrap_or(Owner::Unstamped), "drop", name)),
        }
        let claimed = reset::claim(&session, name).await;
        claimed.map_err(|error| error.into_failure(source, name).into_error())?;
        drop_keyspace(&session, name).await.map_err(failed)?;
        let lease = format!(
            "DELETE FROM {}.lease WHERE name = {} IF EXISTS",
            reset::BOOKS,
            cql::literal(name)
        );
        // It ends by itself.
        drop(ask(&session, lease).await);
        Ok(())
    })
    .await?
}

fn failed(source: &Source, name: &str, what: &str, error: Native) -> Error {
    error::failure(ErrorKind::Prepare, what, source, name, error).into_error()
}
