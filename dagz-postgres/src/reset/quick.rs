//! The reset by the log of writes: one call of `dagz_baseline.reset` (`reset/function.rs`).
//!
//! Nothing can tell the log that a sequence moved, by a bare `nextval` or in what was rolled back. So all of them are
//! compared in the background when a test is released (`reset/ahead.rs`), with all else that takes time; where a
//! session did nothing since, that is acted on. Where one did, the call here looks anew, and sets back all sequences
//! that may have moved. Where the log does not serve, because the database was last reset to another state or its
//! tables are large, `reset/looking.rs` looks.

use dagz_core::{Result, Target, driver::Failure};
use futures_util::future::join;
use tokio_postgres::{Row, error::SqlState};

use super::{
    ahead::{Ahead, Found},
    answer::{Answer, CALL, TYPES},
    failure,
    keeper::{Keeper, Outcome, ROUNDS, owner_behind, shape},
    log::WriteLog,
    probe::{self, ProbedSequence, ProbedTable},
    repair, sessions,
};
use crate::{Driver, Prepare, driver, error};

/// What a process knows about resetting one database to one start state by the log.
pub(super) struct Quick {
    pub(super) mode: Prepare,
    /// What that start state is called in the database.
    pub(super) goal: String,
    pub(super) kept: Vec<u32>,
    pub(super) tables: Vec<ProbedTable>,
    pub(super) sequences: Vec<ProbedSequence>,
    reads_sequences: bool,
    /// To be run before the first call.
    settings: Option<String>,
    pub(super) ahead: Option<Ahead>,
    /// Sessions that were found harmless. Of kept clients are none: they may be taken for a test at any time.
    pub(super) spared: Vec<i32>,
    pub(super) found: Option<Found>,
    pub(super) has_prepared: bool,
    pub(super) log: WriteLog,
}

impl Keeper {
    fn quick(&self, driver: &Driver, mode: Prepare) -> Quick {
        let (config, catalog) = (driver.config(), &self.catalog);
        let kept: Vec<u32> = match mode {
            Prepare::Truncate => catalog
                .tables
                .iter()
                .filter(|table| probe::is_kept(table, &config.keep_tables))
                .map(|table| table.oid)
                .collect(),
            _ => Vec::new(),
        };
        let goal = match mode {
            Prepare::Truncate => format!("truncate except {kept:?}"),
            _ => "baseline".to_owned(),
        };
        let mut sequences = probe::sequences(catalog, mode, &config.keep_tables);
        if config.write_log.blind == Some("sequences") {
            sequences.clear();
        }
        Quick {
            mode,
            goal,
            kept,
            tables: probe::tables(catalog, mode, &config.keep_tables),
            sequences,
            reads_sequences: catalog.reads_sequences,
            settings: Some(self.settings(driver)),
            ahead: None,
            spared: Vec::new(),
            found: None,
            has_prepared: catalog.has_prepared,
            log: config.write_log.clone(),
        }
    }

    /// Resets by the log, and looks only where that does not serve.
    pub(super) async fn reset_by_log(
        &mut self,
        driver: &Driver,
        target: &Target,
        mode: Prepare,
    ) -> Result<Outcome, Failure> {
        let mut quick = match self.quick.take() {
            Some(quick) if quick.mode == mode => quick,
            _ => self.quick(driver, mode),
        };
        let outcome = match self.act_ahead(&mut quick, target).await {
            Ok(true) => Ok(Outcome::Clean),
            Ok(false) => self.rounds(&mut quick, driver, target, mode).await,
            Err(error) => Err(error),
        };
        self.quick = Some(quick);
        outcome
    }

    async fn rounds(
        &mut self,
        quick: &mut Quick,
        driver: &Driver,
        target: &Target,
        mode: Prepare,
    ) -> Result<Outcome, Failure> {
        let (config, database) = (driver.config(), target.name());
        let mut truncation = None;
        for _ in 0..ROUNDS {
            let answer = match self.ask(quick, target, truncation.take()).await {
                Ok(answer) => answer,
                Err(error) if error::has_code(&error, &SqlState::LOCK_NOT_AVAILABLE) => {
                    // The advisory lock was taken first, and outlives the failed statement.
                    self.is_locked = true;
                    sessions::end(&self.client, target, config.leak_patience).await?;
                    continue;
                }
                Err(error)
                    if error.as_db_error().is_some() && !error::is_connection_lost(&error) =>
                {
                    let owner = owner_behind(&self.client, target).await?;
                    if !owner.is_ours() {
                        let refusal = owner.refusal(driver::NAME, "reset", database);
                        return Err(Failure::Final(refusal));
                    }
                    self.take_lock(database).await?;
                    let reason = if error::is_shape_changed(&error) {
                        shape(&error)
                    } else {
                        format!(
                            "the reset failed: {}",
                            repair::failed(database, error).report()
                        )
                    };
                    return Ok(Outcome::Rebuild(reason));
                }
                Err(error) => {
                    return Err(failure(error, |error| repair::failed(database, error)));
                }
            };
            let Some(outcome) = answer.outcome.as_deref() else {
                self.is_locked = true;
                return Ok(Outcome::Clean);
            };
            if outcome == "locked" {
                self.take_lock(database).await?;
                continue;
            }
            self.is_locked = true;
            if outcome != "gone" {
                self.check_stamp(target, answer.stamp.as_ref())?;
            }
            match answer.sessions {
                Some(sessions) if outcome != "leftovers" => quick.spared = sessions,
                _ => {}
            }
            match outcome {
                "clean" | "repaired" => return Ok(Outcome::Clean),
                "leftovers" => sessions::end(&self.client, target, config.leak_patience).await?,
                "stamp" => {
                    // Ours, and yet not what the catalog said: written anew.
                    self.catalog.stamp = answer.stamp;
                }
                "gone" => {
                    return Ok(Outcome::Rebuild(
                        "its start state is not recorded any more".to_owned(),
                    ));
                }
                "rebuild" => {
                    return Ok(Outcome::Rebuild(answer.detail.unwrap_or_default()));
                }
                "large" => {
                    let large: Vec<_> = quick
                        .tables
                        .iter()
                        .filter(|table| answer.found.contains(&table.oid))
                        .collect();
                    let references = answer.detail.unwrap_or_default();
                    let names =
                        repair::truncations(&references, &quick.tables, &mut Vec::new(), &large);
                    truncation = Some(if names.is_empty() {
                        String::new()
                    } else {
                        format!("TRUNCATE ONLY {}", names.join(", ONLY "))
                    });
                }
                _ => match self.look_at_all(driver, target, quick, mode).await? {
                    Outcome::Clean => {}
                    rebuild @ Outcome::Rebuild(_) => return Ok(rebuild),
                },
            }
        }
        Ok(Outcome::Rebuild(
            "it still differs from its start state after several resets".to_owned(),
        ))
    }

    /// Where the database was last reset to another state, or by an interrupted reset to none, the
    /// log does not tell how it differs from this one.
    async fn look_at_all(
        &mut self,
        driver: &Driver,
        target: &Target,
        quick: &Quick,
        mode: Prepare,
    ) -> Result<Outcome, Failure> {
        let failed = |error| failure(error, |error| repair::failed(target.name(), error));
        self.client
            .batch_execute(
                "DELETE FROM dagz_baseline.writes; UPDATE dagz_baseline.state SET reset_to = ''",
            )
            .await
            .map_err(failed)?;
        let outcome = self.reset_by_looking(driver, target, mode, None).await?;
        if matches!(outcome, Outcome::Clean) {
            self.client
                .execute(
                    "UPDATE dagz_baseline.state SET reset_to = $1",
                    &[&quick.goal],
                )
                .await
                .map_err(failed)?;
        }
        Ok(outcome)
    }

    /// Calls the function, after `truncation` if there is one: one round trip.
    async fn ask(
        &self,
        quick: &mut Quick,
        target: &Target,
        truncation: Option<String>,
    ) -> Result<Answer, tokio_postgres::Error> {
        let (client, catalog) = (&self.client, &self.catalog);
        let found = quick.found.take();
        let seen = found.as_ref().map(|found| &found.seen);
        let (pids, since) = (seen.map(|seen| &seen.pids), seen.map(|seen| &seen.since));
        let sessions = seen.map(|seen| seen.sessions);
        let known = found.as_ref().map_or([].as_slice(), |found| &found.moved);
        let is_forced = truncation.is_some();
        let settings = quick.settings.clone();
        // Each is sent when it is polled first, so in this order.
        let first = async {
            for text in [settings, truncation].into_iter().flatten() {
                client.batch_execute(&text).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        let tag = target.tag();
        let spared = [quick.spared.as_slice(), &self.shelved].concat();
        let call = async {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 13] = [
                &catalog.database,
                &catalog.stamp,
                &tag,
                &self.is_locked,
                &catalog.has_prepared,
                &quick.goal,
                &quick.kept,
                &known,
                &pids,
                &since,
                &sessions,
                &spared,
                &is_forced,
            ];
            match &quick.ahead {
                Some(ahead) => client.query_one(&ahead.call, &parameters).await,
                None => {
                    let typed: Vec<_> = parameters.into_iter().zip(TYPES).collect();
                    // One row always.
                    client
                        .query_typed(CALL, &typed)
                        .await
                        .map(|mut rows| rows.remove(0))
                }
            }
        };
        let (done, row) = join(first, call).await;
        done?;
        let answer = Answer::read(&row?)?;
        quick.settings = None;
        Ok(answer)
    }
}

impl Quick {
    pub(super) fn moved_text(&self) -> String {
        format!(
            "SELECT {}",
            probe::moved(&self.sequences, self.reads_sequences)
        )
    }

    pub(super) fn moved_in(&self, row: &Row) -> Result<Vec<u32>, tokio_postgres::Error> {
        let moved: Vec<bool> = row.try_get(0)?;
        Ok(moved
            .into_iter()
            .zip(&self.sequences)
            .filter(|(moved, _)| *moved)
            .map(|(_, sequence)| sequence.oid)
            .collect())
    }
}
