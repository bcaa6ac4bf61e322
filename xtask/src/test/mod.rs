//! `cargo xtask test`: tests of the workspace or of some crates, with the servers they need up.
//!
//! [`run_tests`] does it for `ci` as well; [`totals`] reads the runners' summaries.

mod totals;

use std::io::{IsTerminal, stderr, stdout};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

pub(crate) use self::totals::Totals;
use crate::process::{self, Stream};
use crate::services::{self, Place, Server};
use crate::{tools, workspace};

/// Longer than tests, or a compiler between two crates, are ever silent: who is so for longer hangs.
const SILENCE: Duration = Duration::from_secs(600);

/// Words after `cargo xtask test`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Test only this crate; may be repeated. Default: the whole workspace.
    #[arg(short, long = "package", value_name = "CRATE")]
    packages: Vec<String>,
    /// Who runs the tests. Only `cargo` runs the examples in documentation.
    #[arg(long, value_enum, default_value = "cargo")]
    runner: Runner,
    /// Handed to the runner: to test binaries after `cargo test --`, to `cargo nextest run`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Who runs tests.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `cargo test`: a process per test binary, a thread per test; documentation's examples as well.
    Cargo,
    /// `cargo nextest run`: a process per test. Installed where it is missing.
    Nextest,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = workspace::root()?;
    let servers = needed_servers(&root, &arguments.packages)?;
    let outcome = run_tests(
        &root,
        &arguments.packages,
        arguments.runner,
        &arguments.rest,
        &[],
        &servers,
    )?;
    drop(servers);
    eprintln!("\n{}", outcome.totals);
    if !outcome.success {
        bail!("tests failed");
    }
    Ok(())
}

/// The servers that tests of `packages` (all where there is none) need, up as long as the answer lives.
pub(crate) fn needed_servers(root: &Path, packages: &[String]) -> Result<Vec<Server>> {
    let members = workspace::members(root)?;
    let place = Place::of(root)?;
    let mut needed = Vec::new();
    for service in services::all() {
        let is_needed = if packages.is_empty() {
            members.iter().any(|member| member.name == service.driver())
        } else {
            workspace::reaches(&members, packages, service.driver())?
        };
        if is_needed {
            needed.push(*service);
        }
    }
    Server::share_all(&needed, &place)
}

/// Runs the contract of the driver that `server` is for, or all of its tests, on that server, and shows the output.
pub(crate) fn run_on_another(root: &Path, server: &Server) -> Result<Outcome> {
    let service = server.service();
    let mut command = workspace::cargo(root);
    command.args(["test", "--all-features", "--no-fail-fast"]);
    command.args(["--package", service.driver()]);
    if !service.is_unlike_the_usual() {
        command.args(["--test", "contract"]);
    }
    command.envs(server.environment());
    run_counted(command, SILENCE)
}

/// Runs the random tests of `package`, and shows their output.
pub(crate) fn run_random(root: &Path, package: &str, servers: &[Server]) -> Result<Outcome> {
    let mut command = workspace::cargo(root);
    command.args(["test", "--all-features", "--package", package]);
    command.args(["--test", "random*"]);
    for server in servers {
        command.envs(server.environment());
    }
    // As long as they are told to, without a word.
    run_counted(command, Duration::MAX)
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) totals: Totals,
    /// What the runner says by its exit code: also false where nothing compiles.
    pub(crate) success: bool,
}

/// Runs the tests of `packages` (of all where there is none) with every feature on and `environment`, and shows their
/// output.
pub(crate) fn run_tests(
    root: &Path,
    packages: &[String],
    runner: Runner,
    rest: &[String],
    environment: &[(&str, &str)],
    servers: &[Server],
) -> Result<Outcome> {
    let mut command = workspace::cargo(root);
    let mut selection = vec!["--all-features", "--no-fail-fast"];
    if packages.is_empty() {
        selection.push("--workspace");
    }
    for package in packages {
        selection.extend(["--package", package]);
    }
    match runner {
        Runner::Cargo => {
            command.arg("test").args(&selection);
            if !rest.is_empty() {
                command.arg("--").args(rest);
            }
        }
        Runner::Nextest => {
            let cargo = command.get_program().to_owned();
            let mut nextest = Command::new(tools::ready(&tools::NEXTEST)?);
            nextest.current_dir(root).env("CARGO", cargo);
            workspace::forget_own_package(&mut nextest);
            // A crate whose tests are all documentation has none here.
            nextest.args(["nextest", "run", "--no-tests=warn"]);
            nextest.args(&selection).args(rest);
            command = nextest;
        }
    }
    for server in servers {
        command.envs(server.environment());
    }
    command.envs(environment.iter().copied());
    run_counted(command, SILENCE)
}

/// Runs `command`, unless it falls silent for `silence`, and shows its output.
fn run_counted(mut command: Command, silence: Duration) -> Result<Outcome> {
    // The runner writes into our pipe and would leave colours out.
    if stdout().is_terminal() && stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut totals = Totals::default();
    let status = process::run_watched(&mut command, silence, |stream, line| {
        match stream {
            Stream::Out => println!("{line}"),
            Stream::Err => eprintln!("{line}"),
        }
        totals.read(&process::plain(line));
    })?;
    Ok(Outcome {
        totals,
        success: status.success(),
    })
}
