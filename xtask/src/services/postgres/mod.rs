//! The private Postgres: one cluster per checkout, made for tests, so without durability.
//!
//! [`binaries`] finds or installs the programs, [`cluster`] makes the data folder, and this file starts, asks and
//! stops the server, by the type [`Postgres`].

mod binaries;
mod cluster;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::NoTls;
use rustix::process::Signal;

use self::binaries::Binaries;
use self::cluster::Cluster;
use super::{Place, Running, Service, Started, identity};
use crate::process::check_interrupted;

/// How long a server may take from its start to its first answer.
const STARTUP_LIMIT: Duration = Duration::from_secs(60);
/// How long one question may take before the server counts as one that does not answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const PROGRAM: &str = "postgres";

/// Given on the command line at each start, so that a change here reaches data folders that exist already.
/// Nothing here changes what a query means or how it is planned.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    // A socket's path must be short, and a checkout's may be long.
    "unix_socket_directories=",
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

/// The kind of server `postgres`.
#[derive(Debug)]
pub(crate) struct Postgres;

impl Service for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn driver(&self) -> &'static str {
        "dagz-postgres"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["DATABASE_URL", "DAGZ_TEST_POSTGRES_URL"]
    }

    fn start(&self, place: &Place) -> Result<Started> {
        let binaries = binaries::find_or_install()?;
        let cluster = cluster::ready(place, &binaries)?;
        if let Some((pid, port)) = leftover(&cluster) {
            let url = cluster.url(port);
            if let Ok(version) = self.ask(&url) {
                // A command died between the start and its note of it.
                return Ok(started(&cluster, version, pid, port));
            }
            stop_process(pid, &cluster.data)?;
        }
        let mut port = cluster.last_port.filter(|port| is_free(*port));
        for _ in 0..5 {
            let candidate = match port.take() {
                Some(port) => port,
                None => free_port()?,
            };
            match launch(&binaries, &cluster, candidate) {
                Ok(()) => {
                    cluster.remember_port(place, candidate)?;
                    let version = self.wait_for_answer(&cluster, candidate)?;
                    let (pid, port) = leftover(&cluster).with_context(|| {
                        format!("no server works on `{}`", cluster.data.display())
                    })?;
                    return Ok(started(&cluster, version, pid, port));
                }
                // Somebody else took the port between our look and the server's.
                Err(_) if cluster.log().contains("could not bind") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("five ports in a row were taken by others in the moment before the start")
    }

    fn is_alive(&self, running: &Running) -> bool {
        identity::works_on(running.pid, PROGRAM, &running.home.join("data"))
    }

    fn stop(&self, running: &Running) -> Result<()> {
        stop_process(running.pid, &running.home.join("data"))
    }

    fn ask(&self, url: &str) -> Result<String> {
        let url = url.to_owned();
        let (sender, answer) = mpsc::channel();
        // In a thread, since the client limits the time of its TCP connect only; a stuck server must not hold us.
        thread::spawn(move || {
            // Nobody listens any more after the limit.
            let _unheard = sender.send(version(&url));
        });
        answer
            .recv_timeout(ANSWER_LIMIT)
            .unwrap_or_else(|_| bail!("no answer within {} s", ANSWER_LIMIT.as_secs()))
    }

    fn port(&self, url: &str) -> Option<u16> {
        let config: postgres::Config = url.parse().ok()?;
        Some(config.get_ports().first().copied().unwrap_or(5432))
    }

    fn is_own(&self, place: &Place, url: &str) -> bool {
        cluster::is_own(place, url)
    }
}

impl Postgres {
    fn wait_for_answer(&self, cluster: &Cluster, port: u16) -> Result<String> {
        let begun = Instant::now();
        loop {
            check_interrupted()?;
            match self.ask(&cluster.url(port)) {
                Ok(version) => return Ok(version),
                Err(error) if begun.elapsed() > STARTUP_LIMIT => {
                    return Err(error).with_context(|| {
                        format!(
                            "the server on port {port} did not answer within {} s; its log ends:\n{}",
                            STARTUP_LIMIT.as_secs(),
                            cluster.log()
                        )
                    });
                }
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

fn started(cluster: &Cluster, version: String, pid: u32, port: u16) -> Started {
    Started {
        version,
        port,
        pid,
        url: cluster.url(port),
        home: cluster.home.clone(),
    }
}

fn version(url: &str) -> Result<String> {
    let mut config: postgres::Config = url.parse().context("the address is not one of Postgres")?;
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

/// The server that works on this cluster's data, by the file that Postgres itself keeps: its process and port.
fn leftover(cluster: &Cluster) -> Option<(u32, u16)> {
    let note = fs::read_to_string(cluster.data.join("postmaster.pid")).ok()?;
    let mut lines = note.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let port = lines.nth(2)?.trim().parse().ok()?;
    identity::works_on(pid, PROGRAM, &cluster.data).then_some((pid, port))
}

/// Runs `pg_ctl start`, which puts the server into a session of its own, where no Ctrl-C of a terminal reaches it,
/// and hands it over to the system's first process, so that it outlives us without becoming a zombie of ours.
fn launch(binaries: &Binaries, cluster: &Cluster, port: u16) -> Result<()> {
    forget_reused_number(&cluster.data)?;
    // The log's end explains a failure; an earlier start's must not.
    if let Err(error) = fs::remove_file(cluster.log_path())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).context("failed to remove the old log");
    }
    let mut options = format!("-p {port}");
    for setting in SETTINGS {
        options.push_str(" -c ");
        options.push_str(setting);
    }
    let output = cluster
        .command(&binaries.program("pg_ctl"))
        .arg("start")
        .arg("-D")
        .arg(&cluster.data)
        .arg("-l")
        .arg(cluster.log_path())
        .args(["-w", "-t", &STARTUP_LIMIT.as_secs().to_string()])
        .args(["-o", &options])
        .output()
        .context("failed to run `pg_ctl`")?;
    if !output.status.success() {
        bail!(
            "`pg_ctl start` failed in `{}`: {}\nthe server's log ends:\n{}",
            cluster.data.display(),
            String::from_utf8_lossy(&output.stderr).trim(),
            cluster.log()
        );
    }
    Ok(())
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
    if pid.is_some_and(|pid| identity::exists(pid) && !identity::works_on(pid, PROGRAM, data)) {
        fs::remove_file(&path).with_context(|| format!("failed to remove `{}`", path.display()))?;
    }
    Ok(())
}

fn stop_process(pid: u32, data: &Path) -> Result<()> {
    identity::end(
        pid,
        || identity::works_on(pid, PROGRAM, data),
        &[
            // Fast: sessions are ended, then a checkpoint is written.
            (Signal::INT, Duration::from_secs(20)),
            // Immediate: no checkpoint; the next start recovers.
            (Signal::QUIT, Duration::from_secs(5)),
            (Signal::KILL, Duration::from_secs(5)),
        ],
    )
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a port")?;
    Ok(listener
        .local_addr()
        .context("failed to find a port")?
        .port())
}
