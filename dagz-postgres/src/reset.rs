//! Brings a worker's database to its start state, at the cost of what a test dirtied.
//!
//! [`Keeper`] is the connection that is kept for it, one per database and process. Its probe
//! (`reset/probe.rs`, written from `reset/catalog.rs`) finds what differs in one round trip;
//! `reset/repair.rs` undoes it in a second one; `reset/sessions.rs` ends what earlier tests left
//! running; `reset/baseline.rs` records the start state when the database is made. Where a repair
//! cannot be exact, as after a change of the schema, the database is made anew by `provision`.

mod baseline;
mod catalog;
mod probe;
mod repair;
mod sessions;

use std::time::{Duration, Instant};

use dagz_core::{Error, ErrorKind, Result, Target, Worker, event::Event};
use futures_util::{FutureExt, future::join};
use tokio_postgres::{Client, Statement, error::SqlState};

pub(crate) use self::{
    baseline::{CaptureFor, capture},
    sessions::roll_back_prepared,
};
use self::{
    catalog::{Catalog, Loaded},
    probe::{Findings, Probe},
    repair::Plan,
};
use crate::{
    Driver, Prepare,
    driver::{Database, configured},
    error, provision,
    provision::Owner,
    server::Server,
};

/// The advisory lock, in the worker's own database, of the run that uses it.
const LOCK: (i32, i32) = (0x6461_677a, 0);

/// How long another run may hold a database before that is an error.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How often one prepare looks again: after ending leftovers, after a repair with side effects.
const ROUNDS: usize = 5;

/// Empties every table of `target`'s database, except the kept ones, and sets every sequence to
/// its start; for use in [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn truncate(target: &Target) -> Result<()> {
    prepare(configured()?, target, Prepare::Truncate).await
}

/// Brings `target`'s database back to what its creation left, rows and sequences included; for use
/// in [`Config::prepare_with`](crate::Config::prepare_with).
///
/// # Errors
/// Those of a prepare: the database is not dagz's own, another run uses it, or it cannot be reset.
pub async fn baseline(target: &Target) -> Result<()> {
    prepare(configured()?, target, Prepare::Baseline).await
}

impl Driver {
    /// [`truncate`](crate::truncate) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn truncate(&self, target: &Target) -> Result<()> {
        prepare(self, target, Prepare::Truncate).await
    }

    /// [`baseline`](crate::baseline) by this driver, where it is not the one of the process.
    ///
    /// # Errors
    /// The same.
    pub async fn baseline(&self, target: &Target) -> Result<()> {
        prepare(self, target, Prepare::Baseline).await
    }
}

/// Resets the database of `target` as `mode` says, and takes its lock until [`release`].
pub(crate) async fn prepare(driver: &Driver, target: &Target, mode: Prepare) -> Result<()> {
    if mode == Prepare::None {
        return Ok(());
    }
    let database = driver.database(target)?;
    let mut slot = database.keeper.lock().await;
    let (mut lost, mut rebuilt) = (false, false);
    loop {
        let mut keeper = match slot.take() {
            Some(keeper) if !keeper.client.is_closed() => keeper,
            _ => match Keeper::open(&database.server, target).await? {
                Opened::Keeper(keeper) => *keeper,
                Opened::Missing => {
                    // Dropped by somebody, or by a rebuild that was killed half-way.
                    rebuild(driver, &database, target, None, "it is gone", rebuilt).await?;
                    rebuilt = true;
                    continue;
                }
                Opened::Ruin(client) => {
                    let reason = "its start state is not recorded completely";
                    let client = Some(*client);
                    rebuild(driver, &database, target, client, reason, rebuilt).await?;
                    rebuilt = true;
                    continue;
                }
            },
        };
        match keeper.reset(driver, target, mode).await {
            Ok(Outcome::Clean) => {
                *slot = Some(keeper);
                return Ok(());
            }
            Ok(Outcome::Rebuild(reason)) => {
                let client = Some(keeper.client);
                rebuild(driver, &database, target, client, &reason, rebuilt).await?;
                rebuilt = true;
            }
            Err(Failure::Lost(error)) if lost => return Err(error),
            Err(Failure::Lost(_)) => lost = true,
            Err(Failure::Final(error)) => {
                // It may hold the lock, which `release` gives back.
                *slot = Some(keeper);
                return Err(error);
            }
        }
    }
}

/// Makes the database anew. A second time in one prepare would be for ever.
async fn rebuild(
    driver: &Driver,
    database: &Database,
    target: &Target,
    fence: Option<Client>,
    reason: &str,
    again: bool,
) -> Result<()> {
    if again {
        return Err(Error::new(
            ErrorKind::Prepare,
            format!(
                "database `{}` was made anew and still is not in its start state: {reason}",
                target.name()
            ),
        ));
    }
    let started = Instant::now();
    provision::rebuild(driver, database, target, fence).await?;
    Event::new("drift")
        .target(target)
        .duration(started.elapsed())
        .detail(format!("made anew: {reason}"))
        .record();
    Ok(())
}

/// Gives the database back: kept clients are clean, and other runs may use it.
pub(crate) async fn release(database: &Database) {
    database.shelf.settle().await;
    if let Some(keeper) = database.keeper.lock().await.as_mut() {
        keeper.unlock();
    }
}

/// A session in the database `name` that holds its lock, so that nobody else can be using it.
/// `None` where nobody can be in it.
pub(crate) async fn fence(server: &Server, name: &str, worker: Worker) -> Result<Option<Client>> {
    let client = match server.connect(name, &format!("dagz {worker} init")).await {
        Ok(client) => client,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let failed = |error| {
        error::statement(
            ErrorKind::WorkerInit,
            format!("cannot lock database `{name}`"),
            error,
        )
    };
    let lock = client.prepare(&lock_statement()).await.map_err(failed)?;
    wait_for_lock(&client, &lock, name)
        .await
        .map_err(|failure| match failure {
            Failure::Lost(error) | Failure::Final(error) => error,
        })?;
    Ok(Some(client))
}

/// The kept connection to one worker's database.
pub(crate) struct Keeper {
    client: Client,
    catalog: Box<Catalog>,
    lock: Statement,
    truncate: Option<Probe>,
    baseline: Option<Probe>,
    is_locked: bool,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Keeper")
            .field("is_locked", &self.is_locked)
            .finish_non_exhaustive()
    }
}

enum Opened {
    Keeper(Box<Keeper>),
    /// There is no such database.
    Missing,
    /// The database is dagz's own, but not complete; with a session that holds its lock.
    Ruin(Box<Client>),
}

enum Outcome {
    Clean,
    Rebuild(String),
}

enum Failure {
    /// The connection is gone; another one may do.
    Lost(Error),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Tells a connection that is gone from a statement that failed.
fn failure(
    error: tokio_postgres::Error,
    map: impl FnOnce(tokio_postgres::Error) -> Error,
) -> Failure {
    if error::is_connection_lost(&error) {
        Failure::Lost(map(error))
    } else {
        Failure::Final(map(error))
    }
}

impl Keeper {
    async fn open(server: &Server, target: &Target) -> Result<Opened> {
        let name = provision::session_name(target, "prepare");
        let client = match server.connect(target.name(), &name).await {
            Ok(client) => client,
            Err(error) if is_missing(&error) => return Ok(Opened::Missing),
            Err(error) => return Err(error),
        };
        let lock = client
            .prepare(&lock_statement())
            .await
            .map_err(|error| probe::failed(target.name(), error))?;
        match Catalog::load(&client, target.name(), server.major()).await? {
            Loaded::Catalog(catalog) => {
                let owner = provision::owner_of(
                    target,
                    catalog.database,
                    catalog.stamp.as_deref(),
                    catalog.connection_limit,
                );
                match owner {
                    Owner::Ours(stamp) if stamp.ready => Ok(Opened::Keeper(Box::new(Self {
                        client,
                        catalog,
                        lock,
                        truncate: None,
                        baseline: None,
                        is_locked: false,
                    }))),
                    owner if owner.is_ours() => ruin(client, &lock, target).await,
                    owner => Err(owner.refusal("reset", target.name())),
                }
            }
            Loaded::NoRecord => {
                let owner = owner_behind(&client, target).await?;
                if owner.is_ours() {
                    ruin(client, &lock, target).await
                } else {
                    Err(owner.refusal("reset", target.name()))
                }
            }
        }
    }

    async fn reset(
        &mut self,
        driver: &Driver,
        target: &Target,
        mode: Prepare,
    ) -> Result<Outcome, Failure> {
        let config = driver.config();
        let database = target.name();
        if self.probe(mode).is_none() {
            let made = Probe::new(&self.client, &self.catalog, mode, &config.keep_tables).await;
            match made {
                Ok(probe) => *self.probe_mut(mode) = Some(probe),
                // The schema changed since the catalog was read, by whom only the lock tells.
                Err(error) if error::is_shape_changed(&error) => {
                    self.take_lock(database).await?;
                    return Ok(Outcome::Rebuild(shape(&error)));
                }
                Err(error) => return Err(failure(error, |error| probe::failed(database, error))),
            }
            let limit = config
                .leak_patience
                .min(config.lock_timeout)
                .as_millis()
                .max(1);
            let mut settings = format!("SET lock_timeout = {limit};");
            if self.catalog.may_replicate {
                // So that no foreign key and no trigger of the user's minds what a repair does. For
                // the session and not for each repair: every change of it discards the plans, and
                // planning the probe costs five times what running it does.
                settings.push_str("SET session_replication_role = replica");
            }
            self.client
                .batch_execute(&settings)
                .await
                .map_err(|error| failure(error, |error| probe::failed(database, error)))?;
        }
        for _ in 0..ROUNDS {
            let Some(findings) = self.look(target, mode, config.leak_patience).await? else {
                continue;
            };
            let findings = match findings {
                Looked::Found(findings) => findings,
                Looked::Rebuild(reason) => return Ok(Outcome::Rebuild(reason)),
            };
            self.check_stamp(target, &findings)?;
            if findings.has_leftovers {
                sessions::end(&self.client, target, config.leak_patience).await?;
                continue;
            }
            if let Some(reason) = findings.drift {
                return Ok(Outcome::Rebuild(format!("schema changed: {reason}")));
            }
            if findings.is_clean() {
                return Ok(Outcome::Clean);
            }
            let Some(probe) = self.probe(mode) else {
                continue;
            };
            let timeout = config.lock_timeout.as_millis().max(1);
            let plan = repair::plan(&self.client, &self.catalog, probe, &findings, timeout).await?;
            let batch = match plan {
                Plan::Batch(batch) => batch,
                Plan::Rebuild(reason) => {
                    self.explain_once(&reason);
                    return Ok(Outcome::Rebuild(reason));
                }
            };
            match self.client.batch_execute(&batch).await {
                Ok(()) if self.catalog.has_side_effects => {}
                Ok(()) => return Ok(Outcome::Clean),
                // Somebody came between probe and repair: looking again finds them.
                Err(error) if error::has_code(&error, &SqlState::LOCK_NOT_AVAILABLE) => {
                    sessions::end(&self.client, target, config.leak_patience).await?;
                }
                Err(error)
                    if error.as_db_error().is_some() && !error::is_connection_lost(&error) =>
                {
                    return Ok(Outcome::Rebuild(format!(
                        "the reset failed: {}",
                        repair::failed(database, error).report()
                    )));
                }
                Err(error) => return Err(failure(error, |error| repair::failed(database, error))),
            }
        }
        Ok(Outcome::Rebuild(
            "it still differs from its start state after several resets".to_owned(),
        ))
    }

    fn probe(&self, mode: Prepare) -> Option<&Probe> {
        match mode {
            Prepare::Truncate => self.truncate.as_ref(),
            _ => self.baseline.as_ref(),
        }
    }

    fn probe_mut(&mut self, mode: Prepare) -> &mut Option<Probe> {
        match mode {
            Prepare::Truncate => &mut self.truncate,
            _ => &mut self.baseline,
        }
    }

    /// Takes the lock and probes, in one round trip; `None` says to look again.
    async fn look(
        &mut self,
        target: &Target,
        mode: Prepare,
        patience: Duration,
    ) -> Result<Option<Looked>, Failure> {
        let database = target.name();
        let Some(probe) = self.probe(mode) else {
            return Ok(None);
        };
        let probed = probe.run(&self.client, target.tag());
        let probed = if self.is_locked {
            probed.await
        } else {
            // Two statements, in this order: what the probe sees must not be older than the lock.
            let (locked, probed) = join(self.client.query_one(&self.lock, &[]), probed).await;
            let is_locked: bool = locked
                .map_err(|error| failure(error, |error| probe::failed(database, error)))?
                .get(0);
            if !is_locked {
                self.take_lock(database).await?;
                return Ok(None);
            }
            self.is_locked = true;
            probed
        };
        match probed {
            Ok(Some(findings)) => Ok(Some(Looked::Found(findings))),
            Ok(None) => Ok(Some(Looked::Rebuild(
                "its start state is not recorded any more".to_owned(),
            ))),
            Err(error) if error::has_code(&error, &SqlState::LOCK_NOT_AVAILABLE) => {
                sessions::end(&self.client, target, patience).await?;
                Ok(None)
            }
            Err(error) if error::is_shape_changed(&error) => {
                let owner = owner_behind(&self.client, target).await?;
                if owner.is_ours() {
                    Ok(Some(Looked::Rebuild(shape(&error))))
                } else {
                    Err(Failure::Final(owner.refusal("reset", database)))
                }
            }
            Err(error) => Err(failure(error, |error| probe::failed(database, error))),
        }
    }

    /// Waits for the lock a bounded time.
    async fn take_lock(&mut self, database: &str) -> Result<(), Failure> {
        if !self.is_locked {
            wait_for_lock(&self.client, &self.lock, database).await?;
            self.is_locked = true;
        }
        Ok(())
    }

    /// Enqueues giving the lock back, without waiting for it: whoever wants it next waits a little,
    /// and this connection does things in their order.
    fn unlock(&mut self) {
        if std::mem::take(&mut self.is_locked) {
            let statement = format!("SELECT pg_advisory_unlock({}, {})", LOCK.0, LOCK.1);
            // Polled once, it is sent; a connection that is gone holds no lock.
            drop(self.client.batch_execute(&statement).now_or_never());
        }
    }

    /// Nothing is removed from a database whose stamp is not this project's any more.
    fn check_stamp(&self, target: &Target, findings: &Findings) -> Result<()> {
        if findings.stamp == self.catalog.stamp {
            return Ok(());
        }
        let owner =
            provision::owner_of(target, self.catalog.database, findings.stamp.as_deref(), -1);
        if owner.is_ours() {
            Ok(())
        } else {
            Err(owner.refusal("reset", target.name()))
        }
    }

    /// Says once per process why resets are slow here, and what would make them quick.
    fn explain_once(&self, reason: &str) {
        static EXPLAINED: std::sync::Once = std::sync::Once::new();
        if !self.catalog.may_replicate {
            EXPLAINED.call_once(|| {
                tracing::warn!(
                    target: "dagz",
                    "{reason}: the database is made anew for each such test; `GRANT SET ON PARAMETER session_replication_role` to the role (Postgres 15 or later), or a superuser, makes that a matter of a millisecond"
                );
            });
        }
    }
}

enum Looked {
    Found(Findings),
    Rebuild(String),
}

async fn ruin(client: Client, lock: &Statement, target: &Target) -> Result<Opened> {
    wait_for_lock(&client, lock, target.name())
        .await
        .map_err(|failure| match failure {
            Failure::Lost(error) | Failure::Final(error) => error,
        })?;
    Ok(Opened::Ruin(Box::new(client)))
}

async fn owner_behind(client: &Client, target: &Target) -> Result<Owner> {
    let row = client
        .query_one(
            "SELECT oid, shobj_description(oid, 'pg_database'), datconnlimit \
             FROM pg_database WHERE datname = current_database()",
            &[],
        )
        .await
        .map_err(|error| probe::failed(target.name(), error))?;
    Ok(provision::owner_of(
        target,
        row.get(0),
        row.get(1),
        row.get(2),
    ))
}

fn shape(error: &tokio_postgres::Error) -> String {
    let what = error.as_db_error().map_or("", |error| error.message());
    format!("schema changed: {what}")
}

fn lock_statement() -> String {
    format!("SELECT pg_try_advisory_lock({}, {})", LOCK.0, LOCK.1)
}

async fn wait_for_lock(client: &Client, lock: &Statement, database: &str) -> Result<(), Failure> {
    let map = |error| {
        failure(error, |error| {
            error::statement(
                ErrorKind::Prepare,
                format!("cannot lock database `{database}`"),
                error,
            )
        })
    };
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if client.query_one(lock, &[]).await.map_err(map)?.get(0) {
            return Ok(());
        }
        if started.elapsed() > LOCK_PATIENCE {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    let holder = client
        .query_opt(
            "SELECT format('pid %s, `%s`, from %s, since %s', a.pid, a.application_name, \
                    coalesce(a.client_addr::text, 'this machine'), a.backend_start) \
             FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND l.classid::bigint = $1 AND l.objid::bigint = $2 LIMIT 1",
            &[&i64::from(LOCK.0), &i64::from(LOCK.1)],
        )
        .await
        .map_err(map)?
        .map_or_else(|| "nobody any more".to_owned(), |row| row.get(0));
    Err(Failure::Final(Error::new(
        ErrorKind::InUse,
        format!(
            "another run is using database `{database}`: {holder}; give each machine its own `DAGZ_NODE_INDEX`, and each checkout that shares a server its own `DAGZ_PROJECT` and base name"
        ),
    )))
}

/// Whether nobody can be in that database: there is none, or it takes no connections, as after a
/// drop that was interrupted.
fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
        .is_some_and(|native| {
            error::has_code(native, &SqlState::INVALID_CATALOG_NAME)
                || error::has_code(native, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
        })
}
