//! The reset of a whole private server: what no flush of a database reaches.
//!
//! Once per test, before its first database there is reset: functions, scripts, configuration, users and
//! databases that nobody declared are as they were when the server was new. Only `reset/claim.rs` calls
//! it, and only for a server of dagz's own.

use std::collections::BTreeMap;

use redis::{Pipeline, RedisResult, Value};

use crate::server::{Link, answer, refusal};

/// How dagz's own keys in the books begin.
const BOOKED: &[u8] = b"dagz:";

/// What leaves a user nothing. `reset` would leave a new one's mark that the server's own user has not.
const EMPTIED: &[&str] = &[
    "off",
    "resetpass",
    "resetkeys",
    "resetchannels",
    "clearselectors",
    "-@all",
];

/// What a server is like when it is new.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole {
    config: BTreeMap<String, String>,
    users: Vec<String>,
}

impl Whole {
    /// What the server is like now.
    pub(crate) async fn of(link: &Link) -> RedisResult<Self> {
        let mut ask = Pipeline::new();
        ask.cmd("CONFIG").arg("GET").arg("*").cmd("ACL").arg("LIST");
        let answers = link.send(&ask).await?;
        let [config, users] = answers.as_slice() else {
            return Err((redis::ErrorKind::Parse, "answers are missing").into());
        };
        Ok(Self {
            config: answer(config.clone())?,
            users: answer(users.clone())?,
        })
    }

    /// Brings the server back to this, but for what is in the database `index` and dagz's own in the books, and tells
    /// all its clients, just before that. With `keep`, whatever is in any database stays. Tests switch a detection off
    /// by `blind`.
    pub(crate) async fn restore(
        &self,
        link: &Link,
        index: i64,
        keep: bool,
        blind: Option<&str>,
    ) -> RedisResult<String> {
        let sees = |detection| blind != Some(detection);
        let mut ask = Pipeline::new();
        ask.cmd("CLIENT")
            .arg("LIST")
            .cmd("INFO")
            .arg("keyspace")
            .cmd("SELECT")
            .arg(link.books())
            .cmd("KEYS")
            .arg("*")
            .cmd("SELECT")
            .arg(index);
        for (kind, detection) in [("FUNCTION", "functions"), ("SCRIPT", "scripts")] {
            if sees(detection) {
                ask.cmd(kind).arg("FLUSH").arg("ASYNC");
            }
        }
        let answers = link.send(&ask).await?;
        if let Some(error) = refusal(&answers) {
            return Err(error);
        }
        let [clients, keyspace, _, booked, ..] = answers.as_slice() else {
            return Err((redis::ErrorKind::Parse, "answers are missing").into());
        };
        let clients: String = answer(clients.clone())?;
        let keyspace: String = answer(keyspace.clone())?;
        let booked: Vec<Vec<u8>> = answer(booked.clone())?;
        let now = Self::of(link).await?;
        let mut repair = Pipeline::new();
        for (name, value) in &self.config {
            if now.config.get(name) != Some(value) && sees("config") {
                repair.cmd("CONFIG").arg("SET").arg(name).arg(value);
            }
        }
        if sees("users") {
            self.repair_users(&now, &mut repair);
        }
        if !keep && sees("databases") {
            let filled = keyspace
                .lines()
                .filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok())
                .filter(|filled: &i64| *filled != index && *filled != link.books());
            for filled in filled {
                repair.cmd("SELECT").arg(filled).cmd("FLUSHDB").arg("ASYNC");
            }
        }
        // A test reaches the books as any other database.
        if !keep && sees("books") {
            let strange: Vec<_> = booked
                .iter()
                .filter(|key| !key.starts_with(BOOKED))
                .collect();
            if !strange.is_empty() {
                let books = link.books();
                repair.cmd("SELECT").arg(books).cmd("UNLINK").arg(strange);
            }
        }
        if repair.is_empty() {
            return Ok(clients);
        }
        repair.cmd("SELECT").arg(index);
        let answers: Vec<Value> = link.send(&repair).await?;
        refusal(&answers).map_or(Ok(clients), Err)
    }

    /// Adds the commands that bring the users back.
    fn repair_users(&self, now: &Self, repair: &mut Pipeline) {
        let name = |line: &str| line.split(' ').nth(1).map(str::to_owned);
        for line in &now.users {
            let Some(user) = name(line) else { continue };
            if !self
                .users
                .iter()
                .any(|line| name(line).as_ref() == Some(&user))
            {
                repair.cmd("ACL").arg("DELUSER").arg(user);
            }
        }
        for line in &self.users {
            if now.users.contains(line) {
                continue;
            }
            let mut words = line.split(' ').skip(1);
            if let Some(user) = words.next() {
                repair.cmd("ACL").arg("SETUSER").arg(user).arg(EMPTIED);
                words.for_each(|word| {
                    repair.arg(word);
                });
            }
        }
    }
}
