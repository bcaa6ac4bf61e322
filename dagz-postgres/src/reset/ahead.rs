//! What is found out behind a test, while nobody waits, and the one statement by which the next reset acts on it.
//!
//! When a test is released, [`Keeper::look_ahead`] asks who is in the database and what each did last, and then all
//! that takes time to ask: where the sequences stand, which tables were written to, whether the schema changed. What
//! it learns holds as long as nobody did anything since, which the first answer tells and costs little to ask again.
//! So the next reset ([`Ahead::undo`]) asks just that, whose the database is and what others may change from outside
//! of it, and undoes the writes in the same statement, whose plan is kept.
//!
//! Where somebody did do something, or the repair is none of the simple ones, the function of `reset/function.rs` does
//! it all, as `reset/quick.rs` has it. The main type is [`Ahead`].

use std::{collections::HashMap, fmt::Write as _, time::SystemTime};

use dagz_core::{Target, driver::Failure};
use futures_util::future::{try_join3, try_join4};
use tokio_postgres::{Client, Statement, types::Type};

use super::{
    answer::{CALL, TYPES},
    function::{LARGE, LARGE_LOG, PRESENT},
    keeper::Keeper,
    lock,
    log::WriteLog,
    probe::{ProbedSequence, ProbedTable},
    quick::Quick,
};
use crate::{Prepare, error};

/// What an undoing statement answers.
const DONE: i32 = 0;
const CHANGED: i32 = 1;
const LOCKED: i32 = 2;

/// How many tables are dealt with by a statement of their own; for more, its plan costs more than it saves.
const FEW: usize = 64;

/// How many such statements are kept.
const KEPT: usize = 64;

/// What a process keeps to look ahead in one database, for one start state.
pub(super) struct Ahead {
    present: Statement,
    moved: Statement,
    look: Statement,
    /// The call of the function, which is not worth preparing for one reset.
    pub(super) call: Statement,
    /// By the tables they empty. One that was needed once is not prepared yet: most such sets come again, or never.
    undoing: HashMap<Vec<u32>, Option<Statement>>,
}

/// Who was in the database, and since when each does or did the last thing it did; and how many ever were.
pub(super) struct Seen {
    pub(super) pids: Vec<i32>,
    pub(super) since: Vec<SystemTime>,
    pub(super) sessions: i64,
}

/// What holds as long as [`Seen`] does.
pub(super) struct Found {
    pub(super) seen: Seen,
    /// Sequences that stand elsewhere than they should.
    pub(super) moved: Vec<u32>,
    /// What undoes all there is to undo.
    undo: Option<Statement>,
}

impl Keeper {
    /// Looks while nobody waits, so that the next reset need not. Tells whether doing so again a little later may
    /// find sessions gone that are about to go.
    pub(super) async fn look_ahead(&mut self) -> bool {
        if self.is_locked || !self.knows_sessions {
            return false;
        }
        let (client, database) = (&self.client, self.catalog.database);
        let Some(quick) = &mut self.quick else {
            return false;
        };
        match quick.look_ahead(client, database, &self.shelved).await {
            Ok((found, is_settled)) => {
                quick.found = found;
                !is_settled
            }
            // The next reset finds out why.
            Err(_) => false,
        }
    }

    /// Undoes what was found ahead, if that is all there is; false if the function has to look.
    pub(super) async fn act_ahead(
        &mut self,
        quick: &mut Quick,
        target: &Target,
    ) -> Result<bool, Failure> {
        let Some(found) = quick.found.as_mut().filter(|_| !self.is_locked) else {
            return Ok(false);
        };
        let Some(undo) = found.undo.take() else {
            return Ok(false);
        };
        if !are_harmless(&found.seen.pids, &quick.spared, &self.shelved) {
            return Ok(false);
        }
        let Seen {
            pids,
            since,
            sessions,
        } = &found.seen;
        let row = self
            .client
            .query_one(&undo, &[pids, since, sessions, &self.catalog.stamp])
            .await;
        match row.and_then(|row| row.try_get::<_, i32>(0)) {
            Ok(outcome) => {
                self.is_locked = outcome != LOCKED;
                Ok(outcome == DONE)
            }
            Err(error) if error.as_db_error().is_some() && !error::is_connection_lost(&error) => {
                // Whether it had the lock by then, nobody knows. The function meets the same and knows what to do.
                let free = self.client.batch_execute("SELECT pg_advisory_unlock_all()");
                free.await.map_err(|error| failed(target, error))?;
                Ok(false)
            }
            Err(error) => Err(failed(target, error)),
        }
    }
}

fn failed(target: &Target, error: tokio_postgres::Error) -> Failure {
    super::failure(error, |error| super::repair::failed(target.name(), error))
}

fn are_harmless(pids: &[i32], spared: &[i32], shelved: &[i32]) -> bool {
    let mut pids = pids.iter();
    pids.all(|pid| spared.contains(pid) || shelved.contains(pid))
}

impl Quick {
    async fn look_ahead(
        &mut self,
        client: &Client,
        database: u32,
        shelved: &[i32],
    ) -> Result<(Option<Found>, bool), tokio_postgres::Error> {
        let mut ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.prepare_ahead(client, database).await?,
        };
        // In this order: who does something afterwards is seen to have done it.
        let (present, moved, look) = try_join3(
            client.query_one(&ahead.present, &[]),
            client.query_one(&ahead.moved, &[]),
            client.query_one(&ahead.look, &[&self.goal, &self.kept]),
        )
        .await?;
        let pids: Vec<i32> = present.try_get(0)?;
        let is_open: bool = present.try_get(1)?;
        // One that does not say what it does could do anything.
        let since: Vec<Option<SystemTime>> = present.try_get(2)?;
        let since: Option<Vec<SystemTime>> = since.into_iter().collect();
        let sessions = present.try_get(3)?;
        let is_settled = !is_open && are_harmless(&pids, &self.spared, shelved);
        let moved = self.moved_in(&moved)?;
        let mut found = None;
        if let Some(since) = since.filter(|_| !is_open) {
            let (is_plain, written): (bool, Vec<u32>) = (look.try_get(0)?, look.try_get(1)?);
            let undo = match self.repair(&written, &moved) {
                Some(repair) if is_settled && is_plain => {
                    let text = || undoing(database, &repair, &self.log);
                    ahead.undoing(client, written, text).await?
                }
                _ => None,
            };
            let seen = Seen {
                pids,
                since,
                sessions,
            };
            found = Some(Found { seen, moved, undo });
        }
        self.ahead = Some(ahead);
        Ok((found, is_settled))
    }

    async fn prepare_ahead(
        &self,
        client: &Client,
        database: u32,
    ) -> Result<Ahead, tokio_postgres::Error> {
        let present = format!(
            "SELECT p.* FROM (SELECT {database}::oid AS this OFFSET 0) d CROSS JOIN LATERAL ({PRESENT}) p"
        );
        let (moved, look) = (self.moved_text(), self.look_text(database));
        let (present, moved, look, call) = try_join4(
            client.prepare(&present),
            client.prepare(&moved),
            client.prepare_typed(&look, &[Type::TEXT, Type::OID_ARRAY]),
            client.prepare_typed(CALL, &TYPES),
        )
        .await?;
        Ok(Ahead {
            present,
            moved,
            look,
            call,
            undoing: HashMap::new(),
        })
    }

    /// Asks whether all there can be to undo are rows in small tables that were empty, and which tables were
    /// written to, in order.
    fn look_text(&self, database: u32) -> String {
        let is_baseline = self.mode == Prepare::Baseline;
        let prepared = match self.has_prepared {
            true => format!(
                "AND NOT EXISTS (SELECT FROM pg_prepared_xact() p WHERE p.dbid = {database})"
            ),
            false => String::new(),
        };
        let log = &self.log;
        let prepared = log.unless_blind("ahead prepared", &prepared, "");
        let noted = "NOT EXISTS (SELECT FROM dagz_baseline.drift)";
        let event_triggers = "(SELECT count(*) = s.event_trigger_count AND NOT coalesce(bool_or(age(e.xmin) < age(s.mark::xid)), false) FROM pg_event_trigger e)";
        let objects = "NOT EXISTS (SELECT FROM pg_largeobject_metadata)";
        let unnoted = format!("dagz_baseline.unnoted({is_baseline}) = '{{}}'");
        let seeds = format!("is_seeded AND {is_baseline}");
        let written = "SELECT DISTINCT c.tbl, c.is_seeded FROM dagz_baseline.writes w JOIN dagz_baseline.covers c USING (relation) WHERE c.tbl <> ALL ($2)";
        format!(
            "WITH written AS MATERIALIZED ({written})
SELECT s.reset_to = $1 AND s.settings = '' AND s.large_objects = 0
       AND {noted} AND {event_triggers} AND {objects} {prepared}
       AND {unnoted}
       AND pg_relation_size('dagz_baseline.writes') <= {LARGE_LOG}
       AND NOT EXISTS (SELECT FROM written WHERE {seeds} OR pg_relation_size(tbl) >= {LARGE}),
       ARRAY(SELECT tbl FROM written ORDER BY tbl)
FROM dagz_baseline.state s",
            noted = log.unless_blind("ahead drift", noted, "true"),
            event_triggers = log.unless_blind("ahead event_triggers", event_triggers, "true"),
            unnoted = log.unless_blind("ahead unnoted", &unnoted, "true"),
            seeds = log.unless_blind("ahead seeds", &seeds, "false"),
            objects = log.unless_blind("ahead objects", objects, "true"),
            written = log.unless_blind(
                "ahead writes",
                written,
                "SELECT 0::oid AS tbl, false AS is_seeded WHERE $2 IS NULL"
            ),
        )
    }

    /// What empties the `written` tables and sets their sequences back, unless that leaves some that `moved`.
    fn repair(&self, written: &[u32], moved: &[u32]) -> Option<Repair<'_>> {
        if written.len() > FEW {
            return None;
        }
        let find = |oid: &u32| self.tables.iter().find(|table| table.oid == *oid);
        let tables = written.iter().map(find).collect::<Option<Vec<_>>>()?;
        let is_of_these = |sequence: &&ProbedSequence| {
            sequence.owner.is_some_and(|owner| written.contains(&owner))
        };
        let sequences: Vec<_> = self.sequences.iter().filter(is_of_these).collect();
        let is_set_back = |oid: &u32| sequences.iter().any(|sequence| sequence.oid == *oid);
        let moved = if self.log.blind == Some("ahead sequences") {
            &[]
        } else {
            moved
        };
        moved
            .iter()
            .all(is_set_back)
            .then_some(Repair { tables, sequences })
    }
}

impl Ahead {
    /// The statement for the `written` tables, unless they are met for the first time.
    async fn undoing(
        &mut self,
        client: &Client,
        written: Vec<u32>,
        text: impl FnOnce() -> String,
    ) -> Result<Option<Statement>, tokio_postgres::Error> {
        let is_known = written.is_empty() || self.undoing.contains_key(&written);
        if self.undoing.len() >= KEPT {
            self.undoing
                .retain(|tables, _| tables.is_empty() || *tables == written);
        }
        let statement = self.undoing.entry(written).or_default();
        if statement.is_none() && is_known {
            let types = [
                Type::INT4_ARRAY,
                Type::TIMESTAMPTZ_ARRAY,
                Type::INT8,
                Type::TEXT,
            ];
            *statement = Some(client.prepare_typed(&text(), &types).await?);
        }
        Ok(statement.clone())
    }
}

/// What a statement undoes.
struct Repair<'a> {
    tables: Vec<&'a ProbedTable>,
    sequences: Vec<&'a ProbedSequence>,
}

/// The statement that undoes, if it gets the lock and nothing changed; it answers which of these.
///
/// It sees what was committed when it began, which may be before it had the lock. But whoever commits meanwhile does
/// so by a statement, and is seen to have done something.
fn undoing(database: u32, repair: &Repair<'_>, log: &WriteLog) -> String {
    let (class, object) = lock::KEY;
    let unchanged = log.unless_blind(
        "stale",
        "NOT p.is_open AND (p.pids, p.since, p.sessions) IS NOT DISTINCT FROM ($1, $2, $3)",
        "($1, $2, $3) IS NOT NULL",
    );
    let stamped = format!(
        "(SELECT d.description FROM pg_shdescription d WHERE d.objoid = {database} AND d.classoid = 1262) = $4"
    );
    // The one thing that is changed from outside of the database.
    let settings =
        format!("NOT EXISTS (SELECT FROM pg_db_role_setting r WHERE r.setdatabase = {database})");
    let settings = log.unless_blind("settings", &settings, "true").to_owned();
    let mut text = format!(
        "WITH here AS MATERIALIZED (
    SELECT CASE WHEN NOT pg_try_advisory_lock({class}, {object}) THEN {LOCKED}
                WHEN (SELECT {unchanged} FROM (SELECT {database}::oid AS this OFFSET 0) d CROSS JOIN LATERAL ({PRESENT}) p)
                     AND {stamped} AND {settings} THEN {DONE}
                ELSE {CHANGED} END AS outcome)"
    );
    let is_done = format!("(SELECT outcome FROM here) = {DONE}");
    let tables = repair.tables.iter();
    let names = tables.map(|table| (format!("t{}", table.oid), table.name.as_str()));
    let log_entries = ("noted".to_owned(), "dagz_baseline.writes");
    let all = names.chain((!repair.tables.is_empty()).then_some(log_entries));
    for (name, table) in all {
        let _ = write!(
            text,
            ", {name} AS (DELETE FROM ONLY {table} WHERE {is_done})"
        );
    }
    let values: Vec<_> = repair
        .sequences
        .iter()
        .map(
            |ProbedSequence {
                 oid,
                 value,
                 is_called,
                 ..
             }| { format!("({oid}::oid, {value}::bigint, {is_called})") },
        )
        .collect();
    if values.is_empty() {
        text.push_str(" SELECT outcome FROM here");
    } else {
        let _ = write!(
            text,
            ", set_back AS MATERIALIZED (SELECT setval(q.oid, q.value, q.is_called)
    FROM here CROSS JOIN (VALUES {}) q (oid, value, is_called) WHERE here.outcome = {DONE})
SELECT outcome, (SELECT count(*) FROM set_back) FROM here",
            values.join(", ")
        );
    }
    text
}
