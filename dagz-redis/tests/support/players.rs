//! The connections of a test that does something at random, also those that are still there when it has ended.
//!
//! A [`Player`] is one. What it may do to a database is [`command`]; what only a private server takes back is in
//! `random_private.rs`. No `SELECT` is here, `MOVE` or `SWAPDB`, since no reset of a database reaches another one.

use std::time::Duration;

use proptest::prelude::*;
use redis::{Value, aio::MultiplexedConnection};
use tokio::{task::JoinHandle, time::timeout};

use super::{ask, start};

/// Keys that no start state has, and others wait for.
pub(crate) const QUEUES: [&str; 2] = ["queue", "ranked"];

/// What a test may do to the key `$k`, with the number `$n`.
const COMMANDS: &[&str] = &[
    "SET $k spoilt",
    "SET $k spoilt PX 1",
    "GETDEL $k",
    "DEL $k",
    "UNLINK $k",
    "EXPIRE $k 100",
    "PEXPIRE $k 1",
    "PERSIST $k",
    "RENAME $k renamed",
    "COPY $k a REPLACE",
    "INCR $k",
    "APPEND $k x",
    "SETRANGE $k $n x",
    "SETBIT $k $n 1",
    "LPUSH $k x",
    "LPOP $k $n",
    "LSET $k 0 x",
    "SORT $k ALPHA STORE $k",
    "SADD $k x",
    "SPOP $k $n",
    "SINTERSTORE $k $k a",
    "ZADD $k 9 a",
    "ZREM $k a",
    "ZPOPMIN $k $n",
    "HSET $k field spoilt",
    "HDEL $k field",
    "PFADD $k x y z",
    "PFCOUNT $k",
    "PFMERGE $k a b",
    "XADD $k * a b",
    "XDEL $k $n-1",
    "XTRIM $k MAXLEN 0",
    "XREADGROUP GROUP readers me STREAMS $k >",
    "XACK $k readers $n-1",
    "XGROUP CREATE $k others 0 MKSTREAM",
    "XGROUP SETID $k readers 0",
    "XGROUP DESTROY $k readers",
    "FLUSHDB",
    "FLUSHDB SYNC",
    "EVAL return(redis.call('SET',KEYS[1],'spoilt')) 1 $k",
    "EVAL return(redis.call('DEL',KEYS[1])) 1 $k",
    "PUBLISH news of",
    "CLIENT NO-EVICT ON",
    "CLIENT TRACKING ON",
];

/// What begins, ends or belongs to a transaction.
const TRANSACTIONS: &[&str] = &[
    "MULTI", "MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "WATCH $k", "UNWATCH",
];

/// What may wait; for ever, unless there is what is waited for, or another connection brings it.
const WAITING: &[&str] = &[
    "BLPOP queue 0",
    "BLPOP $k queue 0",
    "BRPOP $k 0",
    "BLMOVE queue $k LEFT RIGHT 0",
    "BLMOVE $k stolen LEFT RIGHT 0",
    "BLMPOP 0 2 $k queue LEFT COUNT $n",
    "BZPOPMIN ranked 0",
    "BZPOPMAX $k ranked 0",
    "XREAD BLOCK 0 STREAMS $k $",
    "XREADGROUP GROUP readers me BLOCK 0 STREAMS $k >",
    "WAIT 1 0",
];

/// After these a connection takes few other commands.
const LISTENING: &[&str] = &["SUBSCRIBE news", "PSUBSCRIBE n*"];

/// One thing that a test may do to its database; what does not fit the key's type fails, as it does in tests.
pub(crate) fn command() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        12 => prop::sample::select(COMMANDS),
        5 => prop::sample::select(TRANSACTIONS),
        2 => prop::sample::select(WAITING),
        1 => prop::sample::select(LISTENING),
    ];
    about_a_key(words)
}

/// Words about a key and a number, each of them any.
pub(crate) fn about_a_key(
    words: impl Strategy<Value = &'static str>,
) -> impl Strategy<Value = String> {
    let key = prop_oneof![
        6 => prop::sample::select(&start::KEYS[..]),
        1 => prop::sample::select(&["new", "queue"][..]),
    ];
    (words, key, 1..9_u32).prop_map(|(words, key, number)| start::filled(words, key, number))
}

/// A connection of a test.
pub(crate) struct Player {
    connection: MultiplexedConnection,
    /// Another one, which sees whether the first waits.
    watching: MultiplexedConnection,
    id: i64,
    /// Whether what was sent last is not answered.
    waits: bool,
    /// What was sent to one that waits.
    sent: Vec<JoinHandle<()>>,
}

impl Player {
    /// Plays by `connection`, which is called `name` from now on, if it is called anything.
    pub(crate) async fn new(
        connection: MultiplexedConnection,
        watching: &MultiplexedConnection,
        name: Option<&str>,
    ) -> Self {
        if let Some(name) = name {
            super::tell(&connection, &format!("CLIENT SETNAME {name}")).await;
        }
        Self {
            id: ask(&connection, "CLIENT ID")
                .await
                .expect("it has a number"),
            connection,
            watching: watching.clone(),
            waits: false,
            sent: Vec::new(),
        }
    }

    /// Does as told, if it is not waiting for anything.
    pub(crate) async fn play(&mut self, words: &str) {
        if self.waits {
            return;
        }
        let answer = ask::<Value>(&self.connection, words);
        tokio::select! {
            // Whatever it is, as many do not fit.
            _ = answer => {}
            () = self.until_waiting() => self.waits = true,
        }
    }

    async fn until_waiting(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let line = ask::<String>(&self.watching, &format!("CLIENT LIST ID {}", self.id)).await;
            let Ok(line) = line else {
                // A test may have closed it, too.
                return std::future::pending().await;
            };
            let mut words = line.split(' ');
            if words.any(|word| word.starts_with("flags=") && word.contains('b')) {
                return;
            }
        }
    }

    /// Begins a transaction, now or when it does not wait any more: then something tells that it is not idle, also
    /// where it has no name.
    pub(crate) async fn lurk(&mut self) {
        if !self.waits {
            return self.play("MULTI").await;
        }
        let connection = self.connection.clone();
        self.sent.push(tokio::spawn(async move {
            drop(ask::<Value>(&connection, "MULTI").await);
        }));
        tokio::task::yield_now().await;
    }

    /// Does what a connection does that nobody has closed: writes at last.
    pub(crate) async fn write_late(&mut self, words: &[String]) {
        let late = ["EXEC".to_owned(), "SET late value".to_owned()];
        for words in words.iter().chain(&late) {
            let answer = ask::<Value>(&self.connection, words);
            // One that waits does not answer.
            if timeout(Duration::from_millis(20), answer).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        for sent in &self.sent {
            sent.abort();
        }
    }
}

/// A task of a test that writes as fast as it can, until its connection is closed. Begun when this returns.
pub(crate) async fn flood(
    connection: MultiplexedConnection,
    words: &'static [&'static str],
) -> JoinHandle<()> {
    let (begun, told) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let task = tokio::spawn(async move {
        loop {
            for words in words {
                let done = ask::<Value>(&connection, words).await;
                if done.is_err_and(|error| error.is_unrecoverable_error()) {
                    return;
                }
            }
            begun.take().map(|begun| begun.send(()));
        }
    });
    told.await.expect("it writes");
    task
}
