//! The start state of a database: every key as the server itself would save it, and how long it lives.
//!
//! Recorded once, when a database was filled, as one list in the books, where every process finds it;
//! brought back by `RESTORE` in the transaction that flushes. A time to live begins anew with each test.

use dagz_core::{ErrorKind, Result};
use redis::{Pipeline, Value};

use crate::server::{Link, answer, first};

/// How many keys are read or written by one command.
const CHUNK: usize = 500;

/// The key of the baseline of `index`.
pub(crate) fn key(index: i64) -> String {
    format!("dagz:baseline:{index}")
}

/// What a database holds at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Baseline {
    /// Which recording this is.
    pub(super) id: String,
    entries: Vec<Entry>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Vec<u8>,
    /// Milliseconds; 0 is for ever.
    lives: i64,
    /// What `DUMP` says of it.
    dump: Vec<u8>,
}

impl Baseline {
    /// Records the database `index`, in which the link is and nobody writes.
    pub(super) async fn record(link: &Link, index: i64, id: String) -> Result<Self> {
        let failed = |error| {
            let message = format!("cannot record the start state of database `{index}`");
            link.failed(ErrorKind::WorkerInit, message, error)
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = Pipeline::new();
            scan.cmd("SCAN").arg(cursor).arg("COUNT").arg(CHUNK);
            let (next, keys): (u64, Vec<Vec<u8>>) =
                first(link.send(&scan).await).map_err(failed)?;
            let mut read = Pipeline::new();
            for key in &keys {
                read.cmd("DUMP").arg(key).cmd("PTTL").arg(key);
            }
            if !keys.is_empty() {
                let answers = link.send(&read).await.map_err(failed)?;
                for (key, pair) in keys.into_iter().zip(answers.chunks_exact(2)) {
                    let dump: Option<Vec<u8>> = answer(pair[0].clone()).map_err(failed)?;
                    let lives: i64 = answer(pair[1].clone()).map_err(failed)?;
                    // One that has expired meanwhile is none.
                    if let (Some(dump), lives @ (-1 | 1..)) = (dump, lives) {
                        let lives = lives.max(0);
                        entries.push(Entry { key, lives, dump });
                    }
                }
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        // A scan may tell a key twice.
        entries.dedup_by(|one, other| one.key == other.key);
        Ok(Self { id, entries })
    }

    /// Reads the one that is in the books, the link being in the database `index`.
    pub(super) async fn read(link: &Link, index: i64) -> redis::RedisResult<Self> {
        let mut read = Pipeline::new();
        read.cmd("SELECT")
            .arg(link.books())
            .cmd("LRANGE")
            .arg(key(index))
            .arg(0)
            .arg(-1)
            .cmd("SELECT")
            .arg(index);
        let mut answers = link.send(&read).await?;
        let list = answers.drain(..).nth(1).unwrap_or(Value::Nil);
        let mut words = answer::<Vec<Vec<u8>>>(list)?.into_iter();
        let id = String::from_utf8(words.next().unwrap_or_default()).unwrap_or_default();
        let mut entries = Vec::new();
        while let (Some(key), Some(lives), Some(dump)) = (words.next(), words.next(), words.next())
        {
            let lives = String::from_utf8(lives)
                .ok()
                .and_then(|lives| lives.parse().ok())
                .unwrap_or_default();
            entries.push(Entry { key, lives, dump });
        }
        Ok(Self { id, entries })
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the commands that write it into the books, in which the link is by then.
    pub(super) fn save(&self, index: i64, commands: &mut Pipeline) {
        commands.cmd("DEL").arg(key(index));
        if self.is_empty() {
            return;
        }
        commands.cmd("RPUSH").arg(key(index)).arg(&self.id);
        for chunk in self.entries.chunks(CHUNK) {
            commands.cmd("RPUSH").arg(key(index));
            for Entry { key, lives, dump } in chunk {
                commands.arg(key).arg(lives).arg(dump);
            }
        }
    }

    /// Adds the commands that bring its keys back into an empty database; `for_ever`, as some tests want to see.
    pub(super) fn restore(&self, commands: &mut Pipeline, for_ever: bool) {
        for Entry { key, lives, dump } in &self.entries {
            let lives = if for_ever { 0 } else { *lives };
            commands.cmd("RESTORE").arg(key).arg(lives).arg(dump);
        }
    }
}
