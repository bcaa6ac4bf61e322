//! [`Built`]: `dagz-bench` and the test binaries of its suite, as cargo made them, and what nextest is told of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process::{self, Stream};
use crate::progress::Progress;
use crate::{tools, workspace};

const PACKAGE: &str = "dagz-bench";

/// The test binaries of the suite, with the word by which the program is told of each.
const SUITES: [(&str, &str); 3] = [
    ("suite_dagz", "--dagz"),
    ("suite_sqlx", "--sqlx"),
    ("suite_by_hand", "--by-hand"),
];

/// How it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// As figures are taken.
    Release,
    /// As everything else in `ci` is.
    Dev,
}

/// What was built.
#[derive(Debug)]
pub(super) struct Built {
    root: PathBuf,
    /// By the name of their target.
    executables: BTreeMap<String, PathBuf>,
    /// The program, what cargo says of the workspace, and what nextest says of the binary with dagz and of the one by
    /// hand.
    nextest: Option<[PathBuf; 4]>,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl Built {
    /// Builds the program, and the suites where they are needed; what nextest needs goes to `folder`.
    pub(super) fn build(
        root: &Path,
        folder: &Path,
        has_suites: bool,
        profile: Profile,
    ) -> Result<Self> {
        let mut built = Self {
            root: root.to_path_buf(),
            executables: BTreeMap::new(),
            nextest: None,
        };
        // An integration test has the program built beside it, with the features that tests have: so nothing is built
        // twice, neither here nor in `ci`, which has built the tests of the whole workspace before.
        let mut words = vec!["test", "--no-run"];
        match profile {
            Profile::Release => words.extend(["--release", "-p", PACKAGE]),
            Profile::Dev => words.extend(["--workspace", "--all-features"]),
        }
        match has_suites {
            true => {
                for (suite, _) in SUITES {
                    words.extend(["--test", suite]);
                }
            }
            false => words.extend(["--test", "rows"]),
        }
        built.cargo(&words)?;
        if has_suites {
            built.nextest = Some(nextest(root, folder)?);
        }
        Ok(built)
    }

    fn cargo(&mut self, words: &[&str]) -> Result<()> {
        let mut command = workspace::cargo(&self.root);
        command.args(words);
        command.arg("--message-format=json-render-diagnostics");
        let mut progress = Progress::new("building the benchmark");
        let mut said = Vec::new();
        let status = process::run_lines(&mut command, |stream, line| match stream {
            Stream::Err => {
                progress.advance(line.trim());
                said.push(line.to_owned());
            }
            Stream::Out => self.executables.extend(executable_in(line)),
        })?;
        drop(progress);
        ensure!(
            status.success(),
            "the benchmark does not build:\n{}",
            said[said.len().saturating_sub(40)..].join("\n")
        );
        Ok(())
    }

    /// The program.
    pub(super) fn command(&self) -> Command {
        let program = self.executables.get(PACKAGE);
        let mut command = Command::new(program.map_or(Path::new(PACKAGE), PathBuf::as_path));
        command.current_dir(&self.root).env("RUST_BACKTRACE", "0");
        workspace::forget_own_package(&mut command);
        command
    }

    /// Tells `add` where the suites are.
    pub(super) fn suites(&self, add: &mut impl FnMut(&str, String)) {
        for (suite, word) in SUITES {
            if let Some(path) = self.executables.get(suite) {
                add(word, path.display().to_string());
            }
        }
        for path in self.nextest.iter().flatten() {
            add("--nextest", path.display().to_string());
        }
    }
}

fn executable_in(line: &str) -> Option<(String, PathBuf)> {
    let message: Message = serde_json::from_str(line).ok()?;
    let is_artifact = message.reason == "compiler-artifact";
    let found = (message.target?.name, message.executable?);
    is_artifact.then_some(found)
}

/// Has nextest list the suite's binaries, so that it builds nothing while they are measured.
fn nextest(root: &Path, folder: &Path) -> Result<[PathBuf; 4]> {
    let program = tools::ready(&tools::NEXTEST)?;
    let cargo = workspace::cargo(root);
    let list = |suite: &str| {
        let path = folder.join(format!("nextest-{suite}.json"));
        let mut list = Command::new(&program);
        list.current_dir(root).env("CARGO", cargo.get_program());
        workspace::forget_own_package(&mut list);
        list.args(["nextest", "list", "--release", "-p", PACKAGE]);
        list.args(["--test", suite]);
        list.args(["--list-type=binaries-only", "--message-format=json"]);
        write_output(list, &path)?;
        anyhow::Ok(path)
    };
    let [dagz, by_hand] = [list("suite_dagz")?, list("suite_by_hand")?];
    let metadata = folder.join("cargo-metadata.json");
    let mut command = workspace::cargo(root);
    command.args(["metadata", "--format-version=1", "--offline"]);
    write_output(command, &metadata)?;
    Ok([program, metadata, dagz, by_hand])
}

fn write_output(mut command: Command, path: &Path) -> Result<()> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .with_context(|| format!("failed to run {shown}"))?;
    ensure!(
        output.status.success(),
        "{shown} failed:\n{}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    fs::write(path, output.stdout).with_context(|| format!("failed to write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_among_cargos_messages() {
        let line = |reason: &str, executable: &str| {
            format!(
                r#"{{"reason":"{reason}","target":{{"name":"suite_dagz"}},"executable":{executable}}}"#
            )
        };
        assert_eq!(
            executable_in(&line("compiler-artifact", r#""/t/suite""#)),
            Some(("suite_dagz".to_owned(), "/t/suite".into()))
        );
        assert_eq!(executable_in(&line("compiler-artifact", "null")), None);
        assert_eq!(executable_in(&line("other", r#""/t/suite""#)), None);
        assert_eq!(executable_in(r#"{"reason":"build-finished"}"#), None);
    }
}
