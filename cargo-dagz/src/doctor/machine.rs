//! What tests find on this machine: settings with their origins, a state directory that can be locked, room on
//! the disk, a runner, and how many tests run at once.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::Path,
    process::{self, Command, Stdio},
    thread,
};

use dagz_core::{Origin, Settings};

use super::Row;

/// With less room than this a server soon fails.
const SCARCE: u64 = 512 << 20;

/// With less room than this a larger run may fill the disk.
const LITTLE: u64 = 2 << 30;

/// Looks at all of it.
pub(super) fn look(settings: &Settings) -> Vec<Row> {
    let mut rows: Vec<_> = settings
        .origins()
        .map(|(name, origin)| {
            let found = format!("{}, by {}", value(settings, name), shown(origin));
            Row::good("settings", name, found)
        })
        .collect();
    rows.push(locks(settings.state_dir()));
    rows.push(disk(settings.state_dir()));
    rows.push(nextest());
    rows.push(slots(settings));
    rows
}

fn shown(origin: &Origin) -> String {
    match origin {
        Origin::File(_) => "dagz.toml".to_owned(),
        other => other.to_string(),
    }
}

fn value(settings: &Settings, name: &str) -> String {
    match name {
        "off" => (!settings.active()).to_string(),
        "workers" => settings.workers().to_string(),
        "node_index" => settings.node_index().to_string(),
        "node_total" => settings.node_total().to_string(),
        "state_dir" => settings.state_dir().display().to_string(),
        "project" => settings.project().to_owned(),
        "lease_timeout" => humantime::format_duration(settings.lease_timeout()).to_string(),
        "strict" => settings.strict().to_string(),
        "keep_failed" => settings.keep_failed().to_string(),
        "jobs_kept" => settings.jobs_kept().to_string(),
        "jobs_age" => humantime::format_duration(settings.jobs_age()).to_string(),
        "jobs_bytes" => bytes(settings.jobs_bytes()),
        "log_bytes" => bytes(settings.log_bytes()),
        _ => "set".to_owned(),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1_048_576 => format!("{count} bytes"),
        1_048_576..10_737_418_240 => format!("{} MiB", count >> 20),
        _ => format!("{} GiB", count >> 30),
    }
}

/// The folder itself, or the nearest above it that is there.
fn nearest(folder: &Path) -> &Path {
    folder
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(folder)
}

/// Whether a lock that is held keeps a second one off: what leases stand on.
fn locks(state_dir: &Path) -> Row {
    let folder = nearest(state_dir);
    let path = folder.join(format!(".dagz-doctor-{}", process::id()));
    let tried = try_locks(&path);
    // Nobody else has it: it is no lock of dagz's, which are never removed.
    let removed = fs::remove_file(&path);
    let remedy = "set `DAGZ_STATE_DIR` to a folder on a local disk that can be written";
    match tried.and_then(|locks| removed.map(|()| locks)) {
        Ok(true) => Row::good(
            "machine",
            "file locks",
            format!("work in {}", folder.display()),
        ),
        Ok(false) => Row::bad(
            "machine",
            "file locks",
            format!(
                "do not keep others off in {}: two tests would get one worker",
                folder.display()
            ),
            remedy,
        ),
        Err(error) => Row::bad(
            "machine",
            "file locks",
            format!("cannot be tried in {}: {error}", folder.display()),
            remedy,
        ),
    }
}

fn try_locks(path: &Path) -> io::Result<bool> {
    let open = || -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
    };
    let (first, second) = (open()?, open()?);
    first.lock()?;
    let is_kept_off = matches!(second.try_lock(), Err(TryLockError::WouldBlock));
    drop(first);
    Ok(is_kept_off && second.try_lock().is_ok())
}

fn disk(state_dir: &Path) -> Row {
    match free(nearest(state_dir)) {
        Ok(free) => room(free),
        Err(error) => Row::odd(
            "machine",
            "disk",
            format!("does not tell how much room it has: {error}"),
            "look at it by `df -h`",
        ),
    }
}

fn room(free: u64) -> Row {
    let found = format!("{} free", bytes(free));
    match free {
        0..SCARCE => Row::bad(
            "machine",
            "disk",
            found,
            "make room: each worker has a copy of each database",
        ),
        SCARCE..LITTLE => Row::odd(
            "machine",
            "disk",
            found,
            "make room before a larger run: each worker has a copy of each database",
        ),
        _ => Row::good("machine", "disk", found),
    }
}

#[cfg(unix)]
fn free(folder: &Path) -> io::Result<u64> {
    let told = rustix::fs::statvfs(folder)?;
    Ok(told.f_bavail.saturating_mul(told.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> io::Result<u64> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

fn nextest() -> Row {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args(["nextest", "--version"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let version = told
        .ok()
        .filter(|told| told.status.success())
        .and_then(|told| {
            let text = String::from_utf8_lossy(&told.stdout).into_owned();
            Some(text.lines().next()?.to_owned())
        });
    match version {
        Some(version) => {
            let words: Vec<_> = version.split_whitespace().take(2).collect();
            Row::good("runner", "nextest", words.join(" "))
        }
        None => Row::odd(
            "runner",
            "nextest",
            "missing",
            "`cargo install --locked cargo-nextest`, or run by `cargo test` and `cargo dagz test --runner cargo`",
        ),
    }
}

/// Whether as many tests run at once as there are workers.
fn slots(settings: &Settings) -> Row {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let given = ["NEXTEST_TEST_THREADS", "RUST_TEST_THREADS"]
        .into_iter()
        .find_map(|name| Some((env::var(name).ok()?.parse::<i64>().ok()?, name)));
    let (threads, by) = given
        .or_else(|| Some((configured(settings.workspace())?, ".config/nextest.toml")))
        .unwrap_or((0, "as many as processors"));
    // As nextest counts: none is all, and a negative number is so many fewer than there are.
    let cores = i64::try_from(cores).unwrap_or(i64::MAX);
    let threads = match threads {
        0 => cores,
        below if below < 0 => (cores + below).max(1),
        threads => threads,
    };
    let workers = i64::from(settings.workers());
    let found = format!("{threads} tests at once ({by}), {workers} workers");
    let both = "`cargo dagz test --workers N` sets both";
    if threads == workers {
        Row::good("runner", "slots", found)
    } else if threads < workers {
        let idle = workers - threads;
        Row::odd(
            "runner",
            "slots",
            found,
            format!("{idle} workers stay idle: run more tests at once; {both}"),
        )
    } else {
        Row::odd(
            "runner",
            "slots",
            found,
            format!("tests wait for workers: raise `DAGZ_WORKERS`; {both}"),
        )
    }
}

/// `test-threads` of nextest's default profile, if it is a number.
fn configured(workspace: &Path) -> Option<i64> {
    let text = fs::read_to_string(workspace.join(".config/nextest.toml")).ok()?;
    let table: toml::Table = text.parse().ok()?;
    table
        .get("profile")?
        .get("default")?
        .get("test-threads")?
        .as_integer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_before_there_is_none() {
        let states = [SCARCE - 1, SCARCE, LITTLE].map(|free| room(free).state);
        assert_eq!(states, ["bad", "odd", "good"]);
        assert_eq!(room(3 << 30).found, "3072 MiB free");
    }

    #[test]
    fn a_folder_that_is_not_there_is_tried_above() {
        let dir = tempfile::tempdir().unwrap();
        let row = locks(&dir.path().join("target/dagz"));
        assert_eq!(row.state, "good", "{}", row.found);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing stays"
        );
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let row = locks(&file.join("dagz"));
        assert_eq!(row.state, "bad", "{}", row.found);
    }
}
