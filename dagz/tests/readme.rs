//! The tests in the READMEs compile, bodies included.
//!
//! Doctests are not builds of tests: they drop every `#[test]`, and what it contains is never
//! looked at. So the examples that have some are written to a file, which is built as a test.
#![cfg(feature = "postgres")]

mod nested;

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The Rust examples of `readme` that use the attribute, each as a module.
fn modules(name: &str, readme: &Path) -> String {
    let text = fs::read_to_string(readme).unwrap();
    let examples = text.split("```rust\n").skip(1).map(|rest| {
        let (example, _) = rest.split_once("```").expect("the block of code ends");
        example
    });
    let tested = examples.filter(|example| example.contains("#[dagz::test"));
    let mut modules = String::new();
    for (index, example) in tested.enumerate() {
        // A line that only doctests show begins with `# `.
        let lines = example.lines().map(str::trim_start);
        let lines: Vec<_> = lines
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .collect();
        writeln!(modules, "mod {name}_{index} {{\n{}\n}}", lines.join("\n")).unwrap();
    }
    assert!(!modules.is_empty(), "{} has no example", readme.display());
    modules
}

#[test]
fn examples_compile() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme_examples.rs");
    let mut examples = modules("package", &package.join("README.md"))
        + &modules("repository", &package.join("../README.md"));
    if cfg!(feature = "amqp") {
        examples += &modules("amqp", &package.join("../dagz-amqp/README.md"));
    }
    if cfg!(feature = "mysql") {
        examples += &modules("mysql", &package.join("../dagz-mysql/README.md"));
    }
    if cfg!(feature = "cassandra") {
        examples += &modules("cassandra", &package.join("../dagz-cassandra/README.md"));
    }
    if cfg!(feature = "redis") {
        examples += &modules("redis", &package.join("../dagz-redis/README.md"));
    }
    fs::write(&file, examples).unwrap();
    nested::build("readme_examples", &[("DAGZ_README_EXAMPLES", &file)]);
}
