//! Private servers for tests: what any kind of server has in common.
//!
//! A [`Service`] is a kind of server; its own file says what is special to it. Here is what makes two commands at once
//! safe; [`Server`], a command's share in a running one, is in `share.rs`. How a server is started is in `start.rs`,
//! its folder in `home.rs`, the files of all in `place.rs`, and where programs come from in `packages.rs` and
//! `archive.rs`.
//!
//! Two locks per kind. The *turn* is held while a server is started or stopped, so two `up` make one server. The
//! *users* lock is held shared by each command that uses the server, so that the last of them, and only the last,
//! stops a server that was started on the way. The kernel frees both, whatever happens to their holder.
//!
//! To add a server: a file or folder beside `redis.rs`, and a line in `kinds.rs`.

mod archive;
pub(crate) mod cassandra;
pub(crate) mod command;
pub(crate) mod compose;
mod home;
pub(crate) mod identity;
mod kinds;
pub(crate) mod mysql;
mod packages;
mod place;
pub(crate) mod postgres;
pub(crate) mod rabbitmq;
pub(crate) mod redis;
mod share;
mod start;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use self::home::{Home, OtherRoot, Settings};
pub(crate) use self::kinds::{all, known, matrix};
pub(crate) use self::place::{Place, Running};
pub(crate) use self::share::Server;
use crate::progress::{Progress, say};

/// How long one question may take before the server counts as one that does not answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The signals that end most servers.
const POLITE: &[(Signal, Duration)] = &[
    (Signal::TERM, Duration::from_secs(20)),
    (Signal::KILL, Duration::from_secs(5)),
];

/// A kind of server: what is special to it.
pub(crate) trait Service: Sync {
    /// The one lowercase word of this kind everywhere: `postgres`.
    fn kind(&self) -> &'static str;
    /// The crate whose tests need it; whatever depends on that crate needs it too.
    fn driver(&self) -> &'static str;
    /// Whether the driver has code for this kind alone, so that all of its tests run on it as well, and not the contract
    /// only.
    fn is_unlike_the_usual(&self) -> bool {
        false
    }
    /// The environment variables by which tests of the driver find a server.
    fn variables(&self) -> &'static [&'static str];
    /// The variable by which the user may name a server of this kind that runs already.
    fn given_by(&self) -> &'static str;
    /// How its process is called.
    fn program(&self) -> &'static str;
    /// How processes are called that it needs beside its own; they work in the same folder.
    fn companions(&self) -> &'static [&'static str] {
        &[]
    }
    /// As whom it runs where the caller is root, the first that exists; `nobody` if none does.
    fn users(&self) -> &'static [&'static str];
    /// What it listens on; the first is where its clients go.
    fn ports(&self) -> &'static [&'static str] {
        &["main"]
    }
    /// The signals that end it, each with its time to work.
    fn signals(&self) -> &'static [(Signal, Duration)] {
        POLITE
    }
    /// Its programs, installed first where they are missing.
    fn programs(&self, place: &Place) -> Result<Programs>;
    /// Makes its data in the empty folder `home.data()`, where the server does not do so by itself.
    fn make(&self, home: &Home, programs: &Programs) -> Result<()> {
        let _ = (home, programs);
        Ok(())
    }
    /// The command that runs it in the foreground, on the ports that `home` has, with whatever it needs beside it
    /// started.
    fn command(&self, home: &Home, programs: &Programs) -> Result<Command>;
    /// Does, at each start, what must be done before others may use the server. Called again until it succeeds.
    fn initialise(&self, home: &Home) -> Result<()> {
        let _ = home;
        Ok(())
    }
    /// How to reach the server that has these settings.
    fn url(&self, settings: &Settings) -> String;
    /// Other variables for tests of the driver, beside those that hold the address.
    fn more(&self, settings: &Settings) -> BTreeMap<String, String> {
        let _ = settings;
        BTreeMap::new()
    }
    /// Asks the server at `url` a real query; its version. [`answer`] limits the time.
    fn ask(&self, url: &str) -> Result<String>;
    /// How the same server is run in a container.
    fn container(&self) -> compose::Container;
}

/// The programs of a server.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Where they are, as the server sees it.
    pub(crate) folder: PathBuf,
    /// Data made by another version is made anew.
    pub(crate) version: String,
    /// Where `folder` is, if not below the machine's own root.
    root: Option<OtherRoot>,
}

impl Programs {
    /// The path of one of them.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What a server that answers is told by.
#[derive(Debug)]
struct Started {
    version: String,
    port: u16,
    pid: u32,
    url: String,
    more: BTreeMap<String, String>,
    /// From the moment its programs were there, making its data included.
    startup: Duration,
    /// The folder its data is in.
    home: PathBuf,
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

    /// The environment by which tests of the driver of `service` find it.
    pub(crate) fn environment(&self, service: &dyn Service) -> Vec<(String, String)> {
        let names = service.variables().iter();
        let mut all: Vec<_> = names
            .map(|name| ((*name).to_owned(), self.url().to_owned()))
            .collect();
        if let Self::Found(running) | Self::Fresh(running) = self {
            all.extend(running.more.clone());
        }
        all
    }
}

/// Asks the server at `url` a real query, within a bounded time; its version.
fn answer(service: &'static dyn Service, url: &str) -> Result<String> {
    let url = url.to_owned();
    let (sender, answer) = mpsc::channel();
    // In a thread, since clients limit this and that but not the whole; a stuck server must not hold us.
    thread::spawn(move || {
        // Nobody listens any more after the limit.
        let _unheard = sender.send(service.ask(&url));
    });
    answer
        .recv_timeout(ANSWER_LIMIT)
        .unwrap_or_else(|_| bail!("no answer within {} s", ANSWER_LIMIT.as_secs()))
}

/// Whether the process of `running` still is that server, and not another one that got its number.
fn is_alive(service: &dyn Service, running: &Running) -> bool {
    identity::works_on(running.pid, service.program(), &running.home.join("data"))
}

/// Stops exactly the server `running`, and waits until it is gone.
fn stop(service: &'static dyn Service, running: &Running) -> Result<()> {
    identity::end(
        running.pid,
        || is_alive(service, running),
        service.signals(),
    )?;
    start::stop_companions(service, &running.home.join("data"))
}

/// The user's own server of this kind, from the environment.
///
/// An address that we printed ourselves once does not count: after `eval "$(cargo xtask services up)"` it stays in
/// the user's shell while the server may be long gone, and then starting it again is what is wanted.
fn given(service: &dyn Service, place: &Place) -> Option<String> {
    let url = env::var(service.given_by()).ok()?;
    (!url.is_empty() && !is_own(service, place, &url)).then_some(url)
}

/// Whether `url` is of a private server that was started here at some time, running or not.
fn is_own(service: &dyn Service, place: &Place, url: &str) -> bool {
    Settings::read(place, service.kind()).is_some_and(|settings| service.url(&settings) == url)
}

/// Sees to it that a server of this kind answers. `temporary`: if it must be started, the last user stops it.
fn up(service: &'static dyn Service, place: &Place, temporary: bool) -> Result<Up> {
    let kind = service.kind();
    if let Some(mut running) = place.running(kind)
        && is_alive(service, &running)
    {
        match answer(service, &running.url) {
            Ok(_) => {
                if running.temporary && !temporary {
                    running.temporary = false;
                    place.write(&format!("{kind}.json"), &running)?;
                }
                return Ok(Up::Found(running));
            }
            Err(error) => {
                say(&format!(
                    "{kind}: process {} does not answer ({error:#}); starting anew",
                    running.pid
                ));
                stop(service, &running)?;
            }
        }
    }
    let started = start::start(service, place)
        .with_context(|| format!("failed to start a private {kind}"))?;
    let running = Running {
        kind: kind.to_owned(),
        version: started.version,
        port: started.port,
        pid: started.pid,
        url: started.url,
        more: started.more,
        home: started.home,
        started: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        startup_seconds: (started.startup.as_secs_f64() * 1000.0).round() / 1000.0,
        temporary,
    };
    place.write(&format!("{kind}.json"), &running)?;
    say(&format!(
        "{kind}: version {}, port {}, pid {}, answered after {:.2} s",
        running.version, running.port, running.pid, running.startup_seconds
    ));
    Ok(Up::Fresh(running))
}

/// Does `each` for all of `services` at once; what came of it in their order, or what failed for any of them.
fn at_once<T: Send>(
    services: &[&'static dyn Service],
    what: &str,
    each: impl Fn(&'static dyn Service) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut progress = (services.len() > 1).then(|| {
        let mut progress = Progress::new(what);
        progress.expect(services.len() as u64);
        progress
    });
    let (sender, ended) = mpsc::channel();
    let outcomes: Vec<Result<T>> = thread::scope(|scope| {
        let threads: Vec<_> = services
            .iter()
            .map(|service| {
                let (sender, each) = (sender.clone(), &each);
                scope.spawn(move || {
                    let outcome = each(*service);
                    // The other end lives as long as this scope.
                    let _sent = sender.send(service.kind());
                    outcome
                })
            })
            .collect();
        drop(sender);
        for kind in ended {
            if let Some(progress) = &mut progress {
                progress.advance(kind);
            }
        }
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|outcome| outcome.unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    });
    drop(progress);
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for (service, outcome) in services.iter().zip(outcomes) {
        match outcome {
            Ok(one) => done.push(one),
            Err(error) => failures.push(format!("{}: {error:#}", service.kind())),
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(done)
}

/// Starts servers that stay until [`down`]; `services up`.
fn up_to_stay(services: &[&'static dyn Service], place: &Place) -> Result<Vec<Up>> {
    at_once(services, "starting servers", |service| {
        if let Some(url) = given(service, place) {
            ask_given(service, &url)?;
            return Ok(Up::Given(url));
        }
        let _turn = place.turn(service.kind())?;
        up(service, place, false)
    })
}

/// Stops the server of this kind if it was started here and still runs; whether it did.
fn down(service: &'static dyn Service, place: &Place) -> Result<bool> {
    let _turn = place.turn(service.kind())?;
    down_in_turn(service, place)
}

fn down_in_turn(service: &'static dyn Service, place: &Place) -> Result<bool> {
    let running = place.running(service.kind());
    let alive = running
        .as_ref()
        .filter(|running| is_alive(service, running));
    if let Some(running) = alive {
        stop(service, running)?;
    }
    let mut was_up = alive.is_some();
    if running.is_some() {
        let path = place.join(format!("{}.json", service.kind()));
        fs::remove_file(&path).with_context(|| format!("failed to remove `{}`", path.display()))?;
    }
    // One whose note is lost: a command died between the start and the note.
    if let Some(settings) = Settings::read(place, service.kind()) {
        was_up |= start::stop(service, &settings.home.join("data"))?;
    }
    Ok(was_up)
}

fn ask_given(service: &'static dyn Service, url: &str) -> Result<()> {
    let variable = service.given_by();
    answer(service, url).with_context(|| {
        format!("`{variable}` is set, but that server does not answer; start it, or unset `{variable}` to have a private one started")
    })?;
    Ok(())
}

impl fmt::Debug for dyn Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind())
    }
}
