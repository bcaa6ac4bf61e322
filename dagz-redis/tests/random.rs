//! Whatever a test does at random, the next one finds the start state, exactly: every type of value, and how long keys live.

mod support;

use std::collections::BTreeMap;

use dagz_core::DbConfig as _;
use dagz_testkit::random::{Search, cases, counterexample};
use proptest::prelude::*;
use redis::{Client, ConnectionInfo, aio::MultiplexedConnection};
use support::{ask, at_site, keys};

/// A start state with a value of every type.
const SEEDS: [&str; 11] = [
    "SET text sown",
    "SET number 41",
    "APPEND binary \u{0}\u{1}\r\n\u{fffd}",
    "RPUSH list a b c",
    "SADD set a b 3",
    "ZADD sorted 1 a 2.5 b",
    "HSET hash field value other 7",
    "XADD stream 1-1 key value",
    "XGROUP CREATE stream readers 0",
    "PFADD estimate a b c",
    "SET brief value PX 3600000",
];

async fn sow(info: ConnectionInfo) -> redis::RedisResult<()> {
    let connection = Client::open(info)?
        .get_multiplexed_async_connection()
        .await?;
    for words in SEEDS {
        ask::<redis::Value>(&connection, words).await?;
    }
    Ok(())
}

/// Every key, as the server would save it, and whether it lives for ever.
async fn dump(connection: &MultiplexedConnection) -> BTreeMap<String, (Vec<u8>, bool)> {
    let mut dump = BTreeMap::new();
    for key in keys(connection).await {
        let value: Vec<u8> = ask(connection, &format!("DUMP {key}")).await.unwrap();
        let lives: i64 = ask(connection, &format!("PTTL {key}")).await.unwrap();
        dump.insert(key, (value, lives == -1));
    }
    dump
}

/// What a test may do.
fn commands() -> impl Strategy<Value = Vec<String>> {
    let key = prop::sample::select(vec![
        "text", "number", "list", "set", "sorted", "hash", "stream", "brief", "new", "newer",
    ]);
    let word = prop::sample::select(vec![
        "DEL K",
        "SET K spoilt",
        "EXPIRE K 1",
        "PERSIST K",
        "RENAME K renamed",
        "INCR K",
        "LPUSH K x",
        "LPOP K",
        "SADD K x",
        "SREM K a",
        "ZADD K 9 a",
        "HSET K field spoilt",
        "HDEL K field",
        "XADD K * a b",
        "XREADGROUP GROUP readers me STREAMS K >",
        "FLUSHDB",
        "COPY K copied",
        "SETRANGE K 3 x",
    ]);
    prop::collection::vec(
        (key, word).prop_map(|(key, word)| word.replacen(" K", &format!(" {key}"), 1)),
        0..12,
    )
}

#[test]
fn a_baseline_is_exact_whatever_a_test_does() {
    let sown = |config: dagz_redis::Config| config.worker_init(|_, info| sow(info));
    at_site("exact", sown, async |site| {
        site.init().await;
        let test = site.connect().await;
        let start = dump(&test).await;
        assert_eq!(start.len(), 10, "{start:?}");
        let search = Search::Unexpected(cases(60));
        let found = counterexample("exact", search, &commands(), async |commands| {
            for words in &commands {
                // Many do not fit the key's type; that is how tests are, too.
                drop(ask::<redis::Value>(&test, words).await);
            }
            site.driver.release(&site.target).await;
            site.prepare().await;
            prop_assert_eq!(dump(&test).await, start.clone());
            let lives: i64 = ask(&test, "PTTL brief").await.unwrap();
            prop_assert!((3_590_000..=3_600_000).contains(&lives), "{}", lives);
            Ok(())
        });
        if let Some(error) = found {
            panic!("{error}");
        }
    });
}
