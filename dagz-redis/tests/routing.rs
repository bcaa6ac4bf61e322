//! Everything that leads to a server is rerouted, in the forms in which applications have it.

mod support;

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Once, OnceLock},
    thread,
};

use dagz_core::{DbConfig as _, Scope, ScopeGuard, Worker};
use dagz_redis::{Config, RerouteExt, configure, connect, reroute_url};
use redis::{Client, ConnectionAddr, ConnectionInfo};
use support::{ask, at_site, blocks::Block, info, keys, run, tell, url};

fn block() -> Block {
    static BLOCK: OnceLock<Block> = OnceLock::new();
    *BLOCK.get_or_init(|| Block::of_this_process(&url()).expect("a block becomes free"))
}

fn enter(test: &str) -> ScopeGuard {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::from_connection_info(base(0)).bases(block().bases());
        configure(config.first_index(block().first_index())).unwrap();
    });
    Scope::builder(test).enter().unwrap()
}

/// The application's settings for its base at `position`.
fn base(position: usize) -> ConnectionInfo {
    info(block().bases()[position])
}

fn expected(worker: Worker, position: i64) -> i64 {
    block().first_index() + i64::from(worker.number()) * 4 + position
}

async fn index(connection: &redis::aio::MultiplexedConnection) -> i64 {
    let told: String = ask(connection, "CLIENT INFO").await.unwrap();
    let index = told.split(' ').find_map(|pair| pair.strip_prefix("db="));
    index.unwrap().parse().unwrap()
}

#[test]
fn settings_clients_connections_and_text_lead_to_one_database() {
    let guard = enter("routing::forms");
    run(async {
        let scope = guard.scope();
        let expected = expected(scope.worker(), 0);
        let settings = base(0).reroute().await.unwrap();
        assert_eq!(settings.redis_settings().db(), expected);
        assert_eq!(settings.addr(), base(0).addr());
        let own = connect(base(0)).await.unwrap();
        assert_eq!(index(&own).await, expected);
        let name: String = ask(&own, "CLIENT GETNAME").await.unwrap();
        assert!(
            name.starts_with("dagz:j") && name.contains(scope.tag()),
            "{name}"
        );
        assert!(name.ends_with(":routing::forms"), "{name}");
        tell(&own, "SET key value").await;

        let client = Client::open(base(0)).unwrap();
        for client in [
            client.reroute().await.unwrap(),
            client.reroute_blocking().unwrap(),
        ] {
            let connection = client.get_multiplexed_async_connection().await.unwrap();
            assert_eq!(keys(&connection).await, ["key"]);
        }
        let text = url();
        let (server, _) = text.rsplit_once('/').unwrap();
        let base_url = format!("{server}/{}?protocol=resp3", block().bases()[0]);
        let rerouted = reroute_url(&base_url).await.unwrap();
        assert_eq!(rerouted, format!("{server}/{expected}?protocol=resp3"));
        assert_eq!(
            dagz_redis::reroute_url_blocking(&rerouted).unwrap(),
            rerouted
        );
        let resp3 = connect(rerouted.as_str()).await.unwrap();
        assert_eq!(keys(&resp3).await, ["key"]);
        let second = connect(base(1)).await.unwrap();
        assert_eq!(index(&second).await, expected + 1);
        assert_eq!(keys(&second).await, [""; 0]);
    });
}

#[cfg(feature = "connection-manager")]
#[test]
fn a_connection_manager_leads_there_too() {
    let guard = enter("routing::manager");
    run(async {
        let manager = dagz_redis::connection_manager(base(0)).await.unwrap();
        let mut manager = manager;
        let told: String = redis::cmd("CLIENT")
            .arg("INFO")
            .query_async(&mut manager)
            .await
            .unwrap();
        let expected = expected(guard.scope().worker(), 0);
        assert!(told.contains(&format!(" db={expected} ")), "{told}");
    });
}

#[test]
fn another_spelling_of_the_server_is_the_same_server() {
    let _guard = enter("routing::spelling");
    run(async {
        let own = connect(base(0)).await.unwrap();
        tell(&own, "SET key value").await;
        let ConnectionAddr::Tcp(_, port) = base(0).addr().clone() else {
            panic!("`DAGZ_TEST_REDIS_URL` must name a TCP host for this test");
        };
        let by_name = base(0).set_addr(ConnectionAddr::Tcp("localhost".to_owned(), port));
        // Prepared once: were it taken for another server, the key would be gone.
        let again = connect(by_name).await.unwrap();
        assert_eq!(keys(&again).await, ["key"]);
    });
}

#[test]
fn a_kept_connection_that_was_closed_is_made_anew_without_a_word() {
    at_site(
        "reconnect",
        |config| config,
        async |site| {
            site.init().await;
            for _ in 0..3 {
                let admin = support::connect(info(0)).await;
                let list: String = ask(&admin, "CLIENT LIST").await.unwrap();
                for line in list.lines().filter(|line| {
                    line.contains("name=dagz-keeper:")
                        && line.contains(&format!(" db={} ", site.index()))
                }) {
                    let id = line.split(' ').next().unwrap().trim_start_matches("id=");
                    tell(&admin, &format!("CLIENT KILL ID {id}")).await;
                }
                tell(&site.connect().await, "SET key value").await;
                site.prepare().await;
                assert_eq!(keys(&site.connect().await).await, [""; 0]);
                site.driver.release(&site.target).await;
            }
        },
    );
}

#[test]
fn what_is_not_redis_is_named() {
    // Like a web server on the port that somebody mistyped.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(stream.read(&mut [0; 64]));
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    run(async {
        for user in ["", ":hunter2@"] {
            let config = Config::new(&format!("redis://{user}127.0.0.1:{port}/0")).unwrap();
            let error = dagz_redis::databases(&config, "any").await.unwrap_err();
            let report = error.report().to_string();
            assert!(report.contains(&format!("`127.0.0.1:{port}`")), "{report}");
            let is_named =
                report.contains("is it Redis") || report.contains("does not speak Redis' protocol");
            assert!(is_named, "{report}");
            assert!(!report.contains("hunter2"), "{report}");
        }
    });
}
