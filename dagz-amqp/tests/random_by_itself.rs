//! What goes on by itself between two tests, and what a look at it would change.
//!
//! `random_topologies` meets much of this at random; here are those that need their own time.

#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::time::Duration;

use dagz_amqp::{Config, Prepare};
use dagz_testkit::random::cases;
use lapin::BasicProperties;
use serde_json::{Value, json};
use support::{Site, at_site, channel, counts, definitions, make, publish};

/// A site whose base vhost has these queues, too.
async fn begin(site: &Site, queues: &[(impl AsRef<str>, Value)]) {
    let queues: Vec<_> = queues
        .iter()
        .map(|(name, arguments)| json!({"name": name.as_ref(), "durable": true, "auto_delete": false, "arguments": arguments}))
        .collect();
    make(&site.base, &json!({"queues": queues}));
    site.init().await;
}

fn has_queue(site: &Site, name: &str) -> bool {
    let told = definitions(site.target.name());
    let queues = told["queues"].as_array().expect("a list");
    queues.iter().any(|queue| queue["name"] == name)
}

/// Whether a queue that expired between two tests is there in the second one.
fn is_back(test: &str, configured: impl FnOnce(Config) -> Config) -> bool {
    let mut is_back = false;
    at_site(test, configured, async |site| {
        // Nothing else in the start state is such that a reset looks again.
        for queue in ["audit", "retry"] {
            let path = format!(
                "/api/queues/{}/{queue}",
                support::management::part(&site.base)
            );
            support::management::delete(&path).expect("it goes");
        }
        begin(site, &[("fleeting", json!({"x-expires": 700}))]).await;
        site.next_test().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!has_queue(site, "fleeting"), "it does not expire");
        site.prepare().await;
        is_back = has_queue(site, "fleeting");
    });
    is_back
}

#[test]
fn a_queue_that_expires_between_two_tests_is_there() {
    assert!(is_back("expires", |config| config));
    let blind = is_back("expires_blind", |config| config.blind_to("expiry"));
    assert!(!blind, "nobody needs to think of it");
}

#[test]
fn a_message_that_may_not_be_delivered_again_stays_where_nothing_is_reset() {
    at_site(
        "limited",
        |config| config.prepare(Prepare::None),
        async |site| {
            let limited = json!({"x-queue-type": "quorum", "x-delivery-limit": 0});
            begin(site, &[("limited", limited)]).await;
            publish(&channel(&site.connect().await).await, "", "limited", "text").await;
            site.next_test().await;
            site.prepare().await;
            let own = channel(&site.connect().await).await;
            assert_eq!(counts(&own, "limited").await.0, 1);
        },
    );
}

#[test]
fn a_message_that_may_not_be_delivered_again_goes() {
    at_site(
        "limited_reset",
        |config| config,
        async |site| {
            let limited = json!({"x-queue-type": "quorum", "x-delivery-limit": 0});
            begin(site, &[("limited", limited)]).await;
            for _ in 0..5 {
                let own = channel(&site.connect().await).await;
                publish(&own, "", "limited", "text").await;
                site.next_test().await;
                site.prepare().await;
                let own = channel(&site.connect().await).await;
                assert_eq!(counts(&own, "limited").await.0, 0);
            }
        },
    );
}

/// Which message is missed, of so many that go from queue to queue while these are emptied, against the order in which
/// they are asked.
fn missed(test: &str, times: u32, configured: impl FnOnce(Config) -> Config) -> Option<u32> {
    let moves = |stays: u32, next: &str| {
        json!({
            "x-queue-type": "quorum", "x-message-ttl": stays,
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": next,
        })
    };
    let queues = [
        ("a", json!({"x-queue-type": "quorum"})),
        ("b", moves(1, "a")),
        ("c", moves(1, "b")),
        ("d", moves(60_000, "c")),
    ];
    let mut missed = None;
    at_site(test, configured, async |site| {
        begin(site, &queues).await;
        let own = channel(&site.connect().await).await;
        for number in 0..times {
            // It goes at another moment of the reset each time.
            let leaves = BasicProperties::default();
            let leaves = leaves.with_expiration((number % 40).to_string().into());
            let sent =
                own.basic_publish("".into(), "d".into(), Default::default(), b"text", leaves);
            let sent = sent.await.expect("it is sent");
            sent.await.expect("it is taken");
            site.driver.reset(&site.target).await.expect("it is reset");
            tokio::time::sleep(Duration::from_millis(40)).await;
            if counts(&own, "a").await.0 > 0 {
                missed = Some(number);
                return;
            }
        }
    });
    missed
}

#[test]
fn a_message_that_goes_from_queue_to_queue_is_caught() {
    assert_eq!(missed("chain", cases(60), |config| config), None);
    let blind = missed("chain_blind", 1_000, |config| config.blind_to("passes"));
    assert!(blind.is_some(), "nobody needs to look again");
}
