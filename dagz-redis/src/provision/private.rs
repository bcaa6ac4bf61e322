//! Servers that dagz starts itself, one for each worker and process, for tests that need a whole server.
//!
//! A [`Fleet`] is what a process has of them. Each server hangs on a pipe: a shell waits for the pipe's
//! other end, which the process has, and then kills the server. So it ends with the process, however
//! that ends, and nothing has to be cleaned up. A record in the state directory tells the address to the
//! child processes of a test, and to nobody else.

mod record;
mod started;

use std::{
    collections::HashMap,
    env, fs,
    hash::{BuildHasher, RandomState},
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dagz_core::{Error, ErrorKind, Result, Target, Worker, event::Event};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use tempfile::NamedTempFile;

use self::record::{Record, folder, path};
pub(crate) use self::started::Started;
use crate::{route, server::Server};

/// What is looked for where no program is given.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// How long a server may take to answer.
const STARTING: Duration = Duration::from_secs(10);

/// Runs the server, and ends it when the process that holds the other end of its input is gone.
const SUPERVISOR: &str = r#""$@" </dev/null >/dev/null 2>&1 & server=$!; cat >/dev/null; kill -9 "$server"; wait "$server""#;

/// Servers that dagz starts, one for each worker.
#[derive(Clone, Debug, Default)]
pub struct PrivateServers {
    program: Option<PathBuf>,
    settings: Vec<(String, String)>,
}

impl PrivateServers {
    /// Servers by `redis-server` or `valkey-server`, whichever is found on `PATH`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Servers by this program.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// A line of their configuration file, such as `("maxmemory", "64mb")`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    fn found(&self) -> Result<PathBuf> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let path = env::var_os("PATH").unwrap_or_default();
        PROGRAMS
            .iter()
            .flat_map(|program| env::split_paths(&path).map(move |folder| folder.join(program)))
            .find(|program| program.is_file())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::WorkerInit,
                    "neither `redis-server` nor `valkey-server` is on `PATH`: install one, or name it by `PrivateServers::program`",
                )
            })
    }
}

/// The worker that a server is for, and the endpoint that it stands for.
type Key = (Worker, String);

/// The private servers that this process has started.
#[derive(Debug)]
pub(crate) struct Fleet {
    servers: PrivateServers,
    /// How many databases each has.
    databases: i64,
    started: Mutex<HashMap<Key, Arc<Started>>>,
    /// Who may start each: a test may open two databases at once.
    starting: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    /// Where a record was written, and for which test.
    recorded: Mutex<HashMap<PathBuf, String>>,
}

impl Fleet {
    /// No server yet; each will have room for `bases` and the books.
    pub(crate) fn new(servers: PrivateServers, bases: &[i64]) -> Self {
        let last = bases.iter().max().copied().unwrap_or(0);
        Self {
            servers,
            databases: last.saturating_add(2).max(16),
            started: Mutex::default(),
            starting: Mutex::default(),
            recorded: Mutex::default(),
        }
    }

    /// The server of `target`'s worker that stands for its endpoint; started, if there is none. `again`
    /// says that the one that was there does not answer any more.
    pub(crate) async fn server(
        &self,
        target: &Target,
        again: bool,
    ) -> Result<(Server, Option<Arc<Started>>)> {
        let key = (target.worker(), target.endpoint().id().to_owned());
        let tag = route::tag(target);
        let path = path(target.worker(), target.endpoint())?;
        let starting = locked(&self.starting)
            .entry(key.clone())
            .or_default()
            .clone();
        let _starting = starting.lock().await;
        let own = self.started().get(&key).cloned();
        // Whoever has started one for this test is no child of it.
        let may_be_child = own.is_none() && !again;
        let own = match own {
            Some(own) if again || own.has_ended() => {
                self.started().remove(&key);
                // Other databases of the worker would be reset on it, and opened on the next one.
                own.end();
                None
            }
            own => own,
        };
        if may_be_child && let Some(record) = record::read(&path).filter(|record| record.tag == tag)
        {
            // That of the test of which this process is a child.
            return Ok((Server::new(&record.info()?), None));
        }
        let own = match own {
            Some(own) => own,
            None => {
                let began = Instant::now();
                let own = Arc::new(self.start().await?);
                Event::new("server")
                    .target(target)
                    .duration(began.elapsed())
                    .detail(format!("started at `{}`", route::endpoint(&own.info)))
                    .record();
                self.started().insert(key, Arc::clone(&own));
                own
            }
        };
        self.write(&path, tag, target.worker(), &own)?;
        Ok((Server::new(&own.info), Some(own)))
    }

    /// Tells the child processes of the test of `target` where its server is, if that is there already.
    pub(crate) fn tell(&self, target: &Target) -> Result<()> {
        let key = (target.worker(), target.endpoint().id().to_owned());
        let Some(own) = self.started().get(&key).cloned() else {
            return Ok(());
        };
        let path = path(target.worker(), target.endpoint())?;
        self.write(&path, route::tag(target), target.worker(), &own)
    }

    /// `info`, for the index of `target` on its private server.
    pub(crate) fn rerouted(
        &self,
        info: &ConnectionInfo,
        target: &Target,
    ) -> Result<ConnectionInfo> {
        let path = path(target.worker(), target.endpoint())?;
        let tag = route::tag(target);
        let record = record::read(&path).filter(|record| record.tag == tag);
        let private = match record {
            Some(record) => record.info()?,
            None => self
                .started()
                .get(&(target.worker(), target.endpoint().id().to_owned()))
                .map(|own| own.info.clone())
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unreachable,
                        format!(
                            "the private server of database `{}` ended with the process that opened it first; open the database in the test before it starts a child process",
                            target.name()
                        ),
                    )
                })?,
        };
        let settings = info.redis_settings();
        let mut own = private.redis_settings().clone();
        own = own
            .set_protocol(settings.protocol())
            .set_db(route::index_of(target)?);
        if let (Some(name), Some(version)) = (settings.lib_name(), settings.lib_ver()) {
            own = own.set_lib_name(name, version);
        }
        Ok(private.set_redis_settings(own))
    }

    /// The worker whose private server is at `info`'s address, if it is one.
    pub(crate) fn worker_at(&self, info: &ConnectionInfo) -> Option<Worker> {
        let own = self
            .started()
            .iter()
            .find(|(_, own)| own.info.addr() == info.addr())
            .map(|((worker, _), _)| *worker);
        if own.is_some() {
            return own;
        }
        let records = fs::read_dir(folder().ok()?).ok()?;
        records
            .filter_map(|entry| record::read(&entry.ok()?.path()))
            .find(|record| record.info().is_ok_and(|at| at.addr() == info.addr()))
            .map(|record| Worker::new(record.worker))
    }

    /// Starts a server and waits until it answers.
    async fn start(&self) -> Result<Started> {
        let program = self.servers.found()?;
        let failed = |why: String| {
            Error::new(
                ErrorKind::WorkerInit,
                format!(
                    "starting the private server `{}` failed: {why}",
                    program.display()
                ),
            )
        };
        let folder = folder()?;
        let io = |error: std::io::Error| {
            failed("its files cannot be written".to_owned()).with_source(error)
        };
        let mut why = String::new();
        // Somebody else may take the port between its being found and its being used.
        for _ in 0..3 {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .map_err(io)?
                .port();
            let password = secret();
            let log = NamedTempFile::new_in(&folder).map_err(io)?;
            let mut file = NamedTempFile::new_in(&folder).map_err(io)?;
            let text = self.configuration(port, &password, log.path(), &folder);
            file.write_all(text.as_bytes()).map_err(io)?;
            let supervisor = Command::new("sh")
                .args(["-c", SUPERVISOR, "dagz-redis"])
                .arg(&program)
                .arg(file.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| failed("`sh` does not run".to_owned()).with_source(error))?;
            let started = Started::new(info("127.0.0.1", port, &password)?, password, supervisor);
            let deadline = Instant::now() + STARTING;
            loop {
                if let Ok(link) = Server::new(&started.info).link("dagz-start").await {
                    let state = started.new_state(&link).await.map(drop);
                    state.map_err(|error| {
                        failed("it is not as dagz needs it".to_owned()).with_source(error)
                    })?;
                    return Ok(started);
                }
                why = last_line(log.path());
                let has_failed = ["Failed", "FATAL", "Fatal", "Could not", "Bad directive"]
                    .iter()
                    .any(|word| why.contains(word));
                if has_failed || Instant::now() > deadline {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Err(failed(match why.as_str() {
            "" => format!("it did not answer within {} s", STARTING.as_secs()),
            why => format!("it says `{why}`"),
        }))
    }

    fn configuration(&self, port: u16, password: &str, log: &Path, folder: &Path) -> String {
        let mut text = format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndatabases {}\nsave \"\"\nappendonly no\ndaemonize no\nlogfile \"{}\"\ndir \"{}\"\n",
            self.databases,
            log.display(),
            folder.display()
        );
        for (name, value) in &self.servers.settings {
            text.push_str(&format!("{name} {value}\n"));
        }
        text
    }

    /// Tells the child processes of the test where its server is.
    fn write(&self, path: &Path, tag: String, worker: Worker, own: &Started) -> Result<()> {
        let mut recorded = locked(&self.recorded);
        let ConnectionAddr::Tcp(host, port) = own.info.addr() else {
            return Ok(());
        };
        let mark = format!("{tag} {port}");
        if recorded.get(path) == Some(&mark) {
            return Ok(());
        }
        let record = Record {
            tag,
            worker: worker.number(),
            host: host.clone(),
            port: *port,
            password: own.password.clone(),
        };
        record.write(path)?;
        recorded.insert(path.to_owned(), mark);
        Ok(())
    }

    fn started(&self) -> MutexGuard<'_, HashMap<Key, Arc<Started>>> {
        locked(&self.started)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn info(host: &str, port: u16, password: &str) -> Result<ConnectionInfo> {
    let settings = RedisConnectionInfo::default().set_password(password);
    let address = ConnectionAddr::Tcp(host.to_owned(), port);
    let info = address.into_connection_info().map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "the address of a private server is none",
        )
        .with_source(error)
    })?;
    Ok(info.set_redis_settings(settings))
}

/// A password that nobody guesses within the life of a test.
fn secret() -> String {
    let state = RandomState::new();
    (0..4)
        .map(|part: u32| format!("{:016x}", state.hash_one(part)))
        .collect()
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().trim().to_owned()
}
