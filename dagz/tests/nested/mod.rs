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
        .args(["--message-format", "json", "--package", "dagz"])
        .args(["--test", name])
        .envs(variables.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if cfg!(feature = "postgres") {
        // As this very test was built: everything else is there already.
        command.args(["--features", "postgres"]);
    }
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
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str());
    executable.expect("cargo names what it built").into()
}
