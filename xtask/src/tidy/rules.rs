//! The rules of [`super`]: each a function from the tree to what is wrong in it.

use super::{Tree, generated};

/// A rule.
pub(super) type Rule = fn(&Tree) -> Vec<String>;

/// Every rule there is.
pub(super) const ALL: &[Rule] = &[
    headers,
    lengths,
    workspace_lints,
    member_comments,
    member_map,
    driver_files,
    driver_places,
    readmes_compiled,
    forbidden_code,
    machine_paths,
    generated::stale,
];

/// Lines a file should have at most.
pub(super) const LENGTH_AIM: usize = 400;
/// Lines a file may have at most.
const LENGTH_LIMIT: usize = 800;
/// The lines among which a file's header must begin.
const HEADER_LINES: usize = 3;

/// Each Rust file says what it is for, before anything else.
pub(super) fn headers(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter(|(_, text)| {
            let mut first = text.lines().take(HEADER_LINES);
            !first.any(|line| line.starts_with("//!") || line.starts_with("#![doc"))
        })
        .map(|(path, _)| format!("{path}: no `//!` in the first {HEADER_LINES} lines; say the purpose, the neighbours, the main type"))
        .collect()
}

/// No file is longer than anybody can hold in mind.
pub(super) fn lengths(tree: &Tree) -> Vec<String> {
    long_files(tree)
        .filter(|(_, lines)| *lines > LENGTH_LIMIT)
        .map(|(path, lines)| format!("{path}: {lines} lines, {LENGTH_LIMIT} are the limit; make it a folder of several files"))
        .collect()
}

/// Files longer than the aim, with their lines.
pub(super) fn long_files(tree: &Tree) -> impl Iterator<Item = (&str, usize)> {
    tree.rust()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LENGTH_AIM)
}

/// Each member takes the workspace's lints.
pub(super) fn workspace_lints(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for member in &tree.members {
        let path = format!("{member}/Cargo.toml");
        let text = tree.file(&path).unwrap_or_default();
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let has = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
        if !has {
            faults.push(format!("{path}: lacks `[lints]` with `workspace = true`"));
        }
    }
    faults
}

/// The root manifest says of each member what it is, in one line.
pub(super) fn member_comments(tree: &Tree) -> Vec<String> {
    let text = tree.file("Cargo.toml").unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let is_comment = |at: Option<usize>| {
        at.and_then(|at| lines.get(at))
            .is_some_and(|line| line.starts_with('#'))
    };
    let mut faults = Vec::new();
    for member in &tree.members {
        let entry = format!("\"{member}\",");
        let Some(at) = lines.iter().position(|line| *line == entry) else {
            faults.push(format!("Cargo.toml: `members` lacks a line `{entry}`"));
            continue;
        };
        if !is_comment(at.checked_sub(1)) || is_comment(at.checked_sub(2)) {
            faults.push(format!(
                "Cargo.toml: the member `{member}` lacks its one comment line above"
            ));
        }
    }
    faults
}

/// The map names each member.
pub(super) fn member_map(tree: &Tree) -> Vec<String> {
    let map = tree.file("ARCHITECTURE.md").unwrap_or_default();
    tree.members
        .iter()
        .filter(|member| !map.contains(&format!("`{member}`")))
        .map(|member| format!("ARCHITECTURE.md: does not name `{member}`"))
        .collect()
}

/// Each driver has the same files, so that who knows one knows all.
pub(super) fn driver_files(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for driver in drivers(tree) {
        for file in [
            "README.md",
            "tests/contract.rs",
            "tests/contract.toml",
            "src/lib.rs",
        ] {
            if tree.file(&format!("{driver}/{file}")).is_none() {
                faults.push(format!("{driver}: lacks `{file}`, as every driver has"));
            }
        }
        for part in ["config", "route", "provision", "reset", "error"] {
            if !has_module(tree, driver, part) {
                faults.push(format!(
                    "{driver}: lacks `src/{part}.rs` (or a folder of that name), as every driver has"
                ));
            }
        }
    }
    faults
}

/// Each driver has its places elsewhere: a feature of the facade, a server in `xtask services`.
pub(super) fn driver_places(tree: &Tree) -> Vec<String> {
    let facade = tree.file("dagz/Cargo.toml").unwrap_or_default();
    let mut faults = Vec::new();
    for driver in drivers(tree) {
        let word = driver.trim_start_matches("dagz-");
        let is_feature = |line: &str| {
            line.split_once('=')
                .is_some_and(|(name, _)| name.trim() == word)
        };
        if !facade.lines().any(is_feature) {
            faults.push(format!("dagz/Cargo.toml: lacks the feature `{word}`"));
        }
        if !tree.served.iter().any(|served| served == driver) {
            faults.push(format!(
                "xtask/src/services: starts no server for `{driver}`"
            ));
        }
    }
    faults
}

/// Code in a README is compiled, by being the documentation of a crate.
pub(super) fn readmes_compiled(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for member in &tree.members {
        let readme = format!("{member}/README.md");
        let library = format!("{member}/src/lib.rs");
        let included = tree
            .file(&library)
            .is_some_and(|text| text.contains("include_str!(\"../README.md\")"));
        if has_rust_code(tree, &readme) && !included {
            faults.push(format!("{readme}: has Rust code that nothing compiles; `{library}` lacks `#![doc = include_str!(\"../README.md\")]`"));
        }
    }
    let included = tree.rust().any(|(path, text)| {
        path.starts_with("dagz/src/") && text.contains("include_str!(\"../../README.md\")")
    });
    if has_rust_code(tree, "README.md") && !included {
        faults.push("README.md: has Rust code that nothing compiles; the facade lacks a doctest item with `#[doc = include_str!(\"../../README.md\")]`".to_owned());
    }
    faults
}

/// Code that hides what is missing.
///
/// Attributes are not minded in the macro crates, whose business is to write them into the code of others, nor in
/// fixtures, which are suites that a test runs as a user would.
pub(super) fn forbidden_code(tree: &Tree) -> Vec<String> {
    // In parts, so that this file does not find itself.
    let attributes = [
        (
            concat!("#[", "allow("),
            "say `#[expect(…, reason = \"…\")]`",
        ),
        (
            concat!("#![", "allow("),
            "say `#![expect(…, reason = \"…\")]`",
        ),
        (concat!("#[", "ignore"), "a test runs, or it is none"),
    ];
    let unfinished = concat!("todo", "!(");
    let mut faults = Vec::new();
    let macros: Vec<_> = tree
        .members
        .iter()
        .filter(|member| {
            tree.file(&format!("{member}/Cargo.toml"))
                .is_some_and(|manifest| manifest.contains("proc-macro = true"))
        })
        .map(|member| format!("{member}/"))
        .collect();
    for (path, text) in tree.rust() {
        let is_exempt = path.contains("/tests/fixture/")
            || macros.iter().any(|folder| path.starts_with(folder));
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let mut fault = |what: &str, remedy: &str| {
                faults.push(format!("{path}:{}: `{what}`: {remedy}", number + 1));
            };
            for (attribute, remedy) in attributes {
                if !is_exempt && line.starts_with(attribute) {
                    fault(attribute, remedy);
                }
            }
            if !line.starts_with("//") && line.contains(unfinished) {
                fault(unfinished, "finish it");
            }
        }
    }
    faults
}

/// No path that exists only on the machine of whoever wrote the line.
pub(super) fn machine_paths(tree: &Tree) -> Vec<String> {
    let own = tree.root.to_string_lossy();
    let mut faults = Vec::new();
    for (path, text) in &tree.files {
        for (number, line) in text.lines().enumerate() {
            // A checkout right below `/` would be found in every other path.
            let is_own = own.matches('/').count() > 1 && names_path(line, &own, |_| true);
            let is_home = ["/home/", "/Users/"].iter().any(|homes| {
                names_path(line, homes, |rest| {
                    rest.starts_with(|first: char| first.is_ascii_alphanumeric())
                        && !rest.starts_with("linuxbrew/")
                })
            });
            if is_own || is_home || names_path(line, concat!("/ro", "ot/"), |_| true) {
                faults.push(format!(
                    "{path}:{}: a path of somebody's machine",
                    number + 1
                ));
            }
        }
    }
    faults
}

/// Whether `line` has the absolute path `start`, not as a part of a longer one, and `follows` accepts its rest.
fn names_path(line: &str, start: &str, follows: impl Fn(&str) -> bool) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let is_inner = before
            .is_some_and(|character| character.is_alphanumeric() || ".-_~}>*".contains(character));
        !is_inner && follows(&line[at + start.len()..])
    })
}

/// The members that are drivers: they route.
fn drivers(tree: &Tree) -> impl Iterator<Item = &str> {
    tree.members
        .iter()
        .map(String::as_str)
        .filter(|member| member.starts_with("dagz-") && has_module(tree, member, "route"))
}

fn has_module(tree: &Tree, member: &str, name: &str) -> bool {
    tree.file(&format!("{member}/src/{name}.rs")).is_some()
        || tree.file(&format!("{member}/src/{name}/mod.rs")).is_some()
}

fn has_rust_code(tree: &Tree, path: &str) -> bool {
    tree.file(path).is_some_and(|text| {
        text.lines()
            .any(|line| line.trim_start().starts_with("```rust"))
    })
}
