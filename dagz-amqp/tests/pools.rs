//! Pools of deadpool-lapin: rerouted, and guarded where they outlive a worker.

#![cfg(feature = "deadpool")]

#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::sync::Once;

use dagz_amqp::{Config, RerouteExt as _, deadpool::guard};
use dagz_core::Scope;
use deadpool_lapin::Runtime;
use lapin::ConnectionProperties;
use serde_json::json;
use support::{
    management::{self, part},
    run, uri,
};

/// Configures the driver of this process, once, for a base of its own.
fn base() -> String {
    static CONFIGURED: Once = Once::new();
    let base = dagz_testkit::site::base("t_pools");
    CONFIGURED.call_once(|| {
        management::put(&format!("/api/vhosts/{}", part(&base)), &json!({})).unwrap();
        let config = Config::from_uri(uri(&base));
        dagz_amqp::configure(config.management(&management::url().unwrap()).unwrap()).unwrap();
    });
    base
}

#[test]
fn a_pool_is_of_the_workers_vhost() {
    let base = base();
    let scope = Scope::builder("pool").enter().unwrap();
    let expected = format!("{base}_{}", scope.scope().worker());
    run(async {
        let config = deadpool_lapin::Config {
            url: Some(uri(&base).to_string()),
            ..deadpool_lapin::Config::default()
        };
        for config in [config.reroute().await, config.reroute_blocking()] {
            let pool = config
                .unwrap()
                .create_pool(ConnectionProperties::default, Runtime::Tokio1)
                .unwrap();
            let connection = pool.get().await.unwrap();
            assert_eq!(connection.status().vhost().as_str(), expected);
        }
    });
}

#[test]
fn a_pool_of_another_worker_says_so() {
    let base = base();
    let scope = Scope::builder("guarded").enter().unwrap();
    run(async {
        let mut own = uri(&base).reroute().await.unwrap();
        let pool = |uri: &lapin::uri::AMQPUri, guarded: &lapin::uri::AMQPUri| {
            let config = deadpool_lapin::Config {
                url: Some(uri.to_string()),
                ..deadpool_lapin::Config::default()
            };
            let pool = config.builder(ConnectionProperties::default, Runtime::Tokio1);
            let pool = pool.unwrap().post_create(guard(guarded));
            pool.pre_recycle(guard(guarded)).build().unwrap()
        };
        drop(pool(&own, &own).get().await.unwrap());
        let same = own.clone();
        own.vhost = format!("{base}_jw97");
        let error = pool(&same, &own).get().await.err().unwrap().to_string();
        for told in ["jw97", "`guarded`", &scope.scope().worker().to_string()] {
            assert!(error.contains(told), "{error}");
        }
    });
}
