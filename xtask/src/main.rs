//! `cargo xtask <command>`: the one entrance for automation of this workspace.
//!
//! One file or folder per command; what they share is in [`workspace`] (where things are), [`process`] (running
//! commands, Ctrl-C), [`services`] (private servers) and [`tools`] (cargo subcommands installed on demand).
//! It depends on no crate of the workspace, so that it builds while they do not.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command talks to its user"
)]

#[cfg(not(unix))]
compile_error!("xtask runs private servers by unix means; on Windows use WSL");

mod bench;
mod ci;
mod demo;
mod process;
mod progress;
mod services;
mod soak;
mod test;
mod tidy;
mod tools;
mod wait;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Automation of the dagz workspace.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start, stop and list the private servers that tests use.
    Services(services::command::Arguments),
    /// Run tests with the servers they need up.
    Test(test::Arguments),
    /// Run the drivers' random tests again and again, for an hour.
    Soak(soak::Arguments),
    /// Run every check and test, as continuous integration does.
    Ci(ci::Arguments),
    /// Run the example's suite as people do today, serially with dagz, and on many workers; print a comparison.
    Demo(demo::Arguments),
    /// Measure what dagz costs beside what people use today; print tables, write JSON and plots.
    Bench(bench::Arguments),
    /// Check the house rules that no compiler checks.
    Tidy(tidy::Arguments),
}

fn main() -> ExitCode {
    let outcome = process::watch_signals().and_then(|()| match Arguments::parse().command {
        Command::Services(arguments) => services::command::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Ci(arguments) => ci::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Tidy(arguments) => tidy::run(&arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if process::interrupted() {
                ExitCode::from(130)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
