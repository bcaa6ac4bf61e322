//! Whatever a test does at random, the next one finds the start state, exactly: any keys, of every type and in every
//! way of keeping them, and how long they live.
//!
//! Several connections do it, and some of them are still there when the next test has begun, waiting, in the middle of
//! a transaction, or writing on. Some tests are of the same process and others of the next one, and beside them another
//! run may fill the database anew. `random_private.rs` is the same for private servers.

mod support;

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use dagz_core::{DbConfig as _, ErrorKind, Target};
use dagz_redis::{Config, Driver, Prepare};
use dagz_testkit::random::{
    CONNECTIONS, Counterexample, Interleaved, Search, assert_needed, cases, counterexample,
    interleaved,
};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use redis::aio::MultiplexedConnection;
use support::{
    Site, ask, at_site, connect, info,
    players::{self, Player, QUEUES, flood},
    start::{Field, dump, seeds},
    tell,
};
use tokio::sync::Mutex;

type State = BTreeMap<String, String>;

/// Where dagz keeps its books.
const BOOKS: i64 = 2_047;

/// What a task writes that nobody stops.
const FLOOD: &[&str] = &["SET flood value", "RPUSH a flood", "DEL b"];

/// What another run does with the database after the test, and what this one has seen by then.
#[derive(Clone, Debug)]
enum Beside {
    Nothing,
    /// It fills it with something else, as one of a later version of the suite.
    Fills(Vec<String>),
    /// It fails in the middle of that.
    FailsToFill,
    /// Its test uses it, while the next one here is about to.
    Uses,
    /// Somebody gave it away, and it has keys that are not dagz's.
    GivenAway,
}

fn beside(nothing: u32) -> impl Strategy<Value = Beside> {
    prop_oneof![
        nothing => Just(Beside::Nothing),
        1 => seeds().prop_map(Beside::Fills),
        1 => Just(Beside::FailsToFill),
        1 => Just(Beside::Uses),
        1 => Just(Beside::GivenAway),
    ]
}

/// One test, and what comes between it and the next one.
#[derive(Clone, Debug)]
struct Workload {
    /// The start state, if it is another one than before.
    seeds: Option<Vec<String>>,
    commands: Interleaved,
    /// Of each connection, whether the server does not know of which test it is.
    nameless: [bool; CONNECTIONS],
    floods: bool,
    /// Whether the next test is another process's, and nobody gave the database back.
    is_killed: bool,
    beside: Beside,
    /// What the connections that are still there do when the next test has begun.
    late: Vec<String>,
}

/// Anything; or, to see what depends on a detection, more of what it is for.
fn workloads(blind: Option<&str>) -> impl Strategy<Value = Workload> {
    let nothing = match blind {
        Some("watch" | "lock" | "owner" | "complete" | "recording") => 1,
        _ => 12,
    };
    let lurks = matches!(blind, Some("waiting" | "transactions"));
    (
        prop::option::weighted(0.4, seeds()),
        interleaved(players::command),
        prop::array::uniform3(prop::bool::weighted(0.3)),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.3),
        beside(nothing),
        vec(players::command(), 0..3),
    )
        .prop_map(
            move |(seeds, mut commands, mut nameless, floods, is_killed, beside, late)| {
                if lurks {
                    commands.stays = [true; CONNECTIONS];
                    nameless = [true; CONNECTIONS];
                }
                Workload {
                    seeds,
                    commands,
                    nameless,
                    // Beside another run it would be that run's own neighbour.
                    floods: floods && matches!(beside, Beside::Nothing),
                    is_killed,
                    beside,
                    late,
                }
            },
        )
}

/// What the start state is.
#[derive(Clone, Debug)]
struct Start {
    prepare: Prepare,
    /// What is sown, if anything is.
    field: Option<Field>,
}

impl Start {
    fn of(prepare: Prepare) -> Self {
        Self {
            prepare,
            field: Some(Field::default()),
        }
    }

    fn configured(&self, config: Config, blind: Option<&'static str>) -> Config {
        let mut config = config.prepare(self.prepare);
        if let Some(field) = &self.field {
            config = config.worker_init(field.sowing());
        }
        match blind {
            Some(detection) => config.blind_to(detection),
            None => config,
        }
    }

    fn sow(&self, seeds: &[String], fails: bool) {
        if let Some(field) = &self.field {
            field.set(seeds);
            field.sown().fails = fails;
        }
    }

    /// What the next test is to find.
    fn state(&self, target: &Target) -> State {
        match (&self.field, self.prepare) {
            (Some(field), Prepare::Baseline) => field.left(target).state,
            _ => State::new(),
        }
    }
}

/// Fails where the database is another one than it should be.
async fn assert_state(test: &MultiplexedConnection, expected: &State) -> Result<(), TestCaseError> {
    prop_assert_eq!(&dump(test).await, expected);
    Ok(())
}

/// The connections of a test, and the task that floods the database, if there is one.
struct Cast {
    players: Vec<Option<Player>>,
    flood: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Cast {
    fn drop(&mut self) {
        if let Some(flood) = &self.flood {
            flood.abort();
        }
    }
}

impl Cast {
    /// Does what the test does, until it has ended.
    async fn play(site: &Site, watching: &MultiplexedConnection, workload: &Workload) -> Self {
        // The scope stays the same, as others may wait for this worker; so those of the earlier test have another name.
        let name = format!("dagz:{}.jw99.t999:it", site.target.job());
        let mut players = Vec::new();
        for is_nameless in workload.nameless {
            let name = (!is_nameless).then_some(name.as_str());
            players.push(Player::new(site.connect().await, watching, name).await);
        }
        for (number, words) in &workload.commands.statements {
            players[*number].play(words).await;
        }
        let stays = workload.commands.stays;
        let players = players.into_iter().zip(stays);
        let mut cast = Self {
            players: players
                .map(|(player, stays)| stays.then_some(player))
                .collect(),
            flood: None,
        };
        if workload.floods {
            let connection = site.connect().await;
            tell(&connection, &format!("CLIENT SETNAME {name}")).await;
            cast.flood = Some(flood(connection, FLOOD).await);
        }
        cast
    }

    /// Does what is done when the database was given back and the next test has not begun.
    async fn play_on(&mut self, workload: &Workload) {
        if let Some(late) = &workload.commands.late {
            tokio::time::sleep(Duration::from_millis(2)).await;
            for (number, words) in late {
                if let Some(player) = &mut self.players[*number] {
                    player.play(words).await;
                }
            }
        }
        for (player, is_nameless) in self.players.iter_mut().zip(workload.nameless) {
            // One that is idle, and of no test by its name, stays: it might be anybody's.
            if let Some(player) = player.as_mut().filter(|_| is_nameless) {
                player.lurk().await;
            }
        }
    }

    /// Does what is done when the next test has begun.
    async fn write_late(&mut self, late: &[String]) {
        for player in self.players.iter_mut().flatten() {
            player.write_late(late).await;
        }
    }
}

/// Does what another run does.
async fn play_beside(site: &Site, start: &Start, beside: &Beside) -> Result<(), TestCaseError> {
    let other = Driver::new(site.config.clone());
    // By now the driver has looked at what the next test will find.
    tokio::time::sleep(Duration::from_millis(2)).await;
    match beside {
        Beside::Nothing => {}
        Beside::Fills(seeds) => {
            start.sow(seeds, false);
            other.worker_init(&site.target).await.unwrap();
        }
        Beside::FailsToFill => {
            let Some(field) = &start.field else {
                return Ok(());
            };
            field.sown().fails = true;
            let failed = other.worker_init(&site.target).await;
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::WorkerInit);
            field.sown().fails = false;
        }
        Beside::Uses => {
            other.prepare(&site.target).await.unwrap();
            let test = site.connect().await;
            tell(&test, "SET other value").await;
            let state = dump(&test).await;
            let it_goes_on = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let met = assert_state(&test, &state).await;
                other.release(&site.target).await;
                met
            };
            let ((), met) = tokio::join!(site.prepare(), it_goes_on);
            met?;
        }
        Beside::GivenAway => {
            let (books, test) = (connect(info(BOOKS)).await, site.connect().await);
            let key = format!("dagz:stamp:{}", site.index());
            let stamp: String = ask(&books, &format!("GETDEL {key}")).await.unwrap();
            tell(&test, "FLUSHDB").await;
            tell(&test, "SET notes mine").await;
            let state = dump(&test).await;
            let refused = site.driver.prepare(&site.target).await;
            let met = assert_state(&test, &state).await;
            tell(&test, "FLUSHDB").await;
            let mut give_back = redis::cmd("SET");
            give_back.arg(key).arg(stamp);
            give_back.exec_async(&mut books.clone()).await.unwrap();
            met?;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
        }
    }
    Ok(())
}

async fn round(
    site: &mut Site,
    watching: &MultiplexedConnection,
    start: &Start,
    workload: &Workload,
) -> Result<(), TestCaseError> {
    if let Some(seeds) = &workload.seeds {
        start.sow(seeds, false);
        site.driver.worker_init(&site.target).await.unwrap();
        site.prepare().await;
        assert_state(&site.connect().await, &start.state(&site.target)).await?;
    }
    let mut cast = Cast::play(site, watching, workload).await;
    if workload.is_killed {
        site.driver = Driver::new(site.config.clone());
    } else {
        site.driver.release(&site.target).await;
    }
    cast.play_on(workload).await;
    play_beside(site, start, &workload.beside).await?;
    site.prepare().await;
    cast.write_late(&workload.late).await;
    let test = site.connect().await;
    assert_state(&test, &start.state(&site.target)).await?;
    // And nobody takes what the next test brings.
    let [queue, ranked] = QUEUES;
    tell(&test, &format!("RPUSH {queue} job")).await;
    tell(&test, &format!("ZADD {ranked} 1 job")).await;
    let there: usize = ask(&test, &format!("EXISTS {queue} {ranked}"))
        .await
        .unwrap();
    prop_assert_eq!(there, QUEUES.len());
    Ok(())
}

/// Tells a workload after which the state is another one.
fn at_random(
    (test, search): (&str, Search),
    start: &Start,
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let found = Cell::new(None);
    let configured = |config| start.configured(config, blind);
    at_site(test, configured, async |site| {
        site.init().await;
        let watching = connect(info(BOOKS)).await;
        let site = Mutex::new(site);
        found.set(counterexample(
            test,
            search,
            &workloads(blind),
            async |workload| {
                let mut site = site.lock().await;
                round(&mut site, &watching, start, &workload).await
            },
        ));
    });
    found.into_inner()
}

fn is_exact(test: &str, start: &Start) {
    if let Some(error) = at_random((test, Search::Unexpected(cases(60))), start, None) {
        panic!("{error}");
    }
}

#[test]
fn a_baseline_is_exact_whatever_a_test_does() {
    is_exact("random_baseline", &Start::of(Prepare::Baseline));
}

#[test]
fn a_flushed_database_is_empty_whatever_a_test_does() {
    is_exact("random_flush", &Start::of(Prepare::Flush));
}

#[test]
fn a_database_that_nobody_fills_is_empty_whatever_a_test_does() {
    for prepare in [Prepare::Flush, Prepare::Baseline] {
        let start = Start {
            prepare,
            field: None,
        };
        is_exact("random_unfilled", &start);
    }
}

#[test]
fn each_detection_is_needed() {
    for (detection, prepare) in [
        ("keys", Prepare::Flush),
        ("seeds", Prepare::Baseline),
        ("lives", Prepare::Baseline),
        ("names", Prepare::Baseline),
        ("waiting", Prepare::Baseline),
        ("transactions", Prepare::Baseline),
        ("closing", Prepare::Baseline),
        ("watch", Prepare::Baseline),
        ("lock", Prepare::Baseline),
        ("owner", Prepare::Baseline),
        ("complete", Prepare::Baseline),
        ("recording", Prepare::Baseline),
    ] {
        assert_needed(&format!("random_{detection}"), detection, |test| {
            at_random(
                (test, Search::Expected),
                &Start::of(prepare),
                Some(detection),
            )
        });
    }
}
