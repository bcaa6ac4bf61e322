//! What a reset looks at, but for the detection that tests switch off to see that something depends on it
//! (`Config::blind_to`): of queues, exchanges, bindings, settings, messages, streams, or what moves by itself.
//!
//! Others are switched off where they are: that somebody else had the vhost (`mark`, in `reset/keeper.rs`), made it anew
//! (`remade`), gave its base other definitions (`source`), or made it their own (`stamp`); what of an earlier test may
//! come back (`users`) or is still at work (`connections`), in `login.rs`; and which queues are one connection's
//! (`exclusive`), in `reset/sweep.rs`.

use super::{Kind, Queue, Topology};

impl Topology {
    /// This, as one sees it who takes what `blind` names to be as in `start`.
    pub(crate) fn seen(mut self, start: &Self, blind: Option<&str>) -> Self {
        match blind {
            Some("queues") => self.queues.clone_from(&start.queues),
            Some("exchanges") => self.exchanges.clone_from(&start.exchanges),
            Some("bindings") => self.bindings.clone_from(&start.bindings),
            Some("settings") => self.settings.clone_from(&start.settings),
            _ => {}
        }
        self
    }

    /// The queues that may hold something.
    pub(crate) fn holders(&self, blind: Option<&str>) -> impl Iterator<Item = (&String, &Queue)> {
        self.queues
            .iter()
            .filter(move |(_, queue)| match queue.kind() {
                Kind::Stream => blind != Some("streams"),
                Kind::Classic | Kind::Quorum => blind != Some("messages"),
            })
    }

    /// Whether messages or queues go elsewhere by themselves, so that what was seen need not be so any more.
    pub(crate) fn is_restless(&self, blind: Option<&str>) -> bool {
        (self.has_dead_letters() && blind != Some("dead letters"))
            || (self.has_expiry() && blind != Some("expiry"))
    }

    /// How often nothing has to be found, one time after the other, for nothing to be there.
    pub(crate) fn passes(&self, blind: Option<&str>) -> usize {
        match blind {
            Some("passes") => 1,
            _ => 1 + self.hops(),
        }
    }

    /// Whether there are streams, of which nobody tells at once whether anything is in them.
    pub(crate) fn has_streams(&self, blind: Option<&str>) -> bool {
        self.holders(blind)
            .any(|(_, queue)| queue.kind() == Kind::Stream)
    }
}
