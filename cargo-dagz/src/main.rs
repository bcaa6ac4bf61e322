#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! One file per subcommand; what they share is in `place.rs` (which workspace, which jobs), `service.rs` (which
//! servers), `database.rs` (any driver's databases), `screen.rs` (tables, colours, times) and `exit.rs` (exit codes).

#![expect(clippy::print_stderr, reason = "a command talks to its user")]

mod clean;
mod database;
mod doctor;
mod exit;
mod init;
mod jobs;
mod logs;
mod place;
mod screen;
mod service;
mod test;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// Run, see, understand and clean up after tests that dagz gives databases to.
#[derive(Parser, Debug)]
#[command(name = "cargo dagz", bin_name = "cargo dagz", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Add dagz to the tests of this workspace, after showing what that changes.
    Init(init::Arguments),
    /// Run the tests on workers, by nextest or by cargo.
    Test(test::Arguments),
    /// List recent jobs, those of a plain `cargo test` too.
    Jobs(jobs::Arguments),
    /// Show what happened in a job, per worker and test.
    Logs(logs::Arguments),
    /// Look whether tests will find what they need, and what ailed the last job.
    Doctor(doctor::Arguments),
    /// Drop what dagz made for this project and no live run owns.
    Clean(clean::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse_from(words()).command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Jobs(arguments) => jobs::run(&arguments),
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Clean(arguments) => clean::run(&arguments),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// The words of the command line; cargo repeats the name of the subcommand, and a shell does not.
fn words() -> Vec<OsString> {
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "dagz") {
        words.remove(1);
    }
    words
}
