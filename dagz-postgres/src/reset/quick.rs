//! The reset by the log of writes: one call of `dagz_baseline.reset` (`reset/function.rs`).
//!
//! Nothing can tell the log that a sequence moved, by a bare `nextval` or in what was rolled back. So
//! all of them are compared in the background when a test is released ([`Keeper::compare`]); where
//! that was not done, or a session did anything since, the call sets back all that may have moved. Where the log does not serve, because
//! the database was last reset to another state or its tables are large, `reset/keeper.rs` looks.

use dagz_core::{Result, Target, driver::Failure};
use futures_util::future::join;
use tokio_postgres::{Client, Row, Statement, error::SqlState};

use super::{
    answer::{Answer, CALL, TYPES},
    failure,
    function::PRESENT,
    keeper::{Keeper, Outcome, ROUNDS, owner_behind, shape},
    probe::{self, ProbedSequence, ProbedTable},
    repair, sessions,
};
use crate::{Driver, Prepare, driver, error};

/// What a process knows about resetting one database to one start state by the log.
pub(super) struct Quick {
    mode: Prepare,
    /// What that start state is called in the database.
    goal: String,
    kept: Vec<u32>,
    tables: Vec<ProbedTable>,
    sequences: Vec<ProbedSequence>,
    reads_sequences: bool,
    /// To be run before the first call.
    settings: Option<String>,
    statements: Option<Statements>,
    /// Sessions that were found harmless.
    spared: Vec<i32>,
    compared: Option<Compared>,
}

struct Statements {
    call: Statement,
    present: Statement,
    moved: Statement,
}

/// Which sequences stood elsewhere than they should, and who was in the database then.
struct Compared {
    moved: Vec<u32>,
    seen: String,
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
            statements: None,
            spared: Vec::new(),
            compared: None,
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
        let outcome = self.rounds(&mut quick, driver, target, mode).await;
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
            if let Some(sessions) = answer.sessions {
                quick.spared = sessions;
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
                    let names =
                        repair::truncations(&self.client, &quick.tables, &mut Vec::new(), &large)
                            .await?;
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
        let compared = quick.compared.take();
        let (seen, known) = match &compared {
            Some(Compared { seen, moved }) => (Some(seen), moved.as_slice()),
            None => (None, [].as_slice()),
        };
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
        let call = async {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 11] = [
                &catalog.database,
                &catalog.stamp,
                &tag,
                &self.is_locked,
                &catalog.has_prepared,
                &quick.goal,
                &quick.kept,
                &known,
                &seen,
                &quick.spared,
                &is_forced,
            ];
            match &quick.statements {
                Some(statements) => client.query_one(&statements.call, &parameters).await,
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

    /// Compares the sequences while nobody waits, so that the next reset need not. Tells whether
    /// doing so again a little later may find sessions gone that are about to go.
    pub(super) async fn compare(&mut self) -> bool {
        if self.is_locked || !self.knows_sessions {
            return false;
        }
        let database = self.catalog.database;
        let Some(quick) = &mut self.quick else {
            return false;
        };
        match quick.compare(&self.client, database).await {
            Ok((compared, is_settled)) => {
                quick.compared = compared;
                !is_settled
            }
            // The next reset finds out why.
            Err(_) => false,
        }
    }
}

impl Quick {
    fn moved_text(&self) -> String {
        format!(
            "SELECT {}",
            probe::moved(&self.sequences, self.reads_sequences)
        )
    }

    fn moved_in(&self, row: &Row) -> Result<Vec<u32>, tokio_postgres::Error> {
        let moved: Vec<bool> = row.try_get(0)?;
        Ok(moved
            .into_iter()
            .zip(&self.sequences)
            .filter(|(moved, _)| *moved)
            .map(|(_, sequence)| sequence.oid)
            .collect())
    }

    async fn compare(
        &mut self,
        client: &Client,
        database: u32,
    ) -> Result<(Option<Compared>, bool), tokio_postgres::Error> {
        let statements = match self.statements.take() {
            Some(statements) => statements,
            None => Statements {
                call: client.prepare_typed(CALL, &TYPES).await?,
                present: client
                    .prepare(&format!(
                        "SELECT * FROM (SELECT {database}::oid AS this OFFSET 0) d CROSS JOIN LATERAL ({PRESENT}) p"
                    ))
                    .await?,
                moved: client.prepare(&self.moved_text()).await?,
            },
        };
        // In this order: who does something afterwards is seen to have done it.
        let (present, moved) = join(
            client.query_one(&statements.present, &[]),
            client.query_one(&statements.moved, &[]),
        )
        .await;
        self.statements = Some(statements);
        let present = present?;
        let (pids, is_open): (Option<Vec<i32>>, bool) = (present.try_get(1)?, present.try_get(2)?);
        let is_settled = pids
            .unwrap_or_default()
            .iter()
            .all(|pid| self.spared.contains(pid));
        let compared = Compared {
            moved: self.moved_in(&moved?)?,
            seen: present.try_get(3)?,
        };
        Ok(((!is_open).then_some(compared), is_settled && !is_open))
    }
}
