//! `cargo dagz init`: adds dagz to the tests of a workspace, after showing what it would change.
//!
//! `init/survey.rs` looks at a package, `init/change.rs` decides what each file is to be, and here it is shown, asked for
//! and written. What is there already stays: a second run has nothing to do.

mod change;
mod survey;

use std::{
    fs,
    io::{IsTerminal as _, Write as _, stdin, stdout},
    path::PathBuf,
};

use cargo_metadata::MetadataCommand;
use clap::Args;
use similar::TextDiff;

use self::{change::Change, survey::Survey};
use crate::{
    exit::{Failure, OK, Outcome},
    screen::{Tone, say},
};

/// Words after `cargo dagz init`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only this package of the workspace.
    #[arg(long, short, value_name = "NAME")]
    package: Option<String>,
    /// Change it without asking.
    #[arg(long)]
    yes: bool,
    /// Where dagz itself is, for those who work on it.
    #[arg(long, hide = true, value_name = "FOLDER")]
    path: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .map_err(|error| Failure::usage(unreadable(&error)))?;
    let packages = metadata.workspace_packages();
    if let Some(name) = &arguments.package
        && !packages.iter().any(|package| package.name.as_str() == name)
    {
        return Err(Failure::usage(format!(
            "the workspace has no package `{name}`"
        )));
    }
    let mut surveys = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        if arguments.package.as_deref().is_none_or(|only| only == name) {
            let root = metadata.workspace_root.as_std_path();
            surveys.extend(Survey::of(package, root)?);
        }
    }
    if surveys.is_empty() {
        return Err(Failure::usage(
            "no package here depends on a library of a server that dagz knows: Postgres, MySQL, Redis, RabbitMQ, Cassandra",
        ));
    }
    let mut changes = Vec::new();
    for survey in &surveys {
        survey.tell();
        changes.extend(change::of(survey, arguments.path.as_deref())?);
    }
    let root = metadata.workspace_root.as_std_path();
    changes.extend(change::profile(root)?);
    changes.retain(Change::is_one);
    if changes.is_empty() {
        say!("nothing to do: dagz is here already");
        return Ok(OK);
    }
    for change in &changes {
        show(change, root);
    }
    if !arguments.yes && !is_wanted()? {
        say!("nothing was changed; `cargo dagz init --yes` changes it");
        return Ok(OK);
    }
    for Change { path, after, .. } in &changes {
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(path, after));
        written.map_err(|error| {
            Failure::environment(format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    say!("done; try `cargo dagz test the_databases_are_there`");
    Ok(OK)
}

/// What `cargo metadata` says, in a line.
fn unreadable(error: &cargo_metadata::Error) -> String {
    let text = match error {
        cargo_metadata::Error::CargoMetadata { stderr } => stderr.clone(),
        other => other.to_string(),
    };
    let text = text.trim().trim_start_matches("error: ");
    let text: Vec<_> = text.lines().map(str::trim).collect();
    format!("`cargo metadata` failed: {}", text.join(" "))
}

fn show(change: &Change, root: &std::path::Path) {
    let name = change.path.strip_prefix(root).unwrap_or(&change.path);
    let name = name.display().to_string();
    let diff = TextDiff::from_lines(&change.before, &change.after);
    let from = match change.before.is_empty() {
        true => "/dev/null",
        false => &name,
    };
    let unified = diff.unified_diff().header(from, &name).to_string();
    for line in unified.lines() {
        let tone = match line.chars().next() {
            Some('+') => Tone::Good,
            Some('-') => Tone::Bad,
            _ => Tone::Plain,
        };
        say!("{}", tone.paint(line));
    }
}

/// Asks, where somebody is there to answer.
fn is_wanted() -> Outcome<bool> {
    if !stdin().is_terminal() {
        return Ok(false);
    }
    let failed = |error| Failure::environment(format!("cannot ask on the terminal: {error}"));
    let mut out = stdout().lock();
    write!(out, "change these files? [y/n] ").map_err(failed)?;
    out.flush().map_err(failed)?;
    drop(out);
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
