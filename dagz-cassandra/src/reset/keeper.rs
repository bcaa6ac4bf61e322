//! What a process knows of one worker's keyspace, and the look that finds what a test changed.
//!
//! [`Keeper::reset`] sends at once: the lease's request, if one is due, a question for the version of the
//! cluster's schema and for its clock, and one probe per table. A version that is known means that no
//! definition changed, and neither did the stamp, which is a part of one.

use std::{collections::HashMap, sync::Arc};

use dagz_core::{ErrorKind, Target, driver::Failure, event::Event};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};

use super::{
    AT_ONCE,
    clear::{self, Clock, Key},
    rows::Times,
    state::State,
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

/// How a table differs from its start state.
enum Found {
    Nothing,
    Partitions(Vec<Key>),
    /// It is one that starts with rows, and holds others,
    Otherwise,
    /// or these, written at such times.
    Unchanged(Times),
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
        let leased = async {
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
        self.repair(session, target.name(), found, now)
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
        match owner(target.project(), &schema) {
            Some(owner) if owner.is_ours() => {}
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
            let is_undone = provision::drop_extras(session, &schema, state)
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
    async fn look(
        &self,
        session: &Session,
        keyspace: &str,
        mode: Prepare,
    ) -> Result<Vec<(Table, Found)>, Native> {
        let (Some(state), true) = (&self.state, mode != Prepare::None) else {
            return Ok(Vec::new());
        };
        let looks = state.tables.iter().map(|table| async move {
            let found = self
                .look_into(session, keyspace, state, table, mode)
                .await?;
            Ok::<_, Native>((table, found))
        });
        let found = all(PROBES, looks.collect()).await?;
        Ok(found
            .into_iter()
            .filter(|(_, found)| !matches!(found, Found::Nothing))
            .map(|(table, found)| (table.clone(), found))
            .collect())
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

    /// Undoes what was found.
    async fn repair(
        &mut self,
        session: &Session,
        keyspace: &str,
        mut found: Vec<(Table, Found)>,
        now: Moment,
    ) -> Result<(), Native> {
        let clock = Clock::new(now, is_single(session));
        let blind = self.blind;
        found.retain(|(_, found)| match found {
            Found::Unchanged(times) => blind != Some("times") && !is_lasting(times, clock),
            _ => true,
        });
        let Some(state) = &self.state else {
            return Ok(());
        };
        for (table, _) in &found {
            if !table.is_counter && !self.deletions.contains_key(&table.name) {
                let statement = clear::prepare(session, clear::deletion(keyspace, table)).await?;
                self.deletions.insert(table.name.clone(), statement);
            }
        }
        let deletions = &self.deletions;
        let repairs = found.into_iter().map(|(table, found)| async move {
            let table = &table;
            let (keys, is_seeded) = match found {
                Found::Nothing => return Ok(false),
                Found::Partitions(keys) => (keys, false),
                Found::Otherwise | Found::Unchanged(_) => {
                    (clear::keys(session, keyspace, table).await?, true)
                }
            };
            if !keys.is_empty() {
                let deletion = deletions.get(&table.name);
                clear::clear(session, keyspace, table, keys, deletion, clock, blind).await?;
            }
            if is_seeded {
                clock.settle().await;
                let micros = clear::restoring(clock);
                state.restore(session, keyspace, table, micros).await?;
                let unchanged = state.unchanged(session, keyspace, table).await?;
                let is_restored = unchanged.is_some_and(|times| is_lasting(&times, clock));
                if !is_restored && blind != Some("restored") {
                    // Deletions from the future hide them.
                    clear::truncate(session, keyspace, table).await?;
                    let micros = clear::restoring(clock);
                    state.restore(session, keyspace, table, micros).await?;
                }
            }
            Ok::<_, Native>(is_seeded)
        });
        let repaired = all(AT_ONCE, repairs.collect()).await?;
        if repaired.contains(&true) {
            // Rows were written in this millisecond.
            Clock::new(moment(session).await?, true).settle().await;
        }
        clock.settle().await;
        Ok(())
    }
}

/// Whether rows of such times can be changed from now on, and do not go by themselves.
fn is_lasting(times: &Times, clock: Clock) -> bool {
    !times.is_passing && !clock.is_ahead(times.latest)
}
