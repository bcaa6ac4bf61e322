//! The tests in the READMEs compile, bodies included.
//!
//! Doctests are not builds of tests: they drop every `#[test]`, and what it contains is never
//! looked at. So the examples that have some are written to files here, and checked as such.
#![cfg(feature = "postgres")]

use std::fs;
use std::path::Path;

/// Checks every Rust example of `readme` that uses an attribute of dagz, and tells how many there
/// are.
fn check(readme: &Path, cases: &trybuild::TestCases, directory: &Path) -> usize {
    let text = fs::read_to_string(readme).unwrap();
    let examples = text.split("```rust\n").skip(1).map(|rest| {
        let (example, _) = rest.split_once("```").expect("the block of code ends");
        example
    });
    let mut checked = 0;
    for example in examples.filter(|example| example.contains("#[dagz::test")) {
        checked += 1;
        let file = directory.join(format!("example_{checked}.rs"));
        fs::write(&file, standalone(example)).unwrap();
        cases.pass(file);
    }
    checked
}

/// The example as a program: lines that only doctests show, a `main`, and every test kept.
fn standalone(example: &str) -> String {
    let mut program = String::new();
    for line in example.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        program.push_str(line);
        program.push('\n');
        if line.trim_start().starts_with("#[dagz::test") {
            // A tool attribute, which the compiler ignores; without one that ends in `test`,
            // the macro adds `#[test]`, and the function would be dropped after all.
            program.push_str("#[rustfmt::test]\n");
        }
    }
    if !program.contains("fn main()") {
        program.push_str("fn main() {}\n");
    }
    program
}

#[test]
fn examples_compile() {
    let cases = trybuild::TestCases::new();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, readme) in [
        ("crate", package.join("README.md")),
        ("repository", package.join("../README.md")),
    ] {
        let directory = target.join("readme").join(name);
        fs::create_dir_all(&directory).unwrap();
        assert_ne!(
            check(&readme, &cases, &directory),
            0,
            "{readme:?} has no example"
        );
    }
}
