//! A test, what comes between it and the next one, and the reset: [`Workload`], and [`Round`], which does it.
//!
//! `act.rs` has what the test does, `test.rs` over which connections, `start.rs` what it does that to.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use dagz_amqp::Driver;
use dagz_core::{DbConfig as _, ErrorKind};
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use proptest::{prelude::*, sample::select, test_runner::TestCaseError};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    act::{self, Acts, acts},
    start::QUEUES,
    state::{expected, state},
    support::{
        self, Site, definitions,
        management::{self, part},
        uri,
    },
    test::{Test, flood},
};

/// Which driver resets: the one that was there when the test ended, or a new one each time, as under nextest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Process {
    Same,
    New,
}

/// What happens from the start of one test to that of the next.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) acts: Acts,
    /// To which queue it sends without an end.
    pub(crate) flooded: Option<&'static str>,
    /// For what happens behind a test's end, in milliseconds.
    pub(crate) pause: u64,
    /// What its connections try to do after its end.
    pub(crate) late: Acts,
    pub(crate) between: Between,
    /// What they try to do in the next test.
    pub(crate) after: Acts,
}

/// What comes between two tests.
#[derive(Clone, Debug)]
pub(crate) enum Between {
    Nothing,
    /// A test of another process, which ends as it should, or with its process.
    Test(Acts, bool),
    /// A process that finds out for itself as whom it may log in.
    Guest(Acts),
    /// Another run, which sees that the base vhost has changed.
    OtherStart,
    /// Somebody who makes the vhost their own, and puts something there.
    Owner,
    /// Whoever came in past dagz, and has a queue of this name alone, as long as the connection is there.
    Stranger(&'static str),
}

/// Workloads in which a test does such `acts`, and `between` says what comes then.
pub(crate) fn workload(
    acts: impl Strategy<Value = Acts> + 'static,
    between: impl Strategy<Value = Between> + 'static,
) -> impl Strategy<Value = Workload> {
    let late = || prop_oneof![3 => Just(Acts::new()), 1 => act::acts(3, true)];
    let pause = select([0_u64, 0, 4, 30].as_slice());
    let flooded = prop::option::weighted(0.1, select(QUEUES.as_slice()));
    let all = (acts, flooded, pause, late(), between, late());
    all.prop_map(|(acts, flooded, pause, late, between, after)| Workload {
        acts,
        flooded,
        pause,
        late,
        between,
        after,
    })
}

/// Mostly nothing.
pub(crate) fn anything() -> impl Strategy<Value = Between> {
    prop_oneof![
        12 => Just(Between::Nothing),
        2 => anybody(),
        1 => Just(Between::OtherStart),
        1 => Just(Between::Owner),
        1 => stranger(),
    ]
}

/// Somebody who has come in past dagz.
pub(crate) fn stranger() -> impl Strategy<Value = Between> {
    select(QUEUES.as_slice()).prop_map(Between::Stranger)
}

/// Somebody who does something there.
pub(crate) fn anybody() -> impl Strategy<Value = Between> {
    prop_oneof![
        2 => (acts(5, true), any::<bool>()).prop_map(|(acts, ends)| Between::Test(acts, ends)),
        1 => acts(5, true).prop_map(Between::Guest),
    ]
}

/// Where workloads are done: a site, and the definitions that its base vhost has in turn.
pub(crate) struct Round<'a> {
    pub(crate) site: &'a Site,
    pub(crate) starts: &'a [Value; 2],
    /// Which of them it has now.
    pub(crate) start: Cell<usize>,
    pub(crate) process: Process,
    /// How many workloads changed anything, where it is worth the time that the look takes.
    pub(crate) changed: Option<Cell<u32>>,
}

/// Gives the base vhost other definitions.
pub(crate) fn rebase(base: &str, start: &Value) {
    management::delete(&format!("/api/vhosts/{}", part(base))).expect("it goes");
    support::make(base, start);
}

impl Round<'_> {
    /// Lets the vhost be made anew.
    pub(crate) async fn anew(&self) -> Driver {
        let target = &self.site.target;
        management::delete(&format!("/api/vhosts/{}", part(target.name()))).expect("it goes");
        let driver = Driver::new(self.site.config.clone());
        for made in [
            driver.worker_init(target).await,
            driver.prepare(target).await,
        ] {
            made.unwrap_or_else(|error| panic!("{}", error.report()));
        }
        driver
    }

    /// Does what the workload says by `driver`, and tells where the next test does not begin at the start state. Gives
    /// back the driver that brought it there.
    pub(crate) async fn run(
        &self,
        driver: Driver,
        workload: &Workload,
    ) -> (Driver, Result<(), TestCaseError>) {
        let target = &self.site.target;
        let address = driver.address(target).await;
        let mut test = Test::new(address.expect("the test may log in"));
        test.run(&workload.acts).await;
        let flooding = workload
            .flooded
            .map(|queue| tokio::spawn(flood(test.address.clone(), queue)));
        if let Some(changed) = &self.changed {
            let start = expected(&definitions(&self.site.base));
            let is_changed = state(self.site).await != Some(start);
            changed.set(changed.get() + u32::from(is_changed));
        }
        let stamp = match workload.between {
            Between::Owner => Some(self.take_over().await),
            _ => None,
        };
        let stranger = match workload.between {
            Between::Stranger(queue) => self.visited(queue).await,
            _ => None,
        };
        let next = match self.process {
            Process::Same => {
                driver.release(target).await;
                sleep(Duration::from_millis(workload.pause)).await;
                driver
            }
            // The process of this test ends without a word.
            Process::New => {
                drop(driver);
                Driver::new(self.site.config.clone())
            }
        };
        test.run(&workload.late).await;
        self.between(&workload.between).await;
        if let Some(stamp) = stamp {
            let prepared = next.prepare(target).await;
            if let Err(error) = self.give_back(prepared, &stamp) {
                return (next, Err(error));
            }
        }
        let prepared = next.prepare(target).await;
        prepared.unwrap_or_else(|error| panic!("{}", error.report()));
        let start = expected(&definitions(&self.site.base));
        let mut outcome = differs(&start, state(self.site).await, "begins otherwise");
        if outcome.is_ok() && !workload.after.is_empty() {
            test.run(&workload.after).await;
            let what = "is changed by the earlier one";
            outcome = differs(&start, state(self.site).await, what);
        }
        drop(stranger);
        if let Some(flooding) = flooding {
            flooding.abort();
        }
        (next, outcome)
    }

    async fn between(&self, between: &Between) {
        let (site, target) = (self.site, &self.site.target);
        let other = Driver::new(site.config.clone());
        match between {
            Between::Nothing | Between::Owner | Between::Stranger(_) => {}
            Between::Test(acts, ends) => {
                let prepared = other.prepare(target).await;
                prepared.unwrap_or_else(|error| panic!("{}", error.report()));
                let address = other.address(target).await;
                Test::new(address.expect("the test may log in"))
                    .run(acts)
                    .await;
                if *ends {
                    other.release(target).await;
                }
            }
            Between::Guest(acts) => {
                self.settled().await;
                let address = other.address(target).await;
                Test::new(address.expect("a guest may log in"))
                    .run(acts)
                    .await;
            }
            Between::OtherStart => {
                self.start.set(1 - self.start.get());
                rebase(&site.base, &self.starts[self.start.get()]);
                let made = other.worker_init(target).await;
                made.unwrap_or_else(|error| panic!("{}", error.report()));
            }
        }
    }

    /// Waits until the last test's end is done with: who comes earlier as a guest may not be seen, as the README says.
    async fn settled(&self) {
        let visit = uri(self.site.target.name());
        let visit = Connection::connect_uri(visit, ConnectionProperties::default()).await;
        // A test may let nobody in.
        let Ok(visit) = visit else {
            sleep(Duration::from_secs(1)).await;
            return;
        };
        let looks = support::channel(&visit).await;
        for _ in 0..100 {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let none = FieldTable::default();
            let mark = looks.queue_declare("dagz.mark".into(), passive, none).await;
            // A test may have deleted it.
            if mark.map_or(1, |mark| mark.message_count()) > 0 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Comes in as the application is configured to, and takes the queue, if there is none of that name. `None` where
    /// nobody is let in.
    async fn visited(&self, queue: &str) -> Option<Connection> {
        let visit = uri(self.site.target.name());
        let visit = Connection::connect_uri(visit, ConnectionProperties::default()).await;
        let visit = visit.ok()?;
        let own = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = support::channel(&visit).await;
        let declared = channel.queue_declare(queue.into(), own, FieldTable::default());
        drop(declared.await);
        Some(visit)
    }

    /// Makes the vhost somebody else's. Gives back what it said before.
    async fn take_over(&self) -> Value {
        let path = format!("/api/vhosts/{}", part(self.site.target.name()));
        let before = management::get(&path).expect("told")["description"].take();
        management::put(&path, &json!({"description": "mine now"})).expect("it is told");
        management::put(
            &self.precious(),
            &json!({"type": "fanout", "durable": true}),
        )
        .expect("it is made");
        before
    }

    /// What somebody has put there.
    fn precious(&self) -> String {
        format!("/api/exchanges/{}/precious", part(self.site.target.name()))
    }

    /// Sees that nobody has touched it, and makes the vhost dagz's once more.
    fn give_back(
        &self,
        prepared: dagz_core::Result<()>,
        stamp: &Value,
    ) -> Result<(), TestCaseError> {
        prop_assert!(
            management::get(&self.precious()).is_ok(),
            "somebody else's exchange is gone"
        );
        let error = prepared.expect_err("the vhost is somebody else's");
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
        let path = format!("/api/vhosts/{}", part(self.site.target.name()));
        management::put(&path, &json!({"description": stamp})).expect("it is told");
        Ok(())
    }
}

/// Whether the state that the next test meets is the one it should.
fn differs(
    start: &BTreeSet<String>,
    found: Option<BTreeSet<String>>,
    what: &str,
) -> Result<(), TestCaseError> {
    let found = found.expect("everybody is let in");
    let missing: Vec<_> = start.difference(&found).collect();
    let besides: Vec<_> = found.difference(start).collect();
    prop_assert!(
        missing.is_empty() && besides.is_empty(),
        "the next test {what}; missing: {missing:#?}, and besides: {besides:#?}"
    );
    Ok(())
}
