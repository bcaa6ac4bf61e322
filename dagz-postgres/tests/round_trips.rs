//! How many round trips lie between a test's start and a clean, connected client.
//!
//! Counted by a relay between dagz and the server, whatever the machine is doing meanwhile: one for
//! each time that bytes come from the server after bytes went there, over all connections. So what
//! is sent without waiting for its answer counts, too.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use dagz_core::{FromScope as _, ScopeGuard};
use dagz_postgres::{Client, Config, configure};
use dagz_testkit::site;
use support::{base, config, rows, run};
use tokio_postgres::config::Host;

/// The goal for a warm client.
const AT_MOST: usize = 6;

#[derive(Default)]
struct Relay {
    round_trips: AtomicUsize,
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
                thread::spawn(move || pass(from, to, || asked.store(true, Ordering::SeqCst)));
                let relay = Arc::clone(&self);
                thread::spawn(move || {
                    pass(server, client, || {
                        if is_asked.swap(false, Ordering::SeqCst) {
                            relay.round_trips.fetch_add(1, Ordering::SeqCst);
                        }
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

fn pass(mut from: TcpStream, mut to: TcpStream, seen: impl Fn()) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        seen();
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

#[test]
fn a_warm_client_is_there_after_few_round_trips() {
    let relay = Arc::new(Relay::default());
    let server = config(&base("round_trips"));
    let Host::Tcp(host) = &server.get_hosts()[0] else {
        panic!("`DATABASE_URL` must name a host for this test");
    };
    let address = format!("{host}:{}", server.get_ports().first().unwrap_or(&5432));
    let port = Arc::clone(&relay).start(address);
    let mut relayed = tokio_postgres::Config::new();
    relayed
        .host("127.0.0.1")
        .port(port)
        .user(server.get_user().expect("`DATABASE_URL` names a user"))
        .dbname(base("round_trips"));
    if let Some(password) = server.get_password() {
        relayed.password(password);
    }
    configure(
        Config::from_config(relayed).migrate_with("1", |config| async move {
            let schema: String = (0..50)
                .map(|n| format!("CREATE TABLE t{n} (id serial PRIMARY KEY);"))
                .collect();
            let client = support::connect(&config).await;
            client
                .batch_execute(&format!(
                    "{schema} CREATE TABLE item (id serial PRIMARY KEY)"
                ))
                .await
        }),
    )
    .unwrap();
    let first = dagz_core::Scope::builder("round_trips::first")
        .enter()
        .unwrap();
    let worker = first.scope().worker();
    test(&relay, first, "SELECT 1");
    let mut spent = Vec::new();
    for statements in [
        "SELECT 1",
        "INSERT INTO item DEFAULT VALUES; INSERT INTO t1 DEFAULT VALUES; INSERT INTO t2 DEFAULT VALUES",
        "CREATE TEMP TABLE scratch (id integer); SELECT nextval('t3_id_seq'); PREPARE one AS SELECT 1",
        "SELECT 1",
    ] {
        let guard = site::enter_on(worker, "round_trips::test");
        spent.push(test(&relay, guard, statements));
    }
    println!("round trips: {spent:?}");
    assert!(
        spent.iter().all(|spent| (1..=AT_MOST).contains(spent)),
        "round trips: {spent:?}"
    );
}
