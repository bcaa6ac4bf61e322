//! Lists and removes the keyspaces that dagz made, for `cargo dagz clean` and for tests.

use dagz_core::{Error, ErrorKind, Result, runtime};

use super::{Owner, drop_keyspace, owner};
use crate::{
    Config, cql,
    error::{self, Native},
    reset,
    schema::{STAMP_TABLE, Schema},
    server::{Source, ask, rows},
};

/// A keyspace that dagz made, or adopted, for a project.
#[derive(Clone, Debug)]
pub struct Stamped {
    source: Source,
    name: String,
    project: String,
    job: String,
    base: String,
}

impl Stamped {
    /// Its name, as the server spells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The project it was made for.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The job it was made by, `j12`.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The application's keyspace that it stands for.
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// The keyspaces on `config`'s cluster that carry the stamp of `project`.
///
/// # Errors
/// What keeps the cluster from being asked.
pub async fn databases(config: &Config, project: &str) -> Result<Vec<Stamped>> {
    let (source, project) = (config.base.clone(), project.to_owned());
    runtime::run(async move {
        let session = source.open(false).await?;
        let failed = |error| failed(&source, "", "listing keyspaces", error);
        let query = "SELECT keyspace_name, table_name FROM system_schema.tables";
        let found: Vec<(String, String)> =
            rows(ask(&session, query).await.map_err(failed)?).map_err(failed)?;
        let mut stamped = Vec::new();
        for (name, _) in found.into_iter().filter(|(_, table)| table == STAMP_TABLE) {
            // One may be dropped meanwhile.
            let Some(schema) = Schema::read(&session, &name).await.map_err(failed)? else {
                continue;
            };
            if let Owner::Ours(stamp) = owner(&project, &schema) {
                stamped.push(Stamped {
                    source: source.clone(),
                    name,
                    project: stamp.project,
                    job: stamp.job,
                    base: stamp.base,
                });
            }
        }
        Ok(stamped)
    })
    .await?
}

/// Drops a keyspace that dagz made.
///
/// # Errors
/// [`ErrorKind::Refused`] where it does not carry the project's stamp any more, and whatever keeps it from
/// being dropped.
pub async fn remove(stamped: &Stamped) -> Result<()> {
    let stamped = stamped.clone();
    runtime::run(async move {
        let Stamped {
            source,
            name,
            project,
            ..
        } = &stamped;
        let session = source.open(false).await?;
        let failed = |error| failed(source, name, "dropping keyspace", error);
        let Some(schema) = Schema::read(&session, name).await.map_err(failed)? else {
            return Ok(());
        };
        let owner = owner(project, &schema);
        if !owner.is_ours() {
            return Err(owner.refusal("drop", name));
        }
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
    let message = format!("{what} `{name}` failed at `{}`", source.shown());
    error::statement(ErrorKind::Prepare, message, name, source.user(), error)
}
