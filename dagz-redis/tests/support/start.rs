//! Start states at random, and what a database holds, so that two states can be compared.
//!
//! [`seeds`] are commands, as `support::ask` takes them; [`dump`] tells every key by what is in it, and not by how the
//! server saves it: two sets with the same members are the same, in whichever order it keeps them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dagz_core::Target;
use futures_util::future::BoxFuture;
use proptest::{collection::vec, prelude::*};
use redis::{ConnectionInfo, Value, aio::MultiplexedConnection};

use super::{ask, connect};

/// The keys that a start state may have, each of any type.
pub(crate) const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Commands that leave `$k`, a key, of every type and in every way in which the server keeps it; `$n` is a number.
const SEEDS: &[&str] = &[
    "SET $k sown",
    "SET $k $n",
    "APPEND $k \u{0}\u{1}\r\n\u{fffd}",
    "SETBIT $k $n 1",
    "SETRANGE $k $n x",
    "RPUSH $k a b $n",
    "SADD $k $n 2 3",
    "SADD $k a b $n",
    "ZADD $k 1 a 2.5 b -inf $n",
    "GEOADD $k 13.36 38.11 Palermo",
    "HSET $k field value other $n",
    "PFADD $k a b $n",
    "XADD $k $n-1 key value",
    "XADD $k 9-$n key value",
    "XGROUP CREATE $k readers 0 MKSTREAM",
    "XREADGROUP GROUP readers me COUNT 1 STREAMS $k >",
    "XTRIM $k MAXLEN 1",
    // Many, which the server keeps otherwise.
    "EVAL for\u{a0}i=1,300\u{a0}do\u{a0}redis.call('RPUSH',KEYS[1],i)\u{a0}end 1 $k",
    "EVAL for\u{a0}i=1,300\u{a0}do\u{a0}redis.call('SADD',KEYS[1],'m'..i)\u{a0}end 1 $k",
    "EVAL for\u{a0}i=1,300\u{a0}do\u{a0}redis.call('HSET',KEYS[1],i,i)\u{a0}end 1 $k",
    "EVAL for\u{a0}i=1,300\u{a0}do\u{a0}redis.call('ZADD',KEYS[1],i,i)\u{a0}end 1 $k",
    "PFADD $k a b c d e f g h i j k l m n o p q r s t u v w x y z",
    // Called what is no text, or nothing at all.
    "EVAL return(redis.call('SET','\\255\\0\\13\\10\\32',ARGV[1])) 0 $n",
    "SET  $n",
    // Much longer than a test takes.
    "PEXPIRE $k 7200000",
    "EXPIRE $k 3600",
];

/// A start state, which may be empty.
pub(crate) fn seeds() -> impl Strategy<Value = Vec<String>> {
    let seed = (
        prop::sample::select(SEEDS),
        prop::sample::select(&KEYS[..]),
        1..9_u32,
    );
    vec(
        seed.prop_map(|(words, key, number)| filled(words, key, number)),
        0..12,
    )
}

/// Words about a key and a number.
pub(crate) fn filled(words: &str, key: &str, number: u32) -> String {
    words.replace("$k", key).replace("$n", &number.to_string())
}

/// What a `worker_init` is to sow, and what it has sown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field(Arc<Mutex<Sown>>);

#[derive(Debug, Default)]
pub(crate) struct Sown {
    pub(crate) seeds: Vec<String>,
    /// Whether it fails when it has sown half of them.
    pub(crate) fails: bool,
    /// What it left, by the database's name.
    pub(crate) left: BTreeMap<String, Left>,
}

/// What is left in one database.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    /// How to connect to it.
    pub(crate) info: ConnectionInfo,
    pub(crate) state: BTreeMap<String, String>,
}

impl Field {
    pub(crate) fn sown(&self) -> MutexGuard<'_, Sown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was sown last in the database of `target`.
    pub(crate) fn left(&self, target: &Target) -> Left {
        let left = self.sown().left.get(target.name()).cloned();
        left.expect("something was sown there")
    }

    /// What is to be sown from now on.
    pub(crate) fn set(&self, seeds: &[String]) {
        seeds.clone_into(&mut self.sown().seeds);
    }

    /// The `worker_init` that sows it.
    pub(crate) fn sowing(
        &self,
    ) -> impl Fn(Target, ConnectionInfo) -> BoxFuture<'static, Result<(), String>> + Send + Sync + use<>
    {
        let field = self.clone();
        move |target, info| {
            let field = field.clone();
            Box::pin(async move {
                let connection = connect(info.clone()).await;
                let (seeds, fails) = {
                    let sown = field.sown();
                    (sown.seeds.clone(), sown.fails)
                };
                let count = if fails { seeds.len() / 2 } else { seeds.len() };
                for words in &seeds[..count] {
                    // Not each fits the type that the key has by then.
                    drop(ask::<Value>(&connection, words).await);
                }
                if fails {
                    return Err("it fails on purpose".to_owned());
                }
                let state = dump(&connection).await;
                let name = target.name().to_owned();
                field.sown().left.insert(name, Left { info, state });
                Ok(())
            })
        }
    }
}

/// Every key: its type, for how many minutes it lives, and what is in it.
pub(crate) async fn dump(connection: &MultiplexedConnection) -> BTreeMap<String, String> {
    let mut connection = connection.clone();
    let keys: Vec<Vec<u8>> = ask(&connection, "KEYS *").await.expect("keys are told");
    if keys.is_empty() {
        return BTreeMap::new();
    }
    let mut ask = redis::pipe();
    for key in &keys {
        ask.cmd("TYPE").arg(key).cmd("PTTL").arg(key);
    }
    let told: Vec<Value> = ask
        .query_async(&mut connection)
        .await
        .expect("types are told");
    let kinds: Vec<(String, i64)> = told
        .chunks_exact(2)
        .map(|pair| {
            let kind = redis::from_redis_value(pair[0].clone()).expect("a type is a word");
            let lives = redis::from_redis_value(pair[1].clone()).expect("a time is a number");
            (kind, lives)
        })
        .collect();
    let mut ask = redis::pipe();
    for (key, (kind, _)) in keys.iter().zip(&kinds) {
        match kind.as_str() {
            "list" => ask.cmd("LRANGE").arg(key).arg(0).arg(-1),
            "set" => ask.cmd("SMEMBERS").arg(key),
            "zset" => ask.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
            "hash" => ask.cmd("HGETALL").arg(key),
            "stream" => ask
                .cmd("XINFO")
                .arg("STREAM")
                .arg(key)
                .arg("FULL")
                .arg("COUNT")
                .arg(0),
            _ => ask.cmd("GET").arg(key),
        };
    }
    let told: Vec<Value> = ask
        .query_async(&mut connection)
        .await
        .expect("values are told");
    let mut dump = BTreeMap::new();
    for ((key, (kind, lives)), value) in keys.iter().zip(kinds).zip(told) {
        let value = match (kind.as_str(), value) {
            ("set", Value::Array(members)) => sorted(&members, 1),
            ("hash", Value::Array(fields)) => sorted(&fields, 2),
            (_, value) => format!("{value:?}"),
        };
        // Begun minutes count, and -1 is for ever.
        let minutes = (lives + 59_999).div_euclid(60_000);
        let lives = if lives < 0 { lives } else { minutes };
        dump.insert(
            key.escape_ascii().to_string(),
            format!("{kind} {lives} {value}"),
        );
    }
    dump
}

fn sorted(values: &[Value], width: usize) -> String {
    let mut all: Vec<String> = values
        .chunks(width)
        .map(|part| format!("{part:?}"))
        .collect();
    all.sort();
    all.concat()
}
