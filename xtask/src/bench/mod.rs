//! `cargo xtask bench`: what dagz costs, beside the round trip that nobody saves and the ways people use today.
//!
//! The measuring is `dagz-bench`'s, built in release. Here: its servers are brought up ([`build`] brings about what is
//! run, [`measure`] runs it), its rows read ([`row`]), shown as tables ([`table`]), drawn ([`plot`]), kept as JSON, and compared with those
//! of another run ([`compare`]). Everything lands in `target/bench`.

mod build;
mod compare;
mod measure;
mod plot;
mod row;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use self::build::{Built, Profile};
use self::measure::Measured;
use self::row::Row;
use crate::progress::say;
use crate::services::Server;
use crate::workspace;

/// Words after `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only these groups. Default: all, in less than 15 minutes on two cores.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Small sizes and few rounds: whether it works, and roughly what comes out.
    #[arg(long)]
    quick: bool,
    /// Of `reset`, only these servers, as `cargo xtask services` calls them: `postgres`, `mysql`, `postgres-default`, …
    #[arg(long = "backend", value_name = "SERVER")]
    backends: Vec<String>,
    /// Of `reset`, only this many tables, keys or queues. Default: 10, 50, 200, and where `reset` was named 1000.
    #[arg(long = "size", value_name = "TABLES")]
    sizes: Vec<usize>,
    /// Of `reset`, only these ways, without others beside them: `dagz`, `truncate-all`, …
    #[arg(long = "strategy", value_name = "NAME")]
    strategies: Vec<String>,
    /// Print what got slower by ratio since this was written, and fail where that is more than twice.
    #[arg(long, value_name = "JSON")]
    compare: Option<PathBuf>,
    /// Also print the rows as JSON, and nothing else, to standard output.
    #[arg(long)]
    json: bool,
}

/// What is measured together.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Bringing a database back to its start state, on every kind of server.
    Reset,
    /// One suite of 500 tests under each strategy.
    Suite,
    /// What a test pays beside its database.
    Overhead,
    /// Many workers, many tests.
    Scale,
}

impl Group {
    const ALL: [Self; 4] = [Self::Reset, Self::Suite, Self::Overhead, Self::Scale];

    /// How long it takes, about, on two cores with nothing else to do.
    fn takes(self, arguments: &Arguments) -> Duration {
        let has_largest = arguments.sizes().contains(&LARGEST);
        let (whole, quick) = match self {
            Self::Reset if has_largest => (800, 70),
            Self::Reset => (325, 70),
            Self::Suite => (370, 60),
            Self::Overhead => (15, 5),
            Self::Scale => (80, 15),
        };
        Duration::from_secs(if arguments.quick { quick } else { whole })
    }

    /// As the program and the rows call it.
    fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Suite => "suite",
            Self::Overhead => "overhead",
            Self::Scale => "scale",
        }
    }
}

/// With so many tables half of the ways take seconds.
const LARGEST: usize = 1_000;

impl Arguments {
    /// What is measured.
    fn groups(&self) -> &[Group] {
        match self.groups.as_slice() {
            [] => &Group::ALL,
            some => some,
        }
    }

    /// With how many tables `reset` measures: with the most only where it is asked for, since that takes as long as all
    /// else.
    fn sizes(&self) -> &[usize] {
        match self.sizes.as_slice() {
            [] if self.quick => &[10, 50],
            [] if self.groups.is_empty() => &[10, 50, 200],
            [] => &[10, 50, 200, LARGEST],
            some => some,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = workspace::root()?;
    // Read first: a wrong path should not cost a quarter of an hour.
    let before = arguments.compare.as_deref().map(row::read).transpose()?;
    let groups = arguments.groups();
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to make `{}`", folder.display()))?;
    let servers = measure::servers(&root, groups, &arguments.backends)?;
    let built = Built::build(
        &root,
        &folder,
        groups.contains(&Group::Suite),
        Profile::Release,
    )?;
    let begun = Instant::now();
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    say(&plan(arguments));
    for (number, group) in groups.iter().enumerate() {
        say(&format!(
            "{}, group {} of {}, after {} of measuring:",
            group.word(),
            number + 1,
            groups.len(),
            minutes(begun.elapsed())
        ));
        let words = measure::words(*group, arguments, &built);
        let measured = match group {
            Group::Reset => measure::each(&built, &words, &servers, &arguments.backends)?,
            _ => measure::on_postgres(&built, *group, &words, &servers)?,
        };
        if !measured.rows.is_empty() {
            keep(&folder, *group, &measured.rows)?;
            eprintln!("\n{}\n", table::of(*group, &measured.rows));
        }
        if !measured.is_whole {
            failed.push(group.word());
        }
        rows.extend(measured.rows);
    }
    drop(servers);
    // Not of some: the last whole run is what later ones are compared with.
    if Group::ALL.iter().all(|group| groups.contains(group)) {
        row::write(&folder.join("all.json"), &rows)?;
    }
    if arguments.json {
        println!("{}", row::text(&rows)?);
    }
    say(&format!(
        "measured in {}; tables, JSON and plots are in `{}`",
        minutes(begun.elapsed()),
        folder.display()
    ));
    if let Some(before) = before {
        compare::judge(&before, &rows)?;
    }
    ensure!(
        failed.is_empty(),
        "figures are missing, for the reasons above: {}",
        failed.join(", ")
    );
    Ok(())
}

/// What is measured, and how long it takes.
fn plan(arguments: &Arguments) -> String {
    let groups = arguments.groups();
    let is_cut = !arguments.backends.is_empty() || !arguments.sizes.is_empty();
    let of = |group: &Group| {
        let most = match is_cut && *group == Group::Reset {
            true => "at most ",
            false => "",
        };
        let time = minutes(group.takes(arguments));
        format!("{} {most}{time}", group.word())
    };
    let each: Vec<_> = groups.iter().map(of).collect();
    let all = groups.iter().map(|group| group.takes(arguments)).sum();
    format!(
        "measuring, on two idle cores for about {}: {}",
        minutes(all),
        each.join(", ")
    )
}

fn minutes(time: Duration) -> String {
    format!("{:.1} min", time.as_secs_f64() / 60.0)
}

/// A few resets on each server, compared with `baseline`: for `ci`, with the servers it has up, and by its own profile,
/// since a release build would cost more than all the rest.
pub(crate) fn run_reduced(root: &Path, servers: &[Server], baseline: &Path) -> Result<usize> {
    let before = row::read(baseline)?;
    let folder = root.join("target/bench/ci");
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to make `{}`", folder.display()))?;
    let built = Built::build(root, &folder, false, Profile::Dev)?;
    let words = ["--size", "50", "--seconds", "3"].map(str::to_owned);
    let Measured { rows, is_whole } = measure::each(&built, &words, servers, &[])?;
    ensure!(is_whole, "figures are missing, for the reasons above");
    keep(&folder, Group::Reset, &rows)?;
    eprintln!("\n{}\n", table::of(Group::Reset, &rows));
    compare::judge(&before, &rows)?;
    Ok(rows.len())
}

/// Writes table, JSON and plots of a group.
fn keep(folder: &Path, group: Group, rows: &[Row]) -> Result<()> {
    let word = group.word();
    row::write(&folder.join(format!("{word}.json")), rows)?;
    let path = folder.join(format!("{word}.md"));
    fs::write(&path, format!("{}\n", table::of(group, rows)))
        .with_context(|| format!("failed to write `{}`", path.display()))?;
    plot::draw(&folder.join(format!("{word}.svg")), group, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(groups: &[Group]) -> Arguments {
        Arguments {
            groups: groups.to_vec(),
            quick: false,
            backends: Vec::new(),
            sizes: Vec::new(),
            strategies: Vec::new(),
            compare: None,
            json: false,
        }
    }

    #[test]
    fn a_whole_run_is_planned_within_a_quarter_of_an_hour() {
        assert_eq!(
            plan(&arguments(&[])),
            "measuring, on two idle cores for about 13.2 min: reset 5.4 min, suite 6.2 min, overhead 0.2 min, scale 1.3 min"
        );
    }

    #[test]
    fn the_most_tables_are_measured_where_they_are_asked_for() {
        assert_eq!(arguments(&[]).sizes(), [10, 50, 200]);
        let named = arguments(&[Group::Reset]);
        assert_eq!(named.sizes(), [10, 50, 200, 1_000]);
        let some = Arguments {
            sizes: vec![50],
            ..named
        };
        assert_eq!(some.sizes(), [50]);
        assert!(
            plan(&some).contains("reset at most 5.4 min"),
            "{}",
            plan(&some)
        );
    }
}
