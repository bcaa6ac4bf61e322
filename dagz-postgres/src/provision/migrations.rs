//! The SQL files that make a schema, as the core finds and fingerprints them: run.
//!
//! Used by `provision/template.rs`.

use dagz_core::{Error, ErrorKind, Result};
use tokio_postgres::error::ErrorPosition;

use crate::{Config, server::Server};

/// Changes whenever a template of an earlier dagz must not be used any more.
pub(crate) const FORMAT: &str = "dagz template 15";

/// Runs the files, then the function, in `database`.
pub(super) async fn run(server: &Server, database: &str, config: &Config) -> Result<()> {
    let migrations = config.migrations.read()?;
    if !migrations.is_empty() {
        let client = server.open(database, "dagz migrations").await?;
        for migration in &migrations {
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
    if let Some(function) = &config.migrations.function {
        function.call(database, server.config_for(database)).await?;
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
