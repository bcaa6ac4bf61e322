//! The cases of the contract, a file for each promise of `promises.toml` and of its name. A case that
//! is played in a single process is a function with the checks in it; one that needs several has a
//! director here and roles there.

mod active;
mod bypassed;
mod clean;
mod comes_back;
mod configured;
mod crash_safe;
mod explained;
mod handed_over;
mod initialised;
mod isolated;
mod kept;
mod named;
mod never_blind;
mod never_hangs;
mod never_harms;
mod noticed;
mod prepared;
mod recorded;
mod rerouted;
mod scoped;
mod untouched;

use anyhow::Result;
use serde_json::Value;

use crate::{Contract, play::Play, stage::Stage};

/// One way to see that a promise is kept.
pub(crate) struct Case<C> {
    /// What it is called in the runner's list: the promise, `::`, and what it has in
    /// `promises.toml`, which also says what a driver must be capable of for it.
    pub(crate) name: &'static str,
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
}

/// One worker, so that a test finds what the one before it left.
const ONE_WORKER: &[(&str, &str)] = &[("DAGZ_WORKERS", "1")];

/// All cases.
pub(crate) fn all<C: Contract>() -> Vec<Case<C>> {
    [
        active::cases(),
        configured::cases(),
        bypassed::cases(),
        rerouted::cases(),
        scoped::cases(),
        named::cases(),
        initialised::cases(),
        prepared::cases(),
        clean::cases(),
        isolated::cases(),
        noticed::cases(),
        handed_over::cases(),
        never_blind::cases(),
        never_hangs::cases(),
        never_harms::cases(),
        crash_safe::cases(),
        comes_back::cases(),
        explained::cases(),
        recorded::cases(),
        kept::cases(),
        untouched::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
