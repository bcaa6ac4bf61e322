//! Runs `dagz-bench`, which measures: with which servers ([`servers`]), told what ([`words`]), a group at a time
//! ([`each`], [`on_postgres`]).

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::build::Built;
use super::row::Row;
use super::{Arguments, Group};
use crate::process::{self, Stream};
use crate::progress::say;
use crate::services::postgres::POSTGRES_FAULTS;
use crate::services::{self, Place, Server, Service};

/// The server on which all but `reset` is measured.
const POSTGRES: &str = "postgres";

/// The servers that `groups` need.
pub(super) fn servers(root: &Path, groups: &[Group], backends: &[String]) -> Result<Vec<Server>> {
    let known: Vec<_> = services::known()
        .filter(|kind| is_measured(*kind))
        .collect();
    for name in backends {
        let kinds: Vec<_> = known.iter().map(|service| service.kind()).collect();
        ensure!(
            kinds.contains(&name.as_str()),
            "no server `{name}`; there are {}",
            kinds.join(", ")
        );
    }
    let is_usual = |kind: &str| services::all().iter().any(|usual| usual.kind() == kind);
    let needs_postgres = groups.iter().any(|group| *group != Group::Reset);
    let is_needed = |kind: &str| {
        let is_chosen = match backends {
            [] => is_usual(kind),
            some => some.iter().any(|name| name == kind),
        };
        (groups.contains(&Group::Reset) && is_chosen) || (needs_postgres && kind == POSTGRES)
    };
    let needed: Vec<_> = known
        .into_iter()
        .filter(|service| is_needed(service.kind()))
        .collect();
    Server::share_all(&needed, &Place::of(root)?)
}

/// Not the one that is there to be crashed.
fn is_measured(service: &dyn Service) -> bool {
    service.kind() != POSTGRES_FAULTS.kind()
}

/// What the program is told.
pub(super) fn words(group: Group, arguments: &Arguments, built: &Built) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
    match group {
        Group::Reset => {
            for size in arguments.sizes() {
                add("--size", size.to_string());
            }
            for strategy in &arguments.strategies {
                add("--strategy", strategy.clone());
            }
            if arguments.quick {
                add("--seconds", "3".to_owned());
            }
        }
        Group::Suite => {
            built.suites(&mut add);
            if arguments.quick {
                add("--rounds", "2".to_owned());
                add("--filter", "case_0".to_owned());
            }
        }
        Group::Overhead | Group::Scale => {
            if arguments.quick {
                words.push("--quick".to_owned());
            }
        }
    }
    words
}

/// What the program said.
pub(super) struct Measured {
    pub(super) rows: Vec<Row>,
    /// Whether it measured all that it was told to. What it did not is no row.
    pub(super) is_whole: bool,
}

/// Runs the program for `reset` on each of `servers` that is one of `backends`, or on all: each driver's servers go by
/// the same variable, so one after the other.
pub(super) fn each(
    built: &Built,
    words: &[String],
    servers: &[Server],
    backends: &[String],
) -> Result<Measured> {
    let mut all = Measured {
        rows: Vec::new(),
        is_whole: true,
    };
    for server in servers {
        let (kind, driver) = (server.service().kind(), server.service().driver());
        let is_chosen = backends.is_empty() || backends.iter().any(|name| name == kind);
        if !is_chosen || !is_measured(server.service()) {
            continue;
        }
        // The program knows the usual one of each driver.
        let usual = services::all()
            .iter()
            .find(|usual| usual.driver() == driver)
            .map_or(kind, |usual| usual.kind());
        if kind != usual {
            say(&format!("{kind}:"));
        }
        let words: Vec<_> = ["--backend", usual]
            .map(str::to_owned)
            .into_iter()
            .chain(words.iter().cloned())
            .collect();
        let mut measured = run(built, Group::Reset, &words, &[server])?;
        // Another version, or as delivered. Nobody should take its figures for the usual one's.
        if kind.contains('-') {
            for row in &mut measured.rows {
                let version = row
                    .backend
                    .split_once(' ')
                    .map_or("", |(_, version)| version);
                row.backend = format!("{kind} {version}");
            }
        }
        all.is_whole &= measured.is_whole;
        all.rows.append(&mut measured.rows);
    }
    Ok(all)
}

/// Runs the program for a group that is measured on Postgres.
pub(super) fn on_postgres(
    built: &Built,
    group: Group,
    words: &[String],
    servers: &[Server],
) -> Result<Measured> {
    let is_usual = |server: &&Server| server.service().kind() == POSTGRES;
    let usual: Vec<_> = servers.iter().filter(is_usual).collect();
    run(built, group, words, &usual)
}

/// Runs the program for one group, and reads its rows.
fn run(built: &Built, group: Group, words: &[String], servers: &[&Server]) -> Result<Measured> {
    let mut command = built.command();
    command.arg(group.word()).args(words);
    for server in servers {
        command.envs(server.environment());
    }
    let mut rows = Vec::new();
    let mut wrong = None;
    let status = process::run_lines(&mut command, |stream, line| match stream {
        Stream::Err => say(line),
        Stream::Out => match serde_json::from_str(line) {
            Ok(row) => rows.push(row),
            Err(error) => wrong = Some(format!("{error}: {line}")),
        },
    })?;
    if let Some(wrong) = wrong {
        bail!("`dagz-bench` printed what is no row: {wrong}");
    }
    Ok(Measured {
        is_whole: status.success() && !rows.is_empty(),
        rows,
    })
}
