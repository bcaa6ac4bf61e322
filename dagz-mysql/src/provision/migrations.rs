//! The SQL files that make a schema: found, fingerprinted, run.
//!
//! Used by `provision/template.rs`; [`fingerprint`] also tells the core when `worker_init` is due
//! again.

use std::{
    cmp::Ordering,
    env, fs,
    path::{Path, PathBuf},
};

use dagz_core::{Error, ErrorKind, Result};
use mysql_async::prelude::Queryable as _;
use sha2::{Digest, Sha256};

use crate::{Config, config::Migrate, server::Server};

/// Changes whenever a template of an earlier dagz must not be used any more.
const FORMAT: &str = "dagz mysql template 1";

/// One SQL file, by the name that orders it.
pub(super) struct Migration {
    name: String,
    path: PathBuf,
    text: String,
}

/// What worker databases of `config` depend on, beside the server: the files and the function.
pub(crate) fn fingerprint(config: &Config) -> Result<String> {
    let mut hash = Sha256::new().chain_update(FORMAT);
    for migration in read(config)? {
        for part in [&migration.name, &migration.text] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    if let Some((tag, _)) = &config.migrate_with {
        hash.update("migrate_with");
        hash.update(tag);
    }
    Ok(hex(&hash.finalize()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of the configured directory, in their order; none where none is configured.
pub(super) fn read(config: &Config) -> Result<Vec<Migration>> {
    let Some(directory) = &config.migrations else {
        return Ok(Vec::new());
    };
    let directory = absolute(directory);
    let unreadable = |error| {
        Error::new(
            ErrorKind::Settings,
            format!("cannot read the migrations in `{}`", directory.display()),
        )
        .with_source(error)
    };
    let mut migrations = Vec::new();
    for entry in fs::read_dir(&directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let path = if path.is_dir() {
            let up = path.join("up.sql");
            if !up.is_file() {
                continue;
            }
            up
        } else if name.ends_with(".sql") && !name.ends_with(".down.sql") {
            path
        } else {
            continue;
        };
        let text = fs::read_to_string(&path).map_err(|error| {
            Error::new(
                ErrorKind::Settings,
                format!("cannot read migration `{}`", path.display()),
            )
            .with_source(error)
        })?;
        migrations.push(Migration { name, path, text });
    }
    if migrations.is_empty() {
        return Err(Error::new(
            ErrorKind::Settings,
            format!(
                "there are no migrations in `{}`: neither `*.sql` nor `*/up.sql`",
                directory.display()
            ),
        ));
    }
    migrations.sort_by(|left, right| by_version(&left.name, &right.name));
    Ok(migrations)
}

fn absolute(directory: &Path) -> PathBuf {
    if directory.is_absolute() {
        return directory.to_owned();
    }
    match env::var_os("CARGO_MANIFEST_DIR") {
        Some(manifest) => PathBuf::from(manifest).join(directory),
        None => env::current_dir().unwrap_or_default().join(directory),
    }
}

/// Orders `2_b.sql` before `10_a.sql`, as the tools do whose files these are.
fn by_version(left: &str, right: &str) -> Ordering {
    match (version(left), version(right)) {
        (Some(left_version), Some(right_version)) => {
            left_version.cmp(&right_version).then(left.cmp(right))
        }
        _ => left.cmp(right),
    }
}

fn version(name: &str) -> Option<u128> {
    let name = name.strip_prefix(['V', 'U']).unwrap_or(name);
    let digits = name
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(name.len());
    name[..digits].parse().ok()
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
            conn.query_drop(&migration.text).await.map_err(|error| {
                Error::new(
                    ErrorKind::WorkerInit,
                    format!(
                        "migration `{}` failed in template database `{database}`{}",
                        migration.path.display(),
                        hint(&migration.text)
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

    fn config(directory: &Path) -> Config {
        Config::new("mysql://u@h/shop")
            .unwrap()
            .migrations(directory)
    }

    #[test]
    fn files_are_found_in_the_order_of_their_versions() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "10_c.sql",
            "2_b.up.sql",
            "2_b.down.sql",
            "V1__a.sql",
            "README.md",
        ] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        for (folder, file) in [
            ("3_diesel", "up.sql"),
            ("3_diesel", "down.sql"),
            ("4_empty", "x"),
        ] {
            fs::create_dir_all(directory.path().join(folder)).unwrap();
            fs::write(directory.path().join(folder).join(file), folder).unwrap();
        }
        let names: Vec<_> = read(&config(directory.path()))
            .unwrap()
            .into_iter()
            .map(|migration| migration.name)
            .collect();
        assert_eq!(names, ["V1__a.sql", "2_b.up.sql", "3_diesel", "10_c.sql"]);
    }

    #[test]
    fn the_fingerprint_follows_names_contents_and_tag() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("1.sql"), "a").unwrap();
        let of = |config: &Config| fingerprint(config).unwrap();
        let first = of(&config(directory.path()));
        assert_eq!(first, of(&config(directory.path())));
        let tagged = |tag: &str| {
            of(&config(directory.path()).migrate_with(tag, |_| async { Ok::<_, Error>(()) }))
        };
        assert_ne!(first, tagged("1"));
        assert_ne!(tagged("1"), tagged("2"));
        fs::write(directory.path().join("1.sql"), "b").unwrap();
        assert_ne!(first, of(&config(directory.path())));
    }

    #[test]
    fn words_of_the_shell_are_explained() {
        assert!(hint("CREATE TABLE a (b INT);\n  delimiter //\n").contains("shell"));
        assert_eq!(hint("CREATE TABLE delimiter (b INT)"), "");
    }

    #[test]
    fn an_empty_or_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let empty = fingerprint(&config(directory.path())).unwrap_err();
        assert_eq!(empty.kind(), ErrorKind::Settings);
        assert!(
            empty
                .to_string()
                .contains(&*directory.path().to_string_lossy())
        );
        let missing = fingerprint(&config(&directory.path().join("absent"))).unwrap_err();
        assert!(missing.to_string().contains("absent"), "{missing}");
    }
}
