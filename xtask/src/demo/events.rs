//! What dagz wrote down about a run: the event log of its job.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A line of `events.jsonl`; what else it says does not matter here.
#[derive(Deserialize)]
struct Event {
    kind: String,
    worker: Option<u32>,
    micros: Option<u64>,
}

/// Sums over a run's events.
#[derive(Debug, Default, Clone)]
pub(super) struct Events {
    /// How long each preparing of a database for a test took.
    pub(super) prepares: Vec<Duration>,
    /// Spent on templates and clones, over all workers.
    pub(super) making: Duration,
    /// Workers that held a lease.
    pub(super) workers: usize,
}

/// Reads the event logs of all jobs below `state`.
pub(super) fn read(state: &Path) -> Result<Events> {
    let jobs = state.join("jobs");
    let mut events = Events::default();
    let mut workers = BTreeSet::new();
    let folders = fs::read_dir(&jobs)
        .with_context(|| format!("dagz left no event log in `{}`", jobs.display()))?;
    for folder in folders {
        let path = folder
            .context("failed to list jobs")?
            .path()
            .join("events.jsonl");
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for line in text.lines() {
            let event: Event = serde_json::from_str(line).with_context(|| {
                format!("`{}` has a line that is no event: {line}", path.display())
            })?;
            let took = Duration::from_micros(event.micros.unwrap_or(0));
            workers.extend(event.worker);
            match event.kind.as_str() {
                "prepare" => events.prepares.push(took),
                "template" | "clone" => events.making += took,
                _ => {}
            }
        }
    }
    events.workers = workers.len();
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_summed_by_kind() {
        let state = tempfile::tempdir().unwrap();
        let job = state.path().join("jobs/j1");
        fs::create_dir_all(&job).unwrap();
        let lines = r#"{"v":1,"at":1,"worker":0,"kind":"lease","micros":5}
{"v":1,"at":2,"worker":0,"kind":"template","driver":"postgres","micros":3000}
{"v":1,"at":2,"worker":0,"kind":"clone","micros":1000}
{"v":1,"at":3,"worker":0,"kind":"prepare","micros":400}
{"v":1,"at":4,"worker":1,"kind":"prepare","micros":600}
{"v":1,"at":4,"kind":"warning"}
"#;
        fs::write(job.join("events.jsonl"), lines).unwrap();
        let events = read(state.path()).unwrap();
        assert_eq!(events.prepares, [400, 600].map(Duration::from_micros));
        assert_eq!(events.making, Duration::from_micros(4000));
        assert_eq!(events.workers, 2);
    }

    #[test]
    fn no_log_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        assert!(read(state.path()).is_err());
    }
}
