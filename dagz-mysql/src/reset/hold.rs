//! Looks what a test left when it ends, and not when the next one waits; and keeps it as it is until then.
//!
//! What a look costs grows with the tables, and asking the server whether any schema was changed costs more than all
//! the rest of a prepare. [`Keeper::hold`] does both in the background, at a test's end, after it has locked all tables
//! and closed the schema (`reset/fence.rs`). It goes on holding those locks, so that what it found is still true
//! when the next test comes, whatever sessions live on after theirs. [`Keeper::proceed`] then asks only who waits,
//! gives the locks back and repairs what was found, in one round trip. Where it found nothing, the locks are given back
//! while the test goes on already.
//!
//! - **Rows and counters** change by statements that want a lock on the table, cascades and triggers included. Who
//!   held one when the test ended is an open transaction, and nothing is held; who wants one later waits.
//!   With a gate (`provision/gate.rs`) all those want one lock, which stands for the tables'; and as who has tables locked
//!   may read no others, another session looks. `TRUNCATE` wants the schema's lock, so that is closed before.
//! - **The schema** changes by statements that want the lock which the fence waits for. One that began before is
//!   counted by the server, and the count is read after the fence has closed.
//! - **The stamp** is read under a lock on its table, which is given back right before the repair.
//! - **Who waits** would go on in the next test. So where anybody does, or does anything in the database that the
//!   server has not got to yet, nothing that was found is relied on: they get on, and it is looked again, which ends
//!   and undoes what they do as ever. Others may read meanwhile, which changes nothing.
//!
//! Others wait for such locks, too: people who look, another run that was given this worker. So they are held for a
//! short time only ([`Config::hold`](crate::Config::hold)). A process that runs one test, as nextest's do, never gets there.

use std::{collections::HashSet, time::Duration};

use dagz_core::{Target, driver::Failure};
use mysql_async::{Conn, Row, prelude::Queryable as _};

use super::{
    changes, failed, failure,
    fence::Fence,
    keeper::{Keeper, Outcome},
    probe::{Findings, Probe},
    repair::{self, Plan, Ran},
    waiting::{self, Source, Waiting},
};
use crate::{
    Prepare, batch, error, provision,
    server::{Flavour, Server},
    sql,
};

/// How many tables a session has open beside those of its database: dagz's own, and the server's.
pub(crate) const SPARE_TABLES: u64 = 10;

/// How often it is looked whether the fence has closed, a millisecond apart.
const CLOSING: usize = 20;

/// How often this is tried, while schemas of others change.
const ATTEMPTS: usize = 2;

/// What a keeper holds between two tests, and what it needs for that.
#[derive(Default)]
pub(super) struct Hold {
    held: Option<Held>,
    /// Whether nothing is held any more, but for the locks.
    is_over: bool,
    fence: Option<Fence>,
    /// Looks where there is a gate.
    looker: Option<Conn>,
    /// Whether the server tells enough, and has room; asked once.
    is_possible: Option<bool>,
    /// What tells who came since.
    since: Option<Source>,
}

/// What was found, and where the start state is that it differs from.
struct Held {
    lull: u64,
    mode: Prepare,
    findings: Findings,
}

/// What is asked while the fence is to close the schema.
struct Closing<'a> {
    flavour: Flavour,
    own: &'a [u32],
    fence: &'a Fence,
    database: &'a str,
    blind: Option<&'static str>,
}

impl Closing<'_> {
    /// How many changes of schemas there were when it has closed it; none where it does not, or others are at something.
    async fn changes(&self, conn: &mut Conn) -> Option<i64> {
        let source = Source::first(self.flavour);
        let sessions = source.statement(self.database);
        let look = format!("{sessions};\n{}", changes::statement(self.flavour));
        for _ in 0..CLOSING {
            let outcomes = batch::run(conn, &look).await.ok()?;
            let [sessions, counts] = &*outcomes else {
                return None;
            };
            let rows = &sessions.rows;
            let found = Waiting::read(rows, source, self.own, self.fence, self.database);
            if found.are_others {
                return None;
            }
            if found.is_closed || self.blind == Some("schema") {
                return Some(changes::count(&counts.rows, self.blind));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    }
}

/// What became of an attempt to hold.
enum Attempt {
    Held(Findings),
    /// Schemas were changed; so often now since the server was started.
    Changed(i64),
    /// Somebody is in the way, or something does not work. The next prepare says what.
    Failed,
}

impl Keeper {
    /// Notes that a test has ended. Tells whether what it left may be [held](Self::hold).
    pub(super) fn end(&mut self, mode: Prepare) -> bool {
        self.is_noted = false;
        self.is_locked && mode != Prepare::None && self.hold.is_possible != Some(false)
    }

    /// Whether anything is held since the lull of that number.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.hold
            .held
            .as_ref()
            .is_some_and(|held| held.lull == number)
    }

    /// Looks what the test of `target` left, and holds it for a next prepare of the same `mode`, if that can be done, in
    /// the `lull` of that number.
    pub(super) async fn hold(
        &mut self,
        server: &Server,
        target: &Target,
        mode: Prepare,
        lull: u64,
    ) -> bool {
        let is_possible = match self.hold.is_possible {
            Some(is_possible) => is_possible,
            None => self.can_hold(mode).await,
        };
        self.hold.is_possible = Some(is_possible);
        if !is_possible || !self.provide_looker(server, target, mode).await {
            return false;
        }
        // Where anything goes wrong it is ended, for a new one the next time.
        let mut fence = match self.hold.fence.take() {
            Some(fence) => fence,
            None => {
                let name = provision::session_name(target, "fence");
                let fence = Fence::new(server, self.facts.flavour, &name).await;
                let Ok(fence) = fence else { return false };
                fence
            }
        };
        let mut attempt = self.try_to_hold(&mut fence, target, mode).await;
        for _ in 1..ATTEMPTS {
            let Attempt::Changed(changes) = attempt else {
                break;
            };
            self.unlock_tables().await;
            // All that was counted has been done then.
            if !fence.pass().await {
                break;
            }
            if !matches!(self.drift(target, changes, Duration::ZERO).await, Ok(None)) {
                break;
            }
            attempt = self.try_to_hold(&mut fence, target, mode).await;
        }
        let Attempt::Held(findings) = attempt else {
            fence.end(&mut self.conn).await;
            self.unlock_tables().await;
            return false;
        };
        self.hold.fence = Some(fence);
        self.hold.held = Some(Held {
            lull,
            mode,
            findings,
        });
        true
    }

    /// Opens the session that looks where there is a gate. Tells whether there is one where it is needed.
    async fn provide_looker(&mut self, server: &Server, target: &Target, mode: Prepare) -> bool {
        let is_needed = self.probes.of(mode).is_some_and(Probe::has_gate);
        if is_needed && self.hold.looker.is_none() {
            let name = provision::session_name(target, "look");
            let Ok(mut looker) = server.connect(Some(target.name()), &name).await else {
                return false;
            };
            // Whoever is in its way may wait for the gate. MySQL knows no shorter time than the second it has.
            if self.facts.flavour == Flavour::MariaDb {
                let at_once = "SET SESSION lock_wait_timeout = 0";
                drop(looker.query_drop(at_once).await);
            }
            self.hold.looker = Some(looker);
        }
        !is_needed || self.hold.looker.is_some()
    }

    /// Its own sessions in the database, of which one looks and leaves nothing there.
    pub(super) fn sessions(&self) -> Vec<u32> {
        let looker = self.hold.looker.as_ref();
        [&self.conn]
            .into_iter()
            .chain(looker)
            .map(Conn::id)
            .collect()
    }

    /// Whether there are locks to be given back, which are for no next test.
    pub(crate) fn is_to_let_go(&self) -> bool {
        self.hold.is_over
    }

    /// Gives back what is held.
    pub(crate) async fn let_go(&mut self) {
        let is_over = std::mem::take(&mut self.hold.is_over);
        if self.hold.held.take().is_some() || is_over {
            self.unlock_tables().await;
        }
    }

    /// Whether the server tells who waits, and can have all tables open at once.
    async fn can_hold(&mut self, mode: Prepare) -> bool {
        let Some(probe) = self.probes.of(mode) else {
            return false;
        };
        if probe.tables.is_empty() {
            return false;
        }
        let sees_all = format!(
            "EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES \
                     WHERE PRIVILEGE_TYPE = 'PROCESS' AND GRANTEE = {})",
            sql::literal(&sql::account(&self.facts.account))
        );
        let is_possible = match self.facts.flavour {
            Flavour::MariaDb => sees_all.clone(),
            // It keeps the tables of a session in one of these parts.
            Flavour::MySql => format!(
                "{} AND @@table_open_cache DIV @@table_open_cache_instances > {}",
                self.facts.shows_locks,
                probe.held().count() as u64 + SPARE_TABLES
            ),
        };
        let question = format!("SELECT {is_possible}, {sees_all}");
        let answer: Result<Option<(bool, bool)>, _> = self.conn.query_first(question).await;
        let Ok(Some((is_possible, sees_all))) = answer else {
            return false;
        };
        self.hold.since = sees_all.then_some(Source::Sessions);
        is_possible
    }

    async fn try_to_hold(&mut self, fence: &mut Fence, target: &Target, mode: Prepare) -> Attempt {
        let (flavour, database) = (self.facts.flavour, target.name());
        let own = self.sessions();
        let Some(probe) = self.probes.of(mode) else {
            return Attempt::Failed;
        };
        let conn = &mut self.conn;
        let early = match probe.blind == Some("tables") {
            true => probe.run_inside(conn, None).await.ok(),
            false => None,
        };
        // The kind that is held tells of those who wrote, and no others.
        if !probe.watch.is_free(conn).await.unwrap_or(false) {
            return Attempt::Failed;
        }
        if conn.query_drop(probe.locking(flavour)).await.is_err() {
            return Attempt::Failed;
        }
        let is_open = probe.blind == Some("schema");
        if !is_open && !fence.close(database).await {
            return Attempt::Failed;
        }
        let closing = Closing {
            flavour,
            own: &own,
            fence,
            database,
            blind: probe.blind,
        };
        // Until then `TRUNCATE` changes tables that a gate stands for.
        if probe.has_gate() && closing.changes(conn).await.is_none() {
            return Attempt::Failed;
        }
        let found = match early {
            Some(findings) => Ok(findings),
            None => probe.run_inside(conn, self.hold.looker.as_mut()).await,
        };
        let Ok(findings) = found else {
            // The next one finds a session that is not gone.
            self.hold.looker = None;
            return Attempt::Failed;
        };
        if !findings.have_stamp(&self.stamp) {
            return Attempt::Failed;
        }
        let Some(changes) = closing.changes(conn).await else {
            return Attempt::Failed;
        };
        match self.changes == Some(changes) || probe.blind == Some("changes") {
            true => Attempt::Held(findings),
            false => Attempt::Changed(changes),
        }
    }

    /// Goes on with what is held, if it is for the same `mode`: tells what became of it, or that there is to be
    /// looked. Notes in `large` which tables have too many rows.
    pub(super) async fn proceed(
        &mut self,
        target: &Target,
        mode: Prepare,
        patience: Duration,
        large: &mut HashSet<usize>,
    ) -> Result<Option<Outcome>, Failure> {
        let (flavour, database) = (self.facts.flavour, target.name());
        let (held, probe) = (self.hold.held.take(), self.probes.of(mode));
        let (Some(held), Some(probe), Some(fence)) = (held, probe, &self.hold.fence) else {
            return Ok(None);
        };
        if held.mode != mode {
            self.unlock_tables().await;
            return Ok(None);
        }
        let plan = match held.findings.is_clean() {
            true => None,
            false => match repair::plan(flavour, &self.start, probe, &held.findings, large) {
                Plan::Batch(batch) => Some(batch),
                Plan::Rebuild(reason) => {
                    self.unlock_tables().await;
                    return Ok(Some(Outcome::Rebuild(reason)));
                }
            },
        };
        let source = self.hold.since.unwrap_or(Source::first(flavour));
        let mut statements = vec![source.statement(database)];
        if let Some(batch) = &plan {
            statements.push("UNLOCK TABLES".to_owned());
            statements.extend(batch.statements.iter().cloned());
        }
        let (own, blind) = (self.sessions(), probe.blind);
        let is_undisturbed = |sessions: &[Row]| {
            let waiting = Waiting::read(sessions, source, &own, fence, database);
            (waiting.is_closed || blind == Some("schema"))
                && (!waiting.are_others || blind == Some("waiting"))
        };
        match batch::run(&mut self.conn, &statements.join(";\n")).await {
            Ok(outcomes) => {
                let sessions = &outcomes[0].rows;
                let is_undisturbed = is_undisturbed(sessions);
                if source == Source::Sessions {
                    self.newest = waiting::newest(sessions);
                }
                // Where there is nothing to repair, nobody has to wait for that.
                self.hold.is_over = plan.is_none();
                if !is_undisturbed {
                    self.let_go().await;
                    // Who waited gets on, and is to be done when it is looked.
                    self.settle(database, patience).await?;
                }
                let ran = match &plan {
                    Some(batch) => self.repaired(batch, &outcomes[2..], large),
                    None => Ran::Clean,
                };
                let is_done = is_undisturbed && matches!(ran, Ran::Clean);
                Ok(is_done.then_some(Outcome::Clean))
            }
            Err(stopped) if stopped.before.len() < 2 => {
                self.unlock_tables().await;
                let failed = |error| failed(database, error);
                match error::is_connection_lost(&stopped.error) {
                    true => Err(failure(stopped.error, failed)),
                    false => Ok(None),
                }
            }
            // What kept it from being repaired is seen by looking.
            Err(stopped) => self.stopped(target, stopped).await.map(|_| None),
        }
    }
}
