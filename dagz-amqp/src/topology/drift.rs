//! How a vhost differs from its start state: [`Drift`], what is to be done to come from one topology to another.

use super::{Binding, Kind, Queue, Setting, Topology};

/// What has to be done, in this order, to come to another topology.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Drift {
    pub(crate) unbind: Vec<Binding>,
    pub(crate) delete_queues: Vec<String>,
    pub(crate) delete_exchanges: Vec<String>,
    pub(crate) unset: Vec<Setting>,
    pub(crate) set: Vec<Setting>,
    pub(crate) declare_exchanges: Vec<String>,
    pub(crate) declare_queues: Vec<String>,
    pub(crate) bind: Vec<Binding>,
}

impl Drift {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// For people: what changed.
    pub(crate) fn describe(&self) -> String {
        let mut parts = Vec::new();
        let mut say = |what: &str, names: Vec<&str>| {
            if let [first, rest @ ..] = names.as_slice() {
                let more = match rest.len() {
                    0 => String::new(),
                    count => format!(" and {count} more"),
                };
                parts.push(format!("{what} `{first}`{more}"));
            }
        };
        say(
            "queue",
            self.delete_queues.iter().map(String::as_str).collect(),
        );
        say(
            "exchange",
            self.delete_exchanges.iter().map(String::as_str).collect(),
        );
        say(
            "missing queue",
            self.declare_queues.iter().map(String::as_str).collect(),
        );
        say(
            "missing exchange",
            self.declare_exchanges.iter().map(String::as_str).collect(),
        );
        say(
            "binding of",
            self.unbind.iter().map(|binding| &*binding.source).collect(),
        );
        say(
            "missing binding of",
            self.bind.iter().map(|binding| &*binding.source).collect(),
        );
        say(
            "setting",
            self.unset.iter().map(|setting| &*setting.name).collect(),
        );
        say(
            "missing setting",
            self.set.iter().map(|setting| &*setting.name).collect(),
        );
        parts.join(", ")
    }
}

impl Topology {
    /// What leads from `now` to this, with every stream made anew: nothing else empties one.
    pub(crate) fn renewal(&self, now: &Self) -> Drift {
        let is_stream = |queue: &Queue| queue.kind() == Kind::Stream;
        let mut without = now.clone();
        without.queues.retain(|_, queue| !is_stream(queue));
        let mut drift = self.drift(&without);
        let gone = now.queues.iter().filter(|(_, queue)| is_stream(queue));
        drift
            .delete_queues
            .extend(gone.map(|(name, _)| name.clone()));
        // Those of the streams go with them.
        let stays = |binding: &Binding| {
            !binding.to_queue() || without.queues.contains_key(&binding.destination)
        };
        drift.unbind.retain(stays);
        drift
    }

    /// What leads from `now` to this.
    pub(crate) fn drift(&self, now: &Self) -> Drift {
        let queue_stays = |name: &String| self.queues.get(name) == now.queues.get(name);
        let exchange_stays = |name: &String| self.exchanges.get(name) == now.exchanges.get(name);
        // A binding goes with either of its ends, and has to be made again with it.
        let stays = |binding: &Binding| {
            exchange_stays(&binding.source)
                && if binding.to_queue() {
                    queue_stays(&binding.destination)
                } else {
                    exchange_stays(&binding.destination)
                }
        };
        let changed = |names: Vec<&String>, stay: &dyn Fn(&String) -> bool| -> Vec<String> {
            let changed = names.into_iter().filter(|name| !stay(name));
            changed.cloned().collect()
        };
        let extra = |binding: &&Binding| !self.bindings.contains(binding) && stays(binding);
        let missing = |binding: &&Binding| !(now.bindings.contains(binding) && stays(binding));
        Drift {
            unbind: now.bindings.iter().filter(extra).cloned().collect(),
            delete_queues: changed(now.queues.keys().collect(), &queue_stays),
            delete_exchanges: changed(now.exchanges.keys().collect(), &exchange_stays),
            unset: now.settings.difference(&self.settings).cloned().collect(),
            set: self.settings.difference(&now.settings).cloned().collect(),
            declare_exchanges: changed(self.exchanges.keys().collect(), &exchange_stays),
            declare_queues: changed(self.queues.keys().collect(), &queue_stays),
            bind: self.bindings.iter().filter(missing).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::vhost, *};

    #[test]
    fn nothing_is_to_be_done_where_nothing_changed() {
        let topology = Topology::of(&vhost());
        assert!(topology.drift(&topology).is_empty());
    }

    #[test]
    fn what_is_redeclared_gets_its_bindings_again() {
        let start = Topology::of(&vhost());
        let mut now = start.clone();
        now.queues.get_mut("orders").unwrap().durable = false;
        now.queues
            .insert("extra".into(), start.queues["mail"].clone());
        let to_extra = Binding {
            source: "events".into(),
            destination: "mail".into(),
            destination_type: "queue".into(),
            routing_key: "other".into(),
            arguments: "{}".into(),
        };
        now.bindings.insert(to_extra.clone());
        let drift = start.drift(&now);
        assert_eq!(drift.delete_queues, ["extra", "orders"]);
        assert_eq!(drift.declare_queues, ["orders"]);
        assert_eq!(drift.unbind, [to_extra]);
        assert_eq!(drift.bind.len(), 1);
        assert_eq!(drift.bind[0].destination, "orders");
        let back = now.drift(&start);
        assert_eq!(back.declare_queues, ["extra", "orders"]);
    }

    #[test]
    fn a_missing_exchange_is_made_with_its_bindings() {
        let start = Topology::of(&vhost());
        let drift = start.drift(&Topology::default());
        assert_eq!(drift.declare_exchanges, ["events"]);
        assert_eq!((drift.bind.len(), drift.set.len()), (2, 3));
        assert!(drift.delete_queues.is_empty());
    }
}
