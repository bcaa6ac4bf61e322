//! The SQL files that make a schema, as the core finds and fingerprints them: run.
//!
//! Used by `provision/template.rs`; [`fingerprint`] also tells the core when `worker_init` is due
//! again.

use dagz_core::{Error, ErrorKind, Result, migrations, migrations::Migration};
use tokio_postgres::error::ErrorPosition;

use crate::{Config, config::Migrate, server::Server};

/// Changes whenever a template of an earlier dagz must not be used any more.
const FORMAT: &str = "dagz template 4";

/// What worker databases of `config` depend on, beside the server: the files and the function.
pub(crate) fn fingerprint(config: &Config) -> Result<String> {
    let tag = config.migrate_with.as_ref().map(|(tag, _)| tag.as_str());
    Ok(migrations::fingerprint(FORMAT, &read(config)?, tag))
}

/// The files of the configured directory, in their order; none where none is configured.
pub(super) fn read(config: &Config) -> Result<Vec<Migration>> {
    match &config.migrations {
        Some(directory) => migrations::read(directory),
        None => Ok(Vec::new()),
    }
}

/// Runs the files, then the function, in `database`.
pub(super) async fn run(
    server: &Server,
    database: &str,
    migrations: &[Migration],
    function: Option<&Migrate>,
) -> Result<()> {
    if !migrations.is_empty() {
        let client = server.open(database, "dagz migrations").await?;
        for migration in migrations {
            client
                .batch_execute(migration.text())
                .await
                .map_err(|error| {
                    Error::new(
                        ErrorKind::WorkerInit,
                        format!(
                            "migration `{}` failed{} in template database `{database}`",
                            migration.path().display(),
                            place(migration.text(), &error)
                        ),
                    )
                    .with_source(error)
                })?;
        }
    }
    if let Some(function) = function {
        function(server.config_for(database))
            .await
            .map_err(|error| {
                Error::new(
                    ErrorKind::WorkerInit,
                    format!("the `migrate_with` function failed in template database `{database}`"),
                )
                .with_source(error)
            })?;
    }
    Ok(())
}

/// ` at line 3, column 7`, where the server says where.
fn place(text: &str, error: &tokio_postgres::Error) -> String {
    let Some(ErrorPosition::Original(position)) =
        error.as_db_error().and_then(|error| error.position())
    else {
        return String::new();
    };
    let before: String = text
        .chars()
        .take((*position as usize).saturating_sub(1))
        .collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(" at line {line}, column {column}")
}
