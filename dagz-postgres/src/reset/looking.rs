//! The reset without the log of writes: one round trip that looks into every table, and one that repairs.
//!
//! [`Keeper`] (`reset/keeper.rs`) comes here where there is no log, and `reset/quick.rs` where that does not
//! serve. `reset/probe.rs` writes what is asked, `reset/repair.rs` what is done about the answer.

use std::time::Duration;

use dagz_core::{
    Result, Target,
    driver::Failure,
    event::{self, Event},
};
use futures_util::future::join;
use tokio_postgres::error::SqlState;

use super::{
    failure,
    keeper::{Keeper, Outcome, ROUNDS, owner_behind, shape},
    probe::{self, Findings, Probe},
    repair::{self, Plan},
    sessions,
};
use crate::{Driver, Prepare, driver, error};

impl Keeper {
    /// Says why each reset looks into every table here, which costs with their number.
    pub(super) fn tell_that_it_looks(&mut self, driver: &Driver, target: &Target) {
        if std::mem::replace(&mut self.has_told, true) {
            return;
        }
        let why = if !driver.config().write_log.is_on {
            "`write_log(false)` is configured"
        } else if !self.catalog.is_superuser {
            "a log of writes needs a superuser"
        } else if self.catalog.has_always_triggers {
            "triggers or rules that fire even on a replica would write to the log"
        } else {
            "the start state was recorded without a log of writes"
        };
        Event::new("looking")
            .target(target)
            .detail(format!("each reset looks into every table: {why}"))
            .record();
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
        let is_blind = config.write_log.blind == Some("look again");
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
                Ok(()) if self.catalog.has_side_effects && !is_blind => {}
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
            let log = &config.write_log;
            match unfilled {
                Some(unfilled) => Ok(Probe::once(catalog, mode, keep_tables, &unfilled, log)),
                None => Probe::new(&self.client, catalog, mode, keep_tables, log).await,
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
