//! The private Postgres: one cluster per checkout, made for tests, so without durability.
//!
//! [`binaries`] finds or installs the programs, [`maven`] fetches those of other versions, [`password`] makes what the server knows its superuser by, and
//! [`Postgres`] is the kind of server.

mod binaries;
mod maven;
mod password;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::NoTls;
use rustix::process::Signal;

use super::archive::{self, Before, Package};
use super::compose::Container;
use super::{ANSWER_LIMIT, Home, Place, Programs, Service, Settings, identity};

const SUPERUSER: &str = "dagz";

/// Given on the command line at each start, so that a change here reaches data folders that exist already.
/// Nothing here changes what a query means or how it is planned.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    // A checkpoint in the middle of a run would be noise in its figures.
    "max_wal_size=4GB",
    "checkpoint_timeout=1h",
    // Workers × connections of a pool, over several runs at once.
    "max_connections=300",
    // The driver's tests leave prepared transactions behind, for the next test to be rid of.
    "max_prepared_transactions=16",
    "shared_buffers=256MB",
    // `TRUNCATE` of all tables by many workers at once holds a lock per table and index each.
    "max_locks_per_transaction=256",
    "logging_collector=off",
];

/// Tables of a few rows, of one test at a time.
const FAULTS_SETTINGS: &[&str] = &["shared_buffers=32MB", "max_connections=50"];

/// By which of them tests find the usual one.
const VARIABLES: &[&str] = &["DATABASE_URL", "DAGZ_TEST_POSTGRES_URL"];

/// Where it listens, which a container decides for itself.
const PRIVATE_SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    // A socket's path must be short, and a checkout's may be long.
    "unix_socket_directories=",
];

/// What ends it.
const SIGNALS: &[(Signal, Duration)] = &[
    // Fast: sessions are ended, then a checkpoint is written.
    (Signal::INT, Duration::from_secs(20)),
    // Immediate: no checkpoint; the next start recovers.
    (Signal::QUIT, Duration::from_secs(5)),
    (Signal::KILL, Duration::from_secs(5)),
];

/// The machine's.
pub(crate) const POSTGRES: Postgres = Postgres {
    kind: "postgres",
    given_by: "DATABASE_URL",
    variables: VARIABLES,
    settings: ServerSettings::ForTests(&[]),
    image: "postgres:15",
    source: Source::Machine,
};

/// The machine's once more, for tests that crash it: it ends all sessions and recovers by itself, which no other test
/// would survive.
pub(crate) const POSTGRES_FAULTS: Postgres = Postgres {
    kind: "postgres-faults",
    given_by: "DAGZ_TEST_POSTGRES_FAULTS_URL",
    variables: &["DAGZ_TEST_POSTGRES_FAULTS_URL"],
    settings: ServerSettings::ForTests(FAULTS_SETTINGS),
    image: "postgres:15",
    source: Source::Machine,
};

/// The machine's once more, as it is where nobody set anything: durable.
pub(crate) const AS_DELIVERED: Postgres = Postgres {
    kind: "postgres-default",
    given_by: "DAGZ_BENCH_POSTGRES_DEFAULT_URL",
    variables: VARIABLES,
    settings: ServerSettings::AsDelivered,
    image: "postgres:15",
    source: Source::Machine,
};

/// The newest that Debian has.
pub(crate) const NEWEST: Postgres = Postgres {
    kind: "postgres-newest",
    given_by: "DAGZ_MATRIX_POSTGRES_NEWEST_URL",
    variables: VARIABLES,
    settings: ServerSettings::ForTests(&[]),
    image: "postgres:18",
    source: Source::Archive(Package {
        name: "postgresql",
        before: Some(Before {
            package: "postgresql-common",
            file: binaries::CREATE_CLUSTER,
            change: binaries::without_main_cluster,
        }),
    }),
};

/// The oldest that dagz is written for.
pub(crate) const POSTGRES_14: Postgres = Postgres {
    kind: "postgres-14",
    given_by: "DAGZ_MATRIX_POSTGRES_14_URL",
    variables: VARIABLES,
    settings: ServerSettings::ForTests(&[]),
    image: "postgres:14",
    source: Source::Maven("14.18.0"),
};

/// Between the machine's and the newest.
pub(crate) const POSTGRES_16: Postgres = Postgres {
    kind: "postgres-16",
    given_by: "DAGZ_MATRIX_POSTGRES_16_URL",
    variables: VARIABLES,
    settings: ServerSettings::ForTests(&[]),
    image: "postgres:16",
    source: Source::Maven("16.9.0"),
};

/// Between the machine's and the newest.
pub(crate) const POSTGRES_17: Postgres = Postgres {
    kind: "postgres-17",
    given_by: "DAGZ_MATRIX_POSTGRES_17_URL",
    variables: VARIABLES,
    settings: ServerSettings::ForTests(&[]),
    image: "postgres:17",
    source: Source::Maven("17.5.0"),
};

/// The kind of server `postgres`, and other versions of it.
#[derive(Debug)]
pub(crate) struct Postgres {
    kind: &'static str,
    given_by: &'static str,
    variables: &'static [&'static str],
    settings: ServerSettings,
    image: &'static str,
    source: Source,
}

/// How it is set.
#[derive(Debug)]
enum ServerSettings {
    /// For tests, with those that come after those of all and so override them.
    ForTests(&'static [&'static str]),
    AsDelivered,
}

/// Where the programs come from.
#[derive(Debug)]
enum Source {
    Machine,
    Archive(Package),
    Maven(&'static str),
}

impl Postgres {
    fn settings(&self) -> impl Iterator<Item = &'static &'static str> {
        let (of_all, own): (&[_], &[_]) = match self.settings {
            ServerSettings::ForTests(own) => (SETTINGS, own),
            ServerSettings::AsDelivered => (&[], &[]),
        };
        of_all.iter().chain(own)
    }
}

impl Service for Postgres {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn driver(&self) -> &'static str {
        "dagz-postgres"
    }

    fn variables(&self) -> &'static [&'static str] {
        self.variables
    }

    fn given_by(&self) -> &'static str {
        self.given_by
    }

    fn program(&self) -> &'static str {
        "postgres"
    }

    fn users(&self) -> &'static [&'static str] {
        &["postgres"]
    }

    fn signals(&self) -> &'static [(Signal, Duration)] {
        SIGNALS
    }

    fn programs(&self, place: &Place) -> Result<Programs> {
        match &self.source {
            Source::Machine => binaries::find_or_install(),
            Source::Archive(package) => binaries::in_archive(archive::with(place, self, package)?),
            Source::Maven(version) => maven::with(place, self.kind, version),
        }
    }

    fn make(&self, home: &Home, programs: &Programs) -> Result<()> {
        // A verifier is no password, but nobody else's business either; it is gone in a second.
        let verifier = password::verifier(&home.settings.password)?;
        let secret = home.write("superuser.new", &verifier)?;
        let made = home.run(
            home.command(&programs.program("initdb"))
                .arg("-D")
                .arg(home.inside(&home.data()))
                .args(["-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile"])
                .arg(home.inside(&secret))
                .args(["--encoding=UTF8", "--locale=C", "--no-sync"]),
        );
        fs::remove_file(&secret)
            .with_context(|| format!("failed to remove `{}`", secret.display()))?;
        made
    }

    fn command(&self, home: &Home, programs: &Programs) -> Result<Command> {
        forget_reused_number(&home.data())?;
        let mut command = home.command(&programs.program("postgres"));
        command.arg("-D").arg(home.inside(&home.data()));
        command.args(["-p", &home.settings.port("main").to_string()]);
        for setting in self.settings().chain(PRIVATE_SETTINGS) {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    fn url(&self, settings: &Settings) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/postgres",
            settings.password,
            settings.port("main")
        )
    }

    fn ask(&self, url: &str) -> Result<String> {
        let mut config: postgres::Config =
            url.parse().context("the address is not one of Postgres")?;
        config.connect_timeout(ANSWER_LIMIT);
        config.application_name("cargo xtask services");
        let mut client = config.connect(NoTls).context("failed to connect")?;
        let row = client
            .query_one("SELECT current_setting('server_version')", &[])
            .context("failed to ask for the version")?;
        let version: String = row.get(0);
        // `15.18 (Debian 15.18-0+deb12u1)`: the packager's part is of no use here.
        Ok(version.split(' ').next().unwrap_or_default().to_owned())
    }

    fn container(&self) -> Container {
        let mut command = vec!["postgres".to_owned()];
        for setting in self.settings() {
            command.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        Container {
            image: self.image,
            command,
            environment: vec![
                ("POSTGRES_USER", SUPERUSER.to_owned()),
                ("POSTGRES_PASSWORD", Container::PASSWORD.to_owned()),
                ("POSTGRES_DB", "postgres".to_owned()),
                // Where the image puts it differs between its versions; this one is a folder in memory.
                ("PGDATA", "/data/postgres".to_owned()),
            ],
            memory: &["/data"],
            ports: &[("main", 5432)],
            check: &["pg_isready", "-h", "127.0.0.1", "-U", SUPERUSER],
            files: Vec::new(),
        }
    }
}

/// Removes `postmaster.pid` where its number now belongs to a process that is no Postgres on this data.
///
/// Postgres would refuse to start, as it cannot tell. Where the number is free the file stays: then Postgres finds
/// out by itself, and more carefully, whether processes of the dead server are still about.
fn forget_reused_number(data: &Path) -> Result<()> {
    let path = data.join("postmaster.pid");
    let Ok(note) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let pid = note
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    if pid.is_some_and(|pid| identity::exists(pid) && !identity::works_on(pid, "postgres", data)) {
        fs::remove_file(&path).with_context(|| format!("failed to remove `{}`", path.display()))?;
    }
    Ok(())
}
