//! Waiting for OS file locks with a bound.
//!
//! The kernel frees a lock whatever happens to the process that holds it, which is what leases
//! (`lease.rs`), turns (`turn.rs`) and once-per-job work (`once.rs`) stand on. Each acquisition
//! opens the file anew: two handles exclude each other even within one process. A lock file is
//! never deleted, since a second file of the same name would admit a second holder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{Result, error::io_error};

/// The same for who came first and who came last: with pauses that grow, whoever has waited longest
/// would look least often, and never win.
const PAUSE: Duration = Duration::from_millis(1);

/// How a file is to be locked.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// Locks the file at `path` if that is possible now; dropping the handle unlocks it.
pub(crate) fn try_lock(path: &Path, mode: Mode) -> Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(io_error("opening", path))?;
    let locked = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_error("locking", path)(error)),
    }
}

/// Whether anybody holds the file at `path`, in whichever way.
pub(crate) fn is_held(path: &Path) -> Result<bool> {
    // For an instant it is held by whoever asks; who finds it so takes it for a job that is being removed,
    // and looks again once it has the lock under which jobs start.
    Ok(try_lock(path, Mode::Exclusive)?.is_none())
}

/// Pauses of a millisecond, until a deadline.
pub(crate) struct Pauses {
    deadline: Instant,
}

impl Pauses {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline }
    }

    /// The next pause, or `None` when the deadline has passed.
    pub(crate) fn next(&self) -> Option<Duration> {
        let left = self.deadline.checked_duration_since(Instant::now())?;
        Some(left.min(PAUSE))
    }
}

/// Calls `attempt` until it yields something or the deadline passes, blocking this thread.
pub(crate) fn poll<T>(
    deadline: Instant,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let pauses = Pauses::until(deadline);
    loop {
        if let Some(found) = attempt()? {
            return Ok(Some(found));
        }
        match pauses.next() {
            Some(pause) => thread::sleep(pause),
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_one_process_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let first = try_lock(&path, Mode::Exclusive).unwrap().unwrap();
        assert!(try_lock(&path, Mode::Exclusive).unwrap().is_none());
        assert!(try_lock(&path, Mode::Shared).unwrap().is_none());
        drop(first);
        let shared = try_lock(&path, Mode::Shared).unwrap().unwrap();
        assert!(try_lock(&path, Mode::Shared).unwrap().is_some());
        assert!(try_lock(&path, Mode::Exclusive).unwrap().is_none());
        drop(shared);
    }

    #[test]
    fn polling_ends_at_the_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_millis(20);
        assert_eq!(poll(deadline, || Ok(None::<()>)).unwrap(), None);
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
