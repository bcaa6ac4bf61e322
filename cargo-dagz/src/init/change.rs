//! What each file is to be: the manifest, the module that configures drivers, the test binaries, nextest's profile.
//!
//! The main type is [`Change`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use super::survey::{Survey, read};
use crate::exit::{Failure, Outcome};

/// The module that configures drivers, below `tests`.
const MODULE: &str = "databases";

/// A file, before and after.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    /// Empty where there is none.
    pub(crate) before: String,
    pub(crate) after: String,
}

impl Change {
    /// Whether it changes anything.
    pub(crate) fn is_one(&self) -> bool {
        self.before != self.after
    }
}

/// What `survey` comes to; `path` is where dagz itself is, if it is not to come from the registry.
pub(crate) fn of(survey: &Survey, path: Option<&Path>) -> Outcome<Vec<Change>> {
    let before = read(&survey.manifest)?;
    let mut changes = vec![Change {
        after: manifest(survey, &before, path)?,
        path: survey.manifest.clone(),
        before,
    }];
    let tests = survey.folder.join("tests");
    let module = tests.join(MODULE).join("mod.rs");
    let is_ours = configures(&module);
    if !is_ours && module.exists() {
        return Err(Failure::usage(format!(
            "`{}` is there and configures no driver: add `#[dagz::setup]` by hand, as dagz's README shows",
            module.display()
        )));
    }
    if !is_ours && configures(&tests) {
        // Somebody has done it by hand, and knows better.
        return Ok(changes);
    }
    let before = fs::read_to_string(&module).unwrap_or_default();
    changes.push(Change {
        // Once it is there it is theirs.
        after: match before.is_empty() {
            true => module_text(survey),
            false => before.clone(),
        },
        path: module,
        before,
    });
    if survey.tests.is_empty() {
        let path = tests.join("suite.rs");
        let text = "//! Tests that use databases; each has its own.\n\nmod databases;\n";
        let before = fs::read_to_string(&path).unwrap_or_default();
        changes.push(Change {
            after: match before.is_empty() {
                true => text.to_owned(),
                false => before.clone(),
            },
            path,
            before,
        });
    }
    for test in &survey.tests {
        let before = read(test)?;
        changes.push(Change {
            after: with_module(&before, test, &tests),
            path: test.clone(),
            before,
        });
    }
    Ok(changes)
}

/// Whether a source, or one in a folder, configures drivers.
fn configures(path: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(path) {
        return entries.flatten().any(|entry| configures(&entry.path()));
    }
    path.extension().is_some_and(|ending| ending == "rs")
        && fs::read_to_string(path).is_ok_and(|text| text.contains("#[dagz::setup]"))
}

/// The profile by which nextest tells everything in one run, where nothing is said about nextest yet.
pub(crate) fn profile(root: &Path) -> Outcome<Option<Change>> {
    let path = root.join(".config/nextest.toml");
    if path.exists() {
        return Ok(None);
    }
    let after = "# How `cargo nextest run` behaves here.\n\n[profile.default]\n# One run tells everything.\nfail-fast = false\n";
    Ok(Some(Change {
        path,
        before: String::new(),
        after: after.to_owned(),
    }))
}

/// The manifest with dagz among its dev-dependencies, and the features for its drivers.
fn manifest(survey: &Survey, text: &str, path: Option<&Path>) -> Outcome<String> {
    let unusable = |why: String| Failure::usage(format!("`{}` {why}", survey.manifest.display()));
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error| unusable(format!("is not valid TOML: {error}")))?;
    let beside = document.get("dependencies").and_then(Item::as_table);
    let position = beside.and_then(Table::position);
    let dependencies = document.entry("dev-dependencies").or_insert_with(|| {
        let mut table = Table::new();
        table.set_position(position);
        Item::Table(table)
    });
    let Some(dependencies) = dependencies.as_table_like_mut() else {
        return Err(unusable(
            "has `dev-dependencies` that are no table".to_owned(),
        ));
    };
    let mut wanted: Vec<&str> = survey.drivers.iter().map(|driver| driver.word()).collect();
    if survey.has_deadpool {
        wanted.push("deadpool");
    }
    match dependencies.get_mut("dagz") {
        None => {
            let mut dagz = InlineTable::new();
            match path {
                Some(path) => dagz.insert("path", path.display().to_string().into()),
                None => dagz.insert("version", env!("CARGO_PKG_VERSION").into()),
            };
            dagz.insert("features", Value::Array(wanted.into_iter().collect()));
            dependencies.insert("dagz", Item::Value(dagz.into()));
        }
        Some(item) => {
            if let Some(version) = item.as_str() {
                let mut dagz = InlineTable::new();
                dagz.insert("version", version.into());
                *item = Item::Value(dagz.into());
            }
            let Some(dagz) = item.as_table_like_mut() else {
                return Err(unusable("has a `dagz` that is no table".to_owned()));
            };
            let features = dagz
                .entry("features")
                .or_insert_with(|| Item::Value(Array::new().into()));
            let Some(features) = features.as_array_mut() else {
                return Err(unusable(
                    "has `features` of `dagz` that are no list".to_owned(),
                ));
            };
            for word in wanted {
                if !features.iter().any(|known| known.as_str() == Some(word)) {
                    features.push(word);
                }
            }
        }
    }
    Ok(document.to_string())
}

/// The module that configures the drivers.
fn module_text(survey: &Survey) -> String {
    let mut text = String::from(
        "//! Where dagz comes in: how each worker's databases are made. `mod databases;` in each test binary that uses one.\n\n\
         #[dagz::setup]\nfn databases() -> dagz::Result<()> {\n",
    );
    for driver in &survey.drivers {
        let (word, variable) = (driver.word(), survey.variable(*driver));
        let migrations = match &survey.migrations {
            Some((own, folder)) if own == driver => {
                format!(".migrations(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{folder}\"))")
            }
            _ => String::new(),
        };
        if migrations.is_empty() {
            text.push_str(&format!(
                "    dagz::{word}::configure(dagz::{word}::Config::new(&address(\"{variable}\")?)?)?;\n"
            ));
        } else {
            text.push_str(&format!(
                "    dagz::{word}::configure(\n        dagz::{word}::Config::new(&address(\"{variable}\")?)?\n            {migrations},\n    )?;\n"
            ));
        }
    }
    text.push_str("    Ok(())\n}\n\n/// The address in the variable `name`, with which the application is configured.\n");
    text.push_str("fn address(name: &str) -> dagz::Result<String> {\n");
    text.push_str(
        "    std::env::var(name).map_err(|_| {\n        let message = format!(\"`{name}` is not set: the tests need the address of a server\");\n        dagz::Error::new(dagz::ErrorKind::Settings, message)\n    })\n}\n\n",
    );
    let arguments = survey.drivers.iter();
    let arguments = arguments.map(|driver| format!("_{}: {}", driver.word(), driver.client()));
    let arguments: Vec<_> = arguments.collect();
    let line = format!(
        "async fn the_databases_are_there({}) {{}}\n",
        arguments.join(", ")
    );
    text.push_str("#[dagz::test]\n");
    // As rustfmt has it.
    if line.len() <= 100 {
        text.push_str(&line);
    } else {
        text.push_str("async fn the_databases_are_there(\n");
        for argument in arguments {
            text.push_str(&format!("    {argument},\n"));
        }
        text.push_str(") {\n}\n");
    }
    text
}

/// The source of a test binary with the module declared in it.
fn with_module(text: &str, source: &Path, tests: &Path) -> String {
    let is_there = |line: &str| {
        let line = line.trim_start();
        line.starts_with("mod databases;") || line.starts_with("pub mod databases;")
    };
    if text.lines().any(is_there) {
        return text.to_owned();
    }
    // From a file in `tests` the module is found by its name; from a folder below, by its path.
    let is_beside = source.parent() == Some(tests);
    let declaration = match is_beside {
        true => format!("mod {MODULE};\n"),
        false => format!("#[path = \"../{MODULE}/mod.rs\"]\nmod {MODULE};\n"),
    };
    // Below what is about the file as a whole: its documentation and its inner attributes.
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let is_of_file =
            trimmed.is_empty() || trimmed.starts_with("//") || trimmed.starts_with("#![");
        if !is_of_file {
            break;
        }
        at += line.len();
    }
    let (head, rest) = text.split_at(at);
    format!("{head}{declaration}\n{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_declared_once_and_below_what_is_about_the_file() {
        let tests = Path::new("tests");
        let text = "//! Orders.\n\n#![allow(unused)]\n\nuse shop::Order;\n";
        let once = with_module(text, Path::new("tests/orders.rs"), tests);
        assert_eq!(
            once,
            "//! Orders.\n\n#![allow(unused)]\n\nmod databases;\n\nuse shop::Order;\n"
        );
        assert_eq!(
            with_module(&once, Path::new("tests/orders.rs"), tests),
            once
        );
        let below = with_module("fn a() {}\n", Path::new("tests/suite/main.rs"), tests);
        assert!(below.starts_with("#[path = \"../databases/mod.rs\"]\nmod databases;\n"));
    }
}
