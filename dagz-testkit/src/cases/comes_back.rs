//! A server that goes away and comes back: what the kept connections of a driver make of it.
//!
//! The processes of these cases reach the server through a [`Relay`], which takes it away from them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use dagz_core::ErrorKind;
use serde_json::{Value, json};

use super::{Case, Role};
use crate::{
    Choice, Contract,
    play::{Play, refused},
    relay::Relay,
    stage::{Other, Stage},
};

pub(crate) fn cases<C: Contract>() -> Vec<Case<C>> {
    vec![
        Case::directed(
            "comes_back::a_restart_between_tests",
            |stage| quietly(stage, "restarts between"),
            roles(),
        ),
        Case::directed(
            "comes_back::a_restart_during_a_test",
            |stage| quietly(stage, "restarts during"),
            roles(),
        ),
        Case::directed(
            "comes_back::away_between_two_tests",
            |stage| quietly(stage, "away between"),
            roles(),
        ),
        Case::directed(
            "comes_back::away_before_the_first",
            |stage| quietly(stage, "away before"),
            roles(),
        ),
    ]
}

fn roles<C: Contract>() -> Vec<(&'static str, Role<C>)> {
    vec![
        ("restarts between", between),
        ("restarts during", during),
        ("away between", away_between),
        ("away before", away_before),
    ]
}

/// How soon a test must be told that the server is away.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Runs `role`, which must get its errors where it asks, and nothing on standard error besides.
fn quietly<C: Contract>(stage: &Stage<C>, role: &str) -> Result<()> {
    let actor = stage.actor(role).set("DAGZ_WORKERS", "1");
    let (_, complaints) = actor.start()?.finish_heard()?;
    ensure!(complaints.is_empty(), "it was told besides: {complaints}");
    Ok(())
}

/// A suite whose server is behind a relay.
struct Suite<'a, 'b, C> {
    play: &'a Play<'b, C>,
    relay: Relay,
}

impl<'a, 'b, C: Contract> Suite<'a, 'b, C> {
    fn new(play: &'a Play<'b, C>) -> Result<Self> {
        let relay = Relay::to(play.contract().listens_at()?)?;
        let suite = Self { play, relay };
        let address = suite.address(&play.base());
        play.contract().configure(&address, &Choice::default())?;
        Ok(suite)
    }

    fn address(&self, name: &str) -> String {
        let contract = self.play.contract();
        contract.address_through(self.relay.port(), name)
    }

    async fn open(&self, name: &str) -> dagz_core::Result<C::Session> {
        self.play.contract().open(&self.address(name)).await
    }

    /// Opens `name`, which must be empty and this worker's own, and writes to it.
    async fn uses(&self, name: &str) -> Result<()> {
        let session = self.open(name).await?;
        let entries = self.play.entries(&session).await?;
        ensure!(entries.is_empty(), "`{name}` starts with {entries:?}");
        self.play.contract().put(&session, "key", "value").await
    }

    /// A test that does nothing but [`uses`](Self::uses) the base database.
    fn works(&self, test: &str) -> Result<()> {
        let base = self.play.base();
        self.play.test(test, async |_| self.uses(&base).await)
    }

    /// A test that finds the server away.
    fn is_told(&self, test: &str) -> Result<()> {
        let base = self.play.base();
        let advice = self.play.contract().unreachable_advice();
        let place = format!("127.0.0.1:{}", self.relay.port());
        self.play.test(test, async |scope| {
            let database = self.play.worker_name(scope, &base)?;
            let before = Instant::now();
            refused(
                self.open(&base).await,
                ErrorKind::Unreachable,
                &[&database, &scope.worker(), &test, &place, &advice],
            )?;
            let waited = before.elapsed();
            ensure!(waited < AT_ONCE, "it was told after {waited:?}");
            Ok(())
        })
    }
}

fn between<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let suite = Suite::new(play)?;
    let base = play.base();
    for round in 0..6 {
        play.test("writes", async |_| {
            if round % 2 == 1 {
                // One that is not made yet, by the connections that are kept for making them.
                let other = Other::ALL[round / 2];
                suite.uses(&play.other_base(other)).await?;
            }
            suite.uses(&base).await
        })?;
        suite.relay.restart()?;
        if round >= 3 {
            // In the first rounds, the next test may begin before anybody learns of it.
            thread::sleep(Duration::from_millis(50));
        }
    }
    suite.works("reads")?;
    Ok(json!(null))
}

fn during<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let suite = Suite::new(play)?;
    let base = play.base();
    for _ in 0..3 {
        play.test("sees a restart", async |_| {
            suite.uses(&base).await?;
            suite.relay.restart()?;
            let entries = play.entries(&suite.open(&base).await?).await?;
            ensure!(entries.len() == 1, "prepared again: {entries:?}");
            // A database that it has not opened before is made all the same.
            suite.uses(&play.other_base(Other::Second)).await
        })?;
        suite.works("comes next")?;
    }
    Ok(json!(null))
}

fn away_between<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let suite = Suite::new(play)?;
    for _ in 0..2 {
        suite.works("finds it there")?;
        suite.relay.away()?;
        suite.is_told("finds it away")?;
        suite.is_told("finds it still away")?;
        suite.relay.back()?;
        suite.works("finds it back")?;
    }
    suite.works("goes on")?;
    Ok(json!(null))
}

fn away_before<C: Contract>(play: &Play<'_, C>) -> Result<Value> {
    let suite = Suite::new(play)?;
    suite.relay.away()?;
    suite.is_told("finds it away")?;
    suite.is_told("finds it still away")?;
    suite.relay.back()?;
    suite.works("finds it back")?;
    suite.works("goes on")?;
    Ok(json!(null))
}
