//! The connection that is kept for the resets of one worker's database.
//!
//! [`Keeper::open`] reads what there is to reset. [`Keeper::reset`] does it by the log of writes
//! (`reset/quick.rs`), or, where there is none, by looking (`reset/looking.rs`). `reset.rs` opens it
//! again when it is lost, and makes the database anew when that is its outcome.

use dagz_core::{Result, Target, driver::Failure};
use futures_util::future::join4;
use tokio_postgres::{Client, Statement};

use super::{
    catalog::{Catalog, Loaded},
    is_missing, lock, log,
    probe::{self, Probe},
    quick::Quick,
};
use crate::{
    Driver, Prepare, driver, provision,
    provision::Owner,
    server::{SESSION_SETTINGS, Server},
};

/// How often one prepare looks again: after ending leftovers, after a repair with side effects.
pub(super) const ROUNDS: usize = 5;

/// The kept connection to one worker's database.
pub(crate) struct Keeper {
    pub(super) client: Client,
    pub(super) catalog: Box<Catalog>,
    pub(super) lock: Statement,
    pub(super) truncate: Option<Probe>,
    pub(super) baseline: Option<Probe>,
    /// Whether it has not reset anything yet.
    is_new: bool,
    pub(super) is_locked: bool,
    pub(super) quick: Option<Quick>,
    /// Sessions of kept clients that nobody had when this reset, or this look behind a test, began.
    pub(super) shelved: Vec<i32>,
    /// Whether the server's count of sessions is up to date.
    pub(super) knows_sessions: bool,
    /// Whether it was told that each reset looks into every table.
    pub(super) has_told: bool,
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
        // In this order, in one round trip.
        let (set, lock, is_locked, catalog) = join4(
            client.batch_execute(SESSION_SETTINGS),
            lock::prepare(&client),
            lock::take_if_free(&client),
            Catalog::load(&client, target.name(), server.major()),
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
                        is_new: true,
                        is_locked,
                        quick: None,
                        shelved: Vec::new(),
                        knows_sessions: server.major() >= 15,
                        has_told: false,
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
        let is_first = std::mem::take(&mut self.is_new);
        if mode == Prepare::None {
            self.take_lock(target.name()).await?;
            Ok(Outcome::Clean)
        } else if self.catalog.is_logged {
            self.reset_by_log(driver, target, mode).await
        } else {
            self.tell_that_it_looks(driver, target);
            // Known only under the lock.
            let unfilled = match is_first && self.is_locked && self.catalog.is_superuser {
                true => Catalog::unfilled(&self.client).await,
                false => None,
            };
            self.reset_by_looking(driver, target, mode, unfilled).await
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
