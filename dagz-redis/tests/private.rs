//! Private servers: one per worker, reset as a whole, and gone with the process, however that ends.

mod support;

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::{Once, mpsc},
    thread,
    time::{Duration, Instant},
};

use dagz_core::{HandOver, Scope, ScopeGuard};
use dagz_redis::{Config, PrivateServers, RerouteExt, connect, reroute_url};
use dagz_testkit::site;
use redis::{ConnectionInfo, IntoConnectionInfo, aio::MultiplexedConnection};
use support::{ask, keys, run, tell};

/// Where the application's server would be; nobody is there.
const BASE: &str = "redis://:hunter2@localhost:1/0";

fn configured() {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::new(BASE)
            .expect("it is a URL")
            .bases([0, 1])
            .worker_init(support::seed(2))
            .private_servers(PrivateServers::new().setting("maxmemory", "64mb"));
        dagz_redis::configure(config).expect("it is configured once");
    });
}

fn enter(test: &str) -> ScopeGuard {
    configured();
    Scope::builder(test).enter().expect("a worker becomes free")
}

/// The address of the base `index` for the current test.
async fn rerouted(index: i64) -> ConnectionInfo {
    let info = BASE.into_connection_info().expect("it is a URL");
    let settings = info.redis_settings().clone().set_db(index);
    info.set_redis_settings(settings)
        .reroute()
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

#[test]
fn a_worker_has_a_server_with_the_base_indices_on_it() {
    let scope = enter("private::indices");
    run(async {
        let (first, second) = (rerouted(0).await, rerouted(1).await);
        assert_eq!(first.addr(), second.addr());
        assert_eq!(first.redis_settings().db(), 0);
        assert_eq!(second.redis_settings().db(), 1);
        let (first, second) = (
            support::connect(first).await,
            support::connect(second).await,
        );
        assert_eq!(keys(&first).await, ["seed:0000", "seed:0001"]);
        tell(&second, "SET key value").await;
        assert_eq!(keys(&first).await.len(), 2);
        let limit: Vec<String> = ask(&first, "CONFIG GET maxmemory").await.unwrap();
        assert_eq!(limit[1], (64 << 20).to_string());

        // By text, and what was rerouted already passes.
        let url = reroute_url(BASE).await.unwrap();
        assert!(url.starts_with("redis://:") && url.ends_with("/0"), "{url}");
        assert!(!url.contains("hunter2"), "{url}");
        assert_eq!(reroute_url(&url).await.unwrap(), url);
        assert_eq!(keys(&connect(url.as_str()).await.unwrap()).await.len(), 2);
        // Another worker's is another's.
        let error = scope
            .scope()
            .carry(dagz_core::resolve(
                "redis",
                dagz_core::Access::new(dagz_core::Endpoint::new("x"), "0_jw99"),
            ))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), dagz_core::ErrorKind::ForeignWorker);
    });
}

async fn is_as_new(test: &MultiplexedConnection, round: usize) {
    assert_eq!(
        keys(test).await,
        ["seed:0000", "seed:0001"],
        "in round {round}"
    );
    let databases: String = ask(test, "INFO keyspace").await.unwrap();
    assert!(!databases.contains("db7:"), "in round {round}: {databases}");
    let config: Vec<String> = ask(test, "CONFIG GET maxmemory-policy").await.unwrap();
    assert_eq!(config[1], "noeviction", "in round {round}");
    let users: Vec<String> = ask(test, "ACL USERS").await.unwrap();
    assert_eq!(users, ["default"], "in round {round}");
}

#[test]
fn the_whole_server_is_as_new_for_the_next_test() {
    let spoil = [
        "SELECT 7",
        "SET elsewhere value",
        "SELECT 0",
        "DEL seed:0000",
        "CONFIG SET maxmemory-policy allkeys-lru",
        "CONFIG SET slowlog-max-len 7",
        "ACL SETUSER intruder on nopass ~* +@all",
        "SCRIPT LOAD return",
    ];
    let mut port = None;
    for round in 0..3 {
        let scope = enter("private::whole");
        let at = run(async {
            let info = rerouted(0).await;
            let test = support::connect(info.clone()).await;
            is_as_new(&test, round).await;
            let functions: Vec<redis::Value> = ask(&test, "FUNCTION LIST").await.unwrap();
            assert!(functions.is_empty(), "{functions:?}");
            let known: Vec<bool> = ask(
                &test,
                "SCRIPT EXISTS 63143b6f8007b98c53ca2149822777b3566f9241",
            )
            .await
            .unwrap();
            assert_eq!(known, [false]);

            for words in spoil {
                tell(&test, words).await;
            }
            let library = "#!lua name=mine\nredis.register_function('f', function() return 1 end)";
            let mut load = redis::cmd("FUNCTION");
            load.arg("LOAD").arg(library);
            load.exec_async(&mut test.clone()).await.unwrap();
            if round == 1 {
                // With dagz's books.
                tell(&test, "FLUSHALL").await;
                tell(&test, "SET after all").await;
            }
            info.addr().to_string()
        });
        let worker = scope.scope().worker();
        // The same server, for the same worker.
        let known = port.get_or_insert((worker, at.clone()));
        if known.0 == worker {
            assert_eq!(known.1, at);
        }
    }
}

/// Writes all over the server as fast as it can, until that closes the connection, as a task that a test forgot.
/// Begun when this returns.
fn leaking(info: ConnectionInfo) -> thread::JoinHandle<()> {
    let (begun, told) = mpsc::channel();
    let leaking = thread::spawn(move || {
        let client = redis::Client::open(info).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut writes = redis::pipe();
        for words in [
            "SELECT 7",
            "SET elsewhere value",
            "SELECT 0",
            "SET here value",
            "CONFIG SET maxmemory-policy allkeys-lru",
            "ACL SETUSER intruder on nopass ~* +@all",
        ] {
            let mut words = words.split(' ');
            writes.cmd(words.next().unwrap());
            words.for_each(|word| {
                writes.arg(word);
            });
        }
        while writes.exec(&mut connection).is_ok() {
            begun.send(()).ok();
        }
    });
    told.recv().expect("it writes");
    leaking
}

#[test]
fn a_task_that_never_stops_writing_reaches_no_later_test() {
    let mut scope = enter("private::leaking");
    let worker = scope.scope().worker();
    for round in 0..20 {
        let leaking = leaking(run(rerouted(0)));
        drop(scope);
        scope = site::enter_on(worker, "private::after_leaking");
        run(async {
            let test = support::connect(rerouted(0).await).await;
            is_as_new(&test, round).await;
        });
        leaking.join().unwrap();
    }
}

#[test]
fn clients_of_a_test_stay_when_it_opens_another_database() {
    let _scope = enter("private::another");
    run(async {
        let first = rerouted(0).await;
        // As an application that has a name of its own.
        let settings = first.redis_settings().clone().set_lib_name("mine", "1");
        let first = support::connect(first.set_redis_settings(settings)).await;
        tell(&first, "SET key value").await;
        let second = support::connect(rerouted(1).await).await;
        tell(&first, "PING").await;
        tell(&second, "PING").await;
        assert!(keys(&first).await.contains(&"key".to_owned()));
    });
}

#[test]
fn a_server_that_a_test_stopped_is_started_anew() {
    for _ in 0..2 {
        let _scope = enter("private::stopped");
        run(async {
            let test = support::connect(rerouted(0).await).await;
            assert_eq!(keys(&test).await.len(), 2);
            // The server does not answer to that.
            ask::<redis::Value>(&test, "SHUTDOWN NOSAVE")
                .await
                .unwrap_err();
        });
    }
}

#[test]
fn a_child_process_of_a_test_has_the_test_s_server() {
    const ROLE: &str = "DAGZ_TEST_PRIVATE_CHILD";
    if env::var_os(ROLE).is_some() {
        // In the scope that was handed over, without one of its own.
        configured();
        run(async {
            let child = connect(BASE).await.unwrap();
            assert!(keys(&child).await.contains(&"parent".to_owned()));
            tell(&child, "SET child value").await;
        });
        return;
    }
    let _scope = enter("private::parent");
    run(async {
        let test = support::connect(rerouted(0).await).await;
        tell(&test, "SET parent value").await;
        let mut child = own("a_child_process_of_a_test_has_the_test_s_server");
        child.env(ROLE, "1").hand_over().unwrap();
        assert!(child.status().unwrap().success());
        assert!(keys(&test).await.contains(&"child".to_owned()));
    });
}

#[test]
fn a_server_ends_with_a_process_that_is_killed() {
    const ROLE: &str = "DAGZ_TEST_PRIVATE_VICTIM";
    if env::var_os(ROLE).is_some() {
        let _scope = enter("private::victim");
        run(async {
            let info = rerouted(0).await;
            let line = format!("\nserver at {}\n", info.addr());
            io::stderr().write_all(line.as_bytes()).unwrap();
            thread::sleep(Duration::from_secs(60));
        });
        return;
    }
    let mut victim = own("a_server_ends_with_a_process_that_is_killed")
        .env(ROLE, "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(victim.stderr.take().unwrap());
    let address = told
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.strip_prefix("server at ")?.to_owned()))
        .expect("it tells where its server is");
    TcpStream::connect(&address).expect("the server is there");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < deadline, "it outlives its process");
        thread::sleep(Duration::from_millis(5));
    }
    // And the next run is not held up by what is left.
    let _scope = enter("private::afterwards");
    run(async {
        assert_eq!(keys(&connect(BASE).await.unwrap()).await.len(), 2);
    });
}

/// This very test program, running one of its tests.
fn own(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("there is a program"));
    command.args(["--exact", test, "--nocapture"]);
    command
}
