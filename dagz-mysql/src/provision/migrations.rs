//! The SQL files that make a schema, as the core finds and fingerprints them: run.
//!
//! Used by `provision/template.rs`.

use dagz_core::{Error, ErrorKind, Result};
use mysql_async::prelude::Queryable as _;

use crate::{Config, server::Server};

/// Changes whenever a template of an earlier dagz must not be used any more.
pub(crate) const FORMAT: &str = "dagz mysql template 4";

/// Runs the files, then the function, in `database`.
pub(super) async fn run(server: &Server, database: &str, config: &Config) -> Result<()> {
    let migrations = config.migrations.read()?;
    if !migrations.is_empty() {
        let mut conn = server.open_plain(database, "dagz migrations").await?;
        for migration in &migrations {
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
    if let Some(function) = &config.migrations.function {
        function.call(database, server.opts_for(database)).await?;
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
