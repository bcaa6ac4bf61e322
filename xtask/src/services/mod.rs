//! Private servers for tests: what any kind of server has in common.
//!
//! A [`Service`] is a kind of server; its own file starts, stops and asks it. Here is the rest: what makes two
//! commands at once safe, and [`Server`], a command's share in a running one. The files of it all are in `place.rs`.
//!
//! Two locks per kind. The *turn* is held while a server is started or stopped, so two `up` make one server. The
//! *users* lock is held shared by each command that uses the server, so that the last of them, and only the last,
//! stops a server that was started on the way. The kernel frees both, whatever happens to their holder.
//!
//! To add a server: a folder beside `postgres`, and a line in [`all`].

pub(crate) mod command;
pub(crate) mod identity;
mod place;
pub(crate) mod postgres;

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

pub(crate) use self::place::{Place, Running};

/// A kind of server.
pub(crate) trait Service: Sync {
    /// The one lowercase word of this kind everywhere: `postgres`.
    fn kind(&self) -> &'static str;
    /// The crate whose tests need it; whatever depends on that crate needs it too.
    fn driver(&self) -> &'static str;
    /// The environment variables by which tests find it. The first may also name a user's own server.
    fn variables(&self) -> &'static [&'static str];
    /// Starts it, or takes over the one that runs in `place` without a state file. Called with the turn held and
    /// with no server of ours known to run.
    fn start(&self, place: &Place) -> Result<Started>;
    /// Whether the process of `running` still is that server, and not another one that got its number.
    fn is_alive(&self, running: &Running) -> bool;
    /// Stops exactly the process of `running`, and waits until it is gone.
    fn stop(&self, running: &Running) -> Result<()>;
    /// Asks the server at `url` a real query, within seconds; its version.
    fn ask(&self, url: &str) -> Result<String>;
    /// The port that `url` names, if it names one.
    fn port(&self, url: &str) -> Option<u16>;
    /// Whether `url` is of a private server that was started here at some time, running or not.
    fn is_own(&self, place: &Place, url: &str) -> bool;
}

/// All kinds, in the order they are listed.
pub(crate) fn all() -> &'static [&'static dyn Service] {
    &[&postgres::Postgres]
}

/// What [`Service::start`] tells about a server that answers.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) version: String,
    pub(crate) port: u16,
    pub(crate) pid: u32,
    pub(crate) url: String,
    /// The folder its data is in.
    pub(crate) home: PathBuf,
}

/// How a server came to be there.
#[derive(Debug)]
pub(crate) enum Up {
    /// The user's own, by the environment; never touched.
    Given(String),
    /// It ran already.
    Found(Running),
    /// Just started.
    Fresh(Running),
}

impl Up {
    /// How to reach it.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Given(url) => url,
            Self::Found(running) | Self::Fresh(running) => &running.url,
        }
    }
}

/// The user's own server of this kind, from the environment.
///
/// An address that we printed ourselves once does not count: after `eval "$(cargo xtask services up)"` it stays in
/// the user's shell while the server may be long gone, and then starting it again is what is wanted.
pub(crate) fn given(service: &dyn Service, place: &Place) -> Option<String> {
    let url = env::var(service.variables().first()?).ok()?;
    (!url.is_empty() && !service.is_own(place, &url)).then_some(url)
}

/// Sees to it that a server of this kind answers. `temporary`: if it must be started, the last user stops it.
fn up(service: &dyn Service, place: &Place, temporary: bool) -> Result<Up> {
    let kind = service.kind();
    if let Some(mut running) = place.running(kind)
        && service.is_alive(&running)
    {
        match service.ask(&running.url) {
            Ok(_) => {
                if running.temporary && !temporary {
                    running.temporary = false;
                    place.write(&format!("{kind}.json"), &running)?;
                }
                return Ok(Up::Found(running));
            }
            Err(error) => {
                eprintln!(
                    "{kind}: process {} does not answer ({error:#}); starting anew",
                    running.pid
                );
                service.stop(&running)?;
            }
        }
    }
    let begun = Instant::now();
    let started = service
        .start(place)
        .with_context(|| format!("failed to start a private {kind}"))?;
    let running = Running {
        kind: kind.to_owned(),
        version: started.version,
        port: started.port,
        pid: started.pid,
        url: started.url,
        home: started.home,
        started: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        startup_seconds: (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        temporary,
    };
    place.write(&format!("{kind}.json"), &running)?;
    eprintln!(
        "{kind}: version {}, port {}, pid {}, answered after {:.2} s",
        running.version, running.port, running.pid, running.startup_seconds
    );
    Ok(Up::Fresh(running))
}

/// Starts a server that stays until [`down`]; `services up`.
pub(crate) fn up_to_stay(service: &dyn Service, place: &Place) -> Result<Up> {
    if let Some(url) = given(service, place) {
        ask_given(service, &url)?;
        return Ok(Up::Given(url));
    }
    let _turn = place.turn(service.kind())?;
    up(service, place, false)
}

/// Stops the server of this kind if it was started here and still runs; whether it did.
pub(crate) fn down(service: &dyn Service, place: &Place) -> Result<bool> {
    let _turn = place.turn(service.kind())?;
    down_in_turn(service, place)
}

fn down_in_turn(service: &dyn Service, place: &Place) -> Result<bool> {
    let Some(running) = place.running(service.kind()) else {
        return Ok(false);
    };
    let alive = service.is_alive(&running);
    if alive {
        service.stop(&running)?;
    }
    let path = place.join(format!("{}.json", service.kind()));
    fs::remove_file(&path).with_context(|| format!("failed to remove `{}`", path.display()))?;
    Ok(alive)
}

fn ask_given(service: &dyn Service, url: &str) -> Result<()> {
    let variable = service.variables().first().copied().unwrap_or_default();
    service.ask(url).with_context(|| {
        format!("`{variable}` is set, but that server does not answer; start it, or unset `{variable}` to have a private one started")
    })?;
    Ok(())
}

/// A command's share in a running server: it stays up at least as long as this lives.
#[derive(Debug)]
pub(crate) struct Server {
    service: &'static dyn Service,
    place: Place,
    up: Up,
    users: Option<File>,
}

impl Server {
    /// Has the server of this kind answer, the user's own or a private one, until the share is given back.
    pub(crate) fn share(service: &'static dyn Service, place: &Place) -> Result<Self> {
        let Some(url) = given(service, place) else {
            return Self::share_private(service, place);
        };
        ask_given(service, &url)?;
        Ok(Self {
            service,
            place: place.clone(),
            up: Up::Given(url),
            users: None,
        })
    }

    /// The same, whatever the environment says.
    fn share_private(service: &'static dyn Service, place: &Place) -> Result<Self> {
        let _turn = place.turn(service.kind())?;
        let users = place.users(service.kind())?;
        users.lock_shared().context("failed to lock a file")?;
        Ok(Self {
            service,
            place: place.clone(),
            up: up(service, place, true)?,
            users: Some(users),
        })
    }

    /// How to reach it.
    pub(crate) fn url(&self) -> &str {
        self.up.url()
    }

    /// Whether it is the user's own.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self.up, Up::Given(_))
    }

    /// The environment by which tests find it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let names = self.service.variables().iter();
        names.map(|name| (*name, self.url().to_owned())).collect()
    }

    fn give_back(&mut self) -> Result<()> {
        let Some(users) = self.users.take() else {
            return Ok(());
        };
        let _turn = self.place.turn(self.service.kind())?;
        users.unlock().context("failed to unlock a file")?;
        let is_temporary = |running: Running| running.temporary;
        if users.try_lock().is_ok()
            && self
                .place
                .running(self.service.kind())
                .is_some_and(is_temporary)
        {
            down_in_turn(self.service, &self.place)?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            let kind = self.service.kind();
            eprintln!(
                "{kind}: failed to stop: {error:#}; `cargo xtask services down {kind}` tries again"
            );
        }
    }
}

impl std::fmt::Debug for dyn Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.kind())
    }
}

/// One line of `services status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) kind: &'static str,
    pub(crate) version: Option<String>,
    pub(crate) port: Option<u16>,
    /// Of our own servers only.
    pub(crate) pid: Option<u32>,
    /// Whether it answered a real query just now.
    pub(crate) answered: bool,
    /// Of our own servers only.
    pub(crate) startup_seconds: Option<f64>,
    /// `private`, or the name of the variable that names the user's own.
    pub(crate) source: &'static str,
}

/// Every server that is known of: the given ones, and those started here.
pub(crate) fn status(place: &Place) -> Vec<Status> {
    let mut lines = Vec::new();
    for service in all() {
        if let Some(url) = given(*service, place) {
            let answer = service.ask(&url).ok();
            lines.push(Status {
                kind: service.kind(),
                answered: answer.is_some(),
                version: answer,
                port: service.port(&url),
                pid: None,
                startup_seconds: None,
                source: service.variables().first().copied().unwrap_or_default(),
            });
        }
        if let Some(running) = place.running(service.kind()) {
            lines.push(Status {
                kind: service.kind(),
                answered: service.is_alive(&running) && service.ask(&running.url).is_ok(),
                version: Some(running.version),
                port: Some(running.port),
                pid: Some(running.pid),
                startup_seconds: Some(running.startup_seconds),
                source: "private",
            });
        }
    }
    lines
}
