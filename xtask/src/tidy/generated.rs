//! What is generated: committed text that follows from other files of the tree.
//!
//! A [`Generated`] knows what a file must be; [`stale`] is the rule that minds when it is not, and [`write()`]
//! is `cargo xtask tidy --fix`.

use std::fs;

use anyhow::{Context, Result};

use super::{Tree, promises};
use crate::services;

/// A file of which a part or all is generated.
pub(super) struct Generated {
    /// Where it is, below the root.
    pub(super) path: &'static str,
    /// The whole text that it must have.
    pub(super) text: fn(&Tree) -> Result<String>,
}

/// Everything that is generated.
const ALL: &[Generated] = &[promises::TABLE, COMPOSE];

/// The servers' settings once more, for those who have Docker.
const COMPOSE: Generated = Generated {
    path: "compose.yaml",
    text: |_| Ok(services::compose::text(services::all(), services::matrix())),
};

/// What is generated is what it would be if it were generated now.
pub(super) fn stale(tree: &Tree) -> Vec<String> {
    let fault = |Generated { path, text }: &Generated| match text(tree) {
        Ok(text) if tree.file(path) == Some(&text) => None,
        Ok(_) => Some(format!(
            "{path}: what is generated in it is stale; run `cargo xtask tidy --fix`"
        )),
        Err(error) => Some(format!("{path}: cannot be generated: {error:#}")),
    };
    ALL.iter().filter_map(fault).collect()
}

/// Writes what is stale, and tells where.
pub(super) fn write(tree: &Tree) -> Result<Vec<&'static str>> {
    let mut written = Vec::new();
    for Generated { path, text } in ALL {
        let text = text(tree).with_context(|| format!("cannot generate `{path}`"))?;
        if tree.file(path) != Some(&text) {
            fs::write(tree.root.join(path), text)
                .with_context(|| format!("cannot write `{path}`"))?;
            written.push(*path);
        }
    }
    Ok(written)
}

/// The file at `path` with `part` between its lines `begin` and `end`.
pub(super) fn with_part(
    tree: &Tree,
    path: &str,
    begin: &str,
    end: &str,
    part: &str,
) -> Result<String> {
    let text = tree.file(path).unwrap_or_default();
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("it lacks the line `{begin}`"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("it lacks the line `{end}`"))?;
    Ok(format!("{before}{begin}\n{part}{end}{after}"))
}
