//! The private Cassandra: one node of version 5, made for quick starts.
//!
//! Debian has no package of it, so its jars come from Maven's registry, listed by `pom.xml`. The node runs with our
//! own `cassandra.yaml` and `logback.xml`, all three of them beside this file; [`java`] finds what runs it.

mod java;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use super::compose::Container;
use super::packages::{self, Wanted};
use super::{ANSWER_LIMIT, Home, Place, Programs, Service, Settings};
use crate::process;
use crate::progress::Progress;
use crate::wait;

const SUPERUSER: &str = "dagz";
/// What a new node lets in, with this as its password, too.
const FIRST_USER: &str = "cassandra";
/// The folder of a place that they are kept in.
pub(super) const JARS: &str = "cassandra-jars";
const POM: &str = include_str!("pom.xml");
const CONFIGURATION: &str = include_str!("cassandra.yaml");
const LOGGING: &str = include_str!("logback.xml");

/// System properties for a node that is alone, starts often and holds nothing of value.
const PROPERTIES: &[(&str, &str)] = &[
    ("cassandra.skip_wait_for_gossip_to_settle", "0"),
    ("cassandra.ring_delay_ms", "1"),
    ("cassandra.superuser_setup_delay_ms", "0"),
    // Passwords are random here: hashing them slowly would only slow each connection down.
    ("cassandra.auth_bcrypt_gensalt_log2_rounds", "4"),
    ("cassandra.initial_token", "0"),
    // System tables are not flushed to the disk after each change of a schema.
    ("cassandra.unsafesystem", "true"),
];

/// A small heap, and a compiler that is done sooner rather than better.
const MEMORY: &[&str] = &[
    "-Xms256M",
    "-Xmx1G",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
];

/// The kind of server `cassandra`.
#[derive(Debug)]
pub(crate) struct Cassandra;

impl Service for Cassandra {
    fn kind(&self) -> &'static str {
        "cassandra"
    }

    fn driver(&self) -> &'static str {
        "dagz-cassandra"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["DAGZ_TEST_CASSANDRA_URL", "CASSANDRA_URL"]
    }

    fn given_by(&self) -> &'static str {
        "DAGZ_TEST_CASSANDRA_URL"
    }

    fn program(&self) -> &'static str {
        "java"
    }

    fn users(&self) -> &'static [&'static str] {
        &["cassandra"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["cql", "storage"]
    }

    fn programs(&self, place: &Place) -> Result<Programs> {
        java::find_or_install()?;
        let folder = jars(place)?;
        Ok(Programs {
            version: version_in(POM)
                .context("`pom.xml` names no version of Cassandra")?
                .to_owned(),
            folder,
            root: None,
        })
    }

    fn make(&self, home: &Home, programs: &Programs) -> Result<()> {
        // A copy: the user that runs the node may be barred from where the registry's files are.
        let jars = home.path().join("lib");
        if jars.exists() {
            fs::remove_dir_all(&jars)
                .with_context(|| format!("failed to remove `{}`", jars.display()))?;
        }
        let target = home.folder("lib")?;
        let source = &programs.folder;
        for entry in fs::read_dir(source)
            .with_context(|| format!("failed to list `{}`", source.display()))?
        {
            let entry = entry.context("failed to list a folder")?;
            let copy = target.join(entry.file_name());
            if fs::hard_link(entry.path(), &copy).is_err() {
                fs::copy(entry.path(), &copy)
                    .with_context(|| format!("failed to make `{}`", copy.display()))?;
            }
        }
        Ok(())
    }

    fn command(&self, home: &Home, _: &Programs) -> Result<Command> {
        let data = home.data();
        let text = CONFIGURATION
            .replace("{data}", &data.to_string_lossy())
            .replace("{storage}", &home.settings.port("storage").to_string())
            .replace("{cql}", &home.settings.port("cql").to_string());
        let configuration = home.write("cassandra.yaml", &text)?;
        let logging = home.write("logback.xml", LOGGING)?;
        let temporary = home.folder("tmp")?;
        let jars = home.path().join("lib");
        let agent = fs::read_dir(&jars)
            .with_context(|| format!("failed to list `{}`", jars.display()))?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("jamm-"))
            .with_context(|| format!("no `jamm` in `{}`", jars.display()))?;
        let mut command = home.command(&java::find_or_install()?);
        command.args(MEMORY).args(java::modules());
        command.arg(format!("-javaagent:{}", agent.path().display()));
        for (name, value) in PROPERTIES {
            command.arg(format!("-D{name}={value}"));
        }
        for (name, value) in [
            (
                "cassandra.config",
                format!("file://{}", configuration.display()),
            ),
            ("cassandra.storagedir", data.display().to_string()),
            ("logback.configurationFile", logging.display().to_string()),
            ("java.io.tmpdir", temporary.display().to_string()),
            ("cassandra-foreground", "yes".to_owned()),
            ("io.netty.tryReflectionSetAccessible", "true".to_owned()),
            ("jdk.attach.allowAttachSelf", "true".to_owned()),
        ] {
            command.arg(format!("-D{name}={value}"));
        }
        command.arg("-cp").arg(jars.join("*"));
        command.arg("org.apache.cassandra.service.CassandraDaemon");
        Ok(command)
    }

    /// A user of our own in place of the first one, whose password everybody knows.
    fn initialise(&self, home: &Home) -> Result<()> {
        let address = format!("127.0.0.1:{}", home.settings.port("cql"));
        let password = home.settings.password.clone();
        wait::on(async {
            if session(&address, SUPERUSER, &password).await.is_ok() {
                return Ok(());
            }
            let first = session(&address, FIRST_USER, FIRST_USER).await?;
            // Random hexadecimal digits: nothing to escape.
            let statement = format!(
                "CREATE ROLE IF NOT EXISTS {SUPERUSER} WITH PASSWORD = '{password}' AND SUPERUSER = true AND LOGIN = true"
            );
            first
                .query_unpaged(statement, &[])
                .await
                .context("failed to make the superuser")?;
            let own = session(&address, SUPERUSER, &password).await?;
            own.query_unpaged(format!("DROP ROLE IF EXISTS {FIRST_USER}"), &[])
                .await
                .context("failed to remove the first user")?;
            Ok(())
        })
    }

    fn url(&self, settings: &Settings) -> String {
        format!(
            "cassandra://{SUPERUSER}:{}@127.0.0.1:{}",
            settings.password,
            settings.port("cql")
        )
    }

    fn ask(&self, url: &str) -> Result<String> {
        let (address, user, password) = parts_of(url)?;
        wait::on(async {
            let session = session(&address, &user, &password).await?;
            let (version,) = session
                .query_unpaged("SELECT release_version FROM system.local", &[])
                .await
                .context("failed to ask for the version")?
                .into_rows_result()
                .context("no rows")?
                .first_row::<(String,)>()
                .context("the server does not tell its version")?;
            Ok(version)
        })
    }

    fn container(&self) -> Container {
        let mut options = vec!["-Dcassandra.config.allow_system_properties=true".to_owned()];
        let settings =
            settings().map(|(name, value)| format!("-Dcassandra.settings.{name}={value}"));
        options.extend(settings);
        let properties = PROPERTIES.iter();
        options.extend(properties.map(|(name, value)| format!("-D{name}={value}")));
        Container {
            image: "cassandra:5.0",
            command: Vec::new(),
            environment: vec![
                ("JVM_EXTRA_OPTS", options.join(" ")),
                // The image takes both or neither.
                ("MAX_HEAP_SIZE", "1G".to_owned()),
                ("HEAP_NEWSIZE", "200M".to_owned()),
            ],
            memory: &["/var/lib/cassandra"],
            ports: &[("main", 9042)],
            check: &[
                "cqlsh",
                "-u",
                FIRST_USER,
                "-p",
                FIRST_USER,
                "-e",
                "SELECT release_version FROM system.local",
            ],
            files: Vec::new(),
        }
    }
}

/// The settings that a container can be given one by one: those that say nothing of places.
fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_places = ["listen_address", "rpc_address"];
    let lines = CONFIGURATION
        .lines()
        .filter(|line| !line.contains(['{', '#']));
    lines
        .filter_map(|line| line.split_once(": "))
        .filter(move |(name, _)| !name.starts_with(' ') && !of_places.contains(name))
}

async fn session(address: &str, user: &str, password: &str) -> Result<Session> {
    SessionBuilder::new()
        .known_node(address)
        .user(user, password)
        .connection_timeout(ANSWER_LIMIT)
        .pool_size(PoolSize::PerHost(std::num::NonZeroUsize::MIN))
        .fetch_schema_metadata(false)
        .build()
        .await
        .context("failed to connect")
}

/// `127.0.0.1:9042`, user and password of `cassandra://user:password@127.0.0.1:9042`, which is a form of our own.
fn parts_of(url: &str) -> Result<(String, String, String)> {
    let form = "the address is not of the form `cassandra://[user:password@]host:port`";
    let rest = url.strip_prefix("cassandra://").context(form)?;
    let (login, address) = rest.rsplit_once('@').unwrap_or(("", rest));
    ensure!(address.contains(':'), "{form}");
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    Ok((address.to_owned(), user.to_owned(), password.to_owned()))
}

/// The folder with the jars of a node, filled from Maven's registry where they are missing or others.
pub(super) fn jars(place: &Place) -> Result<PathBuf> {
    let folder = place.join(JARS);
    let is_current = |text: String| text == POM;
    if fs::read_to_string(folder.join("pom.xml")).is_ok_and(is_current) {
        return Ok(folder.join("lib"));
    }
    if packages::find("mvn").is_none() {
        let wanted = Wanted {
            kind: "cassandra",
            packages: &["maven"],
            units: &[],
            remedy: "install Maven, or set `DAGZ_TEST_CASSANDRA_URL` to a server of yours",
        };
        packages::install(&wanted, "no `mvn` found")?;
    }
    let fresh = place.join(format!("{JARS}.new"));
    for old in [&fresh, &folder] {
        if old.exists() {
            fs::remove_dir_all(old)
                .with_context(|| format!("failed to remove `{}`", old.display()))?;
        }
    }
    fs::create_dir_all(&fresh).with_context(|| format!("failed to make `{}`", fresh.display()))?;
    fs::write(fresh.join("pom.xml"), POM).context("failed to write `pom.xml`")?;
    fetch(&fresh)?;
    fs::rename(&fresh, &folder)
        .with_context(|| format!("failed to make `{}`", folder.display()))?;
    Ok(folder.join("lib"))
}

fn fetch(folder: &Path) -> Result<()> {
    let mut progress = Progress::new("cassandra: fetching its jars");
    let mut said = Vec::new();
    // Twice: Maven remembers a download that failed, a moment's failure of the network too, unless it is told to forget.
    for words in [&[][..], &["--update-snapshots"]] {
        said.clear();
        let mut command = Command::new("mvn");
        command.current_dir(folder).args(words).args([
            "--batch-mode",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=lib",
        ]);
        let status = process::run_lines(&mut command, |_, line| {
            if let Some((_, file)) = line.rsplit_once('/') {
                progress.advance(file);
            }
            said.push(process::plain(line));
        })?;
        if status.success() {
            return Ok(());
        }
    }
    drop(progress);
    bail!(
        "Maven could not fetch Cassandra; its last words:\n{}",
        said[said.len().saturating_sub(20)..].join("\n")
    )
}

/// The version of `cassandra-all` in a project's text.
fn version_in(pom: &str) -> Option<&str> {
    let (_, rest) = pom.split_once("<artifactId>cassandra-all</artifactId>")?;
    let (_, rest) = rest.split_once("<version>")?;
    rest.split_once("</version>").map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_in_the_project() {
        assert!(version_in(POM).is_some_and(|version| version.starts_with("5.")));
    }

    #[test]
    fn settings_are_read_from_our_own_file() {
        let settings: Vec<_> = settings().collect();
        assert!(
            settings.contains(&("auto_snapshot", "false")),
            "{settings:?}"
        );
        assert!(
            settings.contains(&("authenticator", "PasswordAuthenticator")),
            "{settings:?}"
        );
        let names = settings.iter().map(|(name, _)| *name);
        let plain = |name: &str| {
            name.bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        };
        assert!(names.into_iter().all(plain), "{settings:?}");
    }

    #[test]
    fn addresses_of_our_own_form() {
        let parts = |url| parts_of(url).ok();
        let owned = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(parts("cassandra://u:p@h:1"), owned("h:1", "u", "p"));
        assert_eq!(parts("cassandra://h:1"), owned("h:1", "", ""));
        assert_eq!(parts("cassandra://h"), None);
        assert_eq!(parts("http://h:1"), None);
    }
}
