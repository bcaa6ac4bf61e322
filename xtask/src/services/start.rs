//! How any server is started: programs, home, data, ports, and the wait for its first answer.
//!
//! [`start`] is the one way; what differs between kinds is asked of [`Service`].

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::home::Home;
use super::{Place, Service, Started, answer, identity};
use crate::process::check_interrupted;
use crate::progress::say;

/// How long a server may take from its start to its first answer.
const STARTUP_LIMIT: Duration = Duration::from_secs(120);
/// Below those that Linux gives to outgoing connections, and above the usual ones of servers.
const PORTS: Range<u16> = 20_000..32_000;
/// How often one of them is tried.
const PORT_TRIES: usize = 1_000;
/// How often ports are chosen anew when others take them in the moment before the start.
const PORT_CHOICES: usize = 5;

/// Starts the server, or takes over the one that runs in `place` without a state file.
pub(super) fn start(service: &'static dyn Service, place: &Place) -> Result<Started> {
    let programs = service.programs(place)?;
    // From here on, so that it says something of the server and not of the network it was fetched by.
    let begun = Instant::now();
    let users: Vec<_> = service.users().iter().chain(&["nobody"]).copied().collect();
    let mut home = Home::ready(place, service.kind(), &users, programs.root.clone())?;
    if let Some(pid) = identity::find(service.program(), &home.data()) {
        // A command died between the start and its note of it.
        if let Ok(version) = answer(service, &service.url(&home.settings)) {
            return Ok(started(service, &home, version, pid, begun));
        }
    }
    // One that does not answer, or what one that was killed left beside itself, on its ports.
    stop(service, &home.data())?;
    if !home.is_made_by(&programs.version) {
        say(&format!(
            "{}: making its data in `{}`",
            service.kind(),
            home.path().display()
        ));
        home.clear()?;
        service.make(&home, &programs)?;
    }
    for _ in 0..PORT_CHOICES {
        choose_ports(service, &mut home)?;
        home.settings.write(place, service.kind())?;
        match launch(service, &home, &programs) {
            Ok((version, pid)) => {
                home.is_whole(&programs.version)?;
                return Ok(started(service, &home, version, pid, begun));
            }
            Err(error) => {
                stop(service, &home.data())?;
                check_interrupted()?;
                let is_taken = |port: &u16| !is_free(*port);
                if !home.settings.ports.values().any(is_taken) {
                    return Err(error);
                }
                say(&format!(
                    "{}: others took a port in the moment before the start; choosing anew",
                    service.kind()
                ));
            }
        }
    }
    bail!("{PORT_CHOICES} times in a row ports were taken by others in the moment before the start")
}

/// Stops all processes of the server that works in the folder `data`; whether there was one.
pub(super) fn stop(service: &'static dyn Service, data: &Path) -> Result<bool> {
    let found = identity::find(service.program(), data);
    if let Some(pid) = found {
        identity::end(
            pid,
            || identity::works_on(pid, service.program(), data),
            service.signals(),
        )?;
    }
    stop_companions(service, data)?;
    Ok(found.is_some())
}

/// Stops the processes that a server needs beside its own.
pub(super) fn stop_companions(service: &'static dyn Service, data: &Path) -> Result<()> {
    for companion in service.companions() {
        if let Some(pid) = identity::find(companion, data) {
            identity::end(
                pid,
                || identity::works_on(pid, companion, data),
                super::POLITE,
            )?;
        }
    }
    Ok(())
}

/// Those of the last start where they are free, others else.
fn choose_ports(service: &'static dyn Service, home: &mut Home) -> Result<()> {
    let known = &home.settings.ports;
    let names = service.ports();
    if names
        .iter()
        .all(|name| known.get(*name).is_some_and(|port| is_free(*port)))
    {
        return Ok(());
    }
    // All held at once, so that no two of them are the same.
    let mut held = Vec::new();
    for name in names {
        let listener = listener()?;
        let port = listener
            .local_addr()
            .context("failed to find a port")?
            .port();
        held.push(((*name).to_owned(), port, listener));
    }
    home.settings.ports = held
        .into_iter()
        .map(|(name, port, _)| (name, port))
        .collect();
    Ok(())
}

/// A listener on a port that nobody has, and that no outgoing connection is given by the system: a server that is
/// started again shall find its own free.
fn listener() -> Result<TcpListener> {
    let random = || RandomState::new().hash_one(Instant::now());
    (0..PORT_TRIES)
        .filter_map(|_| u16::try_from(random() % PORTS.len() as u64).ok())
        .find_map(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, PORTS.start + offset)).ok())
        .with_context(|| format!("failed to find a free port of {PORTS:?}"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn launch(
    service: &'static dyn Service,
    home: &Home,
    programs: &super::Programs,
) -> Result<(String, u32)> {
    let mut command = service.command(home, programs)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let log = home.new_log()?;
    let errors = log.try_clone().context("failed to open the log twice")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("failed to run `{program}`"))?;
    let outcome = wait_for_answer(service, home, &mut child);
    if outcome.is_err() {
        // What it started by itself is found and stopped by its folder.
        let _gone = child.kill();
        let _reaped = child.wait();
    }
    let version = outcome.with_context(|| {
        format!(
            "the server in `{}` did not start; its log ends:\n{}",
            home.path().display(),
            home.log()
        )
    })?;
    let pid = identity::find(service.program(), &home.data()).with_context(|| {
        format!(
            "the server answers, but no process `{}` works in `{}`",
            service.program(),
            home.data().display()
        )
    })?;
    Ok((version, pid))
}

fn wait_for_answer(
    service: &'static dyn Service,
    home: &Home,
    child: &mut Child,
) -> Result<String> {
    let url = service.url(&home.settings);
    let begun = Instant::now();
    let mut is_initialised = false;
    loop {
        check_interrupted()?;
        let outcome = if is_initialised {
            answer(service, &url)
        } else {
            service.initialise(home).map(|()| String::new())
        };
        match outcome {
            Ok(version) if is_initialised => return Ok(version),
            Ok(_) => is_initialised = true,
            Err(error) => {
                let ended = child.try_wait().context("failed to look at a child")?;
                if let Some(status) = ended {
                    bail!("it ended by itself ({status})");
                }
                ensure!(
                    begun.elapsed() < STARTUP_LIMIT,
                    "no answer within {} s: {error:#}",
                    STARTUP_LIMIT.as_secs()
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn started(
    service: &'static dyn Service,
    home: &Home,
    version: String,
    pid: u32,
    begun: Instant,
) -> Started {
    Started {
        startup: begun.elapsed(),
        version,
        port: home.settings.port(service.ports()[0]),
        pid,
        url: service.url(&home.settings),
        more: service.more(&home.settings),
        home: home.path().to_path_buf(),
    }
}
