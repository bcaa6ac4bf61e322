//! What `job.json` says of a job, as it is written and as any version may find it.
//!
//! The main type is [`Record`]. Keys are only ever added, so that older readers pass over them; what an older
//! writer did not know is `None`.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

const VERSION: u32 = 1;

/// What is known of a job when it starts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) project: String,
    /// Seconds since the epoch.
    pub(crate) started: u64,
    pub(crate) workers: u32,
    pub(crate) node_index: u32,
    pub(crate) node_total: u32,
    /// The pipeline of the CI system that runs the job, if one does.
    #[serde(default)]
    pub(crate) pipeline: Option<String>,
    /// The branch that was checked out.
    #[serde(default)]
    pub(crate) branch: Option<String>,
    /// The commit that was checked out, whole.
    #[serde(default)]
    pub(crate) commit: Option<String>,
    /// What starts the job's processes, and so outlives each of them.
    #[serde(default)]
    pub(crate) runner: Option<Runner>,
    /// How many bytes the event log may have.
    #[serde(default)]
    pub(crate) log_bytes: Option<u64>,
}

impl Record {
    /// The record of a job that starts now.
    pub(crate) fn new(id: &str, key: &str) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            key: key.to_owned(),
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
            ..Self::default()
        }
    }

    /// The record in the folder of a job; `None` where it is missing or torn.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read(directory.join("job.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// The process with which a job ends: the `cargo` or nextest that starts its test binaries, else the first of
/// these.
///
/// Under nextest no process of dagz's lives between two tests, but this one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runner {
    pid: u32,
    /// When it started, in seconds since the epoch, since numbers are used again.
    started: u64,
}

impl Runner {
    /// That of a job which this process starts.
    pub(crate) fn of_this_process() -> Option<Self> {
        let pid = std::process::id();
        let myself = look(pid)?;
        let parent = myself.parent.and_then(|pid| Some((pid, look(pid)?)));
        let is_runner = |process: &Process| {
            let name = process.name.trim_end_matches(".exe");
            ["cargo", "cargo-nextest"].contains(&name)
        };
        Some(match parent.filter(|(_, parent)| is_runner(parent)) {
            Some((pid, Process { started, .. })) => Self { pid, started },
            None => Self {
                pid,
                started: myself.started,
            },
        })
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(self) -> bool {
        look(self.pid).is_some_and(|process| {
            // One that has ended stays in the list until its parent asks how.
            process.started == self.started && !process.has_ended
        })
    }
}

/// What the operating system tells of a process.
pub(crate) struct Process {
    pub(crate) parent: Option<u32>,
    pub(crate) name: String,
    /// In seconds since the epoch.
    pub(crate) started: u64,
    pub(crate) has_ended: bool,
}

/// Looks at the process with the number `pid`, if there is one.
pub(crate) fn look(pid: u32) -> Option<Process> {
    let mut system = System::new();
    let pid = Pid::from_u32(pid);
    let wanted = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
    let process = system.process(pid)?;
    Some(Process {
        parent: process.parent().map(Pid::as_u32),
        name: process.name().to_string_lossy().into_owned(),
        started: process.start_time(),
        has_ended: matches!(
            process.status(),
            ProcessStatus::Zombie | ProcessStatus::Dead
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_other_versions_are_read() {
        let older = r#"{"version":1,"id":"j1","key":"nextest:a","project":"shop","started":7,
            "workers":4,"node_index":0,"node_total":1,"pipeline":null}"#;
        let record: Record = serde_json::from_str(older).unwrap();
        assert_eq!((record.started, record.branch), (7, None));
        let newer = older.replace("\"id\"", "\"mood\":{\"good\":[true]},\"id\"");
        let record: Record = serde_json::from_str(&newer).unwrap();
        assert_eq!(record.id, "j1");
    }

    #[test]
    fn a_runner_is_alive_until_it_ends() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let started = look(child.id()).unwrap().started;
        let pid = child.id();
        let runner = Runner { pid, started };
        assert!(runner.is_alive());
        let earlier = Runner {
            pid,
            started: started - 1,
        };
        assert!(!earlier.is_alive(), "another process of the same number");
        child.kill().unwrap();
        let begun = std::time::Instant::now();
        while runner.is_alive() {
            // Nobody has waited for it yet.
            assert!(begun.elapsed().as_secs() < 10, "it has ended");
        }
        child.wait().unwrap();
        assert!(!runner.is_alive());
    }
}
