//! Older and newer Postgres than this machine's distribution has, from Maven's registry: [`with`].
//!
//! The artifacts are those of embedded-postgres: the programs of one version and nothing else, which run on any
//! Linux or macOS of their processor, in place. Compare `archive.rs`, which needs a whole distribution.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::super::packages::{self, Wanted};
use super::super::{Place, Programs};
use crate::process;
use crate::progress::say;

/// Pinned, or each version of Maven would bring another.
const UNPACK: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack";

/// The programs of `version`, fetched where they are missing.
pub(super) fn with(place: &Place, kind: &str, version: &str) -> Result<Programs> {
    let folder = place.join(format!("postgres-{version}"));
    if !folder.is_dir() {
        let fresh = place.join(format!("postgres-{version}.new"));
        if fresh.exists() {
            fs::remove_dir_all(&fresh)
                .with_context(|| format!("failed to remove `{}`", fresh.display()))?;
        }
        say(&format!("{kind}: fetching Postgres {version}"));
        fetch(&fresh, kind, version)?;
        fs::rename(&fresh, &folder)
            .with_context(|| format!("failed to make `{}`", folder.display()))?;
    }
    Ok(Programs {
        folder: folder.join("bin"),
        version: version.to_owned(),
        root: None,
    })
}

fn fetch(folder: &Path, kind: &str, version: &str) -> Result<()> {
    const NEEDED: [(&str, &[&str]); 2] = [("mvn", &["maven"]), ("xz", &["xz-utils"])];
    for (program, packages) in NEEDED {
        if packages::find(program).is_none() {
            let wanted = Wanted {
                kind: "matrix",
                packages,
                units: &[],
                remedy: "install Maven and xz",
            };
            packages::install(&wanted, &format!("{kind}: no `{program}` found"))?;
        }
    }
    let system = match OS {
        "macos" => "darwin",
        system => system,
    };
    let processor = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64v8",
        processor => bail!(
            "{kind}: there is no Postgres for the processor `{processor}` in Maven's registry"
        ),
    };
    fs::create_dir_all(folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    // It notes what it unpacked below the folder that it is called from.
    run(Command::new("mvn")
        .current_dir(folder)
        .args(["--batch-mode", "--quiet", UNPACK])
        .arg(format!(
            "-Dartifact=io.zonky.test.postgres:embedded-postgres-binaries-{system}-{processor}:{version}"
        ))
        .arg(format!("-DoutputDirectory={}", folder.display())))?;
    let packed = fs::read_dir(folder)
        .with_context(|| format!("failed to read `{}`", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
        .context("the artifact has no archive of programs")?;
    run(Command::new("tar")
        .arg("-xJf")
        .arg(&packed)
        .arg("-C")
        .arg(folder))?;
    fs::remove_file(&packed).with_context(|| format!("failed to remove `{}`", packed.display()))?;
    ensure!(
        folder.join("bin/postgres").is_file(),
        "the artifact of Postgres {version} has no program `bin/postgres`"
    );
    Ok(())
}

/// Runs `command`, whose last words are told where it fails.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut said = Vec::new();
    let status = process::run_lines(command, |_, line| said.push(process::plain(line)))?;
    ensure!(
        status.success(),
        "`{name}` failed; its last words:\n{}",
        said[said.len().saturating_sub(20)..].join("\n")
    );
    Ok(())
}
