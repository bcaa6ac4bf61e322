//! [`Runner::command`](super::Runner): how a run of the suite is started, and what its words at the end mean.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    PROJECT, Runner, base,
    strategy::{Program, Strategy, TRANSACTION, TRANSACTION_KEPT, TRANSACTION_NEXTEST},
};

impl Runner {
    pub(super) fn command(&self, strategy: Strategy) -> Result<Command> {
        let arguments = &self.arguments;
        let program = |path: &Option<PathBuf>| {
            let path = path.as_ref().context("the binary is missing")?;
            anyhow::Ok(Command::new(path))
        };
        let mut command = match strategy.program {
            Program::Dagz => program(&arguments.dagz)?,
            Program::Sqlx => program(&arguments.sqlx)?,
            Program::ByHand => program(&arguments.by_hand)?,
            Program::NextestDagz | Program::NextestByHand => {
                let [program, cargo, dagz, by_hand] = arguments.nextest.as_slice() else {
                    bail!("`--nextest` takes a program and three files, each with its own word");
                };
                let binaries = match strategy.program.is_dagz() {
                    true => dagz,
                    false => by_hand,
                };
                let mut command = Command::new(program);
                command.args(["nextest", "run", "--cargo-metadata"]);
                command.arg(cargo).arg("--binaries-metadata").arg(binaries);
                command.args(["--status-level=none", "--hide-progress-bar"]);
                command
            }
        };
        command
            .arg(format!("--test-threads={}", strategy.workers))
            .arg(&arguments.filter);
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name == "DAGZ"
                || ["DAGZ_", "RUST_TEST_", "NEXTEST"]
                    .iter()
                    .any(|own| name.starts_with(own))
            {
                command.env_remove(&key);
            }
        }
        let rerouted = base();
        let name = match strategy.name {
            _ if strategy.program.is_dagz() => &rerouted,
            TRANSACTION | TRANSACTION_KEPT | TRANSACTION_NEXTEST => &self.databases.rolled_back,
            "template-clone" => &self.databases.template,
            _ => &self.databases.by_hand,
        };
        let mut url = self.url.clone();
        url.set_path(name);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
            .env("DATABASE_URL", self.url.as_str())
            .env("DAGZ_BENCH_URL", url.as_str())
            .env("DAGZ_BENCH_STRATEGY", strategy.name)
            .env("DAGZ_PROJECT", PROJECT)
            .env("DAGZ_STATE_DIR", self.state.path())
            .env("DAGZ_WORKERS", strategy.workers.to_string())
            .env("RUST_BACKTRACE", "0");
        if !strategy.program.is_nextest() {
            // What a cargo that started it would be known by: each run is a job of its own.
            let number = self.state.path().join("runs");
            command.env("DAGZ_JOB", next(&number)?);
        }
        Ok(command)
    }
}

/// A word that no earlier call gave.
fn next(counter: &Path) -> Result<String> {
    let number: usize = std::fs::read_to_string(counter).map_or(Ok(0), |text| text.parse())?;
    std::fs::write(counter, (number + 1).to_string())?;
    Ok(format!("bench-{number}"))
}

/// How many tests passed, by the summary of libtest or of nextest; none where one failed.
pub(super) fn passed(text: &str) -> Option<usize> {
    let of = |text: &str| text.split_whitespace().next()?.parse().ok();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("test result: ok. ") {
            return of(rest);
        }
        if let Some((_, rest)) = line.split_once(" tests run: ")
            && !rest.contains("failed")
        {
            return of(rest);
        }
    }
    None
}

pub(super) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners() {
        let libtest = "\ntest result: ok. 500 passed; 0 failed; 0 ignored; finished in 1.2s\n";
        assert_eq!(passed(libtest), Some(500));
        let failed = "test result: FAILED. 499 passed; 1 failed; 0 ignored";
        assert_eq!(passed(failed), None);
        let nextest = "     Summary [   3.9s] 500 tests run: 500 passed, 0 skipped";
        assert_eq!(passed(nextest), Some(500));
        let failed = "     Summary [   3.9s] 500 tests run: 499 passed, 1 failed, 0 skipped";
        assert_eq!(passed(failed), None);
    }

    #[test]
    fn each_run_has_a_word_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let counter = folder.path().join("runs");
        assert_eq!(next(&counter).unwrap(), "bench-0");
        assert_eq!(next(&counter).unwrap(), "bench-1");
    }
}
