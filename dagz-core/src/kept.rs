//! Workers that are set aside, with all that a failed test left in their databases.
//!
//! A server need not be able to rename what a test left, and no database has to be moved: the *worker* is kept,
//! `<state>/kept/jw03.json` says so, and another number takes its place ([`pool`]). `lease.rs` gives out no
//! worker that is kept; `scope.rs` keeps one where a test failed and `keep_failed` is on ([`keep`]);
//! `cargo dagz clean` ends it. The main type is [`Kept`].

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    DbConfig, Error, ErrorKind, Result, Scope, Settings, Target, Worker, config,
    error::io_error,
    event::Event,
    lock::{self, Mode},
    runtime,
};

/// How many workers a state directory keeps at once.
pub(crate) const MOST: u32 = 10;

/// Who else keeps a worker writes one small file.
const PATIENCE: Duration = Duration::from_secs(5);

/// A worker that is kept as a failed test left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    worker: u32,
    job: String,
    test: String,
    /// Seconds since the epoch.
    since: u64,
}

impl Kept {
    /// The worker.
    pub fn worker(&self) -> Worker {
        Worker::new(self.worker)
    }

    /// The job in which the test failed, `j12`.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The test that failed.
    pub fn test(&self) -> &str {
        &self.test
    }

    /// Since when it is kept, to the second.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.since)
    }

    /// The workers that are kept in the state directory of `settings`, those that have been the longest first.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the directory is there and cannot be read.
    pub fn all(settings: &Settings) -> Result<Vec<Self>> {
        let directory = directory(settings);
        let mut found: Vec<_> = numbers(&directory)?
            .into_iter()
            .map(|worker| {
                let text = fs::read(record(&directory, Worker::new(worker))).ok();
                let told = text.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
                // The name is what keeps it, whatever is in the file.
                told.unwrap_or(Self {
                    worker,
                    job: String::new(),
                    test: "an unknown test".to_owned(),
                    since: 0,
                })
            })
            .collect();
        found.sort_by_key(|kept| (kept.since, kept.worker));
        Ok(found)
    }
}

/// The numbers of the workers that are kept, by the names of their records: asked whenever a worker is waited for.
fn numbers(directory: &Path) -> Result<Vec<u32>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("reading", directory))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("reading", directory))?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        let number = name.and_then(|name| name.strip_prefix("jw")?.parse::<u32>().ok());
        found.extend(number);
    }
    Ok(found)
}

fn directory(settings: &Settings) -> PathBuf {
    settings.state_dir().join("kept")
}

fn record(directory: &Path, worker: Worker) -> PathBuf {
    directory.join(format!("{worker}.json"))
}

/// Whether `worker` is kept.
pub(crate) fn is_kept(settings: &Settings, worker: Worker) -> bool {
    record(&directory(settings), worker).exists()
}

/// The workers that tests of this node may take: as many as there are to be, without those that are kept.
pub(crate) fn pool(settings: &Settings) -> Result<Vec<Worker>> {
    let kept = numbers(&directory(settings))?;
    let kept = kept.into_iter().map(Worker::new).collect();
    Ok(without(settings, &kept).collect())
}

/// `worker`, if tests of this node may take it.
pub(crate) fn of_the_pool(settings: &Settings, worker: Worker) -> Result<Worker> {
    let pool = pool(settings)?;
    if pool.contains(&worker) {
        return Ok(worker);
    }
    let names: Vec<_> = pool.iter().map(ToString::to_string).collect();
    Err(Error::new(
        ErrorKind::Settings,
        format!(
            "worker {worker} was asked for, but this node has {}",
            names.join(", ")
        ),
    ))
}

/// Workers of the node that are none of `kept`: its own, and then those that stand in for them.
fn without(settings: &Settings, kept: &HashSet<Worker>) -> impl Iterator<Item = Worker> {
    let first = settings.node_index() * settings.workers();
    let own = first..first + settings.workers();
    own.chain(stand_ins(
        settings.workers(),
        settings.node_index(),
        settings.node_total(),
    ))
    .map(Worker::new)
    .filter(|worker| !kept.contains(worker))
    .take(settings.workers() as usize)
}

/// The numbers that stand in for the kept workers of a node: above those of all nodes, and no other node's.
pub(crate) fn stand_ins(workers: u32, node: u32, nodes: u32) -> std::ops::Range<u32> {
    let first = workers.saturating_mul(nodes);
    let first = first.saturating_add(MOST.saturating_mul(node));
    first..first.saturating_add(MOST)
}

/// Keeps the worker of `scope`, whose test failed after it had used the databases of `targets`. The event
/// log has the commands that lead to them, or why it is not kept.
pub(crate) fn keep(scope: &Scope, targets: &[Target]) {
    let kept = Settings::current().and_then(|settings| mark(settings, scope));
    let event = || Event::new("kept").scope(scope);
    if let Err(error) = &kept {
        event()
            .detail(format!("not kept: {}", error.report()))
            .record();
        return;
    }
    for target in targets {
        let command = config::configured(target.driver())
            .and_then(|config| config.client_command(target))
            .unwrap_or_else(|| "as the test left it".to_owned());
        event().target(target).detail(command).record();
    }
}

fn mark(settings: &Settings, scope: &Scope) -> Result<()> {
    let directory = directory(settings);
    fs::create_dir_all(&directory).map_err(io_error("creating", &directory))?;
    let path = directory.join("kept.lock");
    let deadline = Instant::now() + PATIENCE;
    let _one_at_a_time = lock::poll(deadline, || lock::try_lock(&path, Mode::Exclusive))?
        .ok_or_else(|| {
            let text = format!("`{}` stayed locked by another process", path.display());
            Error::new(ErrorKind::LeaseTimeout, text)
        })?;
    let all = Kept::all(settings)?;
    let job = scope.inner.job.as_str();
    let oldest = match all.len() < MOST as usize {
        true => None,
        // What an earlier job left has been there to be looked at; what this one did has not.
        false => match all.iter().find(|kept| kept.job != job) {
            Some(oldest) => Some(oldest.worker()),
            None => {
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!("this job keeps {MOST} failed states already, which is the most"),
                ));
            }
        },
    };
    let mut kept: HashSet<_> = all.iter().map(Kept::worker).collect();
    oldest.map(|oldest| kept.remove(&oldest));
    let before: HashSet<_> = without(settings, &kept).collect();
    kept.insert(scope.worker());
    if let Some(next) = without(settings, &kept).find(|worker| !before.contains(worker)) {
        serves(next)?;
    }
    if let Some(oldest) = oldest {
        give_back(settings, oldest)?;
    }
    let own = Kept {
        worker: scope.worker().number(),
        job: job.to_owned(),
        test: scope.test().to_owned(),
        since: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs()),
    };
    let path = record(&directory, scope.worker());
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(&own).unwrap_or_default())
        .and_then(|()| fs::rename(&new, &path))
        .map_err(io_error("writing", &path))
}

/// Makes sure that every configured driver has room for the worker `next`.
fn serves(next: Worker) -> Result<()> {
    for config in config::all_configured() {
        runtime::wait(async move { DbConfig::serves(&*config, next).await })??;
    }
    Ok(())
}

/// Lets tests take `worker` again.
pub(crate) fn give_back(settings: &Settings, worker: Worker) -> Result<()> {
    let path = record(&directory(settings), worker);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("removing", &path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_stand_in_are_nobody_elses() {
        let (workers, nodes) = (4, 3);
        let mut seen: HashSet<u32> = (0..workers * nodes).collect();
        for node in 0..nodes {
            for number in stand_ins(workers, node, nodes) {
                assert!(seen.insert(number), "{number} is used twice");
            }
        }
        assert_eq!(seen.len() as u32, (workers + MOST) * nodes);
    }

    #[test]
    fn the_pool_keeps_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::builder()
            .workers(2)
            .state_dir(dir.path())
            .load()
            .unwrap();
        let left = || {
            let pool = pool(&settings).unwrap();
            pool.iter()
                .map(|worker| worker.number())
                .collect::<Vec<_>>()
        };
        let set_aside = |worker: u32| {
            let kept = format!(r#"{{"worker":{worker},"job":"j1","test":"t","since":1}}"#);
            fs::create_dir_all(directory(&settings)).unwrap();
            let path = record(&directory(&settings), Worker::new(worker));
            fs::write(path, kept).unwrap();
        };
        assert_eq!(left(), [0, 1]);
        set_aside(0);
        assert_eq!(left(), [1, 2]);
        set_aside(2);
        assert_eq!(left(), [1, 3]);
        assert!(is_kept(&settings, Worker::new(2)));
        assert_eq!(of_the_pool(&settings, Worker::new(3)).unwrap().number(), 3);
        let error = of_the_pool(&settings, Worker::new(2)).unwrap_err();
        insta::assert_snapshot!(error, @"worker jw02 was asked for, but this node has jw01, jw03");
        give_back(&settings, Worker::new(0)).unwrap();
        assert_eq!(left(), [0, 1]);
        fs::write(directory(&settings).join("jw01.json"), "torn").unwrap();
        assert_eq!(left(), [0, 3], "though nobody can say whose that is");
        let all = Kept::all(&settings).unwrap();
        let all: Vec<_> = all.iter().map(|kept| (kept.worker, kept.test())).collect();
        assert_eq!(all, [(1, "an unknown test"), (2, "t")]);
    }
}
