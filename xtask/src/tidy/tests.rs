//! Each rule catches something bad and spares the good; and the tree that this is in is tidy.

use super::rules::*;
use super::*;

/// A tree of a driver and nothing else, with nothing wrong.
fn tidy_tree() -> Tree {
    let mut tree = Tree {
        root: PathBuf::from("/srv/checkouts/dagz"),
        members: vec!["dagz".to_owned(), "dagz-rows".to_owned()],
        served: vec!["dagz-rows".to_owned()],
        ..Tree::default()
    };
    let manifest = "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n";
    let members =
        "members = [\n    # The facade.\n    \"dagz\",\n    # Rows.\n    \"dagz-rows\",\n]\n";
    let library = "//! Rows.\n#![doc = include_str!(\"../README.md\")]\n";
    for (path, text) in [
        ("Cargo.toml", members),
        ("ARCHITECTURE.md", "`dagz` stands on `dagz-rows`.\n"),
        ("README.md", "```rust\nfn main() {}\n```\n"),
        (
            "dagz/Cargo.toml",
            &format!("{manifest}[features]\nrows = []\n"),
        ),
        (
            "dagz/src/lib.rs",
            "//! Facade.\n#[doc = include_str!(\"../../README.md\")]\nstruct Readme;\n",
        ),
        ("dagz-rows/Cargo.toml", manifest),
        ("dagz-rows/README.md", "```rust,no_run\nfn main() {}\n```\n"),
        ("dagz-rows/src/lib.rs", library),
        ("dagz-rows/src/config.rs", "//! Config.\n"),
        ("dagz-rows/src/route.rs", "//! Route.\n"),
        ("dagz-rows/src/provision/mod.rs", "//! Provision.\n"),
        ("dagz-rows/src/reset.rs", "//! Reset.\n"),
        ("dagz-rows/src/error.rs", "//! Error.\n"),
        ("dagz-rows/tests/contract.rs", "//! Contract.\n"),
        ("dagz-rows/tests/ui/wrong.rs", "fn main() {}\n"),
    ] {
        tree.files.insert(path.to_owned(), text.to_owned());
    }
    tree
}

/// The one fault that `rule` finds once `path` has `text`; and no other rule minds the tidy tree.
#[track_caller]
fn check(rule: Rule, path: &str, text: Option<&str>, expected: &str) {
    let mut tree = tidy_tree();
    assert_eq!(tree.faults(), Vec::<String>::new(), "the tidy tree is not");
    match text {
        Some(text) => tree.files.insert(path.to_owned(), text.to_owned()),
        None => tree.files.remove(path),
    };
    let faults = rule(&tree);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains(expected), "{faults:#?}");
}

#[test]
fn tree_is_tidy() {
    let tree = Tree::of(&workspace::root().unwrap()).unwrap();
    assert!(tree.file("xtask/src/tidy/tests.rs").is_some());
    let faults = tree.faults();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_file_without_header() {
    let late = "\n\n\n//! Too late.\n";
    check(
        headers,
        "dagz/src/name.rs",
        Some(late),
        "dagz/src/name.rs: no `//!`",
    );
}

#[test]
fn a_file_too_long() {
    let long = format!("//! Long.\n{}", "// line\n".repeat(800));
    check(lengths, "dagz/src/name.rs", Some(&long), "801 lines");
}

#[test]
fn a_member_with_lints_of_its_own() {
    let own = "[lints]\nrust.missing_docs = \"warn\"\n";
    check(
        workspace_lints,
        "dagz/Cargo.toml",
        Some(own),
        "dagz/Cargo.toml",
    );
    check(workspace_lints, "dagz/Cargo.toml", None, "dagz/Cargo.toml");
}

#[test]
fn a_member_without_comment() {
    let without = "members = [\n    # The facade.\n    \"dagz\",\n    \"dagz-rows\",\n]\n";
    check(member_comments, "Cargo.toml", Some(without), "`dagz-rows`");
    let two = "members = [\n    # The\n    # facade.\n    \"dagz\",\n    # Rows.\n    \"dagz-rows\",\n]\n";
    check(member_comments, "Cargo.toml", Some(two), "`dagz`");
    let absent = "members = [\n    # The facade.\n    \"dagz\",\n]\n";
    check(member_comments, "Cargo.toml", Some(absent), "lacks a line");
}

#[test]
fn a_member_that_the_map_forgets() {
    check(
        member_map,
        "ARCHITECTURE.md",
        Some("`dagz` only.\n"),
        "`dagz-rows`",
    );
}

#[test]
fn a_driver_that_lacks_a_file() {
    for path in [
        "dagz-rows/README.md",
        "dagz-rows/tests/contract.rs",
        "dagz-rows/src/config.rs",
        "dagz-rows/src/provision/mod.rs",
    ] {
        check(driver_files, path, None, "dagz-rows: lacks");
    }
}

#[test]
fn a_driver_that_lacks_its_places() {
    check(
        driver_places,
        "dagz/Cargo.toml",
        Some("[features]\n"),
        "feature `rows`",
    );
    let mut tree = tidy_tree();
    tree.served.clear();
    assert_eq!(
        driver_places(&tree),
        ["xtask/src/services: starts no server for `dagz-rows`"]
    );
}

#[test]
fn a_readme_that_nothing_compiles() {
    check(
        readmes_compiled,
        "dagz-rows/src/lib.rs",
        Some("//! Rows.\n"),
        "dagz-rows/README.md",
    );
    check(
        readmes_compiled,
        "dagz/src/lib.rs",
        Some("//! Facade.\n"),
        "README.md: has",
    );
}

#[test]
fn code_that_hides_what_is_missing() {
    for bad in [
        concat!("    #[", "allow(dead_code)]"),
        concat!("#![", "allow(dead_code)]"),
        concat!("#[", "ignore]"),
        concat!("#[", "ignore = \"slow\"]"),
        concat!("let a = todo", "!();"),
    ] {
        let text = format!("//! Header.\n{bad}\n");
        check(
            forbidden_code,
            "dagz/src/name.rs",
            Some(&text),
            "dagz/src/name.rs:2",
        );
    }
    let spoken_of = concat!(
        "//! Header.\n/// `#[",
        "ignore]` works; no todo",
        "!() here.\n"
    );
    let mut tree = tidy_tree();
    tree.files
        .insert("dagz/src/name.rs".to_owned(), spoken_of.to_owned());
    // Written into the code of others, and a suite that a test runs.
    let ignored = concat!("//! Header.\n#[", "ignore]\n");
    let manifest = "[lib]\nproc-macro = true\n[lints]\nworkspace = true\n[features]\nrows = []\n";
    for (path, text) in [
        ("dagz/Cargo.toml", manifest),
        ("dagz/src/expand.rs", ignored),
        ("dagz-rows/tests/fixture/main.rs", ignored),
    ] {
        tree.files.insert(path.to_owned(), text.to_owned());
    }
    assert!(tree.faults().is_empty(), "{:?}", tree.faults());
}

#[test]
fn a_path_of_a_machine() {
    for bad in [
        concat!("see /ho", "me/jane/dagz"),
        concat!("\"/Us", "ers/jane/dagz\""),
        concat!("(/ro", "ot/.cargo)"),
        "cd /srv/checkouts/dagz",
    ] {
        check(machine_paths, "NOTES.md", Some(bad), "NOTES.md:1");
    }
    let mut tree = tidy_tree();
    let good = "https://example.org/home/page $TMP/scratch/x /home/ /usr/lib /srv/checkouts\n";
    tree.files.insert("NOTES.md".to_owned(), good.to_owned());
    assert!(tree.faults().is_empty(), "{:?}", tree.faults());
}
