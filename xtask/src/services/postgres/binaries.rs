//! The programs of Postgres: found on this machine, or installed from its distribution.
//!
//! [`find_or_install`] is the entrance; the answer is a folder that has them all.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::super::packages::{self, Root, Wanted};
use super::super::{OtherRoot, Programs};

const OLDEST: u32 = 14;
const UNITS: &[&str] = &["postgresql.service"];
const PROGRAMS: &[&str] = &["postgres", "initdb"];
/// What Debian's packaging makes of a cluster of its own, and whether.
pub(super) const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// The machine's programs, installed first where there are none.
pub(super) fn find_or_install() -> Result<Programs> {
    let mut looked_at = Vec::new();
    if let Some(found) = first_fit(candidates(), &mut looked_at) {
        return Ok(found);
    }
    install(&looked_at)?;
    first_fit(candidates(), &mut looked_at)
        .context("the package was installed, but its programs are not where they are expected")
}

/// The programs of an archive's packages, in another root.
pub(super) fn in_archive(root: OtherRoot) -> Result<Programs> {
    let below = root.0.join("usr/lib/postgresql");
    let newest = versioned(&below, "", "bin").into_iter().next();
    let folder = newest.with_context(|| format!("no Postgres in `{}`", below.display()))?;
    let number = folder.parent().and_then(Path::file_name);
    Ok(Programs {
        version: number.unwrap_or_default().to_string_lossy().into_owned(),
        folder: Path::new("/").join(folder.strip_prefix(&root.0).unwrap_or(&folder)),
        root: Some(root),
    })
}

fn first_fit(folders: Vec<PathBuf>, looked_at: &mut Vec<String>) -> Option<Programs> {
    looked_at.clear();
    for folder in folders {
        match major_in(&folder) {
            Some(major) if major >= OLDEST => {
                return Some(Programs {
                    folder,
                    version: major.to_string(),
                    root: None,
                });
            }
            Some(old) => looked_at.push(format!("`{}` (version {old})", folder.display())),
            None => looked_at.push(format!("`{}`", folder.display())),
        }
    }
    None
}

/// The version of the programs in `folder`, if all are there.
fn major_in(folder: &Path) -> Option<u32> {
    let all = PROGRAMS.iter().all(|name| folder.join(name).is_file());
    all.then(|| major(&folder.join("postgres"))).flatten()
}

/// Where they may be, best first: what the user's `PATH` says, then distributions' places, newest version first.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(path) = env::var_os("PATH") {
        let has_server = |folder: &PathBuf| folder.join("postgres").is_file();
        folders.extend(env::split_paths(&path).filter(has_server));
    }
    // Debian and its descendants; then the packages of postgresql.org for Red Hat's.
    folders.extend(versioned(Path::new("/usr/lib/postgresql"), "", "bin"));
    folders.extend(versioned(Path::new("/usr"), "pgsql-", "bin"));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let prefix = env::var_os("HOMEBREW_PREFIX").map(PathBuf::from);
    let usual = ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"].map(PathBuf::from);
    for prefix in prefix.into_iter().chain(usual) {
        folders.extend(versioned(&prefix.join("opt"), "postgresql@", "bin"));
    }
    folders
}

/// `below/<prefix><number>/<inner>` for each number there is, highest first.
fn versioned(below: &Path, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(below)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(inner)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn major(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    major_of(&String::from_utf8_lossy(&output.stdout))
}

/// 15 of `postgres (PostgreSQL) 15.18 (Debian …)`, 19 of `postgres (PostgreSQL) 19devel`.
fn major_of(text: &str) -> Option<u32> {
    let version = text.split(") ").nth(1)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Installs the distribution's package, without letting it make and start a server of its own.
fn install(looked_at: &[String]) -> Result<()> {
    let missing = format!(
        "no Postgres of version {OLDEST} or newer found on `PATH` nor in {}",
        if looked_at.is_empty() {
            "the usual folders".to_owned()
        } else {
            looked_at.join(", ")
        }
    );
    let wanted = |packages, units| Wanted {
        kind: "postgres",
        packages,
        units,
        remedy: "install it (`apt-get install postgresql`, `dnf install postgresql-server`, `brew install postgresql`), or set `DATABASE_URL` to a server of yours",
    };
    // First the part that carries the switch, then, with the switch off, the server.
    packages::install(&wanted(&["postgresql-common"], UNITS), &missing)?;
    let Some(root) = Root::find() else {
        bail!("the right to install was lost in the middle of it");
    };
    let path = Path::new(CREATE_CLUSTER);
    let before = fs::read_to_string(path).unwrap_or_default();
    root.write(path, &without_main_cluster(&before), "644")?;
    let outcome = packages::install(&wanted(&["postgresql"], UNITS), &missing);
    // The machine's owner may want a server of the package later, and then finds the switch as it was.
    root.write(path, &before, "644")?;
    outcome
}

/// The settings of Debian's packaging with the cluster that it would make and start switched off.
pub(super) fn without_main_cluster(settings: &str) -> String {
    let is_switch = |line: &&str| !line.trim_start().starts_with("create_main_cluster");
    let mut changed: String = settings
        .lines()
        .filter(is_switch)
        .flat_map(|line| [line, "\n"])
        .collect();
    changed.push_str("create_main_cluster = false\n");
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_program_prints() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(major_of("something else 15.18"), None);
    }

    #[test]
    fn newest_first_by_number() {
        let below = tempfile::tempdir().unwrap();
        for name in ["9", "18", "14", "common"] {
            fs::create_dir(below.path().join(name)).unwrap();
        }
        let found = versioned(below.path(), "", "bin");
        let expected = ["18/bin", "14/bin", "9/bin"].map(|name| below.path().join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_that_lacks_a_program_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("postgres"), "").unwrap();
        assert_eq!(major_in(folder.path()), None);
    }

    #[test]
    fn the_packages_own_cluster_is_switched_off() {
        let before = "# a comment\ncreate_main_cluster = true\nssl = on\n";
        assert_eq!(
            without_main_cluster(before),
            "# a comment\nssl = on\ncreate_main_cluster = false\n"
        );
        assert_eq!(without_main_cluster(""), "create_main_cluster = false\n");
    }
}
