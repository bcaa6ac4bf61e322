//! Cargo subcommands that checks need: the one on `PATH`, or one installed into a cache of our own.
//!
//! The cache is outside of `target`, so that a clean build does not pay for the tools again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Stream};
use crate::progress::Progress;
use crate::workspace;

/// A cargo subcommand from the registry.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Of the package and of the program.
    name: &'static str,
    /// More words for `cargo install`.
    options: &'static [&'static str],
}

/// Runs tests, each in a process of its own. Built without what updates it and what speaks to DTrace.
pub(crate) const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    options: &["--no-default-features"],
};

/// Checks licences, duplicates and sources of dependencies.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    options: &[],
};

/// The program of `tool`, installed first where it is missing.
pub(crate) fn ready(tool: &Tool) -> Result<PathBuf> {
    let cache = cache()?;
    let installed = cache.join("bin").join(tool.name);
    for candidate in [Path::new(tool.name), &installed] {
        if runs(candidate) {
            return Ok(candidate.to_path_buf());
        }
    }
    install(tool, &cache)?;
    ensure!(
        runs(&installed),
        "`{}` was installed but does not run",
        installed.display()
    );
    Ok(installed)
}

fn runs(program: &Path) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => {
            let home = env::var_os("HOME").context("neither `XDG_CACHE_HOME` nor `HOME` is set")?;
            Path::new(&home).join(".cache")
        }
    };
    let cache = base.join("dagz/tools");
    fs::create_dir_all(&cache)
        .with_context(|| format!("failed to make the folder `{}`", cache.display()))?;
    Ok(cache)
}

fn install(tool: &Tool, cache: &Path) -> Result<()> {
    let name = tool.name;
    let build = cache.join(format!("build-{name}"));
    let mut command = workspace::cargo(cache);
    command
        .args(["install", "--locked", name, "--root"])
        .arg(cache)
        .args(tool.options)
        .env("CARGO_TARGET_DIR", &build)
        .env("CARGO_TERM_COLOR", "never")
        // Built once and run for seconds: what counts is the time to build it.
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        // Of our own build, and not meant for this one.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let mut progress = Progress::new(format!("installing {name}"));
    let mut said = Vec::new();
    let status = process::run_lines(&mut command, |stream, line| {
        if stream == Stream::Err {
            let line = line.trim();
            if line.starts_with("Compiling") {
                progress.advance(line);
            }
            said.push(line.to_owned());
        }
    })?;
    drop(progress);
    ensure!(
        status.success(),
        "`cargo install --locked {name}` failed ({status}); its last words:\n{}",
        said[said.len().saturating_sub(20)..].join("\n")
    );
    fs::remove_dir_all(&build).with_context(|| format!("failed to remove `{}`", build.display()))
}
