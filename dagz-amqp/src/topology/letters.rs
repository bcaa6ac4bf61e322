//! Where dead letters may go: [`Topology::hops`], from how many queues to the next one message may go by itself.
//!
//! A reset empties all queues at about the same time, so that it may miss a message which goes from a queue that is still
//! to be asked to one that was asked already. It looks again as often as that can happen.

use std::collections::BTreeSet;

use super::{Queue, Topology};

/// The most that is thought of. Each costs a look at all queues, and what is longer is hardly built.
const MOST: usize = 5;

impl Topology {
    /// Whether messages may move from one queue to another by themselves.
    pub(crate) fn has_dead_letters(&self) -> bool {
        self.says("dead-letter")
    }

    /// From how many queues to another one a message may go: one more than there are queues in between.
    pub(crate) fn hops(&self) -> usize {
        if !self.has_dead_letters() {
            return 0;
        }
        let mut settings = self.settings.iter();
        let between = match settings.any(|setting| setting.value.contains("dead-letter")) {
            // Of any queue, to any queue.
            true => self.queues.len(),
            false => {
                let queues = self.queues.iter();
                let sources: BTreeSet<_> = queues
                    .filter(|(_, queue)| queue.arguments.get("x-dead-letter-exchange").is_some())
                    .map(|(name, _)| name.as_str())
                    .collect();
                let targets: BTreeSet<_> = sources
                    .iter()
                    .flat_map(|name| self.targets(&self.queues[*name]))
                    .collect();
                sources.intersection(&targets).count()
            }
        };
        MOST.min(1 + between)
    }

    /// The queues to which one's dead letters may go: all, where that is not easily told.
    fn targets<'a>(&'a self, queue: &'a Queue) -> BTreeSet<&'a str> {
        let said = |key: &str| queue.arguments.get(key).and_then(|value| value.as_str());
        let all = || self.queues.keys().map(String::as_str).collect();
        match (
            said("x-dead-letter-exchange"),
            said("x-dead-letter-routing-key"),
        ) {
            (Some(""), Some(name)) => BTreeSet::from([name]),
            (Some(name), _) if !name.is_empty() => {
                let from = || {
                    self.bindings
                        .iter()
                        .filter(|binding| binding.source == name)
                };
                let exchange = self.exchanges.get(name);
                let goes_on =
                    exchange.is_none_or(|one| one.arguments.get("alternate-exchange").is_some());
                match goes_on
                    || from().any(|binding| !binding.to_queue())
                    || self.says("alternate-exchange")
                {
                    true => all(),
                    false => from().map(|binding| binding.destination.as_str()).collect(),
                }
            }
            _ => all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hops(queues: &[(&str, Value)]) -> usize {
        let queues: Vec<_> = queues
            .iter()
            .map(|(name, arguments)| json!({"name": name, "durable": true, "arguments": arguments}))
            .collect();
        let definitions = json!({
            "queues": queues,
            "exchanges": [{"name": "dead", "type": "fanout", "durable": true}],
            "bindings": [{"source": "dead", "destination": "end", "destination_type": "queue", "routing_key": ""}],
        });
        Topology::of(&definitions).hops()
    }

    fn to(exchange: &str, key: &str) -> Value {
        json!({"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key})
    }

    #[test]
    fn the_queues_on_the_way_count() {
        let end = ("end", json!({}));
        assert_eq!(hops(std::slice::from_ref(&end)), 0);
        assert_eq!(
            hops(&[("a", to("", "end")), ("b", to("", "end")), end.clone()]),
            1
        );
        assert_eq!(
            hops(&[("a", to("dead", "")), ("b", to("dead", "")), end.clone()]),
            1
        );
        assert_eq!(
            hops(&[
                ("a", to("", "b")),
                ("b", to("", "c")),
                ("c", to("dead", "")),
                end.clone()
            ]),
            3
        );
        // A message for the way back.
        assert_eq!(hops(&[("a", to("", "b")), ("b", to("", "a"))]), 3);
        // By the key that it came with, or an exchange that is not known here: anywhere.
        let anywhere = json!({"x-dead-letter-exchange": ""});
        assert_eq!(hops(&[("a", anywhere), end.clone()]), 2);
        assert_eq!(hops(&[("a", to("other", "")), end]), 2);
    }
}
