//! `cargo xtask tidy`: the house rules that no compiler checks. Also a test of this crate.
//!
//! A rule of [`rules`] looks at a [`Tree`], the text of what is committed or about to be, and says what is wrong
//! where. The rules' own tests feed each of them something bad. What [`generated`] can write is not minded for
//! long: `--fix` writes it.

mod generated;
mod promises;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{services, workspace};

/// Words after `cargo xtask tidy`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// First write anew what is generated: the table of promises in the README, and `compose.yaml`.
    #[arg(long)]
    fix: bool,
}

/// What the rules look at.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The checkout's folder.
    root: PathBuf,
    /// Text files by path below the root, with `/`.
    files: BTreeMap<String, String>,
    /// Folders of the members, below the root.
    members: Vec<String>,
    /// Driver crates that `xtask services` can start a server for.
    served: Vec<String>,
}

impl Tree {
    /// The checkout at `root`: what git tracks, and what it would if it were asked to add everything.
    fn of(root: &Path) -> Result<Self> {
        let output = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()
            .context("failed to run git, which knows what belongs to the checkout")?;
        ensure!(
            output.status.success(),
            "`git ls-files` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let mut files = BTreeMap::new();
        for path in String::from_utf8_lossy(&output.stdout).split_terminator('\0') {
            // Deleted but not yet committed as deleted; or not text, of which no rule speaks.
            if let Ok(text) = fs::read_to_string(root.join(path)) {
                files.insert(path.to_owned(), text);
            }
        }
        let mut members = Vec::new();
        for member in workspace::members(root)? {
            let folder = member.folder().strip_prefix(root).with_context(|| {
                format!("the member `{}` is outside of the checkout", member.name)
            })?;
            members.push(folder.to_string_lossy().into_owned());
        }
        let served = services::all()
            .iter()
            .map(|service| service.driver().to_owned());
        Ok(Self {
            root: root.to_path_buf(),
            files,
            members,
            served: served.collect(),
        })
    }

    /// The text of one file.
    fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// The Rust files, without the cases of compile-fail tests, which are wrong on purpose.
    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with(".rs") && !path.contains("/tests/ui/"))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Everything that any rule finds wrong, a line each.
    fn faults(&self) -> Vec<String> {
        rules::ALL.iter().flat_map(|rule| rule(self)).collect()
    }
}

/// Runs the command: prints each fault, and fails if there is one.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = workspace::root()?;
    if arguments.fix {
        for path in generated::write(&Tree::of(&root)?)? {
            eprintln!("tidy: wrote {path}");
        }
    }
    check(&Tree::of(&root)?)
}

/// The same without writing anything, for `ci`.
pub(crate) fn run_check() -> Result<()> {
    check(&Tree::of(&workspace::root()?)?)
}

fn check(tree: &Tree) -> Result<()> {
    for (path, lines) in rules::long_files(tree) {
        eprintln!(
            "note: {path} has {lines} lines; {} are the aim",
            rules::LENGTH_AIM
        );
    }
    let faults = tree.faults();
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    if !faults.is_empty() {
        bail!("{} untidy places", faults.len());
    }
    eprintln!("tidy: {} files, nothing to say", tree.files.len());
    Ok(())
}
