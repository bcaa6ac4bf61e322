//! The proof that dagz does something, on the shop's own suite: serially it passes without dagz, in parallel without dagz
//! it fails and sees what others wrote, in parallel with dagz it passes and sees nothing.
//!
//! Each of the three runs the suite's binary as a child, on databases of its own that are dropped afterwards: those of a
//! suite that runs at the same time are left alone.

#![expect(
    clippy::unwrap_used,
    reason = "a test reports by panicking, with the line"
)]

mod stores;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use serde_json::Value;
use tempfile::TempDir;

use crate::stores::Stores;

/// Longer than any of the runs takes on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn serially_the_suite_passes_without_dagz() {
    let run = Run::of("serial", 20).child(|suite| suite.env("DAGZ", "off").arg("--test-threads=1"));
    assert!(run.status.success(), "{}", run.output);
    assert!(run.passed >= 120, "{}", run.output);
    assert!(run.audits >= 100, "only {} tests were audited", run.audits);
    assert_eq!(run.foreign, 0);
}

#[test]
fn in_parallel_the_suite_fails_without_dagz() {
    // A part is enough, and saves minutes of deadlocks; it is in the serial run as well, where it passes.
    let part = ["payments::", "fulfilment::"];
    let clash = || {
        let run = Run::of("clash", 30)
            .child(|suite| suite.env("DAGZ", "off").arg("--test-threads=8").args(part));
        assert!(!run.status.success(), "{}", run.output);
        assert!(run.failed > 0, "{}", run.output);
        run
    };
    // Where a deadlock ends every test before it is audited, there is nothing to see.
    let seen = (0..3).any(|_| clash().foreign > 0);
    assert!(seen, "the audit saw nothing in three runs");
}

#[test]
fn in_parallel_the_suite_passes_with_dagz() {
    let run = Run::of("dagz", 40);
    let vhost = run.stores.vhost();
    let run = run.child(|suite| {
        suite
            .env("DAGZ_WORKERS", "8")
            .env("AMQP_URL", vhost)
            .arg("--test-threads=8")
    });
    assert!(run.status.success(), "{}", run.output);
    assert!(run.passed >= 120, "{}", run.output);
    assert!(run.audits >= 100, "only {} tests were audited", run.audits);
    assert!(run.writes > 0, "the audit saw no writes");
    assert_eq!(run.foreign, 0);
    assert!(run.databases > 1, "tests ran on {} database", run.databases);
}

/// What a child needs, and takes with it when it is dropped.
struct Run {
    /// Of the base database, and of the project for dagz.
    name: String,
    /// Where the databases are.
    server: String,
    stores: Stores,
    folder: TempDir,
}

/// What came of a child.
struct Outcome {
    status: ExitStatus,
    output: String,
    passed: u64,
    failed: u64,
    /// Tests that were audited, their own writes, and those of others that they saw.
    audits: u64,
    writes: u64,
    foreign: u64,
    /// Worker databases that the child left.
    databases: usize,
}

impl Run {
    /// `index`: where the child's part of the Redis begins; up to the next child's is room for its workers.
    fn of(word: &str, index: u32) -> Self {
        let server = env::var("DATABASE_URL").expect(
            "`DATABASE_URL` is not set: run `cargo xtask test -p shop`, or start a server by `cargo xtask services up postgres`",
        );
        let name = format!("shop_proof_{word}_{}", process::id());
        Self {
            stores: Stores::of(&name, index),
            name,
            server,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs the suite with what `configure` adds, in an environment without the caller's settings.
    fn child(self, configure: impl FnOnce(&mut Command) -> &mut Command) -> Outcome {
        let (log, audit) = (
            self.folder.path().join("log"),
            self.folder.path().join("audit"),
        );
        let mut command = Command::new(suite());
        for (key, _) in env::vars_os() {
            let name = key.to_string_lossy();
            if name == "DAGZ"
                || ["DAGZ_", "NEXTEST", "SHOP_", "RUST_TEST_"]
                    .iter()
                    .any(|start| name.starts_with(start))
            {
                command.env_remove(&key);
            }
        }
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("DATABASE_URL", with_database(&self.server, &self.name))
            .envs(self.stores.environment())
            .env("SHOP_AUDIT_FILE", &audit)
            .env("DAGZ_STATE_DIR", self.folder.path().join("dagz"))
            .env("DAGZ_PROJECT", &self.name)
            .env("DAGZ_JOB", &self.name)
            // An unwound stack for each of many expected failures only takes time.
            .env("RUST_BACKTRACE", "0")
            .stdout(File::create(&log).unwrap())
            .stderr(File::options().append(true).open(&log).unwrap());
        let status = wait(configure(&mut command).spawn().unwrap());
        let output = fs::read_to_string(&log).unwrap();
        let (passed, failed) = summary(&output);
        let made = self.databases(&mut self.connect().unwrap()).unwrap();
        let mut outcome = Outcome {
            status,
            output,
            passed,
            failed,
            audits: 0,
            writes: 0,
            foreign: 0,
            databases: made.iter().filter(|name| name.contains("_jw")).count(),
        };
        for line in read(&audit).lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            outcome.audits += 1;
            outcome.writes += line["writes"].as_u64().unwrap();
            outcome.foreign += line["foreign"].as_u64().unwrap();
        }
        outcome
    }

    /// The databases that were made for this run: the base one, and those that dagz's stamp says are this project's.
    fn databases(&self, client: &mut Client) -> Result<Vec<String>, postgres::Error> {
        let stamped = format!("%\"project\":\"{}\"%", self.name);
        let rows = client.query(
            "SELECT datname::text FROM pg_database
             WHERE datname = $1 OR shobj_description(oid, 'pg_database') LIKE $2",
            &[&self.name, &stamped],
        )?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    fn remove(&self) -> Result<(), postgres::Error> {
        let mut client = self.connect()?;
        for name in self.databases(&mut client)? {
            // Two messages, since the second is not allowed in a transaction; and a template cannot be dropped.
            client.batch_execute(&format!("ALTER DATABASE \"{name}\" IS_TEMPLATE false"))?;
            client.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"))?;
        }
        Ok(())
    }

    fn connect(&self) -> Result<Client, postgres::Error> {
        Client::connect(&with_database(&self.server, "postgres"), NoTls)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let removed = self.remove();
        let others_removed = self.stores.remove();
        // A second panic would hide what the first one says.
        if !thread::panicking() {
            removed.unwrap();
            others_removed.unwrap();
        }
    }
}

/// The suite's binary, built by cargo if it is not yet.
fn suite() -> &'static Path {
    static SUITE: OnceLock<PathBuf> = OnceLock::new();
    SUITE.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args([
                "test",
                "--package",
                "shop",
                "--test",
                "suite",
                "--no-run",
                "--message-format=json",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let messages = String::from_utf8(built.stdout).unwrap();
        let executable = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "suite")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        executable.expect("cargo names the suite's executable")
    })
}

/// Waits for a child, but not for ever.
fn wait(mut child: process::Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the suite did not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Passed and failed of `test result: ok. 120 passed; 0 failed; …`.
fn summary(output: &str) -> (u64, u64) {
    let line = output
        .lines()
        .find(|line| line.starts_with("test result: "));
    let line = line.unwrap_or_else(|| panic!("the suite gave no result: {output}"));
    let count = |what: &str| {
        let (before, _) = line.split_once(what).unwrap();
        before
            .trim_end()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    (count("passed"), count("failed"))
}

/// The audit; empty where no test came so far.
fn read(audit: &Path) -> String {
    if audit.exists() {
        fs::read_to_string(audit).unwrap()
    } else {
        String::new()
    }
}

/// `server` with another database: of several names the last counts.
fn with_database(server: &str, name: &str) -> String {
    let separator = match (server.contains("://"), server.contains('?')) {
        (false, _) => ' ',
        (true, false) => '?',
        (true, true) => '&',
    };
    format!("{server}{separator}dbname={name}")
}
