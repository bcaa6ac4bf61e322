//! The connection that is kept for the resets of one worker's database.
//!
//! [`Keeper::open`] reads what there is to reset; [`Keeper::reset`] takes the lock and probes in one
//! round trip, and repairs in a second one if it must. `reset.rs` opens it again when it is lost,
//! and makes the database anew when that is its outcome.

use std::collections::HashSet;

use dagz_core::{Result, Target, driver::Failure};
use mysql_async::{Conn, prelude::Queryable as _};

use super::{
    baseline::Start,
    failed, failure,
    hold::Hold,
    lock, owner,
    probe::{self, Findings, Probe, Probes, Step, StoppedAt},
    repair::{self, Plan, Ran},
    sessions::{self, Last, Suspects},
    shape,
};
use crate::{
    Driver, Prepare,
    batch::{self, column, text},
    driver::{Database, NAME},
    error, provision,
    provision::Owner,
    route,
    schema::STATE_TABLE,
    server::Facts,
    sql,
};

/// How often one prepare looks again: after ending leftovers, after a repair with side effects.
const ROUNDS: usize = 6;

/// The kept connection to one worker's database.
pub(crate) struct Keeper {
    pub(super) conn: Conn,
    pub(super) facts: Facts,
    pub(super) stamp: String,
    pub(super) start: Start,
    pub(super) probes: Probes,
    /// The test that used the database last.
    last: Option<Last>,
    /// The newest session on the server when it was last asked in this prepare.
    pub(super) newest: Option<u64>,
    /// Whether that was the test that uses it now.
    pub(super) is_noted: bool,
    /// How many changes of schemas there were when this one was known to be as at the start.
    pub(super) changes: Option<i64>,
    pub(super) is_locked: bool,
    /// What tests have shown that something depends on.
    pub(super) blind: Option<&'static str>,
    /// What is known of this database, and kept as it is, since its last test ended.
    pub(super) hold: Hold,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Keeper")
            .field("is_locked", &self.is_locked)
            .finish_non_exhaustive()
    }
}

/// What became of opening one.
pub(super) enum Opened {
    Keeper(Box<Keeper>),
    /// There is no such database.
    Missing,
    /// The database is dagz's own, but not complete; with a session that holds its lock.
    Ruin(Box<Conn>),
}

/// What became of a reset.
pub(super) enum Outcome {
    Clean,
    Rebuild(String),
}

impl Keeper {
    /// Opens one for the database of `target`, which must be dagz's own.
    pub(super) async fn open(
        driver: &Driver,
        database: &Database,
        target: &Target,
    ) -> Result<Opened> {
        let purpose = provision::session_name(target, "prepare");
        let server = &database.server;
        let mut conn = match server.connect(Some(target.name()), &purpose).await {
            Ok(conn) => conn,
            Err(error) if error::says_database_is_missing(&error) => return Ok(Opened::Missing),
            Err(error) => return Err(error),
        };
        let outcomes = match batch::run(&mut conn, &probe::opening()).await {
            Ok(outcomes) => outcomes,
            Err(stopped) if error::is_shape_changed(&stopped.error) => {
                let owner = owner::behind(&mut conn, target).await?;
                return match owner.is_ours() {
                    true => owner::ruin(conn, target).await,
                    false => Err(owner.refusal(NAME, "reset", target.name())),
                };
            }
            Err(stopped) => return Err(failed(target.name(), stopped.error)),
        };
        let row = |index: usize| outcomes.get(index).and_then(|outcome| outcome.rows.first());
        let stamp = row(0).and_then(|row| text(row, 0)).unwrap_or_default();
        let start = row(0).and_then(|row| text(row, 1));
        match provision::owner_of(target, &stamp) {
            Owner::Ours(_) => {}
            owner if owner.is_ours() => return owner::ruin(conn, target).await,
            owner => return Err(owner.refusal(NAME, "reset", target.name())),
        }
        let Some(start) = start.as_deref().and_then(Start::parse) else {
            return owner::ruin(conn, target).await;
        };
        Ok(Opened::Keeper(Box::new(Self {
            conn,
            facts: server.facts()?.clone(),
            stamp,
            start,
            probes: Probes::default(),
            last: row(1).and_then(|row| {
                Some(Last {
                    test: text(row, 0)?,
                    newest: column(row, 2),
                })
            }),
            newest: None,
            is_noted: false,
            changes: row(1).and_then(|row| column(row, 1)),
            is_locked: false,
            blind: driver.config().blind,
            hold: Hold::default(),
        })))
    }

    /// Resets the database as `mode` says, and takes its lock.
    pub(super) async fn reset(
        &mut self,
        driver: &Driver,
        database: &Database,
        target: &Target,
        mode: Prepare,
    ) -> Result<Outcome, Failure> {
        let patience = driver.config().leak_patience;
        self.newest = None;
        if mode == Prepare::None {
            self.let_go().await;
            self.take_lock(target.name()).await?;
            return self.still_ours(target).await;
        }
        self.learn(driver, target, mode);
        let mut large = HashSet::new();
        if let Some(outcome) = self.proceed(target, mode, patience, &mut large).await? {
            return Ok(outcome);
        }
        for _ in 0..ROUNDS {
            let findings = match self.look(target, mode).await? {
                Looked::Found(findings) => findings,
                Looked::Again => continue,
                Looked::Rebuild(reason) => return Ok(Outcome::Rebuild(reason)),
                Looked::Held => {
                    self.end_leftovers(database, target, mode, patience).await?;
                    continue;
                }
            };
            if self.blind != Some("changes")
                && let Some(reason) = self.drift(target, findings.changes, patience).await?
            {
                return Ok(Outcome::Rebuild(reason));
            }
            if findings.is_clean() {
                return Ok(Outcome::Clean);
            }
            let Some(probe) = self.probes.of(mode) else {
                continue;
            };
            let flavour = self.facts.flavour;
            let batch = match repair::plan(flavour, &self.start, probe, &findings, &large) {
                Plan::Batch(batch) => batch,
                Plan::Rebuild(reason) => return Ok(Outcome::Rebuild(reason)),
            };
            match self.run(&batch, target, &mut large).await? {
                Ran::Clean => return Ok(Outcome::Clean),
                Ran::Again => {}
                Ran::Held => self.end_leftovers(database, target, mode, patience).await?,
                Ran::Rebuild(reason) => return Ok(Outcome::Rebuild(reason)),
            }
        }
        Ok(Outcome::Rebuild(
            "it still differs from its start state after several resets".to_owned(),
        ))
    }

    /// Writes the probe for `mode`, if there is none.
    fn learn(&mut self, driver: &Driver, target: &Target, mode: Prepare) {
        if self.probes.of(mode).is_some() {
            return;
        }
        let config = driver.config();
        let probe = Probe::new(
            &self.facts,
            target.name(),
            &self.start,
            mode,
            config.identity,
            &config.keep_tables,
            self.blind,
        );
        match mode {
            Prepare::Truncate => self.probes.truncate = Some(probe),
            _ => self.probes.baseline = Some(probe),
        }
    }

    /// Takes the lock and probes, in one round trip.
    async fn look(&mut self, target: &Target, mode: Prepare) -> Result<Looked, Failure> {
        let database = target.name();
        let Some(probe) = self.probes.of(mode) else {
            return Ok(Looked::Again);
        };
        let looked = probe.run(&mut self.conn, self.is_locked).await;
        let (findings, stopped) = match looked {
            Ok(findings) => (findings, None),
            Err(StoppedAt {
                step,
                before,
                error,
            }) => (before, Some((step, error))),
        };
        self.newest = findings.newest;
        if let Some((Step::Lock, error)) = stopped {
            return Err(failure(error, |error| failed(database, error)));
        }
        if !findings.is_locked {
            if stopped.is_some() {
                self.unlock_tables().await;
            }
            self.take_lock(database).await?;
            return Ok(Looked::Again);
        }
        self.is_locked = true;
        match stopped {
            None if !findings.have_stamp(&self.stamp) => {
                self.check_stamp(target).await?;
                Ok(Looked::Rebuild("its stamp was changed".to_owned()))
            }
            None if findings.is_held => Ok(Looked::Held),
            None => Ok(Looked::Found(findings)),
            Some((_, error)) if error::is_connection_lost(&error) => {
                Err(failure(error, |error| failed(database, error)))
            }
            Some((step, error)) => {
                self.unlock_tables().await;
                if error::is_busy(&error) {
                    return Ok(Looked::Held);
                }
                if error::is_shape_changed(&error) {
                    if step == Step::Stamp || !findings.have_stamp(&self.stamp) {
                        self.check_stamp(target).await?;
                    }
                    return Ok(Looked::Rebuild(shape(&error)));
                }
                Err(failure(error, |error| failed(database, error)))
            }
        }
    }

    /// After a batch that stopped, which may hold locks on all tables.
    pub(super) async fn unlock_tables(&mut self) {
        // A connection that cannot do that is gone, and its locks with it.
        drop(self.conn.query_drop("UNLOCK TABLES").await);
    }

    async fn end_leftovers(
        &mut self,
        database: &Database,
        target: &Target,
        mode: Prepare,
        patience: std::time::Duration,
    ) -> Result<()> {
        let Some(probe) = self.probes.of(mode) else {
            return Ok(());
        };
        let mut spared = database.shelf.each(Conn::id);
        spared.extend(self.sessions());
        let suspects = Suspects {
            facts: &self.facts,
            watch: &probe.watch,
            last: self.last.as_ref(),
            are_own: self.is_noted,
            spared: &spared,
        };
        sessions::end(&mut self.conn, target, &suspects, patience).await
    }

    /// Waits for the lock a bounded time.
    async fn take_lock(&mut self, database: &str) -> Result<(), Failure> {
        if !self.is_locked {
            lock::wait(&mut self.conn, database).await?;
            self.is_locked = true;
        }
        Ok(())
    }

    /// Gives the lock back, if it is held.
    pub(crate) async fn unlock(&mut self, database: &str) {
        self.is_noted = false;
        self.let_go().await;
        if std::mem::take(&mut self.is_locked) {
            // A connection that is gone holds no lock.
            drop(lock::give_back(&mut self.conn, &lock::key("use", database)).await);
        }
    }

    /// Notes on the server who uses the database now, so that what is left of it has a name.
    pub(super) async fn note(&mut self, target: &Target) {
        let (test, newest) = (this(target), self.newest);
        let statement = format!(
            "REPLACE INTO {STATE_TABLE} VALUES (1, {}, {}, {})",
            sql::literal(&test),
            self.changes.unwrap_or(-1),
            newest.map_or_else(|| "NULL".to_owned(), |newest| newest.to_string())
        );
        // Without it, a culprit would go unnamed, and no more.
        if let Err(error) = self.conn.query_drop(statement).await {
            tracing::debug!(target: "dagz", %error, "who uses a database was not noted");
        }
        self.last = Some(Last { test, newest });
        self.is_noted = true;
    }
}

enum Looked {
    Found(Findings),
    /// Others hold locks.
    Held,
    Again,
    Rebuild(String),
}

/// How the test that uses the database of `target` is noted on the server.
fn this(target: &Target) -> String {
    format!("{} {}", target.job(), route::program_name(target))
}
