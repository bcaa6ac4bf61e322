//! What a reset has to bring back, as a test sees it: [`state`], and what it should be.
//!
//! It is beside `support/mod.rs`, since only the random tests need it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{
    Site, channel, definitions,
    management::{self, part},
    uri,
};

/// What is to be as at the start: each definition, each queue, how many messages and consumers it has, and as how many
/// users a test may log in. `None` where nobody is let in.
pub(crate) async fn state(site: &Site) -> Option<BTreeSet<String>> {
    let vhost = site.target.name();
    let visit = Connection::connect_uri(uri(vhost), ConnectionProperties::default()).await;
    let visit = visit.ok()?;
    let definitions = definitions(vhost);
    let mut state = defined(&definitions);
    for queue in all_queues(vhost) {
        *state.entry(format!("there is {queue}")).or_default() += 1;
    }
    for queue in names(&definitions) {
        // Whoever asks for a queue that has gone meanwhile loses the channel.
        let own = channel(&visit).await;
        let is_stream = is_stream(&definitions, &queue);
        *state
            .entry(inside(&own, &queue, is_stream).await)
            .or_default() += 1;
    }
    *state.entry(users(vhost)).or_default() += 1;
    // Its end does not matter, and may never be told.
    drop(timeout(Duration::from_secs(1), visit.close(200, "".into())).await);
    Some(numbered(state))
}

/// What that is to be in a vhost with these definitions, when a test begins.
pub(crate) fn expected(definitions: &Value) -> BTreeSet<String> {
    let mut state = defined(definitions);
    for queue in names(definitions) {
        state.insert(format!("there is {queue}"), 1);
        state.insert(format!("in {queue}: (0, 0)"), 1);
    }
    state.insert("users: 1".to_owned(), 1);
    numbered(state)
}

fn names(definitions: &Value) -> Vec<String> {
    let queues = definitions["queues"].as_array().expect("a list");
    let names = queues.iter().filter_map(|queue| queue["name"].as_str());
    names.map(str::to_owned).collect()
}

fn is_stream(definitions: &Value, name: &str) -> bool {
    let queues = definitions["queues"].as_array().expect("a list");
    let mut found = queues.iter().filter(|queue| queue["name"] == name);
    found.any(|queue| queue["arguments"]["x-queue-type"] == "stream")
}

/// Of what is equal, how much there is.
fn numbered(state: BTreeMap<String, usize>) -> BTreeSet<String> {
    let lines = state.into_iter();
    lines
        .map(|(line, count)| match count {
            1 => line,
            _ => format!("{count} × {line}"),
        })
        .collect()
}

fn defined(definitions: &Value) -> BTreeMap<String, usize> {
    let mut state = BTreeMap::new();
    for (kind, list) in definitions.as_object().expect("kinds of definitions") {
        for one in list.as_array().expect("a list") {
            *state.entry(format!("{kind}: {one}")).or_default() += 1;
        }
    }
    state
}

/// The names of all queues but dagz's, also of those that are not among the definitions.
fn all_queues(vhost: &str) -> Vec<String> {
    let path = format!("/api/queues/{}?disable_stats=true", part(vhost));
    let told = management::get(&path).expect("told");
    let names = told.as_array().into_iter().flatten();
    let names = names.filter_map(|queue| queue["name"].as_str());
    let names = names.filter(|name| !name.starts_with("dagz."));
    names.map(str::to_owned).collect()
}

/// How many of dagz's users may enter the vhost.
fn users(vhost: &str) -> String {
    let path = format!("/api/vhosts/{}/permissions", part(vhost));
    let told = management::get(&path).expect("told");
    let entries = told.as_array().into_iter().flatten();
    let users = entries.filter_map(|entry| entry["user"].as_str());
    let users = users.filter(|user| user.starts_with("dagz."));
    format!("users: {}", users.count())
}

async fn inside(channel: &Channel, queue: &str, is_stream: bool) -> String {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let told = channel.queue_declare(queue.into(), passive, FieldTable::default());
    let Ok(told) = told.await else {
        return format!("nobody may look into {queue}");
    };
    let counts = (told.message_count(), told.consumer_count());
    match is_stream && has_any(channel, queue).await {
        true => format!("something in {queue}"),
        false => format!("in {queue}: {counts:?}"),
    }
}

/// Whether anything comes out of a stream: how much is in it, the broker tells only seconds later.
async fn has_any(channel: &Channel, stream: &str) -> bool {
    let mut from_the_start = FieldTable::default();
    let first = AMQPValue::LongString("first".into());
    from_the_start.insert("x-stream-offset".into(), first);
    let options = BasicConsumeOptions::default();
    channel
        .basic_qos(1, BasicQosOptions::default())
        .await
        .expect("streams need that");
    let consumer = channel.basic_consume(stream.into(), "".into(), options, from_the_start);
    let mut consumer = consumer.await.expect("the stream is read");
    let first = timeout(Duration::from_millis(20), consumer.next()).await;
    first.is_ok()
}
