//! A private server is started once, also for a test whose first accesses are two at once.
//!
//! Alone in its process, where no worker has a server yet.

mod support;

use dagz_core::Scope;
use dagz_redis::{Config, PrivateServers, RerouteExt};
use redis::{ConnectionInfo, IntoConnectionInfo};
use support::{keys, run};

/// The address of the base `index` for the current test; nobody is at the application's own.
async fn rerouted(index: i64) -> ConnectionInfo {
    let info = format!("redis://localhost:1/{index}");
    let info = info.into_connection_info().expect("it is a URL");
    let rerouted = info.reroute().await;
    rerouted.unwrap_or_else(|error| panic!("{}", error.report()))
}

#[test]
fn two_databases_opened_at_once_are_on_one_server() {
    let config = Config::new("redis://localhost:1/0").expect("it is a URL");
    let config = config
        .bases([0, 1])
        .worker_init(support::seed(2))
        .private_servers(PrivateServers::new());
    dagz_redis::configure(config).expect("it is configured once");
    let scope = Scope::builder("private::at_once").enter();
    let _scope = scope.expect("a worker becomes free");
    run(async {
        let (first, second) = tokio::join!(rerouted(0), rerouted(1));
        assert_eq!(first.addr(), second.addr());
        for info in [first, second] {
            let keys = keys(&support::connect(info).await).await;
            assert_eq!(keys, ["seed:0000", "seed:0001"]);
        }
    });
}
