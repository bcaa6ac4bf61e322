//! Start states made at random: [`topology`], as the management API takes them, and [`each`], with everything in it.
//!
//! `act.rs` has what a test does to them, by the names that are here.
//!
//! Left out is what goes away in the middle of a look, since it cannot be compared: a queue that expires within
//! milliseconds. `tests/reset.rs` has one. What moves messages of others (shovels, federation) is not copied to workers.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::support::management;

/// What may be there at the start is called; some of it is not.
pub(crate) const QUEUES: [&str; 6] = ["q0", "q1", "q2", "q3", "q4", "q5"];
pub(crate) const EXCHANGES: [&str; 4] = ["e0", "e1", "e2", "e3"];
/// The broker's own.
pub(crate) const FIXED: [&str; 3] = ["amq.topic", "amq.headers", "amq.direct"];
pub(crate) const KEYS: [&str; 4] = ["", "a.b", "a.*", "q1"];

/// Whether the broker has queues that are neither durable nor of one connection alone; 4.3 and later have not.
pub(crate) fn has_transient_queues() -> bool {
    let told = management::get("/api/overview").expect("told");
    let version = told["rabbitmq_version"].as_str().unwrap_or_default();
    version.starts_with("3.")
}

/// A start state of few queues and exchanges.
pub(crate) fn topology(has_transient: bool) -> impl Strategy<Value = Value> {
    let queues = (1..=QUEUES.len()).prop_flat_map(move |count| vec(queue(has_transient), count));
    let exchanges = (0..=EXCHANGES.len()).prop_flat_map(|count| vec(exchange(), count));
    let policies = vec(policy(), 0..3);
    let limits = prop::option::weighted(
        0.3,
        select(vec![
            json!({"max-queues": 60}),
            json!({"max-connections": 90}),
        ]),
    );
    (
        queues,
        exchanges,
        vec(binding(), 0..9),
        policies,
        prop::option::weighted(0.2, operator_policy()),
        limits,
    )
        .prop_map(
            |(queues, exchanges, bindings, policies, operator_policy, limits)| {
                let queues = named(&QUEUES, queues);
                let exchanges = named(&EXCHANGES, exchanges);
                let is_there =
                    |list: &[Value], name: &Value| list.iter().any(|one| one["name"] == *name);
                let bindings: Vec<_> = bindings
                    .into_iter()
                    .filter(|binding| {
                        let source = &binding["source"];
                        let destination = &binding["destination"];
                        let ends = match binding["destination_type"] == "queue" {
                            true => is_there(&queues, destination),
                            false => is_there(&exchanges, destination),
                        };
                        let is_fixed = source.as_str().is_some_and(|name| FIXED.contains(&name));
                        ends && (is_fixed || is_there(&exchanges, source))
                    })
                    .collect();
                let mut parameters = Vec::new();
                if let Some(value) = operator_policy {
                    parameters.push(
                        json!({"component": "operator_policy", "name": "o0", "value": value}),
                    );
                }
                if let Some(value) = limits {
                    parameters.push(
                        json!({"component": "vhost-limits", "name": "limits", "value": value}),
                    );
                }
                json!({
                    "queues": queues,
                    "exchanges": exchanges,
                    "bindings": bindings,
                    "policies": named(&["p0", "p1", "p2"], policies),
                    "parameters": parameters,
                })
            },
        )
}

fn named(names: &[&str], values: Vec<Value>) -> Vec<Value> {
    let pairs = names.iter().zip(values);
    pairs
        .map(|(name, mut value)| {
            value["name"] = json!(name);
            value
        })
        .collect()
}

/// Such arguments as this kind of queue takes.
pub(crate) fn arguments(kind: &'static str) -> impl Strategy<Value = Value> {
    let some =
        |share: f64, choices: &[Value]| prop::option::weighted(share, select(choices.to_vec()));
    let dead_letters = (
        select(["", "e0", "e1", "amq.topic"].as_slice()),
        prop::option::of(select(QUEUES.as_slice())),
    );
    (
        (
            some(0.3, &[json!(1), json!(30), json!(60_000)]),
            prop::option::weighted(0.4, dead_letters),
            some(0.2, &[json!(1), json!(3)]),
            some(0.2, &[json!("reject-publish"), json!("drop-head")]),
        ),
        (
            some(0.15, &[json!(5)]),
            some(0.1, &[json!("lazy")]),
            some(0.15, &[json!(true)]),
            some(0.2, &[json!(0), json!(2)]),
            some(0.1, &[json!(60_000)]),
            some(0.2, &[json!("1h")]),
        ),
    )
        .prop_map(move |((ttl, dead_letters, length, overflow), rest)| {
            let (priority, mode, single, limit, expires, age) = rest;
            let mut arguments = Map::new();
            let mut put = |key: &str, kinds: &[&str], value: Option<Value>| {
                if let Some(value) = value.filter(|_| kinds.contains(&kind)) {
                    arguments.insert(key.to_owned(), value);
                }
            };
            let (both, classic) = (["classic", "quorum"].as_slice(), ["classic"].as_slice());
            put("x-message-ttl", both, ttl);
            if let Some((exchange, key)) = dead_letters {
                put("x-dead-letter-exchange", both, Some(json!(exchange)));
                put("x-dead-letter-routing-key", both, key.map(|key| json!(key)));
            }
            put("x-max-length", both, length);
            put("x-overflow", both, overflow);
            put("x-max-priority", classic, priority);
            put("x-queue-mode", classic, mode);
            put("x-single-active-consumer", both, single);
            put("x-delivery-limit", &["quorum"], limit);
            put("x-expires", both, expires);
            put("x-max-age", &["stream"], age);
            let told = (kind != "classic").then(|| json!(kind));
            put("x-queue-type", &[kind], told);
            Value::Object(arguments)
        })
}

fn queue(has_transient: bool) -> impl Strategy<Value = Value> {
    let of = |kind: &'static str, durable: bool, auto_delete: bool| {
        arguments(kind).prop_map(move |arguments| {
            json!({"durable": durable, "auto_delete": auto_delete, "arguments": arguments})
        })
    };
    prop_oneof![
        4 => of("classic", true, false),
        1 => of("classic", !has_transient, false),
        1 => of("classic", true, true),
        2 => of("quorum", true, false),
        1 => of("stream", true, false),
    ]
}

fn exchange() -> impl Strategy<Value = Value> {
    (
        select(["direct", "fanout", "topic", "headers"].as_slice()),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.3, select(["e0", "e1", "e2", "amq.topic"].as_slice())),
    )
        .prop_map(|(kind, durable, auto_delete, internal, alternate)| {
            let arguments = match alternate {
                Some(other) => json!({"alternate-exchange": other}),
                None => json!({}),
            };
            json!({
                "type": kind, "durable": durable, "auto_delete": auto_delete, "internal": internal,
                "arguments": arguments,
            })
        })
}

fn binding() -> impl Strategy<Value = Value> {
    let source = prop_oneof![4 => select(EXCHANGES.as_slice()), 1 => select(FIXED.as_slice())];
    let destination = prop_oneof![
        3 => select(QUEUES.as_slice()).prop_map(|name| (name, "queue")),
        1 => select(EXCHANGES.as_slice()).prop_map(|name| (name, "exchange")),
    ];
    let arguments = prop_oneof![
        3 => Just(json!({})),
        1 => Just(json!({"x-match": "any", "n": 1})),
        1 => Just(json!({"x-match": "all", "list": []})),
    ];
    (source, destination, select(KEYS.as_slice()), arguments).prop_map(
        |(source, (destination, kind), key, arguments)| {
            json!({
                "source": source, "destination": destination, "destination_type": kind, "routing_key": key,
                "arguments": arguments,
            })
        },
    )
}

/// What a policy may say, of queues or of exchanges.
pub(crate) fn policy() -> impl Strategy<Value = Value> {
    let queues = (
        select(["^q", "^q[0-2]", ".*"].as_slice()),
        select(vec![
            json!({"max-length": 5}),
            json!({"max-length": 1, "overflow": "reject-publish"}),
            json!({"message-ttl": 20}),
            json!({"dead-letter-exchange": "", "dead-letter-routing-key": "q1", "message-ttl": 20}),
            json!({"dead-letter-exchange": "e0"}),
            json!({"expires": 60_000}),
        ]),
    )
        .prop_map(|(pattern, definition)| (pattern, "queues", definition));
    let exchanges = Just(("^e", "exchanges", json!({"alternate-exchange": "e1"})));
    (prop_oneof![3 => queues, 1 => exchanges], 0..3_u32).prop_map(
        |((pattern, to, definition), priority)| {
            json!({"pattern": pattern, "apply-to": to, "definition": definition, "priority": priority})
        },
    )
}

pub(crate) fn operator_policy() -> impl Strategy<Value = Value> {
    let definitions = vec![json!({"max-length": 9}), json!({"message-ttl": 60_000})];
    select(definitions).prop_map(|definition| {
        json!({"pattern": "^q", "apply-to": "queues", "definition": definition, "priority": 1})
    })
}

/// What a start state has in which things go on by themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Besides {
    /// So that a reset relies on what was found when the test had ended.
    Nothing,
    /// From one queue to the next, as far as there is one.
    DeadLetters,
    /// A stream, and a queue from which only consumers get anything.
    Ungettable,
}

/// A start state with something of each kind.
pub(crate) fn each(besides: Besides) -> Value {
    let queue = |name: &str, arguments: Value| json!({"name": name, "durable": true, "auto_delete": false, "arguments": arguments});
    let exchange = |name: &str, kind: &str, arguments: Value| {
        json!({
            "name": name, "type": kind, "durable": true, "auto_delete": false, "internal": false,
            "arguments": arguments,
        })
    };
    let binding = |source: &str, (kind, destination): (&str, &str), key: &str, arguments: Value| {
        json!({
            "source": source, "destination": destination, "destination_type": kind, "routing_key": key,
            "arguments": arguments,
        })
    };
    let moves = |stays: u32, next: &str| json!({"x-message-ttl": stays, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": next});
    let mut queues = vec![
        queue("q0", json!({})),
        queue("q1", json!({"x-queue-type": "quorum"})),
        queue("q2", json!({"x-max-length": 3, "x-max-priority": 5})),
    ];
    queues.extend(match besides {
        Besides::Nothing => vec![],
        Besides::DeadLetters => vec![
            queue("q3", moves(300, "q4")),
            queue("q4", moves(1, "q5")),
            queue("q5", moves(1, "q0")),
        ],
        Besides::Ungettable => vec![
            queue("q3", json!({"x-queue-type": "stream"})),
            queue(
                "q4",
                json!({"x-queue-type": "quorum", "x-single-active-consumer": true}),
            ),
        ],
    });
    json!({
        "queues": queues,
        "exchanges": [
            exchange("e0", "topic", json!({"alternate-exchange": "e2"})),
            exchange("e1", "headers", json!({})),
            exchange("e2", "fanout", json!({})),
        ],
        "bindings": [
            binding("e0", ("queue", "q0"), "a.*", json!({})),
            binding("e1", ("queue", "q1"), "", json!({"x-match": "any", "n": 1})),
            binding("e0", ("exchange", "e1"), "a.b", json!({})),
            binding("e2", ("queue", "q2"), "", json!({})),
        ],
        "policies": [{
            "name": "p0", "pattern": "^q1", "definition": {"max-length": 50}, "priority": 1, "apply-to": "queues",
        }],
        "parameters": [],
    })
}
