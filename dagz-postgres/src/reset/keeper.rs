//! The connection that is kept for the resets of one worker's database.
//!
//! [`Keeper::open`] reads what there is to reset. [`Keeper::reset`] does it by the log of writes
//! (`reset/quick.rs`); where there is none, it takes the lock and probes in one round trip, and
//! repairs in a second one if it must. `reset.rs` opens it again when it is lost,
//! and makes the database anew when that is its outcome.

use std::time::Duration;

use dagz_core::{Result, Target, driver::Failure, event};
use futures_util::future::{join, join3};
use tokio_postgres::{Client, Statement, error::SqlState};

use super::{
    catalog::{Catalog, Loaded},
    failure, is_missing, lock, log,
    probe::{self, Findings, Probe},
    quick::Quick,
    repair::{self, Plan},
    sessions,
};
use crate::{
    Driver, Prepare, driver, error, provision,
    provision::Owner,
    server::{SESSION_SETTINGS, Server},
};

/// How often one prepare looks again: after ending leftovers, after a repair with side effects.
pub(super) const ROUNDS: usize = 5;

/// The kept connection to one worker's database.
pub(crate) struct Keeper {
    pub(super) client: Client,
    pub(super) catalog: Box<Catalog>,
    lock: Statement,
    truncate: Option<Probe>,
    baseline: Option<Probe>,
    /// The tables that were empty for certain when it was opened; for the reset that opened it.
    unfilled: Option<Vec<u32>>,
    pub(super) is_locked: bool,
    pub(super) quick: Option<Quick>,
    /// Whether the server's count of sessions is up to date.
    pub(super) knows_sessions: bool,
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
    Ruin(Box<Client>),
}

/// What became of a reset.
pub(super) enum Outcome {
    Clean,
    Rebuild(String),
}

impl Keeper {
    /// Opens one for the database of `target`, which must be dagz's own.
    pub(super) async fn open(server: &Server, target: &Target) -> Result<Opened> {
        let name = provision::session_name(target, "prepare");
        let client = match server.open(target.name(), &name).await {
            Ok(client) => client,
            Err(error) if is_missing(&error) => return Ok(Opened::Missing),
            Err(error) => return Err(error),
        };
        let unusable = |error| probe::failed(target.name(), error);
        // In this order, in one round trip. Which tables are unfilled is known only under the lock.
        let ((set, lock, is_locked), (catalog, unfilled)) = join(
            join3(
                client.batch_execute(SESSION_SETTINGS),
                lock::prepare(&client),
                lock::take_if_free(&client),
            ),
            join(
                Catalog::load(&client, target.name(), server.major()),
                Catalog::unfilled(&client),
            ),
        )
        .await;
        set.map_err(unusable)?;
        let lock = lock.map_err(unusable)?;
        let is_locked = is_locked.map_err(unusable)?;
        match catalog? {
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
                        unfilled: unfilled.filter(|_| is_locked),
                        is_locked,
                        quick: None,
                        knows_sessions: server.major() >= 15,
                    }))),
                    owner if owner.is_ours() => ruin(client, &lock, target).await,
                    owner => Err(owner.refusal(driver::NAME, "reset", target.name())),
                }
            }
            Loaded::NoRecord => {
                let owner = owner_behind(&client, target).await?;
                if owner.is_ours() {
                    ruin(client, &lock, target).await
                } else {
                    Err(owner.refusal(driver::NAME, "reset", target.name()))
                }
            }
        }
    }

    /// Resets the database as `mode` says, and takes its lock.
    pub(super) async fn reset(
        &mut self,
        driver: &Driver,
        target: &Target,
        mode: Prepare,
    ) -> Result<Outcome, Failure> {
        // Taken whatever happens: a later reset must not believe it.
        let unfilled = self.unfilled.take();
        if mode == Prepare::None {
            self.take_lock(target.name()).await?;
            Ok(Outcome::Clean)
        } else if self.catalog.is_logged {
            self.reset_by_log(driver, target, mode).await
        } else {
            self.reset_by_looking(driver, target, mode, unfilled).await
        }
    }

    /// Looks into every table, and undoes what differs.
    pub(super) async fn reset_by_looking(
        &mut self,
        driver: &Driver,
        target: &Target,
        mode: Prepare,
        mut unfilled: Option<Vec<u32>>,
    ) -> Result<Outcome, Failure> {
        let config = driver.config();
        let database = target.name();
        for _ in 0..ROUNDS {
            match self.learn(driver, target, mode, unfilled.take()).await? {
                Learnt::Known => {}
                Learnt::Locked => continue,
                Learnt::Rebuild(reason) => return Ok(Outcome::Rebuild(reason)),
            }
            let Some(findings) = self.look(target, mode, config.leak_patience).await? else {
                continue;
            };
            let findings = match findings {
                Looked::Found(findings) => findings,
                Looked::Rebuild(reason) => return Ok(Outcome::Rebuild(reason)),
            };
            self.check_stamp(target, findings.stamp.as_ref())?;
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
                Err(error) => {
                    return Err(failure(error, |error| repair::failed(database, error)));
                }
            }
        }
        Ok(Outcome::Rebuild(
            "it still differs from its start state after several resets".to_owned(),
        ))
    }

    /// Makes the probe for `mode`, if there is none that can be used; one that passes over the
    /// `unfilled` tables if they are known.
    async fn learn(
        &mut self,
        driver: &Driver,
        target: &Target,
        mode: Prepare,
        unfilled: Option<Vec<u32>>,
    ) -> Result<Learnt, Failure> {
        if self.probe(mode).is_some_and(|probe| !probe.is_once()) {
            return Ok(Learnt::Known);
        }
        let (config, database) = (driver.config(), target.name());
        let settings = self.settings(driver);
        let (set, made) = join(self.client.batch_execute(&settings), async {
            let (catalog, keep_tables) = (&self.catalog, &config.keep_tables);
            match unfilled {
                Some(unfilled) => Ok(Probe::once(catalog, mode, keep_tables, &unfilled)),
                None => Probe::new(&self.client, catalog, mode, keep_tables).await,
            }
        })
        .await;
        let failed = |error| failure(error, |error| probe::failed(database, error));
        set.map_err(failed)?;
        match made {
            Ok(probe) => {
                *self.probe_mut(mode) = Some(probe);
                Ok(Learnt::Known)
            }
            // The schema changed since the catalog was read, by whom only the lock tells.
            Err(error) if error::is_shape_changed(&error) => {
                self.take_lock(database).await?;
                Ok(Learnt::Rebuild(shape(&error)))
            }
            // An earlier test left a lock on a table, which even planning has to wait for.
            Err(error) if error::has_code(&error, &SqlState::LOCK_NOT_AVAILABLE) => {
                self.take_lock(database).await?;
                sessions::end(&self.client, target, config.leak_patience).await?;
                Ok(Learnt::Locked)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// What the session needs beside what all of dagz's own do.
    pub(super) fn settings(&self, driver: &Driver) -> String {
        let config = driver.config();
        let limit = config.leak_patience.min(config.lock_timeout).as_millis();
        let mut settings = format!("SET lock_timeout = {}; {};", limit.max(1), log::IS_RESET);
        if self.catalog.may_replicate {
            // So that no foreign key and no trigger of the user's minds what a repair does. For
            // the session and not for each repair: every change of it discards the plans, and
            // planning the probe costs five times what running it does.
            settings.push_str("SET session_replication_role = replica");
        }
        settings
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
                    Err(Failure::Final(owner.refusal(
                        driver::NAME,
                        "reset",
                        database,
                    )))
                }
            }
            Err(error) => Err(failure(error, |error| probe::failed(database, error))),
        }
    }

    /// Waits for the lock a bounded time.
    pub(super) async fn take_lock(&mut self, database: &str) -> Result<(), Failure> {
        if !self.is_locked {
            lock::wait(&self.client, &self.lock, database).await?;
            self.is_locked = true;
        }
        Ok(())
    }

    /// Gives the lock back, if it is held.
    pub(super) fn unlock(&mut self) {
        if std::mem::take(&mut self.is_locked) {
            lock::give_back(&self.client);
        }
    }

    /// Nothing is removed from a database whose stamp is not this project's any more.
    pub(super) fn check_stamp(&self, target: &Target, stamp: Option<&String>) -> Result<()> {
        if stamp == self.catalog.stamp.as_ref() {
            return Ok(());
        }
        let stamp = stamp.map(String::as_str);
        let owner = provision::owner_of(target, self.catalog.database, stamp, -1);
        if owner.is_ours() {
            Ok(())
        } else {
            Err(owner.refusal(driver::NAME, "reset", target.name()))
        }
    }

    /// Says once per process why resets are slow here, and what would make them quick.
    fn explain_once(&self, reason: &str) {
        static EXPLAINED: std::sync::Once = std::sync::Once::new();
        if !self.catalog.may_replicate {
            EXPLAINED.call_once(|| {
                let text = format!(
                    "{reason}: the database is made anew for each such test; a superuser, or `GRANT SET ON PARAMETER session_replication_role` to the role (Postgres 15 or later), makes that a matter of a millisecond"
                );
                event::warn(Some(driver::NAME), &text);
            });
        }
    }
}

enum Learnt {
    Known,
    Locked,
    Rebuild(String),
}

enum Looked {
    Found(Findings),
    Rebuild(String),
}

async fn ruin(client: Client, lock: &Statement, target: &Target) -> Result<Opened> {
    lock::wait(&client, lock, target.name())
        .await
        .map_err(Failure::into_error)?;
    Ok(Opened::Ruin(Box::new(client)))
}

pub(super) async fn owner_behind(client: &Client, target: &Target) -> Result<Owner> {
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

pub(super) fn shape(error: &tokio_postgres::Error) -> String {
    let what = error.as_db_error().map_or("", |error| error.message());
    format!("schema changed: {what}")
}
