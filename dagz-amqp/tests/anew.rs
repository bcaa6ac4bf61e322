//! When a vhost that is there is made anew: once what it is copied from has changed, or its making broke off.

mod support;

use std::sync::{Arc, Mutex};

use dagz_amqp::{Config, Driver};
use dagz_core::{DbConfig as _, ErrorKind};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueBindOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use support::{
    at_site, channel, counts, declare, definitions,
    management::{self, part},
    publish,
};

/// What is said of the time at which `vhost` was made.
fn made(vhost: &str) -> Value {
    let path = format!("/api/vhosts/{}", part(vhost));
    management::get(&path).unwrap()["description"].take()
}

/// The names of the queues in `vhost`, in order.
fn queues(vhost: &str) -> Vec<String> {
    let told = definitions(vhost);
    let queues = told["queues"].as_array().into_iter().flatten();
    let names = queues.map(|queue| queue["name"].as_str().unwrap_or_default().to_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_base_that_changed_is_copied_again() {
    at_site(
        "base_changed",
        |config| config,
        async |site| {
            site.init().await;
            let base = part(&site.base);
            let queue =
                json!({"name": "later", "durable": true, "auto_delete": false, "arguments": {}});
            let binding = json!({"source": "events", "destination_type": "queue", "destination": "later", "routing_key": "#", "arguments": {}});
            let more = json!({"queues": [queue], "exchanges": [], "bindings": [binding]});
            let changes: [(&str, &dyn Fn()); 3] = [
                ("nothing", &|| {}),
                ("a queue more", &|| {
                    management::post(&format!("/api/definitions/{base}"), &more).unwrap();
                }),
                ("a queue less", &|| {
                    management::delete(&format!("/api/queues/{base}/later")).unwrap();
                }),
            ];
            for (what, change) in changes {
                let before = made(site.target.name());
                site.next_test().await;
                change();
                // As in the process of a later job.
                site.driver = Driver::new(site.config.clone());
                site.init().await;
                site.is_as_at_the_start(what).await;
                let is_anew = made(site.target.name()) != before;
                assert_eq!(is_anew, what != "nothing", "{what}");
            }
        },
    );
}

#[test]
fn what_worker_init_left_half_done_is_done_anew() {
    // What each attempt finds.
    let found = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&found);
    let half = move |config: Config| {
        config.worker_init(move |target, uri| {
            let told = Arc::clone(&told);
            async move {
                let there = queues(target.name());
                let attempt = {
                    let mut found = told.lock().expect("nobody panics");
                    found.push(there);
                    found.len()
                };
                let connection = support::connect(uri).await;
                let own = channel(&connection).await;
                let queue = format!("half_{attempt}");
                declare(&own, &queue).await;
                if attempt < 4 {
                    publish(&own, "", &queue, "message").await;
                    return Err("it fails on purpose");
                }
                declare(&own, "whole").await;
                Ok(())
            }
        })
    };
    at_site("half_done", half, async |site| {
        for attempt in 1..4 {
            let error = match attempt {
                2 => site.driver.prepare(&site.target).await,
                _ => site.driver.worker_init(&site.target).await,
            };
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerInit, "{}", error.report());
            let half = format!("half_{attempt}");
            assert_eq!(queues(site.target.name()), [half], "half done");
            if attempt == 2 {
                // As in another process.
                site.driver = Driver::new(site.config.clone());
            }
        }
        site.prepare().await;
        assert_eq!(queues(site.target.name()), ["half_4", "whole"]);
        assert_eq!(*found.lock().unwrap(), [const { Vec::<String>::new() }; 4]);
        // And that is what the next test finds.
        let own = channel(&site.connect().await).await;
        declare(&own, "extra").await;
        site.next_test().await;
        site.prepare().await;
        assert_eq!(queues(site.target.name()), ["half_4", "whole"]);
        assert_eq!(found.lock().unwrap().len(), 4);
    });
}

#[test]
fn limits_that_let_nobody_in_are_no_obstacle() {
    for limits in [
        ["max-queues"].as_slice(),
        &["max-queues", "max-connections"],
    ] {
        at_site(
            &format!("limits_anew_{}", limits.len()),
            |config| config,
            async |site| {
                site.init().await;
                let own = channel(&site.connect().await).await;
                for queue in ["dagz.mark", "dagz.lease"] {
                    let options = QueueDeleteOptions::default();
                    own.queue_delete(queue.into(), options).await.unwrap();
                }
                for limit in limits {
                    let path = format!("/api/vhost-limits/{}/{limit}", part(site.target.name()));
                    management::put(&path, &json!({"value": 0})).unwrap();
                }
                let later = json!({"name": "later", "durable": true, "auto_delete": false, "arguments": {}});
                support::make(&site.base, &json!({"queues": [later]}));
                // As in the process of a later job.
                site.driver = Driver::new(site.config.clone());
                site.init().await;
                site.is_as_at_the_start("when it was made anew").await;
            },
        );
    }
}

/// As the README says: the broker tells of a number, and not of its type.
#[test]
fn a_number_in_a_binding_is_one_of_64_bits_in_a_copy() {
    at_site(
        "numbers",
        |config| config,
        async |site| {
            let base = channel(&support::connect(support::uri(&site.base)).await).await;
            declare(&base, "numbered").await;
            let options = QueueBindOptions::default();
            let bound = base.queue_bind(
                "numbered".into(),
                "amq.headers".into(),
                "".into(),
                options,
                with(AMQPValue::LongInt(7)),
            );
            bound.await.unwrap();
            site.init().await;
            let own = channel(&site.connect().await).await;
            // It matches alike.
            for (there, channel) in [(1, &base), (1, &own)] {
                let sent = channel.basic_publish(
                    "amq.headers".into(),
                    "".into(),
                    BasicPublishOptions::default(),
                    b"message",
                    BasicProperties::default().with_headers(with(AMQPValue::LongInt(7))),
                );
                sent.await.unwrap().await.unwrap();
                assert_eq!(counts(channel, "numbered").await.0, there);
            }
            // And is another one to who takes it away.
            for (number, is_it) in [
                (AMQPValue::LongInt(7), false),
                (AMQPValue::LongLongInt(7), true),
            ] {
                let unbound = own.queue_unbind(
                    "numbered".into(),
                    "amq.headers".into(),
                    "".into(),
                    with(number),
                );
                unbound.await.unwrap();
                let told = definitions(site.target.name());
                let left = told["bindings"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|one| one["destination"] == "numbered");
                assert_eq!(left, !is_it);
            }
        },
    );
}

/// Arguments, or headers, with this number.
fn with(number: AMQPValue) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("number".into(), number);
    arguments
}
