//! What a prepare does with the database: it takes it, brings it to its start state, and ends what is left in it.
//!
//! [`Keeper::claim`] is all that the driver calls; `reset/keeper.rs` has the connection and its transactions.

use std::time::Duration;

use dagz_core::{
    Error, ErrorKind, Target,
    driver::{Failure, PrepareWith},
    event,
};
use redis::Pipeline;
use tokio::time::timeout;

use super::{
    Work,
    baseline::Baseline,
    clients::{self, Reach},
    keeper::{Keeper, Seen, Wait},
    lock::{self, Lock},
};
use crate::{
    Driver, Prepare, driver,
    provision::{self, Owner, Stamp},
    route,
};

/// How often a transaction may find that something changed since it was decided on.
const TRIES: usize = 20;

/// How often a private server is reset because there were clients of earlier tests, some of which come back.
const RETURNS: usize = 10;

/// How long a private server may take to answer at first, if nothing that is on it is needed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// That the database is made, anew if the user's own function fills it or the test asks for that.
    Make,
    /// That it is in its start state.
    Reset(Prepare),
}

impl Want {
    /// What becomes of the databases beside it.
    fn prepare(self, driver: &Driver) -> Prepare {
        match (self, &driver.config().prepare) {
            (Self::Reset(prepare), _) => prepare,
            (Self::Make, PrepareWith::Own(prepare)) => *prepare,
            (Self::Make, PrepareWith::Hook(_)) => Prepare::None,
        }
    }
}

impl Keeper {
    /// Takes the database for the test of `target`, and does what is wanted.
    pub(super) async fn claim(
        &mut self,
        driver: &Driver,
        target: &Target,
        want: Want,
    ) -> Result<(), Failure> {
        let index = self.index;
        let has_init = driver.config().worker_init.is_some();
        let mut wait = Wait::new(driver.config().lock_timeout);
        let mut tries = 0;
        while tries < TRIES {
            let (seen, is_fresh) = self.seen_in_time(target, want.prepare(driver)).await?;
            let owner = self.owner(target, &seen);
            let refused = owner.as_ref().filter(|owner| !owner.is_ours());
            if let Some(owner) = refused.filter(|_| self.blind != Some("owner")) {
                if is_fresh {
                    let refusal = provision::refusal(owner, "reset", index);
                    return Err(Failure::Final(refusal));
                }
                // Seen when the last test ended; it may be adopted by now.
                continue;
            }
            if !self
                .is_free(&seen, Some(driver.holder()), &mut wait)
                .await?
            {
                wait.pause().await;
                continue;
            }
            let is_anew = want == Want::Make && (has_init || target.is_fresh());
            let is_complete = match owner {
                Some(Owner::Ours(_)) => true,
                Some(_) => self.blind == Some("complete"),
                None => false,
            };
            let make = is_anew || !is_complete;
            if want == Want::Make && !make {
                if !is_fresh {
                    // No transaction will tell whether it still is so.
                    continue;
                }
                self.seen = Some(seen);
                return Ok(());
            }
            let flush = match want {
                _ if make => owner.is_some(),
                Want::Reset(prepare) => prepare != Prepare::None,
                Want::Make => false,
            };
            let mut recorded = None;
            if let (Want::Reset(Prepare::Baseline), false, Some(Owner::Ours(stamp))) =
                (want, make, &owner)
                && let Some(id) = &stamp.more.baseline
            {
                recorded = Some(self.recorded(id).await?);
            }
            if let Some(None) = recorded {
                // Recorded anew meanwhile, and the stamp with it.
                tries += 1;
                continue;
            }
            let recorded = recorded.flatten();

            // Also before one is made: while it is filled, another one of the test's may be reset.
            self.reset_whole(target, want.prepare(driver)).await?;
            let lock = Lock::new(target, driver.holder(), &self.name).to_json();
            let mut stamp = provision::stamp(target, index);
            if !has_init {
                stamp = stamp.complete();
            }
            let books = self.link.books();
            let done = self
                .transact(|commands| {
                    self.start_state(commands, flush, recorded.as_ref());
                    commands.cmd("SELECT").arg(books);
                    commands.cmd("SET").arg(lock::key(index)).arg(&lock);
                    if make {
                        let key = provision::stamp_key(index);
                        commands.cmd("SET").arg(key).arg(stamp.to_json());
                    }
                })
                .await?;
            if !done.is_done {
                self.baseline = recorded;
                tries += 1;
                continue;
            }
            self.holds = true;
            // Nowhere else on a private server, which was looked at before: by now the test may have clients there that
            // nobody knows by their names.
            let reach = Reach::Database(index);
            let left = clients::leftovers(&done.clients, reach, &route::tag(target), self.blind);
            if !left.is_empty() {
                clients::tell(&left, target);
                self.close(&left).await?;
                // What they wrote until then is to go, too.
                let flush = flush || make;
                if self.blind != Some("closing") {
                    self.transact(|commands| {
                        self.start_state(commands, flush, recorded.as_ref());
                    })
                    .await?;
                }
            }
            self.baseline = recorded.or(self.baseline.take());
            if make && has_init {
                self.fill(driver, target, stamp).await?;
                if want == Want::Reset(Prepare::Flush) {
                    self.transact(|commands| self.start_state(commands, true, None))
                        .await?;
                }
            }
            return Ok(());
        }
        Err(Failure::Final(Error::new(
            ErrorKind::InUse,
            format!("others change what dagz keeps of database `{index}`, again and again"),
        )))
    }

    /// Brings the database to its start state in the middle of a test, without looking who is in it.
    pub(super) async fn reset(
        &mut self,
        driver: &Driver,
        target: &Target,
        prepare: Prepare,
    ) -> Result<(), Failure> {
        let mut wait = Wait::new(driver.config().lock_timeout);
        loop {
            let (seen, _) = self.seen().await?;
            let owner = match self.owner(target, &seen) {
                Some(owner) if owner.is_ours() => owner,
                owner => {
                    // What is gone is not complete.
                    let owner = owner.unwrap_or(Owner::HalfMade);
                    let refusal = provision::refusal(&owner, "reset", self.index);
                    return Err(Failure::Final(refusal));
                }
            };
            if self
                .is_free(&seen, Some(driver.holder()), &mut wait)
                .await?
            {
                let mut recorded = None;
                if let (Prepare::Baseline, Owner::Ours(stamp)) = (prepare, owner)
                    && let Some(id) = &stamp.more.baseline
                {
                    recorded = self.recorded(id).await?;
                }
                let done = self
                    .transact(|commands| self.start_state(commands, true, recorded.as_ref()))
                    .await?;
                self.baseline = recorded.or(self.baseline.take());
                if done.is_done {
                    return Ok(());
                }
            }
            wait.pause().await;
        }
    }

    /// Whose the database is. On a private server it is dagz's, whatever a test did to the books.
    fn owner(&self, target: &Target, seen: &Seen) -> Option<Owner> {
        match provision::owner(target.project(), seen.stamp.as_deref(), seen.keys) {
            owner @ Some(Owner::Ours(_)) => owner,
            _ if self.private.is_some() => Some(Owner::HalfMade),
            owner => owner,
        }
    }

    /// Whether another private server may stand in for this one, since all that is on it is to go before the test of
    /// `target` begins.
    async fn is_replaceable(&self, target: &Target, prepare: Prepare) -> bool {
        match &self.private {
            Some(Some(started)) if prepare != Prepare::None => {
                *started.reset_for.lock().await != route::tag(target)
            }
            _ => false,
        }
    }

    /// Ends a private server that `failure` keeps from being reset, and tells whether it did: an earlier test may have
    /// made a replica of it, or taken dagz's rights away.
    pub(super) async fn gives_up(
        &self,
        driver: &Driver,
        target: &Target,
        work: Work,
        failure: &Failure,
    ) -> bool {
        let (Failure::Final(error) | Failure::Lost(error)) = failure;
        let (Work::Claim(want), Some(Some(started))) = (work, &self.private) else {
            return false;
        };
        let is_of_use = error.kind() == ErrorKind::InUse;
        if is_of_use
            || self.blind == Some("unfit")
            || !self.is_replaceable(target, want.prepare(driver)).await
        {
            return false;
        }
        started.end();
        let what = format!("{error}; it is replaced by a new one");
        event::warn(Some(driver::NAME), &what);
        true
    }

    /// [`seen`](Self::seen), but a server that may be replaced is to answer soon: an earlier test may have paused it.
    async fn seen_in_time(
        &mut self,
        target: &Target,
        prepare: Prepare,
    ) -> Result<(Seen, bool), Failure> {
        if !self.is_replaceable(target, prepare).await {
            return self.seen().await;
        }
        let seen = timeout(PATIENCE, self.seen()).await;
        seen.unwrap_or_else(|_| Err(self.unanswered()))
    }

    fn unanswered(&self) -> Failure {
        Failure::Final(Error::new(
            ErrorKind::Prepare,
            format!(
                "the private server of database `{}` does not answer within {} s",
                self.index,
                PATIENCE.as_secs()
            ),
        ))
    }

    /// Ends whatever earlier tests left on a private server, and brings it back to what it was when it was new, once
    /// per test.
    async fn reset_whole(&self, target: &Target, prepare: Prepare) -> Result<(), Failure> {
        let Some(Some(started)) = &self.private else {
            return Ok(());
        };
        let mut reset_for = started.reset_for.lock().await;
        let tag = route::tag(target);
        if *reset_for == tag {
            return Ok(());
        }
        let failed = |error| self.failed("reset the private server of", error);
        let new = started.new_state(&self.link).await.map_err(failed)?;
        let keep = prepare == Prepare::None;
        for _ in 0..RETURNS {
            let restored = new.restore(&self.link, self.index, keep, self.blind);
            let list = match keep {
                true => restored.await,
                false => timeout(PATIENCE, restored)
                    .await
                    .map_err(|_| self.unanswered())?,
            };
            let list = list.map_err(failed)?;
            let left = clients::leftovers(&list, Reach::Server, &tag, self.blind);
            if left.is_empty() || self.blind == Some("server clients") {
                *reset_for = tag;
                return Ok(());
            }
            // What they did until they were closed is to go, too.
            clients::tell(&left, target);
            self.close(&left).await?;
            if self.blind == Some("returning") {
                *reset_for = tag;
                return Ok(());
            }
        }
        Err(Failure::Final(Error::new(
            ErrorKind::InUse,
            format!(
                "clients of earlier tests come back to the private server of database `{}`, again and again: end what opens them, a task or a child process",
                target.name()
            ),
        )))
    }

    /// Lets the user's function fill the database, and records what it left.
    async fn fill(
        &mut self,
        driver: &Driver,
        target: &Target,
        mut stamp: Stamp,
    ) -> Result<(), Failure> {
        let (index, books) = (self.index, self.link.books());
        let filled = provision::init_by_user(driver, target).await;
        filled.map_err(Failure::Final)?;
        let id = self.name.clone() + "@" + target.tag();
        let recorded = Baseline::record(&self.link, index, id).await;
        let recorded = recorded.map_err(Failure::Final)?;
        let baseline = (!recorded.is_empty()).then(|| recorded.id.clone());
        stamp.more.baseline = baseline;
        let stamp = stamp.complete().to_json();
        self.transact(|commands| {
            commands.cmd("SELECT").arg(books);
            recorded.save(index, commands);
            commands
                .cmd("SET")
                .arg(provision::stamp_key(index))
                .arg(&stamp);
        })
        .await?;
        self.baseline = Some(recorded);
        Ok(())
    }

    /// The recording `id`; `None` where the books have another one by now. Whoever takes it gives it back.
    async fn recorded(&mut self, id: &str) -> Result<Option<Baseline>, Failure> {
        let is_blind = self.blind == Some("recording");
        if let Some(known) = self.baseline.take_if(|known| known.id == id || is_blind) {
            return Ok(Some(known));
        }
        let read = Baseline::read(&self.link, self.index).await;
        let read = read.map_err(|error| self.failed("read the start state of", error))?;
        Ok((read.id == id).then_some(read))
    }

    /// Adds the commands that bring the database to its start state.
    fn start_state(&self, commands: &mut Pipeline, flush: bool, recorded: Option<&Baseline>) {
        if flush && self.blind != Some("keys") {
            commands.cmd("FLUSHDB").arg("ASYNC");
        }
        if let Some(recorded) = recorded.filter(|_| self.blind != Some("seeds")) {
            recorded.restore(commands, self.blind == Some("lives"));
        }
    }
}
