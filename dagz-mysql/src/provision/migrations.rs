//! The SQL files that make a schema, as the core finds and fingerprints them: run.
//!
//! Used by `provision/template.rs`; [`fingerprint`] also tells the core when `worker_init` is due
//! again.

use dagz_core::{Error, ErrorKind, Result, migrations, migrations::Migration};
use mysql_async::prelude::Queryable as _;

use crate::{Config, config::Migrate, server::Server};

/// Changes whenever a template of an earlier dagz must not be used any more.
const FORMAT: &str = "dagz mysql template 1";

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
        let mut conn = server.open_plain(database, "dagz migrations").await?;
        for migration in migrations {
            conn.query_drop(migration.text()).await.map_err(|error| {
                Error::new(
                    ErrorKind::WorkerInit,
                    format!(
                        "migration `{}` failed in template database `{database}`{}",
                        migration.path().display(),
                        hint(migration.text())
                    ),
                )
                .with_source(error)
            })?;
        }
        // Waited for: a transaction that a file left open must not be open any more.
        drop(conn.disconnect().await);
    }
    if let Some(function) = function {
        function(server.opts_for(database)).await.map_err(|error| {
            Error::new(
                ErrorKind::WorkerInit,
                format!("the `migrate_with` function failed in template database `{database}`"),
            )
            .with_source(error)
        })?;
    }
    Ok(())
}

/// What is a frequent reason.
fn hint(text: &str) -> &'static str {
    let has_delimiter = text.lines().any(|line| {
        line.trim_start()
            .to_ascii_uppercase()
            .starts_with("DELIMITER ")
    });
    if has_delimiter {
        ": `DELIMITER` is a word of the `mysql` shell, which the server does not know and does not need; leave it out"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_shell_are_explained() {
        assert!(hint("CREATE TABLE a (b INT);\n  delimiter //\n").contains("shell"));
        assert_eq!(hint("CREATE TABLE delimiter (b INT)"), "");
    }
}
