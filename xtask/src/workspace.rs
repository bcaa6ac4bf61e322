//! Where things are: the checkout's root, its members and the dependencies between them.
//!
//! Read with `cargo metadata --no-deps`, which needs no network and no lock file.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// A member of the workspace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    /// Feature names with what they switch on.
    pub(crate) features: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Member>,
}

impl Member {
    /// The member's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

/// The root folder of the checkout whose xtask this is.
pub(crate) fn root() -> Result<PathBuf> {
    // `cargo run` sets it; the walk upwards is for a binary that was called by its path.
    if let Some(manifest) = env::var_os("CARGO_MANIFEST_DIR")
        && let Some(root) = Path::new(&manifest).parent()
        && root.join("xtask/Cargo.toml").is_file()
    {
        return Ok(root.to_path_buf());
    }
    let here = env::current_dir().context("the current folder is gone")?;
    here.ancestors()
        .find(|folder| folder.join("xtask/Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .with_context(|| {
            format!(
                "no dagz checkout at or above `{}`; call `cargo xtask` inside of one",
                here.display()
            )
        })
}

/// All members of the workspace, in cargo's order.
pub(crate) fn members(root: &Path) -> Result<Vec<Member>> {
    let output = cargo(root)
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()
        .context("failed to run cargo")?;
    ensure!(
        output.status.success(),
        "`cargo metadata` failed:\n{}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no metadata")?;
    Ok(metadata.packages)
}

/// Whether any of the members `of` is `wanted` or depends on it, directly or through other members.
pub(crate) fn reaches(members: &[Member], of: &[String], wanted: &str) -> Result<bool> {
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<&str> = of.iter().map(String::as_str).collect();
    for name in of {
        if !members.iter().any(|member| member.name == *name) {
            let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
            bail!("no crate `{name}` here; there are {}", names.join(", "));
        }
    }
    while let Some(name) = waiting.pop() {
        if name == wanted {
            return Ok(true);
        }
        if !seen.insert(name) {
            continue;
        }
        if let Some(member) = members.iter().find(|member| member.name == name) {
            waiting.extend(member.dependencies.iter().map(|other| other.name.as_str()));
        }
    }
    Ok(false)
}

/// A cargo command at `root`, free of what `cargo run` told *this* program about itself.
///
/// Without this the children of a nested cargo would find `CARGO_MANIFEST_DIR` and its like of xtask wherever
/// cargo does not set them anew.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root);
    forget_own_package(&mut command);
    command
}

/// Removes the environment that describes xtask's own package.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (key, _) in env::vars_os() {
        let Some(name) = key.to_str() else { continue };
        let own = name.starts_with("CARGO_PKG_")
            || matches!(
                name,
                "CARGO_MANIFEST_DIR"
                    | "CARGO_MANIFEST_PATH"
                    | "CARGO_BIN_NAME"
                    | "CARGO_CRATE_NAME"
                    | "CARGO_PRIMARY_PACKAGE"
                    | "CARGO_MANIFEST_LINKS"
                    | "OUT_DIR"
            );
        if own {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependencies: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            manifest_path: PathBuf::from(name).join("Cargo.toml"),
            dependencies: dependencies
                .iter()
                .map(|name| Dependency {
                    name: (*name).to_owned(),
                })
                .collect(),
            features: Default::default(),
        }
    }

    #[test]
    fn reaches_through_other_members() {
        let members = [
            member("facade", &["driver", "core"]),
            member("driver", &["core"]),
            member("core", &["serde"]),
        ];
        let reaches = |of: &str| reaches(&members, &[of.to_owned()], "driver").unwrap();
        assert!(reaches("facade"));
        assert!(reaches("driver"));
        assert!(!reaches("core"));
    }

    #[test]
    fn an_unknown_crate_is_named() {
        let error = reaches(&[member("core", &[])], &["cores".to_owned()], "x").unwrap_err();
        assert_eq!(error.to_string(), "no crate `cores` here; there are core");
    }

    #[test]
    fn this_checkout_has_xtask() {
        let root = root().unwrap();
        let members = members(&root).unwrap();
        let xtask = members.iter().find(|member| member.name == "xtask");
        assert_eq!(xtask.unwrap().folder(), root.join("xtask"));
    }
}
