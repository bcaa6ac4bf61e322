//! What runs a Cassandra node: Java 17, and the parts of it that must be opened.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::super::packages::{self, Wanted};

/// The newest that Cassandra 5 runs on.
const MAJOR: u32 = 17;

/// Modules whose insides Cassandra and its libraries use, by `--add-exports`.
const EXPORTED: &[&str] = &[
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
];

/// Those they reach into by reflection, by `--add-opens`.
const OPENED: &[&str] = &[
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
];

/// The options that open them.
pub(super) fn modules() -> Vec<String> {
    let option = |name: &str, module: &&str| format!("--add-{name}={module}=ALL-UNNAMED");
    let exports = EXPORTED.iter().map(|module| option("exports", module));
    let opens = OPENED.iter().map(|module| option("opens", module));
    exports.chain(opens).collect()
}

/// The program `java` of the right version, installed first where there is none.
pub(super) fn find_or_install() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let wanted = Wanted {
        kind: "cassandra",
        packages: &["openjdk-17-jre-headless"],
        units: &[],
        remedy: "install it and set `JAVA_HOME`, or set `DAGZ_TEST_CASSANDRA_URL` to a server of yours",
    };
    packages::install(&wanted, "no Java 17 found")?;
    find().context("the package was installed, but there is no Java 17 where it is expected")
}

fn find() -> Option<PathBuf> {
    let mut homes: Vec<_> = env::var_os("JAVA_HOME")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    for below in ["/usr/lib/jvm", "/opt/homebrew/opt", "/usr/local/opt"] {
        let entries = fs::read_dir(below).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter(|entry| entry.file_name().to_string_lossy().contains("17"))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        homes.extend(found);
    }
    let mut programs: Vec<_> = homes.iter().map(|home| home.join("bin/java")).collect();
    programs.extend(packages::on_path("java"));
    programs
        .into_iter()
        .find(|program| major(program) == Some(MAJOR))
}

fn major(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("-version").output().ok()?;
    major_in(&String::from_utf8_lossy(&output.stderr))
}

/// 17 of `openjdk version "17.0.15" 2025-04-15`; 8 of `java version "1.8.0_392"`.
fn major_in(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version \"")?;
    let mut numbers = version
        .split(|character: char| !character.is_ascii_digit())
        .map(str::parse);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_old_and_new() {
        assert_eq!(
            major_in("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"),
            Some(17)
        );
        assert_eq!(major_in("java version \"1.8.0_392\""), Some(8));
        assert_eq!(major_in("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major_in("sh: java: not found"), None);
    }
}
