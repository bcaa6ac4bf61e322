//! Which machine of a job this is, as the common CI systems tell it.
//!
//! Used by `settings.rs`; `DAGZ_NODE_INDEX` and `DAGZ_NODE_TOTAL` win over what is found here.

use crate::settings::Origin;

/// How a CI system tells a node its place: index variable, total variable, what the first is called.
struct System {
    index: &'static str,
    total: &'static str,
    first: u32,
}

const SYSTEMS: &[System] = &[
    // CircleCI
    System {
        index: "CIRCLE_NODE_INDEX",
        total: "CIRCLE_NODE_TOTAL",
        first: 0,
    },
    // Buildkite
    System {
        index: "BUILDKITE_PARALLEL_JOB",
        total: "BUILDKITE_PARALLEL_JOB_COUNT",
        first: 0,
    },
    // Semaphore
    System {
        index: "SEMAPHORE_JOB_INDEX",
        total: "SEMAPHORE_JOB_COUNT",
        first: 1,
    },
    // Azure Pipelines
    System {
        index: "SYSTEM_JOBPOSITIONINPHASE",
        total: "SYSTEM_TOTALJOBSINPHASE",
        first: 1,
    },
];

/// The index from 0, the total, and the variable that told it, from an environment given as a
/// function; one node when no variable is set.
pub(crate) fn detect(variable: impl Fn(&str) -> Option<String>) -> (u32, u32, Origin) {
    // GitLab and the tools that follow Knapsack share the names and count differently.
    let gitlab = System {
        index: "CI_NODE_INDEX",
        total: "CI_NODE_TOTAL",
        first: u32::from(variable("GITLAB_CI").is_some()),
    };
    for system in std::iter::once(&gitlab).chain(SYSTEMS) {
        let read = |name| variable(name).and_then(|text| text.trim().parse::<u32>().ok());
        if let (Some(index), Some(total)) = (read(system.index), read(system.total))
            && let Some(index) = index.checked_sub(system.first)
            && index < total
        {
            return (index, total, Origin::Environment(system.index));
        }
    }
    (0, 1, Origin::Default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(variables: &[(&str, &str)]) -> (u32, u32) {
        let (index, total, _) = detect(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        });
        (index, total)
    }

    #[test]
    fn each_system_counts_in_its_own_way() {
        assert_eq!(seen(&[]), (0, 1));
        assert_eq!(
            seen(&[("CI_NODE_INDEX", "2"), ("CI_NODE_TOTAL", "4")]),
            (2, 4)
        );
        assert_eq!(
            seen(&[
                ("GITLAB_CI", "true"),
                ("CI_NODE_INDEX", "2"),
                ("CI_NODE_TOTAL", "4")
            ]),
            (1, 4)
        );
        assert_eq!(
            seen(&[("CIRCLE_NODE_INDEX", "3"), ("CIRCLE_NODE_TOTAL", "4")]),
            (3, 4)
        );
        assert_eq!(
            seen(&[
                ("SYSTEM_JOBPOSITIONINPHASE", "1"),
                ("SYSTEM_TOTALJOBSINPHASE", "2")
            ]),
            (0, 2)
        );
        assert_eq!(
            seen(&[("CIRCLE_NODE_INDEX", "4"), ("CIRCLE_NODE_TOTAL", "4")]),
            (0, 1)
        );
    }
}
