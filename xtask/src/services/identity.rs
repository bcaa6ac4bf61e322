//! Processes and users: is process 4711 still *that* server, how is it ended, and as whom is one run.
//!
//! A process number in a file proves nothing: the process may have ended and the number been given to another.
//! Servers that keep their data folder as working directory are told by that.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// Whether process `pid` runs, and is `program` working on the folder `data`.
pub(crate) fn works_on(pid: u32, program: &str, data: &Path) -> bool {
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) => folder == data,
        // Another user's process: its name is all that may be seen.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim_end() == program)
        }
        // A zombie has no folder any more, and nothing else of it matters either.
        Err(_) if Path::new("/proc/self/cwd").exists() => false,
        // No /proc (macOS): the command line names the folder.
        Err(_) => Command::new("ps")
            .args(["-o", "command=", "-p", &pid.to_string()])
            .output()
            .is_ok_and(|output| {
                let line = String::from_utf8_lossy(&output.stdout).into_owned();
                line.contains(program) && line.contains(&*data.to_string_lossy())
            }),
    }
}

/// The process of `program` that works on the folder `data`: of a family of them, the eldest.
///
/// Whoever asks means to end it. So one whose folder may not be seen, another user's, is none.
pub(crate) fn find(program: &str, data: &Path) -> Option<u32> {
    let system = processes(ProcessRefreshKind::nothing().with_cwd(UpdateKind::Always));
    let family: Vec<_> = system
        .processes()
        .values()
        .filter(|process| process.name() == program && process.cwd() == Some(data))
        .collect();
    let is_child = |process: &&&sysinfo::Process| {
        let parent = process.parent();
        family.iter().any(|other| Some(other.pid()) == parent)
    };
    let eldest = family.iter().find(|process| !is_child(process))?;
    Some(eldest.pid().as_u32())
}

/// What process `pid` and its descendants hold in memory, in bytes; what they share is counted for each.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let system = processes(ProcessRefreshKind::nothing().with_memory());
    let all = system.processes();
    let root = sysinfo::Pid::from_u32(pid);
    all.get(&root)?;
    let is_below = |process: &sysinfo::Process| {
        let mut at = Some(process.pid());
        while let Some(pid) = at {
            if pid == root {
                return true;
            }
            at = all.get(&pid).and_then(sysinfo::Process::parent);
        }
        false
    };
    let family = all.values().filter(|process| is_below(process));
    Some(family.map(sysinfo::Process::memory).sum())
}

fn processes(what: ProcessRefreshKind) -> System {
    let mut system = System::new();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what.without_tasks());
    system
}

/// Whether any process has this number.
pub(crate) fn exists(pid: u32) -> bool {
    process(pid).is_some_and(|pid| match test_kill_process(pid) {
        Ok(()) => true,
        Err(error) => error == rustix::io::Errno::PERM,
    })
}

/// Ends process `pid` by one signal after the other, each given its time, while `is_alive`.
///
/// `is_alive` is asked right before each signal, so that none hits a process that got the number later.
pub(crate) fn end(
    pid: u32,
    is_alive: impl Fn() -> bool,
    signals: &[(Signal, Duration)],
) -> Result<()> {
    for (signal, patience) in signals {
        if !is_alive() {
            return Ok(());
        }
        let target = process(pid).context("no such process number")?;
        match kill_process(target, *signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("failed to signal process {pid}; was it started by another user?")
                });
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < *patience {
            if !is_alive() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    ensure!(!is_alive(), "process {pid} survived every signal");
    Ok(())
}

fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// A user of this machine, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Whether the caller is root, as which most servers refuse to run.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The caller's user number.
pub(crate) fn own_uid() -> u32 {
    geteuid().as_raw()
}

/// The first of `names` that is a user here.
pub(crate) fn first_user(names: &[&str]) -> Result<User> {
    for name in names {
        if let (Some(uid), Some(gid)) = (id(&["-u", name]), id(&["-g", name])) {
            return Ok(User { uid, gid });
        }
    }
    bail!(
        "the caller is root, as which the server does not run, and none of the users {} exists",
        names.join(", ")
    )
}

/// `id` knows the users of directories such as LDAP too, which `/etc/passwd` does not.
fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_folder() {
        let here = tempfile::tempdir().unwrap();
        let folder = here.path().canonicalize().unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(&folder)
            .spawn()
            .unwrap();
        assert!(works_on(child.id(), "sleep", &folder));
        assert!(!works_on(child.id(), "sleep", Path::new("/")));
        assert_eq!(find("sleep", &folder), Some(child.id()));
        assert_eq!(find("wake", &folder), None);
        assert!(memory(child.id()).is_some_and(|bytes| bytes > 0));

        // Not yet waited for, it is a zombie: gone for us, though its number is taken.
        child.kill().unwrap();
        let begun = Instant::now();
        while works_on(child.id(), "sleep", &folder) {
            assert!(begun.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(1));
        }
        assert!(exists(child.id()));
        child.wait().unwrap();
    }

    #[test]
    fn nobody_elses_process_is_found() {
        let nowhere = Path::new("/no/such/folder");
        for process in processes(ProcessRefreshKind::nothing())
            .processes()
            .values()
        {
            let name = process.name().to_string_lossy();
            assert_eq!(find(&name, nowhere), None, "{name}");
        }
    }

    #[test]
    fn ending_escalates_and_spares_others() {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "trap '' INT; echo ready; while :; do sleep 0.05; done",
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();

        // The number was given to another process: nothing is signalled.
        end(pid, || false, &[(Signal::KILL, Duration::ZERO)]).unwrap();
        assert!(child.try_wait().unwrap().is_none());

        // The first signal is ignored by the process, the second is not.
        let child = std::cell::RefCell::new(child);
        let is_alive = || child.borrow_mut().try_wait().unwrap().is_none();
        let signals = [
            (Signal::INT, Duration::from_millis(50)),
            (Signal::KILL, Duration::from_secs(10)),
        ];
        end(pid, is_alive, &signals).unwrap();
        assert!(!is_alive());
    }
}
