//! Whatever a test does at random to its private server, the next one finds it as it was when it was new, and its
//! databases in their start state.
//!
//! As `random.rs`, which is for one server of all, and with what only a server of one's own permits: other databases,
//! configuration, users, functions, scripts, and a server that is not of use any more. `BGSAVE` and its like are left
//! out, as what they write is not the server's. The scope is left after each test, so the next one may
//! be on another worker.

mod support;

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use dagz_core::{DbConfig as _, Endpoint, Scope, ScopeGuard, Target};
use dagz_redis::{Config, Driver, Prepare, PrivateServers};
use dagz_testkit::{
    random::{
        CONNECTIONS, Counterexample, Interleaved, Search, assert_needed, assert_needed_to_begin,
        cases, counterexample, interleaved,
    },
    site,
};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use redis::{ConnectionInfo, Value, aio::MultiplexedConnection};
use support::{
    ask, connect,
    players::{self, Player, about_a_key, flood},
    run,
    start::{Field, dump, seeds},
};
use tokio::sync::Mutex;

type State = BTreeMap<String, String>;

/// The application's databases.
const BASES: [i64; 2] = [0, 1];

/// Where dagz keeps its books, which a test reaches as any other database.
const BOOKS: i64 = 15;

/// Which of them a test opens, one after the other.
const OPENED: &[&[usize]] = &[&[0], &[1], &[0, 1], &[1, 0]];

/// What a test may do to the whole server.
const COMMANDS: &[&str] = &[
    "SELECT 0",
    "SELECT 0",
    "SELECT 1",
    "SELECT $n",
    "SELECT 15",
    "MOVE $k $n",
    "COPY $k $k DB $n",
    "COPY $k $k DB 15",
    "SWAPDB 0 $n",
    "SWAPDB 1 15",
    "FLUSHALL",
    "CONFIG SET maxmemory-policy allkeys-lru",
    "CONFIG SET maxmemory 1",
    "CONFIG SET slowlog-max-len $n",
    "CONFIG SET timeout $n0",
    "CONFIG SET notify-keyspace-events KEA",
    "CONFIG SET hash-max-listpack-entries $n",
    "CONFIG SET client-output-buffer-limit normal\u{a0}100000\u{a0}0\u{a0}0",
    "CONFIG SET requirepass other",
    "CONFIG SET lua-time-limit $n",
    "CONFIG SET min-replicas-to-write $n",
    "ACL SETUSER intruder on nopass ~* +@all",
    "ACL SETUSER reader on >secret (~x*\u{a0}+get)",
    "ACL SETUSER default >other",
    "ACL SETUSER default off",
    "ACL SETUSER default resetkeys",
    "ACL SETUSER default -flushdb",
    "ACL SETUSER default -@all +acl|setuser",
    "ACL SETUSER default -@all",
    "ACL DELUSER intruder",
    "AUTH intruder x",
    "SCRIPT LOAD return",
    "SCRIPT FLUSH",
    "FUNCTION LOAD REPLACE #!lua\u{a0}name=mine\nredis.register_function('f',function()\u{a0}return(1)\u{a0}end)",
    "FCALL f 0",
    "CLIENT SETNAME mine",
    "CLIENT KILL TYPE normal SKIPME yes",
    "CLIENT KILL TYPE normal SKIPME no",
    "REPLICAOF 127.0.0.1 1",
    "REPLICAOF NO ONE",
    "CLIENT PAUSE 50 WRITE",
    "SHUTDOWN NOSAVE",
];

/// What a task does that nobody stops.
const FLOOD: &[&str] = &[
    "SELECT 7",
    "SET elsewhere value",
    "SELECT 15",
    "SET booked value",
    "SELECT 0",
    "SET here value",
    "CONFIG SET slowlog-max-len 7",
    "ACL SETUSER intruder on nopass ~* +@all",
    "SCRIPT LOAD return",
];

fn command() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => players::command(),
        1 => about_a_key(prop::sample::select(COMMANDS)),
    ]
}

/// One test, and what comes between it and the next one.
#[derive(Clone, Debug)]
struct Workload {
    /// The start state, if it is another one than before.
    seeds: Option<Vec<String>>,
    commands: Interleaved,
    nameless: [bool; CONNECTIONS],
    floods: bool,
    /// Whether the next test is another process's, and has a new server.
    is_killed: bool,
    /// Which databases the next test opens, one after the other.
    opened: &'static [usize],
    /// What the connections that are still there do when the next test has begun.
    late: Vec<String>,
}

fn workloads() -> impl Strategy<Value = Workload> {
    (
        prop::option::weighted(0.2, seeds()),
        interleaved(command),
        prop::array::uniform3(prop::bool::weighted(0.5)),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.05),
        prop::sample::select(OPENED),
        vec(command(), 0..3),
    )
        .prop_map(
            |(seeds, commands, nameless, floods, is_killed, opened, late)| Workload {
                seeds,
                commands,
                nameless,
                floods,
                is_killed,
                opened,
                late,
            },
        )
}

/// A worker with its server, and the test that it has.
struct Place {
    config: Config,
    field: Field,
    prepare: Prepare,
    driver: Driver,
    scope: Option<ScopeGuard>,
    targets: [Target; 2],
}

fn entered() -> (ScopeGuard, [Target; 2]) {
    let entered = Scope::builder("random_private").enter();
    let scope = entered.unwrap_or_else(|error| panic!("{}", error.report()));
    let targets = BASES.map(|base| {
        let endpoint = Endpoint::new("127.0.0.1:1");
        site::target(endpoint, &base.to_string(), 40)
    });
    (scope, targets)
}

impl Place {
    fn new(prepare: Prepare, blind: Option<&'static str>) -> Self {
        let field = Field::default();
        let mut config = Config::new("redis://127.0.0.1:1/0")
            .expect("it is a URL")
            .bases(BASES)
            .prepare(prepare)
            .worker_init(field.sowing())
            .private_servers(PrivateServers::new());
        if let Some(detection) = blind {
            config = config.blind_to(detection);
        }
        let (scope, targets) = entered();
        Self {
            driver: Driver::new(config.clone()),
            config,
            field,
            prepare,
            scope: Some(scope),
            targets,
        }
    }

    async fn open(&self, position: usize) {
        let prepared = self.driver.prepare(&self.targets[position]).await;
        prepared.unwrap_or_else(|error| panic!("{}", error.report()));
    }

    /// Fills both databases with what is to be sown from now on.
    async fn fill(&self) {
        for (position, target) in self.targets.iter().enumerate() {
            let made = self.driver.worker_init(target).await;
            made.unwrap_or_else(|error| panic!("{}", error.report()));
            self.open(position).await;
        }
    }

    fn next_test(&mut self) {
        drop(self.scope.take());
        let (scope, targets) = entered();
        self.scope = Some(scope);
        self.targets = targets;
    }

    /// How a test connects that has opened the database at this position.
    fn info(&self, position: usize) -> ConnectionInfo {
        let info = self.field.left(&self.targets[position]).info;
        let settings = info.redis_settings().clone().set_db(0);
        info.set_redis_settings(settings)
    }

    /// What the next test is to find where it has `opened` these databases, on a server that is like `new`.
    fn expected(&self, new: &State, opened: &[usize]) -> State {
        let mut state = new.clone();
        if self.prepare == Prepare::Baseline {
            for position in opened {
                let left = self.field.left(&self.targets[*position]).state;
                let name = |key| format!("db{} {key}", BASES[*position]);
                state.extend(left.into_iter().map(|(key, value)| (name(key), value)));
            }
        }
        state
    }
}

/// All that a test finds on its server, but for what differs from server to server.
async fn state(info: &ConnectionInfo) -> State {
    let test = connect(info.clone()).await;
    let mut state = State::new();
    let config: BTreeMap<String, String> = ask(&test, "CONFIG GET *").await.unwrap();
    for (name, value) in config {
        if !["port", "requirepass", "logfile"].contains(&name.as_str()) {
            state.insert(format!("config {name}"), value);
        }
    }
    let users: Vec<String> = ask(&test, "ACL LIST").await.unwrap();
    for user in users {
        let words = user.split(' ').filter(|word| !word.starts_with('#'));
        state.insert(words.collect::<Vec<_>>().join(" "), String::new());
    }
    let functions: Value = ask(&test, "FUNCTION LIST").await.unwrap();
    state.insert("functions".to_owned(), format!("{functions:?}"));
    // That of `return`.
    let script = "SCRIPT EXISTS 63143b6f8007b98c53ca2149822777b3566f9241";
    let scripts: Vec<bool> = ask(&test, script).await.unwrap();
    state.insert("scripts".to_owned(), format!("{scripts:?}"));
    for database in 0..=BOOKS {
        support::tell(&test, &format!("SELECT {database}")).await;
        let keys = dump(&test).await.into_iter();
        let keys = keys.filter(|(key, _)| database != BOOKS || !key.starts_with("dagz:"));
        state.extend(keys.map(|(key, value)| (format!("db{database} {key}"), value)));
    }
    state
}

/// What only one of two states has.
fn difference(one: &State, other: &State) -> Vec<String> {
    let only = |one: &State, other: &State, sign: &str| {
        let only = one
            .iter()
            .filter(|(key, value)| other.get(*key) != Some(*value));
        let only = only.map(|(key, value)| format!("{sign} {key}: {value}"));
        only.collect::<Vec<_>>()
    };
    [only(one, other, "+"), only(other, one, "-")].concat()
}

async fn players(
    place: &Place,
    watching: &MultiplexedConnection,
    workload: &Workload,
) -> Vec<Option<Player>> {
    let target = &place.targets[0];
    let name = format!("dagz:{}.{}:it", target.job(), target.tag());
    let mut players = Vec::new();
    for is_nameless in workload.nameless {
        let name = (!is_nameless).then_some(name.as_str());
        players.push(Player::new(connect(place.info(0)).await, watching, name).await);
    }
    for (number, words) in &workload.commands.statements {
        players[*number].play(words).await;
    }
    let stays = players.into_iter().zip(workload.commands.stays);
    stays
        .map(|(player, stays)| stays.then_some(player))
        .collect()
}

async fn round(place: &mut Place, new: &State, workload: &Workload) -> Result<(), TestCaseError> {
    // There is a server, whatever became of the last one.
    place.open(0).await;
    if let Some(seeds) = &workload.seeds {
        place.field.set(seeds);
        place.fill().await;
    }
    let watching = connect(place.info(0)).await;
    let flooding = match workload.floods {
        true => Some(flood(connect(place.info(0)).await, FLOOD).await),
        false => None,
    };
    let mut players = players(place, &watching, workload).await;
    for target in &place.targets {
        place.driver.release(target).await;
    }
    if workload.is_killed {
        place.driver = Driver::new(place.config.clone());
    }
    if let Some(late) = &workload.commands.late {
        tokio::time::sleep(Duration::from_millis(2)).await;
        for (number, words) in late {
            if let Some(player) = &mut players[*number] {
                player.play(words).await;
            }
        }
    }
    place.next_test();
    for position in workload.opened {
        place.open(*position).await;
    }
    for player in players.iter_mut().flatten() {
        player.write_late(&workload.late).await;
    }
    let found = state(&place.info(workload.opened[0])).await;
    if let Some(flooding) = flooding {
        flooding.abort();
    }
    let expected = place.expected(new, workload.opened);
    prop_assert_eq!(difference(&found, &expected), Vec::<String>::new());
    Ok(())
}

/// Tells a workload after which the server is another one.
fn at_random(
    (test, search): (&str, Search),
    prepare: Prepare,
    blind: Option<&'static str>,
) -> Option<Counterexample> {
    let mut place = Place::new(prepare, blind);
    let found = Cell::new(None);
    run(async {
        place.fill().await;
        let new = state(&place.info(0)).await;
        let place = Mutex::new(&mut place);
        found.set(counterexample(
            test,
            search,
            &workloads(),
            async |workload| {
                let mut place = place.lock().await;
                round(&mut place, &new, &workload).await
            },
        ));
    });
    found.into_inner()
}

fn is_exact(test: &str, prepare: Prepare) {
    if let Some(error) = at_random((test, Search::Unexpected(cases(60))), prepare, None) {
        panic!("{error}");
    }
}

#[test]
fn a_server_is_as_new_whatever_a_test_does() {
    is_exact("private_baseline", Prepare::Baseline);
}

#[test]
fn a_flushed_server_is_empty_whatever_a_test_does() {
    is_exact("private_flush", Prepare::Flush);
}

#[test]
fn each_detection_is_needed() {
    for detection in [
        "config",
        "users",
        "functions",
        "scripts",
        "databases",
        "books",
        "server clients",
        "returning",
    ] {
        let test = format!("private_{}", detection.replace(' ', "_"));
        assert_needed(&test, detection, |test| {
            at_random((test, Search::Expected), Prepare::Baseline, Some(detection))
        });
    }
}

#[test]
fn a_new_server_is_needed_where_one_is_unfit() {
    // A test took dagz's rights away, made it a replica, made it wait for some, or paused it.
    let reasons = [
        "lacks a right",
        "it is a replica",
        "NOREPLICAS",
        "does not answer",
    ];
    assert_needed_to_begin("private_unfit", "unfit", &reasons, |test| {
        at_random((test, Search::Expected), Prepare::Baseline, Some("unfit"))
    });
}
