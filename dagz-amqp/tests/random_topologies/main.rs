//! Random start topologies, and random workloads over several connections, compared by a full dump.
//!
//! Where `random` has one start state with everything in it, this has many small ones, and more than a test comes between
//! two tests. `DAGZ_TEST_CASES` is the number of start states; each gets eight workloads.

mod act;
mod round;
mod start;
#[path = "../support/state.rs"]
mod state;
#[expect(dead_code, reason = "these tests need a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod test;

use std::cell::Cell;

use act::{Acts, acts, lasting, messages};
use dagz_amqp::Driver;
use dagz_testkit::random::{
    Counterexample, Search, assert_needed, assert_telling, cases, counterexample, runner,
};
use proptest::{prelude::*, strategy::ValueTree as _};
use round::{Between, Process, Round, Workload, anybody, anything, rebase, stranger, workload};
use serde_json::Value;
use start::{Besides, QUEUES, each, has_transient_queues, topology};
use support::at_site;

/// Tells a workload after which the state is another one than the base vhost says, which has the first of `starts`; also
/// how many workloads changed anything.
fn at_random(
    (test, search): (&str, Search),
    process: Process,
    starts: &[Value; 2],
    workloads: &impl Strategy<Value = Workload>,
    blind: Option<&'static str>,
) -> (Option<Counterexample>, u32) {
    let outcome = Cell::default();
    at_site(
        test,
        |config| match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        },
        async |site| {
            rebase(&site.base, &starts[0]);
            site.init().await;
            // Its lease goes with the last of its clones.
            let nobody = Driver::new(site.config.clone());
            let first = std::mem::replace(&mut site.driver, nobody);
            let driver = Cell::new(Some(first));
            let round = Round {
                site,
                starts,
                start: Cell::new(0),
                process,
                changed: (search != Search::Expected).then(|| Cell::new(0)),
            };
            let found = counterexample(test, search, workloads, async |workload| {
                let old = match driver.take() {
                    Some(old) => old,
                    // What failed before is not to be seen in what is made smaller.
                    None => round.anew().await,
                };
                let (next, outcome) = round.run(old, &workload).await;
                driver.set(outcome.is_ok().then_some(next));
                outcome
            });
            let changed = round.changed.map_or(0, Cell::into_inner);
            outcome.set((found, changed));
            if let Some(driver) = driver.take() {
                site.driver = driver;
            }
        },
    );
    outcome.into_inner()
}

fn is_exact(test: &str, process: Process) {
    let has_transient = has_transient_queues();
    let mut runner = runner(test);
    let (cases, mut all) = (cases(6), 0);
    for case in 0..cases {
        let starts = [(); 2].map(|()| {
            let tree = topology(has_transient).new_tree(&mut runner);
            tree.unwrap().current()
        });
        let test = format!("{test}_{case}");
        let eight = (&*test, Search::Unexpected(8));
        let workloads = workload(acts(14, false), anything());
        let (found, changed) = at_random(eight, process, &starts, &workloads, None);
        if let Some(error) = found {
            panic!("{error}\n{starts:#?}");
        }
        all += changed;
    }
    assert_telling(all, cases * 8, 2);
}

#[test]
fn any_topology_is_brought_back() {
    is_exact("topologies", Process::Same);
}

#[test]
fn any_topology_is_brought_back_by_another_process() {
    is_exact("topologies_new", Process::New);
}

/// Fails where none of these workloads needs the detection, at a start state with this besides.
fn is_needed(
    detection: &'static str,
    process: Process,
    besides: Besides,
    workloads: &impl Strategy<Value = Workload>,
) {
    let test = format!("topologies_{detection}_{process:?}");
    let test = test.replace(' ', "_").to_lowercase();
    let starts = [each(besides), each(Besides::DeadLetters)];
    assert_needed(&test, detection, |test| {
        let expected = (test, Search::Expected);
        at_random(expected, process, &starts, workloads, Some(detection)).0
    });
}

/// A test does little, which leaves much as it was, and this comes then.
fn little(between: impl Strategy<Value = Between> + 'static) -> impl Strategy<Value = Workload> {
    workload(acts(4, false), between)
}

#[test]
fn ending_what_an_earlier_test_has_is_needed() {
    let workloads = workload(lasting(), Just(Between::Nothing)).prop_map(|workload| Workload {
        flooded: workload.flooded.or(Some(QUEUES[0])),
        ..workload
    });
    for process in [Process::Same, Process::New] {
        is_needed("users", process, Besides::Nothing, &workloads);
    }
    // The broker ends them, too, and another process comes so much later that it has.
    is_needed("connections", Process::Same, Besides::Nothing, &workloads);
}

#[test]
fn seeing_exclusive_queues_is_needed() {
    let workloads = little(stranger());
    for process in [Process::Same, Process::New] {
        is_needed("exclusive", process, Besides::Nothing, &workloads);
    }
}

#[test]
fn seeing_what_others_do_between_two_tests_is_needed() {
    let same = Process::Same;
    is_needed("mark", same, Besides::Nothing, &little(anybody()));
    let workloads = little(Just(Between::OtherStart));
    for detection in ["source", "remade"] {
        is_needed(detection, same, Besides::Nothing, &workloads);
    }
    let workloads = little(Just(Between::Owner));
    for process in [same, Process::New] {
        is_needed("stamp", process, Besides::Nothing, &workloads);
    }
}

#[test]
fn seeing_what_goes_on_by_itself_is_needed() {
    // Until then all that moves has moved.
    let workloads = workload(messages(), Just(Between::Nothing)).prop_map(|workload| Workload {
        pause: 800,
        late: Acts::new(),
        ..workload
    });
    for (detection, besides) in [
        ("dead letters", Besides::DeadLetters),
        ("ungettable", Besides::Ungettable),
    ] {
        is_needed(detection, Process::Same, besides, &workloads);
    }
}
