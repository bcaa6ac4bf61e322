//! Whatever a test declares, deletes, binds, publishes and leaves at random, the next one begins at the start state.

mod act;
#[path = "../support/state.rs"]
mod state;
#[expect(dead_code, reason = "these tests need a part of it")]
#[path = "../support/mod.rs"]
mod support;

use std::{cell::Cell, collections::BTreeSet};

use act::{Act, act};
use dagz_amqp::Driver;
use dagz_core::{DbConfig as _, Target};
use dagz_testkit::random::{
    Counterexample, Search, assert_needed, assert_telling, cases, counterexample,
};
use lapin::Connection;
use proptest::{collection::vec, prelude::*};
use state::{expected, state};
use support::{
    Site, at_site, channel, connect, definitions,
    management::{self, part},
};

/// The connections of one test, all of which live on after it.
struct Test {
    driver: Driver,
    target: Target,
    connections: Vec<Connection>,
}

impl Test {
    /// Does it on a channel of its own: whoever is refused loses it, or even the connection.
    async fn act(&mut self, act: &Act) {
        if !self
            .connections
            .last()
            .is_some_and(|last| last.status().connected())
        {
            let address = self.driver.address(&self.target).await;
            let connection = connect(address.expect("the test may log in")).await;
            self.connections.push(connection);
        }
        let Some(connection) = self.connections.last() else {
            return;
        };
        let channel = match act {
            Act::Transact(_) => connection.create_channel().await.expect("a channel opens"),
            _ => channel(connection).await,
        };
        drop(act.run(&channel, self.target.name()).await);
        std::mem::forget(channel);
    }
}

/// Which driver resets: the one that was there when the test ended, or a new one each time, as under nextest.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Process {
    Same,
    New,
}

/// What a test does, and, where a connection lives on after it, what that does until the next one.
type Workload = (Vec<Act>, Option<Act>);

/// A stream, and a queue whose messages move: where there is neither, a reset relies on what was found when the test
/// had ended.
const UNSURE: [&str; 2] = ["audit", "retry"];

/// Tells a workload after which the state is another one, where the start state is `without` these queues.
fn at_random(
    (test, search): (&str, Search),
    process: Process,
    without: &[&str],
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let failed = Cell::new(None);
    at_site(
        test,
        |config| match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        },
        async |site| {
            for queue in without {
                let path = format!("/api/queues/{}/{queue}", part(&site.base));
                management::delete(&path).expect("it goes");
            }
            site.init().await;
            let start = expected(&definitions(&site.base));
            assert_eq!(state(site).await, Some(start.clone()));
            // Its lease goes with the last of its clones.
            let nobody = Driver::new(site.config.clone());
            let driver = Cell::new(Some(std::mem::replace(&mut site.driver, nobody)));
            let here = &*site;
            let changed = Cell::new(0);
            let is_sure = without == UNSURE;
            // Nobody looks again then, since what the test had open has ended; those do not need that.
            let late = act().prop_filter("it is looked again", move |act| {
                !is_sure || !matches!(act, Act::Set(_) | Act::Unset(_))
            });
            let workload = (vec(act(), 1..12), prop::option::weighted(0.2, late));
            let undone = counterexample(test, search, &workload, async |workload| {
                let old = driver.take();
                let old = old.unwrap_or_else(|| Driver::new(here.config.clone()));
                let (next, left, found) = round(here, old, process, &workload).await;
                driver.set(Some(next));
                changed.set(changed.get() + u32::from(left.as_ref() != Some(&start)));
                let missing: Vec<_> = start.difference(&found).collect();
                let besides: Vec<_> = found.difference(&start).collect();
                prop_assert!(
                    missing.is_empty() && besides.is_empty(),
                    "missing: {missing:#?}, and besides: {besides:#?}"
                );
                Ok(())
            });
            if let Some(driver) = driver.take() {
                site.driver = driver;
            }
            if let (None, Search::Unexpected(cases)) = (&undone, search) {
                assert_telling(changed.get(), cases, 2);
            }
            failed.set(undone);
        },
    );
    failed.into_inner()
}

/// Does what a test does and what lives on after it, and resets. Gives back the driver that did so, with what the test
/// left, and what there is then.
async fn round(
    site: &Site,
    driver: Driver,
    process: Process,
    (acts, late): &Workload,
) -> (Driver, Option<BTreeSet<String>>, BTreeSet<String>) {
    let mut test = Test {
        driver,
        target: site.target.clone(),
        connections: Vec::new(),
    };
    for act in acts {
        test.act(act).await;
    }
    let left = state(site).await;
    let next = match process {
        Process::Same => test.driver.clone(),
        Process::New => Driver::new(site.config.clone()),
    };
    match process {
        // The process of this test ends without a word.
        Process::New => test.driver = next.clone(),
        Process::Same => {
            next.release(&site.target).await;
            if let Some(late) = late
                && let Some(connection) = test.connections.last()
                && let Ok(channel) = connection.create_channel().await
            {
                // It may be ended while it does so.
                drop(late.run(&channel, site.target.name()).await);
            }
        }
    }
    let prepared = next.prepare(&site.target).await;
    prepared.unwrap_or_else(|error| panic!("{}", error.report()));
    let found = state(site).await;
    (next, left, found.expect("everybody is let in"))
}

/// Fails for the smallest workload that is not undone.
fn is_exact(test: &str, process: Process, without: &[&str]) {
    let search = Search::Unexpected(cases(25));
    if let Some(error) = at_random((test, search), process, without, None) {
        panic!("{error}");
    }
}

#[test]
fn any_workload_is_undone() {
    is_exact("random", Process::Same, &[]);
}

#[test]
fn any_workload_is_undone_as_it_was_found() {
    is_exact("random_found", Process::Same, &UNSURE);
}

#[test]
fn any_workload_of_another_process_is_undone() {
    is_exact("random_new", Process::New, &[]);
}

/// Fails where no workload needs the detection, with a start state `without` these queues.
fn is_needed(detection: &'static str, process: Process, without: &[&str]) {
    let test = format!("random_{detection}_{process:?}").to_lowercase();
    // Who is blind to queues meets streams in their place, which do not do what it asks: that is an error.
    assert_needed(&test, detection, |test| {
        let expected = (test, Search::Expected);
        at_random(expected, process, without, Some(detection))
    });
}

// None is for exclusive queues: a test's own have gone with its user, before anybody looks. `random_topologies` has those of
// somebody else.

#[test]
fn each_detection_is_needed() {
    for detection in ["queues", "exchanges", "bindings", "settings", "messages"] {
        is_needed(detection, Process::Same, &UNSURE);
    }
    // Without dead letters, which are reason enough to look again.
    is_needed("streams", Process::Same, &["retry"]);
}

#[test]
fn each_detection_of_another_process_is_needed() {
    for detection in [
        "queues",
        "exchanges",
        "bindings",
        "settings",
        "messages",
        "streams",
    ] {
        is_needed(detection, Process::New, &[]);
    }
}
