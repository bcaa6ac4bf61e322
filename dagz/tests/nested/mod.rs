//! Builds the test targets of this package that no run of the tests builds by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Builds the target `name` and gives its executable; `variables` are set for the compiler.
pub(crate) fn build(name: &str, variables: &[(&str, &Path)]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--offline", "--quiet", "--no-run"])
        .args(["--message-format", "json", "--test", name])
        .args(selection())
        .envs(variables.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("cargo runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let errors: String = messages
        .iter()
        .filter_map(|message| message["message"]["rendered"].as_str())
        .collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{stderr}");
    let executable = messages
        .iter()
        .filter(|message| {
            message["manifest_path"] == concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")
        })
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str());
    executable.expect("cargo names what it built").into()
}

/// The packages and features that this very test was most likely built with, so that what it
/// depends on is there already: the whole workspace with everything on, as in ci, or this package.
fn selection() -> &'static [&'static str] {
    let all = cfg!(all(
        feature = "postgres",
        feature = "redis",
        feature = "deadpool",
        feature = "tokio-process"
    ));
    if all {
        &["--workspace", "--all-features"]
    } else if cfg!(all(
        feature = "postgres",
        feature = "mysql",
        feature = "redis"
    )) {
        // As together with `cargo-dagz`, whose tests use all three.
        &["--package", "dagz", "--features", "postgres,mysql,redis"]
    } else if cfg!(all(feature = "postgres", feature = "redis")) {
        &["--package", "dagz", "--features", "postgres,redis"]
    } else if cfg!(feature = "postgres") {
        &["--package", "dagz", "--features", "postgres"]
    } else {
        &["--package", "dagz"]
    }
}
