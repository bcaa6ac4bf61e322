//! What a vhost is made of besides messages: [`Topology`], read from its definitions. `topology/drift.rs` tells how
//! two of them differ, `topology/letters.rs` how messages move in one.
//!
//! Definitions come from the server's own tables and are never stale, unlike its statistics. Dagz's own two
//! queues are left out, but not what a test binds to them.

mod blind;
mod drift;
mod letters;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) use self::drift::Drift;

/// How the names of dagz's own queues begin.
pub(crate) const OWN: &str = "dagz.";

/// Parameters that are copied from one vhost to another. What moves messages between vhosts or servers is not.
const COPIED: [&str; 2] = ["operator_policy", "vhost-limits"];

/// How a queue keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Classic,
    Quorum,
    Stream,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Value,
}

impl Queue {
    pub(crate) fn kind(&self) -> Kind {
        match self.arguments.get("x-queue-type").and_then(Value::as_str) {
            Some("quorum") => Kind::Quorum,
            Some("stream") => Kind::Stream,
            _ => Kind::Classic,
        }
    }

    /// Whether a message that is given back may be there no more: as soon as one has been delivered so often.
    fn is_limited(&self) -> bool {
        self.kind() == Kind::Quorum && self.arguments.get("x-delivery-limit").is_some()
    }

    /// Whether messages can be taken from it one by one.
    pub(crate) fn can_get(&self) -> bool {
        let single = self.arguments.get("x-single-active-consumer");
        match self.kind() {
            Kind::Classic => true,
            Kind::Quorum => single != Some(&Value::Bool(true)),
            Kind::Stream => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exchange {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) source: String,
    pub(crate) destination: String,
    /// `queue` or `exchange`.
    pub(crate) destination_type: String,
    pub(crate) routing_key: String,
    /// JSON with its keys in order.
    pub(crate) arguments: String,
}

impl Binding {
    pub(crate) fn to_queue(&self) -> bool {
        self.destination_type == "queue"
    }
}

/// A policy or a parameter: where the management API has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// `policy`, or the component of a parameter.
    pub(crate) component: String,
    pub(crate) name: String,
    /// JSON with its keys in order.
    pub(crate) value: String,
}

/// A vhost's queues, exchanges, bindings, policies and parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Topology {
    pub(crate) queues: BTreeMap<String, Queue>,
    pub(crate) exchanges: BTreeMap<String, Exchange>,
    pub(crate) bindings: BTreeSet<Binding>,
    pub(crate) settings: BTreeSet<Setting>,
}

impl Topology {
    /// What the definitions of a vhost say.
    pub(crate) fn of(definitions: &Value) -> Self {
        let list = |key: &str| definitions.get(key).and_then(Value::as_array);
        let all = |key: &str| list(key).into_iter().flatten();
        let mut topology = Self::default();
        for queue in all("queues").filter(|queue| !text(queue, "name").starts_with(OWN)) {
            topology.queues.insert(
                text(queue, "name"),
                Queue {
                    durable: flag(queue, "durable"),
                    auto_delete: flag(queue, "auto_delete"),
                    arguments: table(queue.get("arguments")),
                },
            );
        }
        for exchange in all("exchanges") {
            topology.exchanges.insert(
                text(exchange, "name"),
                Exchange {
                    kind: text(exchange, "type"),
                    durable: flag(exchange, "durable"),
                    auto_delete: flag(exchange, "auto_delete"),
                    internal: flag(exchange, "internal"),
                    arguments: table(exchange.get("arguments")),
                },
            );
        }
        for binding in all("bindings") {
            topology.bindings.insert(Binding {
                source: text(binding, "source"),
                destination: text(binding, "destination"),
                destination_type: text(binding, "destination_type"),
                routing_key: text(binding, "routing_key"),
                arguments: table(binding.get("arguments")).to_string(),
            });
        }
        for policy in all("policies") {
            let value = json!({
                "pattern": policy.get("pattern"),
                "definition": policy.get("definition"),
                "priority": policy.get("priority"),
                "apply-to": policy.get("apply-to"),
            });
            topology.settings.insert(Setting {
                component: "policy".to_owned(),
                name: text(policy, "name"),
                value: sorted(Some(&value)).to_string(),
            });
        }
        for parameter in all("parameters") {
            topology.settings.insert(Setting {
                component: text(parameter, "component"),
                name: text(parameter, "name"),
                value: table(parameter.get("value")).to_string(),
            });
        }
        topology
    }

    /// The same without what belongs to one vhost only; also the names of what was left out.
    pub(crate) fn copied(mut self) -> (Self, Vec<String>) {
        let mut left_out = Vec::new();
        self.settings.retain(|setting| {
            let copied =
                setting.component == "policy" || COPIED.contains(&setting.component.as_str());
            if !copied {
                left_out.push(format!("{} `{}`", setting.component, setting.name));
            }
            copied
        });
        (self, left_out)
    }

    /// As the management API takes it.
    pub(crate) fn definitions(&self) -> Value {
        let named = |name: &String, value: Value| {
            let mut value = value;
            value["name"] = json!(name);
            value
        };
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let settings = |is_policy: bool| {
            let of = move |setting: &&Setting| (setting.component == "policy") == is_policy;
            self.settings.iter().filter(of)
        };
        json!({
            "queues": self.queues.iter().map(|(name, queue)| named(name, json!(queue))).collect::<Vec<_>>(),
            "exchanges": self.exchanges.iter().map(|(name, exchange)| named(name, json!(exchange))).collect::<Vec<_>>(),
            "bindings": self.bindings.iter().map(|binding| {
                let mut value = json!(binding);
                value["arguments"] = parsed(&binding.arguments);
                value
            }).collect::<Vec<_>>(),
            "policies": settings(true).map(|policy| named(&policy.name, parsed(&policy.value))).collect::<Vec<_>>(),
            "parameters": settings(false).map(|setting| json!({
                "component": setting.component, "name": setting.name, "value": parsed(&setting.value),
            })).collect::<Vec<_>>(),
        })
    }

    /// What tells it apart from others.
    pub(crate) fn id(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        let digest = Sha256::digest(text.as_bytes());
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whether queues may go by themselves.
    pub(crate) fn has_expiry(&self) -> bool {
        self.says("expires\"")
    }

    /// Whether a message of the queue can be looked at, and then given back as it was.
    pub(crate) fn can_peek(&self, queue: &Queue) -> bool {
        let is_limited = || {
            let mut settings = self.settings.iter();
            queue.kind() == Kind::Quorum
                && settings.any(|setting| setting.value.contains("delivery-limit"))
        };
        queue.can_get() && !queue.is_limited() && !is_limited()
    }

    /// Whether this is a part of what any queue has as an argument or by a setting.
    fn says(&self, what: &str) -> bool {
        let queues = self.queues.values();
        let mut arguments = queues.map(|queue| queue.arguments.to_string());
        let mut settings = self.settings.iter();
        arguments.any(|text| text.contains(what))
            || settings.any(|setting| setting.value.contains(what))
    }
}

fn text(value: &Value, key: &str) -> String {
    let text = value.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// A table, with its keys in order. One with nothing in it is told as an empty list at times; an empty list in it is one.
fn table(value: Option<&Value>) -> Value {
    match sorted(value) {
        Value::Array(list) if list.is_empty() => json!({}),
        table => table,
    }
}

/// `value` with the keys of every object in order, whatever order `serde_json` keeps.
fn sorted(value: Option<&Value>) -> Value {
    match value {
        Some(Value::Object(object)) => {
            let entries: BTreeMap<_, _> = object.iter().collect();
            let entries = entries.into_iter();
            Value::Object(
                entries
                    .map(|(key, value)| (key.clone(), sorted(Some(value))))
                    .collect(),
            )
        }
        Some(Value::Array(list)) => list.iter().map(|value| sorted(Some(value))).collect(),
        Some(value) => value.clone(),
        None => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn vhost() -> Value {
        json!({
            "rabbit_version": "3.10.8",
            "parameters": [
                {"value": {"max-queues": 100}, "vhost": "v", "component": "vhost-limits", "name": "limits"},
                {"value": {"src-uri": "amqp://"}, "vhost": "v", "component": "shovel", "name": "mover"},
            ],
            "policies": [{"vhost": "v", "name": "p", "pattern": "^x", "apply-to": "queues", "definition": {"max-length": 3}, "priority": 1}],
            "queues": [
                {"name": "orders", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}},
                {"name": "mail", "durable": true, "auto_delete": false, "arguments": {}},
                {"name": "dagz.lease", "durable": true, "auto_delete": false, "arguments": {}},
            ],
            "exchanges": [{"name": "events", "type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": {}}],
            "bindings": [
                {"source": "events", "destination": "orders", "destination_type": "queue", "routing_key": "order.*", "arguments": {}},
                {"source": "events", "destination": "mail", "destination_type": "queue", "routing_key": "#", "arguments": {"b": 1, "a": 2}},
            ],
        })
    }

    #[test]
    fn definitions_are_read_and_written_alike() {
        let topology = Topology::of(&vhost());
        assert_eq!(
            topology.queues.keys().collect::<Vec<_>>(),
            ["mail", "orders"]
        );
        assert_eq!(topology.queues["orders"].kind(), Kind::Quorum);
        assert_eq!(Topology::of(&topology.definitions()), topology);
        let (copied, left_out) = topology.clone().copied();
        assert_eq!(left_out, ["shovel `mover`"]);
        assert_eq!(copied.settings.len(), 2);
        assert_ne!(copied.id(), topology.id());
    }
}
