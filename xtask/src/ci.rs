//! `cargo xtask ci`: every check and test, on a clean clone with nothing but Rust, as continuous integration does.
//!
//! All steps run, also after one failed, so that one run tells everything.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use crate::services::{self, Place, Server};
use crate::test::{self, Runner, Totals};
use crate::{bench, demo, process, tidy, tools, workspace};

/// Words after `cargo xtask ci`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Run only this step; may be repeated.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Run the contracts over second versions of the servers as well, and on MySQL all that is tested on MariaDB. Needs
    /// root.
    #[arg(long)]
    matrix: bool,
}

/// What a step works with.
struct Context<'a> {
    root: &'a Path,
    servers: Vec<Server>,
}

/// What a step may say about itself beyond having passed.
#[derive(Default)]
struct Note {
    text: String,
    totals: Option<Totals>,
}

struct Step {
    name: &'static str,
    run: fn(&mut Context<'_>) -> Result<Note>,
}

const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        run: fmt,
    },
    Step {
        name: "clippy",
        run: clippy,
    },
    Step {
        name: "doc",
        run: doc,
    },
    Step {
        name: "tidy",
        run: tidy_tree,
    },
    Step {
        name: "features",
        run: features,
    },
    Step {
        name: "deny",
        run: deny,
    },
    Step {
        name: "services",
        run: five_servers,
    },
    Step {
        name: "test",
        run: test_by_cargo,
    },
    Step {
        name: "nextest",
        run: test_by_nextest,
    },
    Step {
        name: "bench",
        run: bench_reduced,
    },
    Step {
        name: "demo",
        run: demo_once,
    },
];

/// Only with `--matrix`, or when it is named.
const MATRIX: Step = Step {
    name: "matrix",
    run: test_over_matrix,
};

enum Verdict {
    Passed(Note),
    Failed(String),
    /// Not reached before an interrupt.
    Skipped,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = workspace::root()?;
    let chosen = |step: &Step| {
        let is_named = arguments.only.iter().any(|name| name == step.name);
        is_named || (arguments.only.is_empty() && (arguments.matrix || step.name != MATRIX.name))
    };
    for name in &arguments.only {
        let steps = STEPS.iter().chain([&MATRIX]);
        let names: Vec<_> = steps.map(|step| step.name).collect();
        ensure!(
            names.contains(&name.as_str()),
            "no step `{name}`; there are {}",
            names.join(", ")
        );
    }
    let mut context = Context {
        root: &root,
        servers: Vec::new(),
    };
    let begun = Instant::now();
    let mut verdicts = Vec::new();
    for step in STEPS.iter().chain([&MATRIX]).filter(|step| chosen(step)) {
        if process::interrupted() {
            verdicts.push((step.name, Duration::ZERO, Verdict::Skipped));
            continue;
        }
        eprintln!("\n==== {} ====", step.name);
        let step_begun = Instant::now();
        let verdict = match (step.run)(&mut context) {
            Ok(note) => Verdict::Passed(note),
            Err(error) => {
                eprintln!("{} failed: {error:#}", step.name);
                Verdict::Failed(format!("{error:#}"))
            }
        };
        let took = step_begun.elapsed();
        eprintln!("==== {}: {:.0} s ====", step.name, took.as_secs_f64());
        verdicts.push((step.name, took, verdict));
    }
    // The servers go before the summary: it is the last thing to be read.
    drop(context);
    summarise(&verdicts, begun.elapsed())
}

fn summarise(verdicts: &[(&str, Duration, Verdict)], took: Duration) -> Result<()> {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["step", "result", "time", ""]);
    let mut bad = Vec::new();
    for (name, took, verdict) in verdicts {
        let (result, note) = match verdict {
            Verdict::Passed(note) => ("ok", note.text.clone()),
            Verdict::Failed(error) => {
                bad.push(*name);
                let first = error.lines().next().unwrap_or_default();
                ("FAILED", first.chars().take(100).collect())
            }
            Verdict::Skipped => {
                bad.push(*name);
                ("not run", String::new())
            }
        };
        table.add_row([
            *name,
            result,
            &format!("{:.0} s", took.as_secs_f64()),
            &note,
        ]);
    }
    println!("\n{table}");
    for (name, _, verdict) in verdicts {
        if let Verdict::Passed(Note {
            totals: Some(totals),
            ..
        }) = verdict
        {
            println!("{name}: {totals}");
        }
    }
    println!("total time: {:.1} min", took.as_secs_f64() / 60.0);
    if !bad.is_empty() {
        bail!("ci failed in: {}", bad.join(", "));
    }
    Ok(())
}

/// Runs cargo with `words`, shown first; an error if it fails.
fn cargo(root: &Path, words: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    eprintln!("cargo {}", words.join(" "));
    let status = process::run(
        workspace::cargo(root)
            .args(words)
            .envs(environment.iter().copied())
            .stdout(std::io::stderr()),
    )?;
    ensure!(status.success(), "`cargo {}` failed", words.join(" "));
    Ok(())
}

/// Incremental artifacts cost time and space, and pay only where something is built twice.
const ONCE: (&str, &str) = ("CARGO_INCREMENTAL", "0");

fn fmt(context: &mut Context<'_>) -> Result<Note> {
    cargo(context.root, &["fmt", "--all", "--check"], &[])?;
    Ok(Note::default())
}

fn clippy(context: &mut Context<'_>) -> Result<Note> {
    let words = "clippy --workspace --all-targets --all-features -- -D warnings";
    let words: Vec<_> = words.split(' ').collect();
    cargo(context.root, &words, &[ONCE])?;
    Ok(Note::default())
}

fn doc(context: &mut Context<'_>) -> Result<Note> {
    let words = ["doc", "--workspace", "--no-deps", "--all-features"];
    cargo(
        context.root,
        &words,
        &[ONCE, ("RUSTDOCFLAGS", "-D warnings")],
    )?;
    Ok(Note::default())
}

fn tidy_tree(_: &mut Context<'_>) -> Result<Note> {
    tidy::run_check()?;
    Ok(Note::default())
}

/// Each feature of each crate alone, and none: what compiles only with its siblings on is found here. Clippy and not
/// `check`, as that has no way to deny warnings that would not build every dependency anew.
fn features(context: &mut Context<'_>) -> Result<Note> {
    let mut count = 0;
    for member in workspace::members(context.root)? {
        let mut names: Vec<_> = member.features.keys().map(String::as_str).collect();
        names.retain(|name| *name != "default");
        if names.is_empty() {
            continue;
        }
        let alone = names.into_iter().map(Some);
        for feature in std::iter::once(None).chain(alone) {
            let mut words = vec!["clippy", "-p", &member.name, "--no-default-features"];
            if let Some(feature) = feature {
                words.extend(["--features", feature]);
            }
            words.extend(["--", "-D", "warnings"]);
            cargo(context.root, &words, &[ONCE])?;
            count += 1;
        }
    }
    Ok(Note {
        text: format!("{count} combinations"),
        totals: None,
    })
}

/// Without advisories: they change without us, and need the network.
fn deny(context: &mut Context<'_>) -> Result<Note> {
    let program = tools::ready(&tools::DENY)?;
    let words = ["--all-features", "check", "licenses", "bans", "sources"];
    eprintln!("cargo deny {}", words.join(" "));
    let mut command = std::process::Command::new(program);
    command.current_dir(context.root).args(words);
    workspace::forget_own_package(&mut command);
    let status = process::run(command.stdout(std::io::stderr()))?;
    ensure!(status.success(), "`cargo deny` found something");
    Ok(Note::default())
}

/// All five kinds, also those that no driver needs yet, and what tests may crash; kept for the steps after this one.
fn five_servers(context: &mut Context<'_>) -> Result<Note> {
    context.servers = Server::share_all(services::all(), &Place::of(context.root)?)?;
    let kinds = context.servers.iter().map(|server| server.service().kind());
    Ok(Note {
        text: kinds.collect::<Vec<_>>().join(", "),
        totals: None,
    })
}

/// The contract of each driver, or all of its tests, against the second versions of its server. Kinds whose driver is yet to be written are
/// started and asked all the same.
fn test_over_matrix(context: &mut Context<'_>) -> Result<Note> {
    let servers = Server::share_all(services::matrix(), &Place::of(context.root)?)?;
    let members = workspace::members(context.root)?;
    let mut totals = Totals::default();
    let mut passed = Vec::new();
    for server in &servers {
        let service = server.service();
        if !members.iter().any(|member| member.name == service.driver()) {
            continue;
        }
        let what = match service.is_unlike_the_usual() {
            true => "all tests",
            false => "the contract",
        };
        eprintln!("\n{what} of {} on {}", service.driver(), service.kind());
        let outcome = test::run_on_another(context.root, server)?;
        ensure!(
            outcome.success && outcome.totals.run > 0,
            "{}: {}",
            service.kind(),
            outcome.totals
        );
        totals += outcome.totals;
        passed.push(service.kind());
    }
    Ok(Note {
        text: format!("{} tests on {}", totals.run, passed.join(", ")),
        totals: Some(totals),
    })
}

fn test_by_cargo(context: &mut Context<'_>) -> Result<Note> {
    test_by(context, Runner::Cargo)
}

fn test_by_nextest(context: &mut Context<'_>) -> Result<Note> {
    test_by(context, Runner::Nextest)
}

/// In the names of the tests that switch a detection off. They take minutes, and are about the server, not the runner: so
/// they run by nextest only, where they do beside others. `.config/nextest.toml` has what runs by cargo only.
const MUTANTS: &str = "needed";

/// The same workloads each time: whether ci passes is to tell of a change, not of luck. `cargo xtask soak` looks for others.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "1");

/// A few of them show that they run by cargo, too.
const FEW_CASES: (&str, &str) = ("DAGZ_TEST_CASES", "3");

fn test_by(context: &mut Context<'_>, runner: Runner) -> Result<Note> {
    if context.servers.is_empty() {
        // Kept for the steps after this one.
        context.servers = test::needed_servers(context.root, &[])?;
    }
    let (rest, environment): (_, &[_]) = match runner {
        Runner::Cargo => (["--skip", MUTANTS], &[SEED, FEW_CASES]),
        Runner::Nextest => (["--profile", "ci"], &[SEED]),
    };
    let rest = rest.map(str::to_owned);
    let outcome = test::run_tests(
        context.root,
        &[],
        runner,
        &rest,
        environment,
        &context.servers,
    )?;
    let totals = outcome.totals;
    ensure!(outcome.success, "{totals}");
    ensure!(totals.run > 0, "no test ran");
    Ok(Note {
        text: format!("{} tests", totals.run),
        totals: Some(totals),
    })
}

/// A few resets on each server: fails on what does not clean, and on ratios that broke by more than twice.
fn bench_reduced(context: &mut Context<'_>) -> Result<Note> {
    if context.servers.is_empty() {
        context.servers = test::needed_servers(context.root, &[])?;
    }
    let baseline = context.root.join("dagz-bench/baseline.json");
    let figures = bench::run_reduced(context.root, &context.servers, &baseline)?;
    Ok(Note {
        text: format!("{figures} figures"),
        totals: None,
    })
}

/// Once, for what must hold on any machine; times are not judged here.
fn demo_once(context: &mut Context<'_>) -> Result<Note> {
    let report = demo::measure(context.root, None, 1)?;
    eprintln!("{}", report.table());
    report.judge()?;
    Ok(Note {
        text: format!(
            "{} tests on {} workers, {} foreign values",
            report.tests(),
            report.workers(),
            report.foreign_values()
        ),
        totals: None,
    })
}
