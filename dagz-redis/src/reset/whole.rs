//! The reset of a whole private server: what no flush of a database reaches.
//!
//! Once per test, before its first database there is reset: functions, scripts, configuration, users and
//! databases that nobody declared are as they were when the server was new. Only `reset/claim.rs` calls
//! it, and only for a server of dagz's own.

use std::collections::BTreeMap;

use redis::{Pipeline, RedisResult, Value};

use crate::server::{Link, answer, refusal};

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

    /// Brings the server back to this, but for what is in the database `index` and in the books, and tells all its
    /// clients, just before that. With `keep`, whatever is in any database stays.
    pub(crate) async fn restore(&self, link: &Link, index: i64, keep: bool) -> RedisResult<String> {
        let mut ask = Pipeline::new();
        ask.cmd("CLIENT")
            .arg("LIST")
            .cmd("INFO")
            .arg("keyspace")
            .cmd("FUNCTION")
            .arg("FLUSH")
            .arg("ASYNC")
            .cmd("SCRIPT")
            .arg("FLUSH")
            .arg("ASYNC");
        let answers = link.send(&ask).await?;
        if let Some(error) = refusal(&answers) {
            return Err(error);
        }
        let [clients, keyspace, ..] = answers.as_slice() else {
            return Err((redis::ErrorKind::Parse, "answers are missing").into());
        };
        let clients: String = answer(clients.clone())?;
        let keyspace: String = answer(keyspace.clone())?;
        let now = Self::of(link).await?;
        let mut repair = Pipeline::new();
        for (name, value) in &self.config {
            if now.config.get(name) != Some(value) {
                repair.cmd("CONFIG").arg("SET").arg(name).arg(value);
            }
        }
        self.repair_users(&now, &mut repair);
        if !keep {
            let filled = keyspace
                .lines()
                .filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok())
                .filter(|filled: &i64| *filled != index && *filled != link.books());
            for filled in filled {
                repair.cmd("SELECT").arg(filled).cmd("FLUSHDB").arg("ASYNC");
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
                repair.cmd("ACL").arg("SETUSER").arg(user).arg("reset");
                words.for_each(|word| {
                    repair.arg(word);
                });
            }
        }
    }
}
