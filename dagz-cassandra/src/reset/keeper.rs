//! What a process knows of one worker's keyspace, and the look that finds what a test changed.
//!
//! [`Keeper::reset`] sends at once: the lease's request, if one is due, a question for the version of the
//! cluster's schema and for its clock, and one probe per table. A version that is known means that no
//! definition changed, and neither did the stamp, which is a part of one. What was found is undone by
//! `reset/repair.rs`, table by table.

use std::{collections::HashMap, sync::Arc};

use dagz_core::{ErrorKind, Target, driver::Failure, event::Event};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};

use super::{
    AT_ONCE,
    clear::{self, Clock},
    notes::Writes,
    repair::{Found, is_lasting, repair},
    state::{State, count},
};
use crate::{
    Driver, Prepare,
    error::{self, Native},
    provision::{self, owner, refusal},
    schema::{Schema, Table},
    server::{Moment, all, is_single, moment},
    source::Source,
};

/// How many probes are on their way at a time.
const PROBES: usize = 64;

/// What is kept for the resets of one worker's keyspace.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    state: Option<State>,
    /// By table; from the second reset on, since a process of nextest's has but one.
    probes: HashMap<String, PreparedStatement>,
    deletions: HashMap<String, PreparedStatement>,
    is_used: bool,
    /// What tests have shown that something depends on.
    blind: Option<&'static str>,
}

/// How a reset ended.
pub(super) enum Outcome {
    Clean,
    /// The keyspace must be made anew, for this reason.
    Rebuild(String),
}

/// What a look found.
struct Look {
    found: Vec<(Table, Found)>,
    /// How often had been written to tables with counters.
    writes: Option<Writes>,
}

impl Keeper {
    /// Forgets what it knows: the keyspace may be another one.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) async fn reset(
        &mut self,
        driver: &Driver,
        target: &Target,
        mode: Prepare,
        session: &Arc<Session>,
    ) -> Result<Outcome, Failure> {
        self.blind = driver.config().blind;
        let source = driver.server(target.endpoint())?.source.clone();
        let failed = |error| {
            error::failure(
                ErrorKind::Prepare,
                "resetting keyspace",
                &source,
                target.name(),
                error,
            )
        };
        let is_alone = self.blind == Some("lease");
        let leased = async {
            if is_alone {
                return Ok(());
            }
            let taken = driver.leases().take(session, target).await;
            taken.map_err(|error| error.into_failure(&source, target.name()))
        };
        let now = async { moment(session).await.map_err(failed) };
        let mut found = None;
        let mut now = if self.state.is_some() {
            self.prepare_probes(session, target.name())
                .await
                .map_err(failed)?;
            let look = self.look(session, target.name(), mode);
            let (leased, now, look) = futures_util::join!(leased, now, look);
            leased?;
            found = Some(look);
            now?
        } else {
            let state = async { State::read(session, target.name()).await.map_err(failed) };
            let (leased, now, state) = futures_util::join!(leased, now, state);
            leased?;
            self.state = state?.filter(|state| state.is_of(target.project()));
            now?
        };
        self.is_used = true;

        let is_known = self
            .state
            .as_ref()
            .is_some_and(|state| state.schema_version == now.schema_version);
        // A table that is gone is a change of the schema, of which the version may not tell yet.
        let is_gone = matches!(&found, Some(Err(error)) if error.is_missing());
        if (!is_known || is_gone) && self.blind != Some("schema") {
            if let Some(reason) = self.verify(target, session, &source, &mut now).await? {
                return Ok(Outcome::Rebuild(reason));
            }
            if is_gone {
                found = None;
            }
        }
        let Some(state) = &self.state else {
            return Ok(Outcome::Rebuild(
                "its start state is not recorded".to_owned(),
            ));
        };
        if mode == Prepare::Baseline {
            state.can_be_restored(target.name())?;
        }
        let found = match found {
            Some(found) => found,
            None => self.look(session, target.name(), mode).await,
        };
        let found = found.map_err(failed)?;
        self.undo(session, target.name(), found, now)
            .await
            .map_err(failed)?;
        Ok(Outcome::Clean)
    }

    /// Compares the keyspace's definition with the recorded one; says why it must be made anew, if so.
    async fn verify(
        &mut self,
        target: &Target,
        session: &Session,
        source: &Source,
        now: &mut Moment,
    ) -> Result<Option<String>, Failure> {
        let failed = |error| {
            error::failure(
                ErrorKind::Prepare,
                "looking at keyspace",
                source,
                target.name(),
                error,
            )
        };
        let Some(schema) = Schema::read(session, target.name()).await.map_err(failed)? else {
            return Ok(Some("it is gone".to_owned()));
        };
        let schema = schema.without(self.blind);
        match owner(target.project(), &schema) {
            Some(owner) if owner.is_ours() || self.blind == Some("stamp") => {}
            Some(owner) => return Err(refusal(&owner, "reset", target.name()).into()),
            // Emptied by a test, it has nothing that could come to harm.
            None => return Ok(Some("it is empty".to_owned())),
        }
        let Some(state) = &mut self.state else {
            return Ok(Some(
                "its start state is not recorded completely".to_owned(),
            ));
        };
        if schema.fingerprint() != state.fingerprint {
            let is_undone = provision::drop_extras(session, &schema, state, self.blind)
                .await
                .map_err(failed)?;
            if !is_undone {
                return Ok(Some("a test changed its schema".to_owned()));
            }
            Event::new("drift")
                .target(target)
                .detail("what a test added to the schema was dropped")
                .record();
            *now = moment(session).await.map_err(failed)?;
        }
        state.schema_version.clone_from(&now.schema_version);
        state
            .write_version(session, target.name())
            .await
            .map_err(failed)?;
        Ok(None)
    }

    async fn prepare_probes(&mut self, session: &Session, keyspace: &str) -> Result<(), Native> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        if !self.is_used || !self.probes.is_empty() {
            return Ok(());
        }
        let prepared = state.tables.iter().map(|table| async move {
            let statement = clear::prepare(session, clear::probe(keyspace, table)).await?;
            Ok::<_, Native>((table.name.clone(), statement))
        });
        match all(PROBES, prepared.collect()).await {
            Ok(prepared) => self.probes = prepared.into_iter().collect(),
            // The look will tell.
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Finds how each table differs.
    async fn look(&self, session: &Session, keyspace: &str, mode: Prepare) -> Result<Look, Native> {
        let (Some(state), true) = (&self.state, mode != Prepare::None) else {
            return Ok(Look {
                found: Vec::new(),
                writes: None,
            });
        };
        let looks = state.tables.iter().map(|table| async move {
            let found = self
                .look_into(session, keyspace, state, table, mode)
                .await?;
            Ok::<_, Native>((table, found))
        });
        let (found, writes) = futures_util::join!(
            all(PROBES, looks.collect()),
            count(session, keyspace, &state.tables)
        );
        let (found, writes) = (found?, writes?);
        let is_hidden = |table: &Table| {
            let noted = state.notes.writes.as_ref();
            let writes = writes.as_ref().filter(|_| table.is_counter);
            writes.is_some_and(|writes| !writes.is_as(noted, &table.name))
                && self.blind != Some("writes")
        };
        let found = found
            .into_iter()
            .map(|(table, found)| match found {
                Found::Nothing if is_hidden(table) => (table, Found::Hidden),
                found => (table, found),
            })
            .filter(|(_, found)| !matches!(found, Found::Nothing))
            .map(|(table, found)| (table.clone(), found));
        Ok(Look {
            found: found.collect(),
            writes,
        })
    }

    async fn look_into(
        &self,
        session: &Session,
        keyspace: &str,
        state: &State,
        table: &Table,
        mode: Prepare,
    ) -> Result<Found, Native> {
        if mode == Prepare::Baseline && state.is_seeded(&table.name) {
            let unchanged = state.unchanged(session, keyspace, table).await?;
            return Ok(match unchanged {
                _ if self.blind == Some("seeds") => Found::Nothing,
                Some(times) => Found::Unchanged(times),
                None => Found::Otherwise,
            });
        }
        let keys = match self.probes.get(&table.name) {
            Some(probe) => {
                let result = session.execute_unpaged(probe, ()).await;
                clear::found(result.map_err(Native::from))?
            }
            None => clear::keys(session, keyspace, table).await?,
        };
        Ok(if keys.is_empty() || self.blind == Some("rows") {
            Found::Nothing
        } else {
            Found::Partitions(keys)
        })
    }

    /// Undoes what was found, and notes what the next look must know.
    async fn undo(
        &mut self,
        session: &Session,
        keyspace: &str,
        look: Look,
        now: Moment,
    ) -> Result<(), Native> {
        let clock = Clock::new(now, is_single(session));
        let blind = self.blind;
        let Some(state) = &mut self.state else {
            return Ok(());
        };
        let mut found = look.found;
        found.retain(|(table, found)| match found {
            Found::Unchanged(times) => {
                let is_written = state.is_later(&table.name, times) && blind != Some("written");
                (is_written || !is_lasting(times, clock)) && blind != Some("times")
            }
            _ => true,
        });
        for (table, _) in &found {
            if !table.is_counter && !self.deletions.contains_key(&table.name) {
                let statement = clear::prepare(session, clear::deletion(keyspace, table)).await?;
                self.deletions.insert(table.name.clone(), statement);
            }
        }
        let (known, deletions) = (&*state, &self.deletions);
        let repairs = found.into_iter().map(|(table, found)| async move {
            let deletion = deletions.get(&table.name);
            let sown = repair(
                session,
                keyspace,
                (&table, found),
                known,
                deletion,
                clock,
                blind,
            );
            let sown = sown.await?;
            Ok::<_, Native>(sown.map(|micros| (table.name, micros)))
        });
        let sown = all(AT_ONCE, repairs.collect()).await?;
        let mut notes = state.notes.clone();
        notes.times.extend(sown.into_iter().flatten());
        notes.writes = look.writes.or(notes.writes);
        if notes != state.notes {
            let is_sown = notes.times != state.notes.times;
            state.notes = notes;
            state.write_notes(session, keyspace).await?;
            if is_sown {
                // Rows were written in this millisecond.
                Clock::new(moment(session).await?, true).settle().await;
            }
        }
        clock.settle().await;
        Ok(())
    }
}
