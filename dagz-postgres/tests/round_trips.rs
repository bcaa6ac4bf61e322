//! What a relay between dagz and the server sees: how many round trips lie between a test's start and a
//! clean, connected client; and what a server that is slow to read, or ends a connection, does to the next test.
//!
//! Counted are the times that bytes come from the server after bytes went there, over all connections,
//! whatever the machine is doing meanwhile. So what is sent without waiting for its answer counts, too.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use dagz_core::{FromScope as _, Scope, ScopeGuard, Worker};
use dagz_postgres::{Client, Config, configure};
use dagz_testkit::site;
use support::{base, config, rows, run};
use tokio_postgres::config::Host;

/// The goal for a warm client.
const AT_MOST: usize = 6;

#[derive(Default)]
struct Relay {
    round_trips: AtomicUsize,
    /// Whether what kept clients send is held back, as by a server that does not come to read it.
    holds: AtomicBool,
    /// Whether the connection that resets is ended, once, by what it sends next.
    cuts: AtomicBool,
}

impl Relay {
    /// Starts one to the server at `address`; where it listens.
    fn start(self: Arc<Self>, address: String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                // Whether bytes went to the server since some came from there.
                let is_asked = Arc::new(AtomicBool::new(false));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let asked = Arc::clone(&is_asked);
                let relay = Arc::clone(&self);
                let mut name = None;
                thread::spawn(move || {
                    pass(from, to, |bytes| {
                        // The first message has the name of the session.
                        let (is_kept, resets) = *name.get_or_insert_with(|| {
                            let has = |word: &[u8]| bytes.windows(word.len()).any(|at| at == word);
                            (has(b" kept"), has(b" prepare"))
                        });
                        while is_kept && relay.holds.load(Ordering::SeqCst) {
                            thread::sleep(Duration::from_millis(1));
                        }
                        asked.store(true, Ordering::SeqCst);
                        !(resets && relay.cuts.swap(false, Ordering::SeqCst))
                    });
                });
                let relay = Arc::clone(&self);
                thread::spawn(move || {
                    pass(server, client, |_| {
                        if is_asked.swap(false, Ordering::SeqCst) {
                            relay.round_trips.fetch_add(1, Ordering::SeqCst);
                        }
                        true
                    });
                });
            }
        });
        port
    }

    /// The count, once nothing has come for a while: what dagz does behind a test is none of it.
    fn settled(&self) -> usize {
        loop {
            let count = self.round_trips.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(100));
            if count == self.round_trips.load(Ordering::SeqCst) {
                return count;
            }
        }
    }
}

/// Passes on what comes until one side ends, or `goes_on` says that both are to.
fn pass(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !goes_on(&buffer[..length]) {
            drop(from.shutdown(Shutdown::Both));
            break;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

/// What a test that takes a client costs before its first statement; it goes on with `statements`.
fn test(relay: &Relay, guard: ScopeGuard, statements: &str) -> usize {
    let before = relay.settled();
    let spent = run(async {
        let client = Client::from_scope(guard.scope())
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
        // Which waits for all that was sent before it.
        assert_eq!(rows(&client, "SELECT count(*) FROM item").await, ["0"]);
        let spent = relay.round_trips.load(Ordering::SeqCst) - before - 1;
        client.batch_execute(statements).await.unwrap();
        spent
    });
    drop(guard);
    spent
}

/// The relay of this process, by which its driver is configured.
fn relay() -> &'static Arc<Relay> {
    static RELAY: OnceLock<Arc<Relay>> = OnceLock::new();
    RELAY.get_or_init(|| {
        let relay = Arc::new(Relay::default());
        let server = config(&base("round_trips"));
        let Host::Tcp(host) = &server.get_hosts()[0] else {
            panic!("`DATABASE_URL` must name a host for this test");
        };
        let address = format!("{host}:{}", server.get_ports().first().unwrap_or(&5432));
        let mut relayed = tokio_postgres::Config::new();
        relayed
            .host("127.0.0.1")
            .port(Arc::clone(&relay).start(address))
            .user(server.get_user().expect("`DATABASE_URL` names a user"))
            .dbname(base("round_trips"));
        if let Some(password) = server.get_password() {
            relayed.password(password);
        }
        let config = Config::from_config(relayed).migrate_with("1", |config| async move {
            let schema: String = (0..50)
                .map(|n| format!("CREATE TABLE t{n} (id serial PRIMARY KEY);"))
                .collect();
            let client = support::connect(&config).await;
            client
                .batch_execute(&format!(
                    "{schema} CREATE TABLE item (id serial PRIMARY KEY)"
                ))
                .await
        });
        configure(config).expect("nobody else configures it");
        relay
    })
}

/// One test at a time: the relay counts, and holds back, for all.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn a_warm_client_is_there_after_few_round_trips() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let relay = relay();
    let first = Scope::builder("round_trips::first").enter().unwrap();
    let worker = first.scope().worker();
    test(relay, first, "SELECT 1");
    let mut spent = Vec::new();
    for statements in [
        "SELECT 1",
        "INSERT INTO item DEFAULT VALUES; INSERT INTO t1 DEFAULT VALUES; INSERT INTO t2 DEFAULT VALUES",
        "CREATE TEMP TABLE scratch (id integer); SELECT nextval('t3_id_seq'); PREPARE one AS SELECT 1",
        "SELECT 1",
    ] {
        let guard = site::enter_on(worker, "round_trips::test");
        spent.push(test(relay, guard, statements));
    }
    assert!(
        spent.iter().all(|spent| (1..=AT_MOST).contains(spent)),
        "round trips: {spent:?}"
    );
}

#[test]
fn what_is_large_takes_one_round_trip_more() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let relay = relay();
    let first = Scope::builder("round_trips::large").enter().unwrap();
    let worker = first.scope().worker();
    test(relay, first, "SELECT 1");
    // A busy machine may have dagz look once more; it cannot save it a look.
    let least = [
        "SELECT 1",
        "INSERT INTO item DEFAULT VALUES",
        "INSERT INTO item SELECT generate_series(1, 60000); INSERT INTO t1 DEFAULT VALUES",
    ]
    .map(|statements| {
        let spent = (0..4).map(|_| {
            let next = || site::enter_on(worker, "round_trips::large");
            test(relay, next(), statements);
            test(relay, next(), "SELECT 1")
        });
        spent.min()
    });
    assert_eq!(least, [Some(1), Some(1), Some(2)]);
}

/// A test that ends while the server has yet to read what its kept client sent; on which worker.
fn late(relay: &Relay) -> Worker {
    let guard = Scope::builder("round_trips::late").enter().unwrap();
    run(async {
        let client = Client::from_scope(guard.scope()).await.unwrap();
        // A first answer, so that the session is there.
        assert_eq!(rows(&client, "SELECT count(*) FROM item").await, ["0"]);
        relay.holds.store(true, Ordering::SeqCst);
        let insert = client.batch_execute("INSERT INTO item DEFAULT VALUES");
        tokio::time::timeout(Duration::from_millis(50), insert)
            .await
            .expect_err("it is held back");
    });
    guard.scope().worker()
}

/// How many rows the next test on `worker` finds, once the server has read what there was.
fn rows_found_next(relay: &Relay, worker: Worker) -> Vec<String> {
    let guard = site::enter_on(worker, "round_trips::next");
    run(async {
        let config = tokio_postgres::Config::from_scope(guard.scope())
            .await
            .unwrap();
        relay.holds.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        rows(
            &support::connect(&config).await,
            "SELECT count(*) FROM item",
        )
        .await
    })
}

#[test]
fn what_the_server_reads_late_is_not_done_in_the_next_test() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let relay = relay();
    let worker = late(relay);
    assert_eq!(rows_found_next(relay, worker), ["0"]);
}

#[test]
fn a_connection_that_ends_before_late_sessions_are_ended_is_replaced() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let relay = relay();
    let worker = late(relay);
    relay.settled();
    relay.cuts.store(true, Ordering::SeqCst);
    assert_eq!(rows_found_next(relay, worker), ["0"]);
    let was_cut = !relay.cuts.load(Ordering::SeqCst);
    assert!(was_cut, "nothing was sent on the kept connection");
}
