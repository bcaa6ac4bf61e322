//! The lease on a worker's keyspace, by which runs that do not know of each other keep apart.
//!
//! Tests of one state directory are kept apart by the locks in it. This is for the others, such as two machines
//! with one node index: a row on the server says which state directory's runs use a keyspace, and lives for
//! seconds unless it is renewed. It is taken by a lightweight transaction, once per state directory, and renewed
//! behind the tests' backs; a process that finds its own directory's lease there, with time left, pays a read,
//! and one that holds it already pays nothing.

use std::{
    collections::HashMap,
    env, fs,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use dagz_core::{Error, ErrorKind, Settings, Target, driver::Failure, event, name, runtime};
use scylla::{
    client::session::Session,
    value::{CqlValue, Row},
};

use crate::{
    cql,
    error::{self, Native},
    server::{ask, ask_slowly, pinned, rows},
    source::Source,
};

/// The keyspace of dagz's own in which leases are.
pub(crate) const BOOKS: &str = "dagz_books";

/// How long a lease lives that nobody renews, in seconds: as long is a killed run in the way of another
/// state directory's.
const SECONDS: u64 = 6;

/// How often held leases are renewed.
const BEAT: Duration = Duration::from_millis(1_500);

/// How much of a lease's time must be left for it to be relied on.
const MARGIN: Duration = Duration::from_secs(3);

/// How long another run's lease is waited for: until it ends if that run is over.
const PATIENCE: Duration = Duration::from_secs(8);

const POLL: Duration = Duration::from_millis(200);

/// The leases that this process relies on.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<String, Held>>,
    is_beating: AtomicBool,
}

#[derive(Clone, Debug)]
struct Held {
    until: Instant,
    session: Weak<Session>,
    who: String,
}

/// Why a lease was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    Native(Native),
    /// It is another run's, which says this of itself.
    Held(String),
    Other(Error),
}

impl From<Native> for NotTaken {
    fn from(error: Native) -> Self {
        Self::Native(error)
    }
}

impl NotTaken {
    pub(crate) fn into_failure(self, source: &Source, keyspace: &str) -> Failure {
        match self {
            Self::Native(error) => error::failure(
                ErrorKind::Prepare,
                "leasing keyspace",
                source,
                keyspace,
                error,
            ),
            Self::Held(who) => Failure::Final(Error::new(
                ErrorKind::InUse,
                format!(
                    "another run is using keyspace `{keyspace}`: {who}; give each machine its own `DAGZ_NODE_INDEX`, and each checkout that shares a cluster its own `DAGZ_PROJECT` and base name"
                ),
            )),
            Self::Other(error) => Failure::Final(error),
        }
    }
}

impl Leases {
    /// Makes sure that the keyspace of `target` is leased to this state directory, waiting a bounded time
    /// for another run.
    pub(crate) async fn take(
        self: &Arc<Self>,
        session: &Arc<Session>,
        target: &Target,
    ) -> Result<(), NotTaken> {
        let now = Instant::now();
        if let Some(held) = self.held().get_mut(target.name())
            && held.until > now + MARGIN
        {
            held.session = Arc::downgrade(session);
            return Ok(());
        }
        let holder = holder().map_err(NotTaken::Other)?;
        let who = who(target);
        let deadline = now + PATIENCE;
        loop {
            match attempt(session, target.name(), holder, &who).await? {
                Attempt::Until(until) => {
                    let held = Held {
                        until,
                        session: Arc::downgrade(session),
                        who,
                    };
                    self.held().insert(target.name().to_owned(), held);
                    self.beat();
                    return Ok(());
                }
                Attempt::Held(other) if Instant::now() > deadline => {
                    return Err(NotTaken::Held(other));
                }
                Attempt::Held(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Renews what is held, as long as the process lives.
    fn beat(self: &Arc<Self>) {
        if self.is_beating.swap(true, Ordering::SeqCst) {
            return;
        }
        let leases = Arc::downgrade(self);
        runtime::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                let Some(leases) = leases.upgrade() else {
                    return;
                };
                let held: Vec<_> = leases
                    .held()
                    .iter()
                    .map(|(name, held)| (name.clone(), held.clone()))
                    .collect();
                for (name, held) in held {
                    leases.renew(&name, &held).await;
                }
            }
        });
    }

    async fn renew(&self, name: &str, held: &Held) {
        // Without a session the next prepare opens one, and takes the lease again.
        let (Some(session), Ok(holder)) = (held.session.upgrade(), holder()) else {
            return;
        };
        let started = Instant::now();
        let statement = format!(
            "UPDATE {BOOKS}.lease USING TTL {SECONDS} SET holder = {holder}, who = {} WHERE name = {} IF holder = {holder}",
            cql::literal(&held.who),
            cql::literal(name),
            holder = cql::literal(holder),
        );
        match applied(&session, statement).await {
            Ok(true) => {
                if let Some(held) = self.held().get_mut(name) {
                    held.until = started + Duration::from_secs(SECONDS);
                }
            }
            Ok(false) => {
                self.held().remove(name);
                event::warn(
                    Some("cassandra"),
                    &format!(
                        "the lease on keyspace `{name}` ended before it was renewed: was this process stopped for seconds?"
                    ),
                );
            }
            // A server that is away; the next prepare takes the lease again.
            Err(error) => tracing::debug!(target: "dagz", %error, "a lease was not renewed"),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leases the keyspace `name` to this state directory for the seconds in which it is removed, waiting a bounded
/// time for another run; then another run makes it anew rather than use what goes.
pub(crate) async fn claim(session: &Session, name: &str) -> Result<(), NotTaken> {
    let holder = holder().map_err(NotTaken::Other)?;
    let who = format!("a clean-up on {}", host());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt(session, name, holder, &who).await? {
            Attempt::Until(_) => return Ok(()),
            Attempt::Held(other) if Instant::now() > deadline => {
                return Err(NotTaken::Held(other));
            }
            Attempt::Held(_) => tokio::time::sleep(POLL).await,
        }
    }
}

enum Attempt {
    Until(Instant),
    Held(String),
}

async fn attempt(
    session: &Session,
    name: &str,
    holder: &str,
    who: &str,
) -> Result<Attempt, NotTaken> {
    let started = Instant::now();
    let named = cql::literal(name);
    let read = format!("SELECT holder, who, TTL(holder) FROM {BOOKS}.lease WHERE name = {named}");
    let found = match ask(session, &*read).await {
        Err(error) if error.is_missing() => {
            make_books(session).await?;
            ask(session, &*read).await?
        }
        found => found?,
    };
    let found: Vec<(Option<String>, Option<String>, Option<i32>)> = rows(found)?;
    let until = started + Duration::from_secs(SECONDS);
    let values = format!(
        "holder = {}, who = {}",
        cql::literal(holder),
        cql::literal(who)
    );
    let statement = match found.into_iter().next() {
        Some((Some(other), told, _)) if other != holder => {
            return Ok(Attempt::Held(told.unwrap_or_default()));
        }
        Some((Some(_), _, Some(left))) => {
            // Told in whole seconds, of which the last may be nearly over.
            let left = Duration::from_secs(u64::try_from(left - 1).unwrap_or_default());
            if left > MARGIN {
                return Ok(Attempt::Until(started + left));
            }
            format!(
                "UPDATE {BOOKS}.lease USING TTL {SECONDS} SET {values} WHERE name = {named} IF holder = {}",
                cql::literal(holder)
            )
        }
        _ => format!(
            "UPDATE {BOOKS}.lease USING TTL {SECONDS} SET {values} WHERE name = {named} IF holder = null"
        ),
    };
    Ok(if applied(session, statement).await? {
        Attempt::Until(until)
    } else {
        Attempt::Held("a run that took it in this very moment".to_owned())
    })
}

/// Executes a lightweight transaction, and says whether its condition held.
async fn applied(session: &Session, statement: String) -> Result<bool, Native> {
    let rows: Vec<Row> = rows(ask(session, statement).await?)?;
    let first = rows.first().and_then(|row| row.columns.first());
    Ok(matches!(first, Some(Some(CqlValue::Boolean(true)))))
}

async fn make_books(session: &Session) -> Result<(), Native> {
    let profile = pinned(session);
    for statement in [
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {BOOKS} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ),
        // Of one identity, whoever makes it first and wherever.
        format!(
            "CREATE TABLE IF NOT EXISTS {BOOKS}.lease (name text PRIMARY KEY, holder text, who text) WITH id = 1da9b00c-0000-4000-8000-000000000001 AND gc_grace_seconds = 3600"
        ),
    ] {
        ask_slowly(session, statement, &profile).await?;
    }
    session.await_schema_agreement().await?;
    Ok(())
}

/// What this state directory is called among those that share a cluster.
fn holder() -> Result<&'static str, Error> {
    static HOLDER: OnceLock<String> = OnceLock::new();
    if let Some(holder) = HOLDER.get() {
        return Ok(holder);
    }
    let directory = Settings::current()?.state_dir();
    let whole = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    // Two containers of one image have one path.
    let made = fs::metadata(&whole)
        .and_then(|metadata| metadata.created())
        .ok()
        .and_then(|made| made.duration_since(SystemTime::UNIX_EPOCH).ok());
    let text = format!("{}\n{}\n{made:?}", host(), whole.display());
    Ok(HOLDER.get_or_init(|| {
        format!(
            "{}{}",
            name::short_hash(&text),
            name::short_hash(&format!("{text}\n"))
        )
    }))
}

/// What a run says of itself to others.
fn who(target: &Target) -> String {
    let directory = Settings::current().map_or_else(
        |_| String::new(),
        |settings| settings.state_dir().display().to_string(),
    );
    format!(
        "{} of project `{}`, with the state directory `{directory}` on {}",
        target.job(),
        target.project(),
        host()
    )
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .or_else(|| env::var("HOSTNAME").ok())
        .or_else(|| env::var("COMPUTERNAME").ok())
        .unwrap_or_default()
}
