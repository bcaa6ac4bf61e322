//! What does not isolate has no figure, in any group.
//!
//! This binary is also a suite as `dagz-bench suite` runs it, whose tests roll back under one strategy and under another
//! leave to each other what they wrote: the program must tell the two apart.

use std::{
    env,
    process::{Command, ExitCode, Output},
};

use anyhow::{Context as _, Result, ensure};
use dagz::postgres::tokio_postgres::Config;
use dagz_bench::suite;
use libtest_mimic::{Arguments, Failed, Trial};

/// Its tests roll back here.
const CLEAN: &str = "transaction";

/// Nobody cleans here.
const UNCLEAN: &str = "count-truncate";

fn main() -> ExitCode {
    let trials = match env::var("DAGZ_BENCH_STRATEGY") {
        Ok(strategy) => cases(strategy == CLEAN),
        Err(_) => vec![
            Trial::test("a_suite_whose_tests_meet", || {
                told(a_suite_whose_tests_meet())
            }),
            Trial::test("overhead_of_what_does_not_clean", || {
                told(of_what_does_not_clean("overhead", "rows and wrote"))
            }),
            Trial::test("scale_of_what_does_not_clean", || {
                told(of_what_does_not_clean("scale", "rows before its own"))
            }),
        ],
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn told(outcome: Result<()>) -> Result<(), Failed> {
    outcome.map_err(|error| format!("{error:#}").into())
}

/// The suite's tests, in one database.
fn cases(is_rolled_back: bool) -> Vec<Trial> {
    let one = move |number| {
        Trial::test(format!("case_{number:03}"), move || {
            told(case(number, is_rolled_back))
        })
    };
    (0..suite::TESTS).map(one).collect()
}

fn case(number: usize, is_rolled_back: bool) -> Result<()> {
    let config: Config = env::var("DAGZ_BENCH_URL")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    runtime.block_on(async {
        let client = suite::connect(&config).await?;
        if is_rolled_back {
            client.batch_execute("BEGIN").await?;
        }
        suite::case(number, &client).await
    })
}

/// The program, which says what it does to standard error and prints a row per figure.
fn program(words: &[&str]) -> Result<(Output, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_dagz-bench"))
        .args(words)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output, said))
}

fn a_suite_whose_tests_meet() -> Result<()> {
    let own = env::current_exe()?;
    let own = own.to_str().context("a path that is text")?;
    let mut words = vec![
        "suite",
        "--by-hand",
        own,
        "--filter",
        "case_00",
        "--rounds=1",
    ];
    words.extend(["--strategy", CLEAN, "--strategy", UNCLEAN]);
    let (output, said) = program(&words)?;
    let rows = String::from_utf8(output.stdout)?;
    let is_clean = |row: &str| row.contains(&format!(r#""strategy":"{CLEAN}""#));
    ensure!(
        rows.lines().count() == 4 && rows.lines().all(is_clean),
        "four numbers of threads roll back, and nobody else has a figure:\n{rows}\n{said}"
    );
    ensure!(
        !output.status.success()
            && said.contains(&format!("`{UNCLEAN}` has no figure"))
            && said.contains("foreign rows"),
        "it is not said why: {said}"
    );
    Ok(())
}

fn of_what_does_not_clean(group: &str, why: &str) -> Result<()> {
    let (output, said) = program(&[group, "--quick", "--unclean"])?;
    ensure!(
        !output.status.success() && output.stdout.is_empty(),
        "there is a figure: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    ensure!(said.contains(why), "it is not said why: {said}");
    Ok(())
}
