//! Old jobs go when a new one starts: by count, age and bytes, never one that runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::record::Record;
use crate::{
    Result, Settings,
    error::io_error,
    event,
    history::output,
    lock::{self, Mode},
};

/// The numbers of the jobs on disk.
pub(crate) fn numbers(jobs: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(jobs).map_err(io_error("reading", jobs))?;
    Ok(entries
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_prefix('j')?
                .parse()
                .ok()
        })
        .collect())
}

/// The folders of the jobs that are more, older or larger than the settings allow, newest first.
///
/// The newest is never among them, because its number is where the next one's comes from.
pub(crate) fn surplus(jobs: &Path, settings: &Settings) -> Result<Vec<PathBuf>> {
    let mut numbers = numbers(jobs)?;
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut bytes = 0;
    let mut surplus = Vec::new();
    for (position, number) in numbers.into_iter().enumerate() {
        let directory = jobs.join(format!("j{number}"));
        bytes += size(&directory);
        let is_old = age(&directory).is_some_and(|age| age > settings.jobs_age());
        let is_too_many = position >= settings.jobs_kept().max(1);
        if position > 0 && (is_too_many || is_old || bytes > settings.jobs_bytes()) {
            surplus.push(directory);
        }
    }
    Ok(surplus)
}

/// Deletes what is surplus, sparing jobs that run.
pub(crate) fn prune(jobs: &Path, settings: &Settings) -> Result<()> {
    for directory in surplus(jobs, settings)? {
        remove(&directory)?;
    }
    forget_keys(jobs)
}

/// Deletes a job's folder, and tells whether it did: a job that runs is spared.
pub(crate) fn remove(directory: &Path) -> Result<bool> {
    let runner = Record::read(directory).and_then(|record| record.runner);
    if runner.is_some_and(super::record::Runner::is_alive) {
        return Ok(false);
    }
    let lock = lock::try_lock(&directory.join("live.lock"), Mode::Exclusive)?;
    if lock.is_some() {
        fs::remove_dir_all(directory).map_err(io_error("pruning", directory))?;
    }
    Ok(lock.is_some())
}

/// Deletes the links to jobs that are gone.
pub(crate) fn forget_keys(jobs: &Path) -> Result<()> {
    let by_key = jobs.join("by-key");
    for entry in fs::read_dir(&by_key)
        .map_err(io_error("reading", &by_key))?
        .flatten()
    {
        let id = fs::read_to_string(entry.path()).unwrap_or_default();
        if !jobs.join(id).join("job.json").is_file() {
            // A link to nothing would be passed over anyway; failing to delete it harms nobody.
            drop(fs::remove_file(entry.path()));
        }
    }
    Ok(())
}

/// How long ago anything was written down about the job.
fn age(directory: &Path) -> Option<std::time::Duration> {
    let written = |name: &str| fs::metadata(directory.join(name)).ok()?.modified().ok();
    let last = written("events.jsonl").max(written("job.json"))?;
    SystemTime::now().duration_since(last).ok()
}

/// The bytes of a job's log; its other files are small.
fn size(directory: &Path) -> u64 {
    let files = [event::FILE, output::FILE];
    let sizes = files.map(|file| fs::metadata(directory.join(file)).map_or(0, |found| found.len()));
    sizes.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Duration};

    use super::*;

    fn settings(dir: &tempfile::TempDir) -> Settings {
        Settings::builder().state_dir(dir.path()).load().unwrap()
    }

    fn job(jobs: &Path, number: u64, bytes: u64, age: Duration) {
        let directory = jobs.join(format!("j{number}"));
        fs::create_dir_all(&directory).unwrap();
        for name in ["job.json", "events.jsonl"] {
            let file = File::create(directory.join(name)).unwrap();
            if name == "events.jsonl" {
                file.set_len(bytes).unwrap();
            }
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }

    #[test]
    fn age_and_bytes_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = dir.path().join("jobs");
        fs::create_dir_all(jobs.join("by-key")).unwrap();
        let settings = settings(&dir);
        let (day, whole) = (Duration::from_secs(86_400), settings.jobs_bytes());
        job(&jobs, 1, 10, settings.jobs_age() + day);
        job(&jobs, 2, 10, day);
        job(&jobs, 3, whole - 15, day);
        job(&jobs, 4, 10, settings.jobs_age() + day);
        prune(&jobs, &settings).unwrap();
        let mut left = numbers(&jobs).unwrap();
        left.sort_unstable();
        assert_eq!(
            left,
            [3, 4],
            "1 is too old, 2 too much; the newest stays at any age"
        );
    }
}
