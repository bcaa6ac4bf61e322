//! Private servers that a test has spoilt: for the next test they are as new, or there is a new one.
//!
//! What `random_private.rs` found, and what would take it too long to find.

mod support;

use std::{
    env,
    process::Command,
    sync::Once,
    time::{Duration, Instant},
};

use dagz_core::{DbConfig as _, Endpoint, HandOver, Scope, ScopeGuard, Worker};
use dagz_redis::{Config, Driver, Prepare, PrivateServers, RerouteExt};
use dagz_testkit::site;
use redis::{ConnectionInfo, IntoConnectionInfo, Value, aio::MultiplexedConnection};
use support::{ask, connect, keys, run, start::Field, tell};

fn configured() {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::new("redis://localhost:1/0").expect("it is a URL");
        let config = config
            .bases([0, 1])
            .worker_init(support::seed(2))
            .private_servers(PrivateServers::new());
        dagz_redis::configure(config).expect("it is configured once");
    });
}

fn enter(on: Option<Worker>) -> ScopeGuard {
    configured();
    match on {
        Some(worker) => site::enter_on(worker, "private::spoilt"),
        None => Scope::builder("private::spoilt")
            .enter()
            .expect("a worker becomes free"),
    }
}

/// The address of the base `index` for the current test; nobody is at the application's own.
async fn rerouted(index: i64) -> ConnectionInfo {
    let info = format!("redis://localhost:1/{index}");
    let info = info.into_connection_info().expect("it is a URL");
    let rerouted = info.reroute().await;
    rerouted.unwrap_or_else(|error| panic!("{}", error.report()))
}

async fn opened(index: i64) -> MultiplexedConnection {
    connect(rerouted(index).await).await
}

async fn is_in_start_state(test: &MultiplexedConnection, after: &str) {
    let keys = keys(test).await;
    assert_eq!(keys, ["seed:0000", "seed:0001"], "after `{after}`");
}

/// Lets one test do this, and another one look at what it finds.
fn check(spoiling: &[&str], look: impl AsyncFnOnce(&MultiplexedConnection)) {
    let scope = enter(None);
    let worker = scope.scope().worker();
    run(async {
        let (test, _) = (opened(0).await, opened(1).await);
        tell(&test, "SET spoilt value").await;
        for words in spoiling {
            // Some servers are too spoilt to answer.
            drop(ask::<Value>(&test, words).await);
        }
    });
    drop(scope);
    let _scope = enter(Some(worker));
    run(async {
        let began = Instant::now();
        let after = spoiling.join(", ");
        // The other one first, whose connection is not the one that meets it.
        let (other, test) = (rerouted(1).await, rerouted(0).await);
        assert_eq!(other.addr(), test.addr(), "after `{after}`");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?} after `{after}`");
        is_in_start_state(&connect(other).await, &after).await;
        let test = connect(test).await;
        is_in_start_state(&test, &after).await;
        look(&test).await;
    });
}

#[test]
fn a_server_that_cannot_be_reset_is_replaced() {
    for spoiling in [
        &["REPLICAOF 127.0.0.1 1"][..],
        &["CONFIG SET min-replicas-to-write 1"],
        &["ACL SETUSER default -flushdb"],
        &["ACL SETUSER default resetkeys"],
        &["ACL SETUSER default -@all"],
        &["ACL SETUSER default off"],
        &["CONFIG SET requirepass other", "CLIENT KILL TYPE normal"],
        &["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal"],
    ] {
        check(spoiling, async |_| {});
    }
}

#[test]
fn a_server_that_does_not_answer_is_replaced() {
    for words in [
        "CLIENT PAUSE 600000 ALL",
        "CLIENT PAUSE 600000 WRITE",
        "EVAL while(true)do\u{a0}end 0",
    ] {
        check(&[words], async |_| {});
    }
}

#[test]
fn a_server_that_keeps_what_is_on_it_is_not_replaced() {
    let field = Field::default();
    let config = Config::new("redis://localhost:1/0").unwrap();
    let driver = Driver::new(
        config
            .prepare(Prepare::None)
            .worker_init(field.sowing())
            .private_servers(PrivateServers::new()),
    );
    let target = || site::target(Endpoint::new("127.0.0.1:1"), "0", 40);
    let scope = enter(None);
    let worker = scope.scope().worker();
    run(async {
        driver.prepare(&target()).await.unwrap();
        let test = connect(field.left(&target()).info).await;
        tell(&test, "SET kept value").await;
        tell(&test, "REPLICAOF 127.0.0.1 1").await;
        driver.release(&target()).await;
    });
    drop(scope);
    let _scope = enter(Some(worker));
    run(async {
        driver.prepare(&target()).await.unwrap_err();
        let info = field.left(&target()).info;
        tell(&connect(info.clone()).await, "REPLICAOF NO ONE").await;
        driver.prepare(&target()).await.unwrap();
        let test = connect(info).await;
        assert_eq!(keys(&test).await, ["kept"]);
    });
}

#[test]
fn what_a_test_wrote_beside_the_books_is_gone() {
    let look = async |test: &MultiplexedConnection| {
        tell(test, "SELECT 15").await;
        let keys = keys(test).await;
        assert!(keys.iter().all(|key| key.starts_with("dagz:")), "{keys:?}");
        assert!(!keys.is_empty(), "these are not the books");
    };
    check(&["SELECT 15", "SET elsewhere value"], look);
    check(&["SWAPDB 0 15"], look);
    check(&["COPY seed:0000 seed:0000 DB 15"], look);
}

#[test]
fn users_are_told_as_on_a_new_server() {
    check(&["ACL SETUSER default resetchannels -get"], async |test| {
        let users: Vec<String> = ask(test, "ACL LIST").await.unwrap();
        let [user] = users.as_slice() else {
            panic!("{users:?}");
        };
        let words = user.split(' ').filter(|word| !word.starts_with('#'));
        assert_eq!(
            words.collect::<Vec<_>>(),
            ["user", "default", "on", "~*", "&*", "+@all"]
        );
    });
}

#[test]
fn a_child_process_of_a_later_test_has_that_test_s_server() {
    const ROLE: &str = "DAGZ_TEST_SPOILT_CHILD";
    if env::var_os(ROLE).is_some() {
        // In the scope that was handed over, without one of its own.
        configured();
        run(async {
            let child = opened(0).await;
            tell(&child, "SET child value").await;
        });
        return;
    }
    let mut worker = None;
    for _ in 0..2 {
        let scope = enter(worker);
        worker = Some(scope.scope().worker());
        run(async {
            let test = opened(0).await;
            tell(&test, "SET parent value").await;
            let mut child = Command::new(env::current_exe().expect("there is a program"));
            let name = "a_child_process_of_a_later_test_has_that_test_s_server";
            child.args(["--exact", name, "--nocapture"]);
            child.env(ROLE, "1").hand_over().unwrap();
            assert!(child.status().unwrap().success());
            assert!(keys(&test).await.contains(&"child".to_owned()));
        });
    }
}
