//! A job's events, read back while they may still be being written.
//!
//! The main type is [`Log`], which yields an [`Entry`] per line.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use crate::{ErrorKind, Result, Worker, error::io_error};

/// The version of the lines that are understood here; `event.rs` writes it.
const VERSION: u32 = 1;

/// One event: what dagz did, for which test, on which worker.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    v: u32,
    at: u64,
    worker: Option<u32>,
    micros: Option<u64>,
    /// The process that wrote it.
    #[serde(default)]
    pub pid: u32,
    /// The worker and the number of the test on it, `jw03.t017`.
    pub tag: Option<String>,
    /// The test's name.
    pub test: Option<String>,
    /// What happened, one word: `lease`, `setup`, `init`, `template`, `clone`, `prepare`, `route`, `leak`,
    /// `drift`, `warning`, `error`, `kept`, `leave`, and what other versions and drivers add.
    pub kind: String,
    /// The driver it comes from.
    pub driver: Option<String>,
    /// The database it concerns.
    pub database: Option<String>,
    /// What a person wants to know.
    pub detail: Option<String>,
    #[serde(default)]
    cause: Option<String>,
    /// How the test ended, of the event that ends one: `passed` or `failed`.
    pub outcome: Option<String>,
    /// The test binary, of the event that begins a test.
    pub binary: Option<String>,
    /// The test's marks, of the event that begins it: `main_worker`, `exclusive`.
    #[serde(default)]
    pub marks: Vec<String>,
    /// How the test is run again, of the event that begins it: on the same `worker`, or on `fresh` databases.
    pub again: Option<String>,
}

impl Entry {
    /// When it was written.
    pub fn at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.at)
    }

    /// The worker, where there was one.
    pub fn worker(&self) -> Option<Worker> {
        self.worker.map(Worker::new)
    }

    /// Which kind of error it is, where it is one.
    pub fn cause(&self) -> Option<ErrorKind> {
        self.cause.as_deref().map(ErrorKind::from_word)
    }

    /// How long it took, where it took time.
    pub fn took(&self) -> Option<Duration> {
        self.micros.map(Duration::from_micros)
    }
}

/// Reads a job's events; each call of [`read`](Self::read) goes on where the last one stopped.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    offset: u64,
    /// A line whose end is not there yet.
    begun: Vec<u8>,
    passed_over: usize,
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            begun: Vec::new(),
            passed_over: 0,
        }
    }

    /// The events that were written since the last call; none while there is no log.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the log is there and cannot be read.
    pub fn read(&mut self) -> Result<Vec<Entry>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("reading", &self.path)(error)),
        };
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(io_error("reading", &self.path))?;
        self.offset += read as u64;
        self.begun.extend(bytes);
        // The last piece has no end yet: another process is writing it, or was killed doing so.
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        let mut entries = Vec::new();
        for line in whole.split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) if entry.v == VERSION => entries.push(entry),
                _ => self.passed_over += 1,
            }
        }
        Ok(entries)
    }

    /// How many lines were passed over so far: torn ones, and those of a later dagz.
    pub fn passed_over(&self) -> usize {
        self.passed_over
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use super::*;

    #[test]
    fn what_any_version_wrote_is_read_and_the_rest_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut log = Log::open(path.clone());
        assert!(log.read().unwrap().is_empty(), "there is no log yet");
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        let mut write = |text: &[u8]| file.write_all(text).unwrap();
        write(b"{\"v\":1,\"at\":5,\"pid\":3,\"kind\":\"lease\",\"worker\":2,\"mood\":[1]}\n");
        write(b"{\"v\":1,\"at\":6,\"kind\":\"teleport\",\"micros\":7}\n{\"v\":1,\"at\":7,\"ki");
        let entries = log.read().unwrap();
        let kinds: Vec<_> = entries.iter().map(|entry| entry.kind.as_str()).collect();
        assert_eq!(kinds, ["lease", "teleport"]);
        assert_eq!(entries[0].worker(), Some(Worker::new(2)));
        assert_eq!(entries[1].took(), Some(Duration::from_micros(7)));

        write(b"nd\":\"leave\",\"outcome\":\"passed\"}\n");
        let entries = log.read().unwrap();
        assert_eq!(entries[0].outcome.as_deref(), Some("passed"));
        assert_eq!(log.passed_over(), 0);

        write(b"{\"v\":2,\"at\":\"noon\",\"kind\":\"lease\"}\n{\"v\":1,\"at\":\n\xff\xfe\n\n");
        write(b"{\"v\":2,\"at\":8,\"kind\":\"lease\"}\n");
        assert!(log.read().unwrap().is_empty());
        assert_eq!(log.passed_over(), 4);
    }
}
