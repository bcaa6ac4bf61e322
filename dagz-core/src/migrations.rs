//! SQL files that make a schema: found, ordered and fingerprinted, for the drivers whose servers speak SQL.
//!
//! A driver runs what [`read`] finds in a template, which [`fingerprint`] tells from those of other files. The main type
//! is [`Migration`].

use std::{
    cmp::Ordering,
    env, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result};

/// One SQL file.
#[derive(Clone, Debug)]
pub struct Migration {
    name: String,
    path: PathBuf,
    text: String,
}

impl Migration {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its statements.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The files in `directory`, below the package where that is relative, in the order of their versions: `*.sql` but for
/// `*.down.sql`, and `up.sql` of folders.
///
/// # Errors
/// [`ErrorKind::Settings`] where it or a file in it cannot be read, and where there is none.
pub fn read(directory: &Path) -> Result<Vec<Migration>> {
    read_ending(directory, "sql")
}

/// [`read`], for files whose names end in another word than `sql`.
///
/// # Errors
/// The same.
pub fn read_ending(directory: &Path, ending: &str) -> Result<Vec<Migration>> {
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
            let up = path.join(format!("up.{ending}"));
            if !up.is_file() {
                continue;
            }
            up
        } else if name.ends_with(&format!(".{ending}"))
            && !name.ends_with(&format!(".down.{ending}"))
        {
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
                "there are no migrations in `{}`: neither `*.{ending}` nor `*/up.{ending}`",
                directory.display()
            ),
        ));
    }
    migrations.sort_by(|left, right| by_version(&left.name, &right.name));
    Ok(migrations)
}

/// What databases depend on that are made by `migrations` and then by a function called `tag`, as hexadecimal digits.
///
/// `format` is the driver's: it changes whenever what an earlier version of the driver made must not be used any more.
pub fn fingerprint(format: &str, migrations: &[Migration], tag: Option<&str>) -> String {
    let mut hash = Sha256::new().chain_update(format);
    for migration in migrations {
        for part in [&migration.name, &migration.text] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    if let Some(tag) = tag {
        hash.update("migrate_with");
        hash.update(tag);
    }
    hexadecimal(&hash.finalize())
}

/// `bytes` as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let names: Vec<_> = read(directory.path())
            .unwrap()
            .into_iter()
            .map(|migration| migration.name)
            .collect();
        assert_eq!(names, ["V1__a.sql", "2_b.up.sql", "3_diesel", "10_c.sql"]);
    }

    #[test]
    fn the_fingerprint_follows_format_names_contents_and_tag() {
        let directory = tempfile::tempdir().unwrap();
        let of = |format: &str, name: &str, text: &str, tag: Option<&str>| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            let print = fingerprint(format, &read(directory.path()).unwrap(), tag);
            fs::remove_file(path).unwrap();
            print
        };
        let first = of("f", "1.sql", "a", None);
        assert_eq!(first, of("f", "1.sql", "a", None));
        for other in [
            of("g", "1.sql", "a", None),
            of("f", "2.sql", "a", None),
            of("f", "1.sql", "b", None),
            of("f", "1.sql", "a", Some("1")),
            of("f", "1.sql", "a", Some("2")),
        ] {
            assert_ne!(first, other);
        }
        assert_ne!(
            of("f", "1.sql", "a", Some("1")),
            of("f", "1.sql", "a", Some("2"))
        );
    }

    #[test]
    fn an_empty_or_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let empty = read(directory.path()).unwrap_err();
        assert_eq!(empty.kind(), ErrorKind::Settings);
        assert!(
            empty
                .to_string()
                .contains(&*directory.path().to_string_lossy())
        );
        let missing = read(&directory.path().join("absent")).unwrap_err();
        assert!(missing.to_string().contains("absent"), "{missing}");
    }
}
