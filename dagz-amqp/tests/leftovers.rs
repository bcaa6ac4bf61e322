//! What an earlier test left connected ends before the next one starts, and nobody else's does.

mod support;

use std::time::Duration;

use dagz_amqp::Driver;
use dagz_core::DbConfig as _;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::json;
use support::{
    at_site, channel, connect, counts, declare,
    management::{self, part},
    publish,
};

/// A consumer that acknowledges nothing.
async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await
        .unwrap()
}

#[test]
fn a_consumer_does_not_take_what_the_next_test_publishes() {
    at_site(
        "thief",
        |config| config,
        async |site| {
            site.init().await;
            let thieves = site.connect().await;
            let mut thief = consume(&channel(&thieves).await, "orders").await;
            let caught = tokio::spawn(async move { matches!(thief.next().await, Some(Ok(_))) });
            site.next_test().await;
            site.prepare().await;
            let own = channel(&site.connect().await).await;
            publish(&own, "", "orders", "order").await;
            assert!(!caught.await.unwrap(), "the order was stolen");
            assert_eq!(counts(&own, "orders").await, (1, 0));
        },
    );
}

/// The same, where dagz does nothing: the test above can fail.
#[test]
fn without_a_reset_it_does() {
    at_site(
        "undisturbed",
        |config| config,
        async |site| {
            site.init().await;
            let thieves = site.connect().await;
            let mut thief = consume(&channel(&thieves).await, "orders").await;
            let own = channel(&site.connect().await).await;
            publish(&own, "", "orders", "order").await;
            assert!(matches!(thief.next().await, Some(Ok(_))));
        },
    );
}

#[test]
fn what_it_had_not_acknowledged_does_not_come_back() {
    at_site(
        "unacked",
        |config| config,
        async |site| {
            site.init().await;
            for _ in 0..5 {
                let connection = site.connect().await;
                let left = channel(&connection).await;
                left.basic_qos(10, BasicQosOptions::default())
                    .await
                    .unwrap();
                for queue in ["orders", "ledger"] {
                    for _ in 0..5 {
                        publish(&left, "", queue, "order").await;
                    }
                    let consumer = consume(&left, queue).await;
                    let held: Vec<_> = consumer.take(5).collect().await;
                    assert_eq!(held.len(), 5);
                }
                site.next_test().await;
                site.prepare().await;
                site.is_as_at_the_start("while messages were held").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                site.is_as_at_the_start("a while later").await;
            }
        },
    );
}

#[test]
fn what_was_not_committed_never_is() {
    at_site(
        "tx",
        |config| config,
        async |site| {
            site.init().await;
            let connection = site.connect().await;
            let left = connection.create_channel().await.unwrap();
            left.tx_select().await.unwrap();
            left.basic_publish(
                "".into(),
                "orders".into(),
                Default::default(),
                b"order",
                Default::default(),
            )
            .await
            .unwrap();
            site.next_test().await;
            site.prepare().await;
            assert!(left.tx_commit().await.is_err());
            site.is_as_at_the_start("after a late commit").await;
        },
    );
}

#[test]
fn an_earlier_test_cannot_come_back() {
    at_site(
        "back",
        |config| config,
        async |site| {
            site.init().await;
            let before = site.driver.address(&site.target).await.unwrap();
            connect(before.clone()).await;
            site.next_test().await;
            site.prepare().await;
            let again = Connection::connect_uri(before, ConnectionProperties::default()).await;
            assert!(
                again.is_err(),
                "it logged in with the earlier test's credentials"
            );
            site.connect().await;
        },
    );
}

#[test]
fn an_earlier_process_cannot_come_back() {
    at_site(
        "process",
        |config| config,
        async |site| {
            site.init().await;
            let before = site.driver.address(&site.target).await.unwrap();
            let left = connect(before.clone()).await;
            site.driver = Driver::new(site.config.clone());
            site.prepare().await;
            assert!(
                left.create_channel().await.is_err(),
                "it is still connected"
            );
            let again = Connection::connect_uri(before, ConnectionProperties::default()).await;
            assert!(
                again.is_err(),
                "it logged in with the earlier test's credentials"
            );
        },
    );
}

#[test]
fn an_earlier_process_whose_lease_a_test_deleted_leaves_nobody() {
    at_site(
        "unleased",
        |config| config,
        async |site| {
            site.init().await;
            site.next_test().await;
            let users = format!("/api/vhosts/{}/permissions", part(site.target.name()));
            for round in 0..12 {
                let other = Driver::new(site.config.clone());
                other.prepare(&site.target).await.unwrap();
                let test = connect(other.address(&site.target).await.unwrap()).await;
                let own = channel(&test).await;
                own.queue_delete("dagz.lease".into(), QueueDeleteOptions::default())
                    .await
                    .unwrap();
                if round % 2 == 1 {
                    declare(&own, "dagz.lease").await;
                }
                other.release(&site.target).await;
                // As the first one's end goes on.
                site.prepare().await;
                // Waits for that.
                drop(other.reset(&site.target).await);
                let told = management::get(&users).unwrap();
                let names = told.as_array().unwrap().iter().map(|user| &user["user"]);
                let names: Vec<_> = names
                    .filter(|name| name.as_str().unwrap().starts_with("dagz."))
                    .collect();
                assert_eq!(names.len(), 1, "in round {round}: {names:?}");
                site.connect().await;
                site.next_test().await;
            }
        },
    );
}

#[test]
fn a_runtime_that_stands_still_keeps_nothing() {
    at_site(
        "still",
        |config| config,
        async |site| {
            site.init().await;
            let uri = site.driver.address(&site.target).await.unwrap();
            // Nobody drives its connection any more, and nobody closes it.
            let still = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let left = runtime.block_on(async {
                    let connection = connect(uri).await;
                    let left = channel(&connection).await;
                    publish(&left, "", "orders", "order").await;
                    let got = left
                        .basic_get("orders".into(), BasicGetOptions::default())
                        .await
                        .unwrap();
                    (connection, left, got)
                });
                (runtime, left)
            });
            let still = still.join().unwrap();
            site.next_test().await;
            site.prepare().await;
            site.is_as_at_the_start("beside a runtime that stands still")
                .await;
            std::thread::spawn(move || drop(still)).join().unwrap();
        },
    );
}

#[test]
fn connections_of_other_workers_and_of_nobody_stay() {
    at_site(
        "others",
        |config| config,
        async |site| {
            site.init().await;
            let visitor = site.visit().await;
            let elsewhere = connect(support::uri(&site.base)).await;
            site.connect().await;
            site.next_test().await;
            site.prepare().await;
            visitor.create_channel().await.unwrap();
            elsewhere.create_channel().await.unwrap();
        },
    );
}

#[test]
fn a_stream_starts_with_what_the_test_publishes() {
    at_site(
        "stream",
        |config| config,
        async |site| {
            site.init().await;
            for text in ["first", "second"] {
                let own = channel(&site.connect().await).await;
                publish(&own, "", "audit", text).await;
                own.basic_qos(1, BasicQosOptions::default()).await.unwrap();
                let mut from_the_start = FieldTable::default();
                from_the_start.insert(
                    "x-stream-offset".into(),
                    AMQPValue::LongString("first".into()),
                );
                let mut consumer = own
                    .basic_consume(
                        "audit".into(),
                        "reader".into(),
                        BasicConsumeOptions::default(),
                        from_the_start,
                    )
                    .await
                    .unwrap();
                let first = consumer.next().await.unwrap().unwrap();
                assert_eq!(String::from_utf8_lossy(&first.data), text);
                site.next_test().await;
                site.prepare().await;
            }
        },
    );
}

/// Where one consumer is active and the others wait, one that an earlier test left would have its turn for ever.
#[test]
fn a_single_active_consumer_is_the_tests_own() {
    at_site(
        "single",
        |config| config,
        async |site| {
            let turns = json!({"queues": [{
                "name": "turns", "durable": true, "auto_delete": false,
                "arguments": {"x-queue-type": "quorum", "x-single-active-consumer": true},
            }]});
            support::make(&site.base, &turns);
            site.init().await;
            for number in 0..4 {
                let connection = site.connect().await;
                let own = channel(&connection).await;
                assert_eq!(counts(&own, "turns").await, (0, 0), "{number}");
                let mut turn = consume(&own, "turns").await;
                for _ in 0..2 {
                    publish(&own, "", "turns", &number.to_string()).await;
                    let got = turn.next().await.unwrap().unwrap();
                    assert_eq!(String::from_utf8_lossy(&got.data), number.to_string());
                }
                // Left open, with both unacknowledged.
                std::mem::forget(connection);
                site.next_test().await;
                site.prepare().await;
            }
        },
    );
}

#[test]
fn an_exclusive_queue_is_free_again() {
    at_site(
        "exclusive",
        |config| config,
        async |site| {
            site.init().await;
            for _ in 0..3 {
                let connection = site.connect().await;
                let exclusive = QueueDeclareOptions {
                    exclusive: true,
                    ..QueueDeclareOptions::default()
                };
                let declared = channel(&connection)
                    .await
                    .queue_declare("mine".into(), exclusive, FieldTable::default())
                    .await;
                assert_eq!(declared.unwrap().message_count(), 0);
                // Left open.
                std::mem::forget(connection);
                site.next_test().await;
                site.prepare().await;
            }
        },
    );
}
