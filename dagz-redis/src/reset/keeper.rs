//! The connection that is kept for one worker's database, and its transactions.
//!
//! [`Keeper`] is in that database between two commands, and has the stamp and the lock under `WATCH`, which
//! it takes up again when a test ends. So what a prepare finds to be so, still is so when its transaction
//! runs, or else nothing of it runs: one round trip asks, decides and flushes.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dagz_core::{Error, ErrorKind, Result, driver::Failure, runtime};
use redis::{Pipeline, RedisError, RedisResult, Value};
use tokio::task::JoinHandle;

use super::{
    baseline::Baseline,
    clients::{Client, KEEPER},
    lock::{self, Lock},
};
use crate::{
    error,
    provision::{self, Started},
    server::{Link, Server, answer, first, refusal},
};

/// What is under `WATCH`, as it was then.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) stamp: Option<String>,
    lock: Option<String>,
    pub(super) keys: u64,
}

/// What came of a transaction.
pub(super) struct Done {
    /// All clients of the server, just before it, as it lists them.
    pub(super) clients: String,
    /// Whether it ran.
    pub(super) is_done: bool,
}

/// A kept connection for one database.
pub(crate) struct Keeper {
    pub(super) link: Link,
    /// What this connection, and no other ever, is called on the server.
    pub(super) name: String,
    pub(super) index: i64,
    /// Whether the server is private; with the server, if this process has started it.
    pub(crate) private: Option<Option<Arc<Started>>>,
    pub(super) seen: Option<Seen>,
    /// The same, still on its way.
    pending: Option<JoinHandle<RedisResult<Vec<Value>>>>,
    pub(super) holds: bool,
    pub(super) baseline: Option<Baseline>,
    /// Which detection is switched off, by tests that want to see what depends on it.
    pub(super) blind: Option<&'static str>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keeper")
            .field("name", &self.name)
            .field("index", &self.index)
            .field("holds", &self.holds)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Connects for the database `index`, which is not touched yet.
    pub(crate) async fn open(server: &Server, index: i64, purpose: &str) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let random = RandomState::new().hash_one(count);
        let name = format!("{KEEPER}{purpose}:{:x}-{random:016x}", process::id());
        Ok(Self {
            link: server.link(&name).await?,
            name,
            index,
            private: None,
            seen: None,
            pending: None,
            holds: false,
            baseline: None,
            blind: None,
        })
    }

    /// The connection.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Runs `commands` as a transaction, if `decide` says so of the stamp and of how many keys there are,
    /// and nobody has the database.
    pub(crate) async fn change(
        &mut self,
        patience: Duration,
        commands: &Pipeline,
        decide: impl Fn(Option<&str>, u64) -> Result<bool>,
    ) -> Result<()> {
        let mut wait = Wait::new(patience);
        loop {
            let (seen, _) = self.seen().await.map_err(Failure::into_error)?;
            if !decide(seen.stamp.as_deref(), seen.keys)? {
                return Ok(());
            }
            let free = self.is_free(&seen, None, &mut wait).await;
            if free.map_err(Failure::into_error)? {
                let done = self
                    .transact(|all| {
                        for command in commands.cmd_iter() {
                            all.add_command(command.clone());
                        }
                    })
                    .await
                    .map_err(Failure::into_error)?;
                if done.is_done {
                    return Ok(());
                }
            }
            wait.pause().await;
        }
    }

    /// Gives the database back, without waiting for it, and looks at what the next test will find.
    pub(super) fn unlock(&mut self) {
        if !self.holds {
            return;
        }
        self.holds = false;
        let mut commands = Pipeline::new();
        commands
            .cmd("SELECT")
            .arg(self.link.books())
            .cmd("DEL")
            .arg(lock::key(self.index));
        self.look(&mut commands);
        let link = self.link.clone();
        self.pending = Some(runtime::spawn(async move { link.send(&commands).await }));
    }

    /// What the stamp and the lock are, and whether that was asked just now.
    pub(super) async fn seen(&mut self) -> Result<(Seen, bool), Failure> {
        if let Some(seen) = self.seen.take() {
            return Ok((seen, false));
        }
        if let Some(pending) = self.pending.take() {
            let answers = pending.await.map_err(|error| {
                let told = "giving a database back did not finish";
                Failure::Final(Error::new(ErrorKind::Internal, told).with_source(error))
            })?;
            // What was refused after the last test need not be any more.
            if let Ok(seen) = answers.and_then(|answers| Seen::of(&answers)) {
                return Ok((seen, false));
            }
        }
        let mut commands = Pipeline::new();
        self.look(&mut commands);
        let answers = self.link.send(&commands).await;
        let seen = answers.and_then(|answers| Seen::of(&answers));
        let seen = seen.map_err(|error| self.failed("look at", error))?;
        Ok((seen, true))
    }

    /// Adds the commands that put stamp and lock under `WATCH` and tell them.
    fn look(&self, commands: &mut Pipeline) {
        let (stamp, lock) = (provision::stamp_key(self.index), lock::key(self.index));
        commands
            .cmd("SELECT")
            .arg(self.link.books())
            // What changed under an earlier one would fail the next transaction for ever.
            .cmd("UNWATCH");
        if self.blind != Some("watch") {
            commands.cmd("WATCH").arg(&stamp).arg(&lock);
        }
        commands
            .cmd("MGET")
            .arg(&stamp)
            .arg(&lock)
            .cmd("SELECT")
            .arg(self.index)
            .cmd("DBSIZE");
    }

    /// Whether nobody has the database, or `holder` itself. An error once waiting has taken too long.
    pub(super) async fn is_free(
        &self,
        seen: &Seen,
        holder: Option<&str>,
        wait: &mut Wait,
    ) -> Result<bool, Failure> {
        let Some(lock) = seen.lock.as_deref().and_then(Lock::parse) else {
            return Ok(true);
        };
        if holder.is_some_and(|holder| lock.is_of(holder)) || self.blind == Some("lock") {
            return Ok(true);
        }
        let mut list = Pipeline::new();
        list.cmd("CLIENT").arg("LIST");
        let list: RedisResult<String> = first(self.link.send(&list).await);
        let list = list.map_err(|error| self.failed("see who has", error))?;
        let clients = Client::all(&list);
        if !lock.is_alive(&clients) {
            return Ok(true);
        }
        if wait.is_over() {
            return Err(Failure::Final(lock.in_use(self.index, &clients)));
        }
        Ok(false)
    }

    /// Closes clients, whether or not they are still there.
    pub(super) async fn close(&self, clients: &[Client]) -> Result<(), Failure> {
        let mut commands = Pipeline::new();
        for client in clients {
            commands.cmd("CLIENT").arg("KILL").arg("ID").arg(client.id);
        }
        let answers = self.link.send(&commands).await;
        let refused = answers.map(|answers| refusal(&answers));
        match refused {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => {
                Err(self.failed("close the clients that an earlier test left in", error))
            }
        }
    }

    /// Runs commands in one transaction, which comes to nothing where what is under `WATCH` has changed.
    pub(super) async fn transact(&self, add: impl FnOnce(&mut Pipeline)) -> Result<Done, Failure> {
        let mut commands = Pipeline::new();
        commands.cmd("CLIENT").arg("LIST").cmd("MULTI");
        add(&mut commands);
        commands.cmd("SELECT").arg(self.index).cmd("EXEC");
        let answers = self.link.send(&commands).await;
        let done = answers.and_then(|mut answers| {
            let done = answers.pop().unwrap_or(Value::Nil);
            // Before the `EXECABORT` that it causes.
            if let Some(error) = refusal(&answers) {
                return Err(error);
            }
            let is_done = match answer(done)? {
                Value::Nil => false,
                Value::Array(results) => match refusal(&results) {
                    None => true,
                    Some(error) => return Err(error),
                },
                _ => return Err((redis::ErrorKind::Parse, "no answer to a transaction").into()),
            };
            Ok(Done {
                clients: answer(answers.swap_remove(0))?,
                is_done,
            })
        });
        done.map_err(|error| self.failed("reset", error))
    }

    pub(super) fn failed(&self, doing: &str, error: RedisError) -> Failure {
        let message = format!(
            "cannot {doing} database `{}` at `{}`",
            self.index,
            self.link.shown()
        );
        Failure::new(
            error::is_connection_lost(&error),
            self.link.failed(ErrorKind::Prepare, message, error),
        )
    }
}

impl Seen {
    /// What the answers to [`Keeper::look`], the last ones of `answers`, tell.
    fn of(answers: &[Value]) -> RedisResult<Self> {
        if let Some(error) = refusal(answers) {
            return Err(error);
        }
        let [.., told, _, keys] = answers else {
            return Err((redis::ErrorKind::Parse, "answers are missing").into());
        };
        let (stamp, lock) = answer(told.clone())?;
        Ok(Self {
            stamp,
            lock,
            keys: answer(keys.clone())?,
        })
    }
}

/// A bounded time of waiting for others.
pub(super) struct Wait {
    started: Instant,
    patience: Duration,
    pause: Duration,
}

impl Wait {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            started: Instant::now(),
            patience,
            pause: Duration::from_millis(1),
        }
    }

    fn is_over(&self) -> bool {
        self.started.elapsed() > self.patience
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_millis(50));
    }
}
