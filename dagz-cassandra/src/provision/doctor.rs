//! Looks at a cluster as a test would use it, for `cargo dagz doctor`, and leaves nothing behind.
//!
//! [`doctor`] makes and drops a keyspace by the same statements as a worker's.

use std::time::Duration;

use dagz_core::{Error, ErrorKind, Result, driver::Checkup, runtime};
use scylla::client::session::Session;

use super::{
    drop_keyspace,
    make::{agree, create_stamp},
    stamp::Stamp,
};
use crate::{
    Config, cql,
    error::{self, Native},
    server::{NAME_LIMIT, SLOW, ask, ask_slowly, pinned, rows},
    source::Source,
};

/// What a statement may take on a machine on which as many tests run as it has processors.
const ENOUGH: Duration = Duration::from_secs(2);

/// What `TRUNCATE` may take there, which waits for a flush.
const ENOUGH_TO_TRUNCATE: Duration = Duration::from_secs(20);

/// Looks whether a run of `checkup` will find what it needs on the cluster of `config`.
pub async fn doctor(config: &Config, checkup: &mut Checkup) {
    let source = config.base.clone();
    let opened = runtime::run(async move { source.open(false).await }).await;
    let session = match opened.and_then(|opened| opened) {
        Ok(session) => session,
        Err(error) => return checkup.failed("reachable", &error),
    };
    checkup.good(
        "reachable",
        match config.base.user() {
            Some(user) => format!("at {} as `{user}`", config.base.shown()),
            None => format!("at {}", config.base.shown()),
        },
    );
    let source = &config.base;
    let version = one(&session, "SELECT release_version FROM system.local").await;
    checkup.tried(
        "version",
        version
            .map(|version| match version {
                Some(version) => format!("Cassandra {version}"),
                None => "not told".to_owned(),
            })
            .map_err(|error| failed(source, "", "asking", error)),
    );
    let tried = try_rights(&session, source, checkup).await;
    checkup.tried("rights", tried);
    time_outs(&session, checkup).await;
    if let Some((used, most)) = connections(&session).await {
        checkup.connections(used, most, "`native_transport_max_concurrent_connections`");
    }
}

async fn try_rights(session: &Session, source: &Source, checkup: &Checkup) -> Result<&'static str> {
    let name = checkup.trial(source.keyspace(), NAME_LIMIT)?;
    let create = format!(
        "CREATE KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
        cql::identifier(&name)
    );
    let profile = pinned(session);
    ask_slowly(session, create, &profile)
        .await
        .map_err(|error| failed(source, &name, "creating keyspace", error))?;
    let stamp = Stamp::bare(checkup.project(), &name, ()).complete();
    let stamped = create_stamp(session, &name, &stamp, &profile).await;
    let agreed = agree(session).await;
    // Whatever came of it, the keyspace goes.
    drop_keyspace(session, &name)
        .await
        .map_err(|error| failed(source, &name, "dropping keyspace", error))?;
    stamped
        .and(agreed)
        .map_err(|error| failed(source, &name, "stamping keyspace", error))?;
    Ok("may create and drop keyspaces")
}

async fn time_outs(session: &Session, checkup: &mut Checkup) {
    let mut told = Vec::new();
    let mut short = Vec::new();
    for (name, enough) in [
        ("read_request_timeout", ENOUGH),
        ("write_request_timeout", ENOUGH),
        ("range_request_timeout", ENOUGH),
        ("truncate_request_timeout", ENOUGH_TO_TRUNCATE),
    ] {
        let Some(time_out) = setting(session, name).await else {
            continue;
        };
        told.push(format!("{name} {time_out:?}"));
        if time_out < enough {
            short.push(format!("`{name}: {}ms`", enough.as_millis()));
        }
    }
    if told.is_empty() {
        // Scylla, and Cassandra before 4.0, have no such table.
        checkup.good("time-outs", "not told by this server");
    } else if short.is_empty() {
        checkup.good("time-outs", told.join(", "));
    } else {
        checkup.odd(
            "time-outs",
            told.join(", "),
            format!(
                "say {} or more in `cassandra.yaml`; dagz itself waits {SLOW:?} for a `TRUNCATE`",
                short.join(", ")
            ),
        );
    }
}

/// How many connections there are, and how many there may be, where the server has a limit and tells it.
async fn connections(session: &Session) -> Option<(i64, i64)> {
    let query = "SELECT value FROM system_views.settings WHERE name = 'native_transport_max_concurrent_connections'";
    let most = one(session, query).await.ok()??.parse().ok()?;
    let counted = ask(session, "SELECT count(*) FROM system_views.clients").await;
    let counted: Vec<(i64,)> = counted.and_then(rows).ok()?;
    (most >= 0).then_some((counted.first()?.0, most))
}

/// A time-out of the server's configuration, whatever its version calls it.
async fn setting(session: &Session, name: &str) -> Option<Duration> {
    for name in [name.to_owned(), format!("{name}_in_ms")] {
        let query = format!("SELECT value FROM system_views.settings WHERE name = '{name}'");
        if let Ok(Some(text)) = one(session, &query).await {
            return duration(&text);
        }
    }
    None
}

/// `5000`, `5000ms`, `5s` or `1m`, as Cassandra writes them.
fn duration(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    Some(match &text[digits..] {
        "" | "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return None,
    })
}

async fn one(session: &Session, query: &str) -> std::result::Result<Option<String>, Native> {
    let found: Vec<(Option<String>,)> = rows(ask(session, query).await?)?;
    Ok(found.into_iter().next().and_then(|(value,)| value))
}

fn failed(source: &Source, name: &str, what: &str, error: Native) -> Error {
    error::failure(ErrorKind::WorkerInit, what, source, name, error).into_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs_of_any_version_are_read() {
        for (text, millis) in [
            ("5000", 5_000),
            ("750ms", 750),
            ("60s", 60_000),
            ("2m", 120_000),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(duration("soon"), None);
    }
}
