//! Whatever a test declares, deletes, changes or publishes, the next one finds the start state.
//!
//! Each case is undone twice: by the driver that saw the test end, and by one that knows nothing, as that of
//! another process.

mod support;

use dagz_amqp::{Driver, Prepare};
use lapin::{
    Channel, ExchangeKind,
    options::{
        BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use support::{
    Site, at_site, channel, counts, declare, definitions,
    management::{self, part},
    publish,
};

/// Lets a test do `dirty`, and sees that nothing of it is there for the next, in the same vhost.
fn is_undone(test: &str, dirty: impl AsyncFn(&Site, &Channel)) {
    at_site(
        test,
        |config| config,
        async |site| {
            site.init().await;
            site.is_as_at_the_start("after the first prepare").await;
            let made = made(site);
            for round in ["first", "second"] {
                let connection = site.connect().await;
                dirty(site, &channel(&connection).await).await;
                site.next_test().await;
                site.prepare().await;
                site.is_as_at_the_start(&format!("for the test after the {round}"))
                    .await;
            }
            // The process of this test ends without a word, and another one's driver knows nothing.
            dirty(site, &channel(&site.connect().await).await).await;
            site.driver = Driver::new(site.config.clone());
            site.prepare().await;
            site.is_as_at_the_start("for a test of another process")
                .await;
            assert_eq!(self::made(site), made, "not undone in place");
        },
    );
}

/// What the vhost says of the time it was made.
fn made(site: &Site) -> Value {
    let path = format!("/api/vhosts/{}", part(site.target.name()));
    management::get(&path).unwrap()["description"].take()
}

#[test]
fn a_few_messages() {
    is_undone("few", async |_, channel| {
        for number in 0..5 {
            publish(channel, "events", "order.new", &format!("order {number}")).await;
        }
        assert_eq!(counts(channel, "orders").await.0, 5);
    });
}

#[test]
fn many_messages() {
    is_undone("many", async |_, channel| {
        for number in 0..200 {
            publish(channel, "", "orders", &format!("order {number}")).await;
        }
    });
}

#[test]
fn messages_in_quorum_queues() {
    is_undone("quorum", async |_, channel| {
        publish(channel, "events", "order.paid", "paid").await;
        publish(channel, "", "ledger", "entry").await;
    });
}

#[test]
fn messages_in_streams() {
    is_undone("stream", async |_, channel| {
        publish(channel, "", "audit", "line").await;
    });
}

#[test]
fn messages_that_dead_letter() {
    is_undone("dead", async |_, channel| {
        channel
            .basic_publish(
                "".into(),
                "retry".into(),
                Default::default(),
                b"again",
                lapin::BasicProperties::default().with_expiration("2".into()),
            )
            .await
            .unwrap()
            .await
            .unwrap();
    });
}

#[test]
fn queues_that_a_test_declared() {
    is_undone("declared", async |_, channel| {
        declare(channel, "extra").await;
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(
                "extra".into(),
                "events".into(),
                "#".into(),
                bind,
                FieldTable::default(),
            )
            .await
            .unwrap();
        publish(channel, "events", "x", "for extra").await;
        // On newer brokers a transient queue is for one connection.
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        for name in ["mine", ""] {
            channel
                .queue_declare(name.into(), exclusive, FieldTable::default())
                .await
                .unwrap();
        }
    });
}

#[test]
fn queues_that_a_test_deleted() {
    is_undone("deleted", async |_, channel| {
        for name in ["mail", "ledger"] {
            channel
                .queue_delete(name.into(), QueueDeleteOptions::default())
                .await
                .unwrap();
        }
    });
}

#[test]
fn queues_that_a_test_declared_otherwise() {
    is_undone("otherwise", async |_, channel| {
        channel
            .queue_delete("mail".into(), QueueDeleteOptions::default())
            .await
            .unwrap();
        declare(channel, "mail").await;
        publish(channel, "", "mail", "text").await;
    });
}

#[test]
fn queues_that_a_test_declared_as_another_kind() {
    for (kind, queues) in [
        ("classic", ["ledger", "audit"]),
        ("quorum", ["orders", "audit"]),
        ("stream", ["orders", "ledger"]),
    ] {
        is_undone(&format!("kind_{kind}"), async |_, channel| {
            for queue in queues {
                channel
                    .queue_delete(queue.into(), QueueDeleteOptions::default())
                    .await
                    .unwrap();
                let durable = QueueDeclareOptions {
                    durable: true,
                    ..QueueDeclareOptions::default()
                };
                let mut arguments = FieldTable::default();
                arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
                channel
                    .queue_declare(queue.into(), durable, arguments)
                    .await
                    .unwrap();
                publish(channel, "", queue, "text").await;
            }
        });
    }
}

#[test]
fn queues_from_which_only_consumers_get_anything() {
    is_undone("single", async |site, _| {
        let vhost = part(site.target.name());
        let path = format!("/api/queues/{vhost}/orders");
        management::delete(&path).unwrap();
        let arguments = json!({"x-queue-type": "quorum", "x-single-active-consumer": true});
        management::put(&path, &json!({"durable": true, "arguments": arguments})).unwrap();
    });
}

#[test]
fn queues_that_go_with_their_consumer() {
    is_undone("auto", async |_, channel| {
        let auto_delete = QueueDeclareOptions {
            durable: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare("fleeting".into(), auto_delete, FieldTable::default())
            .await
            .unwrap();
        let consumer = channel
            .basic_consume(
                "fleeting".into(),
                "c".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        std::mem::forget(consumer);
    });
}

#[test]
fn exchanges() {
    is_undone("exchanges", async |_, channel| {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "alternate-exchange".into(),
            AMQPValue::LongString("all".into()),
        );
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare("extra".into(), ExchangeKind::Direct, durable, arguments)
            .await
            .unwrap();
        channel
            .exchange_delete("events".into(), ExchangeDeleteOptions::default())
            .await
            .unwrap();
    });
}

#[test]
fn bindings() {
    is_undone("bindings", async |_, channel| {
        let mut arguments = FieldTable::default();
        arguments.insert("kind".into(), AMQPValue::LongString("x".into()));
        for (exchange, key, arguments) in [
            ("events", "mail.*", FieldTable::default()),
            ("amq.headers", "", arguments),
            ("amq.direct", "mail", FieldTable::default()),
        ] {
            let bind = QueueBindOptions::default();
            channel
                .queue_bind("mail".into(), exchange.into(), key.into(), bind, arguments)
                .await
                .unwrap();
        }
        channel
            .queue_unbind(
                "orders".into(),
                "events".into(),
                "order.*".into(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    });
}

#[test]
fn policies_parameters_and_limits() {
    is_undone("policies", async |site, _| {
        let vhost = part(site.target.name());
        let policy = json!({"pattern": "^tmp", "definition": {"max-length": 9}, "priority": 1, "apply-to": "queues"});
        for path in ["policies", "operator-policies"] {
            management::put(&format!("/api/{path}/{vhost}/extra"), &policy).unwrap();
        }
        management::put(&format!("/api/policies/{vhost}/short"), &policy).unwrap();
        let limit = json!({"value": 77});
        management::put(&format!("/api/vhost-limits/{vhost}/max-queues"), &limit).unwrap();
        assert_ne!(definitions(site.target.name()), definitions(&site.base));
    });
}

#[test]
fn dagzs_own_queues() {
    is_undone("own", async |_, channel| {
        for name in ["dagz.mark", "dagz.lease"] {
            channel
                .queue_delete(name.into(), QueueDeleteOptions::default())
                .await
                .ok();
        }
        publish(channel, "", "orders", "order").await;
    });
}

#[test]
fn bindings_of_dagzs_own_queues() {
    is_undone("own_bound", async |_, channel| {
        let bind = QueueBindOptions::default();
        let (own, none) = ("dagz.mark".into(), FieldTable::default());
        let bound = channel.queue_bind(own, "amq.fanout".into(), "".into(), bind, none);
        bound.await.unwrap();
    });
}

#[test]
fn limits_that_let_nobody_in() {
    is_undone("limits", async |site, channel| {
        for own in ["dagz.mark", "dagz.lease"] {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(own.into(), options).await.ok();
        }
        for limit in ["max-queues", "max-connections"] {
            let path = format!("/api/vhost-limits/{}/{limit}", part(site.target.name()));
            management::put(&path, &json!({"value": 0})).unwrap();
        }
    });
}

#[test]
fn an_empty_list_is_no_empty_table() {
    at_site(
        "empty_list",
        |config| config,
        async |site| {
            let with_list = json!({"bindings": [{
                "source": "events", "destination": "mail", "destination_type": "queue", "routing_key": "",
                "arguments": {"list": []},
            }]});
            support::make(&site.base, &with_list);
            site.init().await;
            site.is_as_at_the_start("after the copy").await;
        },
    );
}

#[test]
fn by_hand_in_the_middle_of_a_test() {
    at_site(
        "by_hand",
        |config| config,
        async |site| {
            site.init().await;
            let connection = site.connect().await;
            let own = channel(&connection).await;
            publish(&own, "", "orders", "order").await;
            declare(&own, "extra").await;
            site.driver.reset(&site.target).await.unwrap();
            site.is_as_at_the_start("in the middle").await;
            assert!(connection.status().connected());
            publish(&own, "", "orders", "order").await;
        },
    );
}

#[test]
fn none_leaves_all_but_connections() {
    at_site(
        "none",
        |config| config.prepare(Prepare::None),
        async |site| {
            site.init().await;
            let connection = site.connect().await;
            let own = channel(&connection).await;
            publish(&own, "", "orders", "order").await;
            declare(&own, "extra").await;
            site.next_test().await;
            site.prepare().await;
            let own = channel(&site.connect().await).await;
            assert_eq!(counts(&own, "orders").await.0, 1);
            assert_eq!(counts(&own, "extra").await.0, 0);
            let left = connection.create_channel().await;
            assert!(left.is_err(), "a connection of the earlier test is open");
        },
    );
}
