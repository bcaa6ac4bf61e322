//! What a package has: servers it uses, where their addresses and migrations are, its test binaries.
//!
//! The main type is [`Survey`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{Dependency, DependencyKind, Package, TargetKind};

use crate::{
    exit::{Failure, Outcome},
    screen::say,
};

/// A driver of dagz, by its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Driver {
    Amqp,
    Cassandra,
    Mysql,
    Postgres,
    Redis,
}

impl Driver {
    const ALL: [Self; 5] = [
        Self::Amqp,
        Self::Cassandra,
        Self::Mysql,
        Self::Postgres,
        Self::Redis,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Cassandra => "cassandra",
            Self::Mysql => "mysql",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    /// The client that a test takes as its argument.
    pub(crate) fn client(self) -> &'static str {
        match self {
            Self::Amqp => "dagz::amqp::lapin::Connection",
            Self::Cassandra => "std::sync::Arc<dagz::cassandra::scylla::client::session::Session>",
            Self::Mysql => "dagz::mysql::Conn",
            Self::Postgres => "dagz::postgres::Client",
            Self::Redis => "dagz::redis::redis::aio::MultiplexedConnection",
        }
    }

    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Amqp => &["amqp", "amqps"],
            Self::Cassandra => &["cassandra", "scylla"],
            Self::Mysql => &["mysql", "mariadb"],
            Self::Postgres => &["postgres", "postgresql"],
            Self::Redis => &["redis", "rediss", "valkey", "valkeys"],
        }
    }

    fn usual_variable(self) -> &'static str {
        match self {
            Self::Amqp => "AMQP_URL",
            Self::Cassandra => "CASSANDRA_URL",
            Self::Mysql | Self::Postgres => "DATABASE_URL",
            Self::Redis => "REDIS_URL",
        }
    }

    /// The drivers behind a dependency: libraries for several servers say by features which.
    fn behind(dependency: &Dependency) -> Vec<Self> {
        let by_features = |dependency: &Dependency| {
            let has = |wanted: &[&str]| {
                dependency.features.iter().any(|feature| {
                    let word = feature.trim_start_matches("sqlx-");
                    wanted.contains(&word)
                })
            };
            let mut drivers = Vec::new();
            if has(&["postgres", "postgres_backend"]) {
                drivers.push(Self::Postgres);
            }
            if has(&["mysql", "mysql_backend"]) {
                drivers.push(Self::Mysql);
            }
            drivers
        };
        match dependency.name.as_str() {
            "tokio-postgres" | "postgres" | "deadpool-postgres" | "bb8-postgres"
            | "r2d2_postgres" => vec![Self::Postgres],
            "mysql_async" | "mysql" => vec![Self::Mysql],
            "redis" | "deadpool-redis" | "bb8-redis" | "fred" => vec![Self::Redis],
            "lapin" | "deadpool-lapin" | "amqprs" => vec![Self::Amqp],
            "scylla" | "cdrs-tokio" => vec![Self::Cassandra],
            "sqlx" | "diesel" | "diesel-async" | "sea-orm" => by_features(dependency),
            _ => Vec::new(),
        }
    }
}

/// What a package has.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) drivers: BTreeSet<Driver>,
    pub(crate) has_deadpool: bool,
    /// The variable that holds each server's address, and where that was seen.
    pub(crate) variables: BTreeMap<Driver, (String, String)>,
    /// The folder of SQL files, below the package where it is there.
    pub(crate) migrations: Option<(Driver, String)>,
    /// The sources of its test binaries.
    pub(crate) tests: Vec<PathBuf>,
    /// What a person has to look at.
    notes: Vec<String>,
}

impl Survey {
    /// That of `package`; `None` where it uses no server that dagz knows.
    pub(crate) fn of(package: &Package, root: &Path) -> Outcome<Option<Self>> {
        let used = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Build);
        let drivers: BTreeSet<_> = used.clone().flat_map(Driver::behind).collect();
        let Some(folder) = package.manifest_path.parent() else {
            return Ok(None);
        };
        if drivers.is_empty() {
            return Ok(None);
        }
        let has = |name: &str| used.clone().any(|dependency| dependency.name == name);
        let folder = folder.as_std_path().to_owned();
        let pools = ["deadpool-postgres", "deadpool-redis", "deadpool-lapin"];
        let mut survey = Self {
            name: package.name.to_string(),
            manifest: package.manifest_path.as_std_path().to_owned(),
            has_deadpool: pools.into_iter().any(has),
            variables: variables(&drivers, &folder, root),
            migrations: None,
            tests: Vec::new(),
            notes: Vec::new(),
            drivers,
            folder,
        };
        survey.find_migrations(root);
        survey.find_tests(package)?;
        Ok(Some(survey))
    }

    /// Says what was found.
    pub(crate) fn tell(&self) {
        let words: Vec<_> = self.drivers.iter().map(|driver| driver.word()).collect();
        say!("{}: uses {}", self.name, words.join(", "));
        for (driver, (variable, origin)) in &self.variables {
            say!("  {}: address in `{variable}`, {origin}", driver.word());
        }
        if let Some((driver, folder)) = &self.migrations {
            say!("  {}: migrations in `{folder}`", driver.word());
        }
        for (variable, _) in self.variables.values() {
            if std::env::var_os(variable).is_none() {
                say!("  note: `{variable}` is not set here, and the tests need it");
            }
        }
        for note in &self.notes {
            say!("  note: {note}");
        }
    }

    /// The variable for the address of `driver`.
    pub(crate) fn variable(&self, driver: Driver) -> &str {
        self.variables
            .get(&driver)
            .map_or(driver.usual_variable(), |(variable, _)| variable)
    }

    fn find_migrations(&mut self, root: &Path) {
        let sql = self
            .drivers
            .iter()
            .filter(|driver| matches!(driver, Driver::Postgres | Driver::Mysql));
        let sql: Vec<_> = sql.copied().collect();
        let Some(first) = sql.first().copied() else {
            return;
        };
        let found = ["migrations", "db/migrations", "sql/migrations"]
            .into_iter()
            .find(|name| has_sql(&self.folder.join(name)))
            .map(str::to_owned);
        let above = pathdiff(root, &self.folder).map(|up| format!("{up}migrations"));
        let found = found.or_else(|| above.filter(|name| has_sql(&self.folder.join(name))));
        match (found, sql.len()) {
            (Some(folder), 1) => self.migrations = Some((first, folder)),
            (Some(folder), _) => self.notes.push(format!(
                "`{folder}` is of Postgres or of MySQL: add `.migrations(..)` to the one it is of"
            )),
            (None, _) => self.notes.push(
                "no folder `migrations` with SQL files: a worker's database is a copy of the base database, or what `.migrate_with(..)` makes".to_owned(),
            ),
        }
    }

    fn find_tests(&mut self, package: &Package) -> Outcome<()> {
        let text = read(&self.manifest)?;
        let without_harness = |name: &str| {
            let manifest: Option<toml_edit::DocumentMut> = text.parse().ok();
            manifest.is_some_and(|manifest| {
                let tests = manifest
                    .get("test")
                    .and_then(|item| item.as_array_of_tables());
                tests.is_some_and(|tests| {
                    tests.iter().any(|test| {
                        test.get("name").and_then(|item| item.as_str()) == Some(name)
                            && test.get("harness").and_then(|item| item.as_bool()) == Some(false)
                    })
                })
            })
        };
        for target in &package.targets {
            if !target.kind.contains(&TargetKind::Test) {
                continue;
            }
            if without_harness(&target.name) {
                self.notes.push(format!(
                    "the test `{}` has a harness of its own: enter a `dagz::Scope` in it",
                    target.name
                ));
                continue;
            }
            self.tests.push(target.src_path.as_std_path().to_owned());
        }
        Ok(())
    }
}

/// Reads a file that has to be there.
pub(crate) fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path)
        .map_err(|error| Failure::environment(format!("cannot read `{}`: {error}", path.display())))
}

/// `../../`, from `folder` up to `root`; `None` where they are the same.
fn pathdiff(root: &Path, folder: &Path) -> Option<String> {
    let below = folder.strip_prefix(root).ok()?;
    let depth = below.components().count();
    (depth > 0).then(|| "../".repeat(depth))
}

/// Whether `folder` has migrations that dagz can read.
fn has_sql(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|ending| ending == "sql") || path.join("up.sql").is_file()
    })
}

/// The variables that hold addresses, by what the environment and usual files say; of values, only the scheme counts.
fn variables(
    drivers: &BTreeSet<Driver>,
    folder: &Path,
    root: &Path,
) -> BTreeMap<Driver, (String, String)> {
    let mut seen: Vec<(String, String, String)> = Vec::new();
    let mut files = Vec::new();
    for place in [folder, root] {
        for name in [".env", ".env.test", ".env.example", ".gitlab-ci.yml"] {
            files.push(place.join(name));
        }
        if let Ok(workflows) = fs::read_dir(place.join(".github/workflows")) {
            files.extend(workflows.flatten().map(|entry| entry.path()));
        }
    }
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let shown = path.strip_prefix(root).unwrap_or(&path);
        let origin = format!("as in `{}`", shown.display());
        let pairs = text.lines().filter_map(pair);
        seen.extend(pairs.map(|(name, value)| (name, value, origin.clone())));
    }
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        // dagz's own are for dagz.
        (!name.starts_with("DAGZ_")).then(|| (name, value, "as in the environment".to_owned()))
    });
    seen.extend(environment);
    let mut variables = BTreeMap::new();
    for driver in Driver::ALL {
        if !drivers.contains(&driver) {
            continue;
        }
        let mut own = seen.iter().filter(|(_, value, _)| {
            let scheme = value.split_once("://").map(|(scheme, _)| scheme);
            scheme.is_some_and(|scheme| driver.schemes().contains(&scheme))
        });
        let usual = own
            .clone()
            .find(|(name, ..)| name == driver.usual_variable());
        if let Some((name, _, origin)) = usual.or_else(|| own.next()) {
            variables.insert(driver, (name.clone(), origin.clone()));
        }
    }
    variables
}

/// `NAME=value`, `export NAME="value"` or `NAME: value`, apart.
fn pair(line: &str) -> Option<(String, String)> {
    let line = line.trim().trim_start_matches("- ");
    let line = line.strip_prefix("export ").unwrap_or(line);
    let end = line.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, rest) = line.split_at(end);
    let value = rest.trim_start().strip_prefix(['=', ':'])?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_usual_files_are_read() {
        let told = [
            "DATABASE_URL=postgres://a/b",
            "export DATABASE_URL=\"postgres://a/b\"",
            "    DATABASE_URL: 'postgres://a/b'",
            "      - DATABASE_URL=postgres://a/b",
        ]
        .map(|line| pair(line).unwrap());
        for (name, value) in told {
            assert_eq!((&*name, &*value), ("DATABASE_URL", "postgres://a/b"));
        }
        assert_eq!(pair("# DATABASE_URL=x"), None);
        assert_eq!(pair("run: cargo test"), None);
    }
}
