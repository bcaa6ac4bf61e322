//! Addresses in all their forms lead to the worker's own vhost, with credentials for it.

#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::sync::Once;

use dagz_amqp::{Config, RerouteExt as _};
use dagz_core::{FromScope as _, Scope};
use lapin::{Channel, Connection, ConnectionProperties, uri::AMQPUri};
use serde_json::json;
use support::{
    management::{self, part},
    run, uri, url,
};

/// Configures the driver of this process, once, for a base of its own.
fn base() -> String {
    static CONFIGURED: Once = Once::new();
    let base = dagz_testkit::site::base("t_routing");
    CONFIGURED.call_once(|| {
        management::put(&format!("/api/vhosts/{}", part(&base)), &json!({})).unwrap();
        let config = Config::from_uri(uri(&base));
        let config = config.management(&management::url().unwrap()).unwrap();
        // The default vhost of this broker may be another run's, too.
        dagz_amqp::configure(config.lock_timeout(std::time::Duration::from_secs(30))).unwrap();
    });
    base
}

fn in_a_test(name: &str, body: impl AsyncFnOnce(&Scope)) {
    base();
    let guard = Scope::builder(name).enter().unwrap();
    // The vhosts stay for the next run.
    run(body(guard.scope()));
}

/// The test's address with this path in place of the vhost.
fn with_path(path: &str) -> String {
    let url = url();
    let (start, _) = url.rsplit_once('/').unwrap();
    format!("{start}{path}")
}

#[test]
fn an_address_without_a_path_means_the_default_vhost() {
    in_a_test("no path", async |scope| {
        let uri: AMQPUri = with_path("").parse().unwrap();
        let rerouted = uri.reroute().await.unwrap();
        assert_eq!(rerouted.vhost, scope.worker().to_string());
        let connection = dagz_amqp::connect(&with_path(""), ConnectionProperties::default())
            .await
            .unwrap();
        assert_eq!(connection.status().vhost().as_str(), rerouted.vhost);
    });
}

#[test]
fn an_encoded_slash_means_the_default_vhost() {
    in_a_test("%2f", async |scope| {
        for path in ["/%2f", "/%2F"] {
            let text = dagz_amqp::reroute_url(&with_path(path)).await.unwrap();
            let rerouted: AMQPUri = text.parse().unwrap();
            assert_eq!(rerouted.vhost, scope.worker().to_string());
        }
    });
}

#[test]
fn a_trailing_slash_means_the_empty_vhost_and_passes() {
    in_a_test("empty", async |_| {
        let text = with_path("/");
        assert_eq!(dagz_amqp::reroute_url(&text).await.unwrap(), text);
        let uri: AMQPUri = text.parse().unwrap();
        assert_eq!(uri.reroute().await.unwrap(), uri);
    });
}

#[test]
fn a_named_vhost_has_the_worker_behind_its_name() {
    in_a_test("named", async |scope| {
        let base = base();
        let rerouted = uri(&base).reroute().await.unwrap();
        assert_eq!(rerouted.vhost, format!("{base}_{}", scope.worker()));
        assert_ne!(rerouted.authority.userinfo, uri(&base).authority.userinfo);
        let blocking = uri(&base).reroute_blocking().unwrap();
        assert_eq!(blocking, rerouted);
        let text = dagz_amqp::reroute_url_blocking(&uri(&base).to_string()).unwrap();
        assert_eq!(text.parse::<AMQPUri>().unwrap(), rerouted);
        // The worker's own passes.
        assert_eq!(rerouted.reroute().await.unwrap(), rerouted);
    });
}

#[test]
fn a_test_takes_what_it_needs() {
    in_a_test("arguments", async |scope| {
        let vhost = format!("{}_{}", base(), scope.worker());
        assert_eq!(AMQPUri::from_scope(scope).await.unwrap().vhost, vhost);
        let connection = Connection::from_scope(scope).await.unwrap();
        assert_eq!(connection.status().vhost().as_str(), vhost);
        let channel = Channel::from_scope(scope).await.unwrap();
        support::declare(&channel, "own").await;
    });
}

#[test]
fn a_test_may_do_what_the_user_may_in_the_base() {
    in_a_test("rights", async |_| {
        let base = format!("{}_rights", base());
        management::put(&format!("/api/vhosts/{}", part(&base)), &json!({})).unwrap();
        let user = part(&uri("/").authority.userinfo.username);
        let narrow = json!({"configure": "^own", "write": ".*", "read": ".*"});
        management::put(&format!("/api/permissions/{}/{user}", part(&base)), &narrow).unwrap();
        let connection = dagz_amqp::connect_uri(uri(&base), ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        support::declare(&channel, "own").await;
        let durable = lapin::options::QueueDeclareOptions::default();
        let refused = channel
            .queue_declare("other".into(), durable, Default::default())
            .await;
        assert!(
            refused.unwrap_err().to_string().contains("ACCESS"),
            "it may do more"
        );
        management::delete(&format!("/api/vhosts/{}", part(&base))).unwrap();
    });
}
