//! The cases of the contract. One that is played in a single process is a function with the checks
//! in it; one that needs several has a director here and roles there.

mod crash;
mod events;
mod faults;
mod hand_over;
mod init;
mod isolation;
mod leaks;
mod names;
mod ownership;
mod path;
mod prepare;

use anyhow::Result;
use serde_json::Value;

use crate::{Capabilities, Contract, play::Play, stage::Stage};

/// One thing that a driver promises.
pub(crate) struct Case<C> {
    /// What it is called in the runner's list.
    pub(crate) name: &'static str,
    /// Whether a driver that can do this much must promise it.
    pub(crate) needs: fn(&Capabilities) -> bool,
    /// What shows that it holds.
    pub(crate) run: Run<C>,
}

/// How a case is run.
pub(crate) enum Run<C> {
    /// In one process of its own, with these variables.
    Alone {
        environment: &'static [(&'static str, &'static str)],
        play: fn(&Play<'_, C>) -> Result<()>,
    },
    /// By several processes, which a director starts.
    Directed {
        direct: fn(&Stage<C>) -> Result<()>,
        roles: Vec<(&'static str, Role<C>)>,
    },
}

/// What one process of a directed case does.
pub(crate) type Role<C> = fn(&Play<'_, C>) -> Result<Value>;

impl<C> Case<C> {
    /// A case that is played in one process.
    fn alone(name: &'static str, play: fn(&Play<'_, C>) -> Result<()>) -> Self {
        Self {
            name,
            needs: |_| true,
            run: Run::Alone {
                environment: &[],
                play,
            },
        }
    }

    /// A case that is played in several.
    fn directed(
        name: &'static str,
        direct: fn(&Stage<C>) -> Result<()>,
        roles: Vec<(&'static str, Role<C>)>,
    ) -> Self {
        Self {
            name,
            needs: |_| true,
            run: Run::Directed { direct, roles },
        }
    }

    /// The same case with variables in its one process's environment.
    fn with(mut self, variables: &'static [(&'static str, &'static str)]) -> Self {
        if let Run::Alone { environment, .. } = &mut self.run {
            *environment = variables;
        }
        self
    }

    /// The same case for drivers that can do this much.
    fn needing(mut self, needs: fn(&Capabilities) -> bool) -> Self {
        self.needs = needs;
        self
    }
}

/// All cases.
pub(crate) fn all<C: Contract>() -> Vec<Case<C>> {
    [
        path::cases(),
        names::cases(),
        init::cases(),
        prepare::cases(),
        isolation::cases(),
        hand_over::cases(),
        leaks::cases(),
        ownership::cases(),
        faults::cases(),
        crash::cases(),
        events::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
