//! Looks at a server as a test would use it, for `cargo dagz doctor`, and leaves nothing behind.
//!
//! [`doctor`] writes one key to dagz's books, the last database, and takes it away again.

use std::process;

use dagz_core::{Error, ErrorKind, Result, driver::Checkup};
use redis::{Pipeline, Value};

use crate::{
    Config,
    server::{Link, Server, first, refusal},
};

/// Looks whether a run of `checkup` will find what it needs on the server of `config`.
pub async fn doctor(config: &Config, checkup: &mut Checkup) {
    let server = Server::new(&config.base);
    let link = match server.link("dagz-doctor").await {
        Ok(link) => link,
        Err(error) => return checkup.failed("reachable", &error),
    };
    checkup.good("reachable", format!("at {}", link.shown()));
    let info = match info(&link).await {
        Ok(info) => info,
        Err(error) => return checkup.failed("version", &error),
    };
    let word = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    checkup.good(
        "version",
        match (word("valkey_version"), word("redis_version")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => format!("Redis {version}"),
            (None, None) => "not told".to_owned(),
        },
    );
    let tried = try_rights(&link).await;
    checkup.tried("rights", tried);
    match config.map() {
        Err(error) => checkup.failed("databases", &error),
        Ok(map) => {
            let (has, needed) = (link.databases(), map.databases(checkup.workers()));
            let found = format!(
                "{has}, {needed} needed: {} for workers with one index each, {} before them, one for dagz's books",
                checkup.workers(),
                needed - i64::from(checkup.workers()) - 1,
            );
            if needed <= has {
                checkup.good("databases", found);
            } else {
                checkup.bad(
                    "databases",
                    found,
                    format!(
                        "set `databases {needed}` in the server's configuration or start it with `--databases {needed}`, or run with fewer workers (`DAGZ_WORKERS`)"
                    ),
                );
            }
        }
    }
    let number = |name: &str| word(name).and_then(|text| text.trim().parse::<i64>().ok());
    if let (Some(used), Some(most)) = (number("connected_clients"), number("maxclients")) {
        checkup.connections(used - 1, most, "`maxclients`");
    }
}

async fn info(link: &Link) -> Result<String> {
    let mut told = String::new();
    for section in ["server", "clients"] {
        let mut ask = Pipeline::new();
        ask.cmd("INFO").arg(section);
        let text: String = first(link.send(&ask).await).map_err(|error| {
            let message = format!("Redis at `{}` does not tell its version", link.shown());
            link.failed(ErrorKind::Unsupported, message, error)
        })?;
        told.push_str(&text);
    }
    Ok(told)
}

/// What a reset needs: keys in the books, the list of clients, and to flush, which the server is only asked about.
async fn try_rights(link: &Link) -> Result<&'static str> {
    let failed = |error| {
        let message = format!(
            "the user may not do at `{}` what a reset does; allow it by `ACL SETUSER .. +@all allkeys`",
            link.shown()
        );
        link.failed(ErrorKind::AccessDenied, message, error)
    };
    let key = format!("dagz:doctor:{}", process::id());
    let mut commands = Pipeline::new();
    commands
        .cmd("SELECT")
        .arg(link.books())
        .cmd("SET")
        .arg(&key)
        .arg("1")
        .arg("EX")
        .arg(10)
        .cmd("DEL")
        .arg(&key)
        .cmd("CLIENT")
        .arg("LIST");
    let answers = link.send(&commands).await.map_err(failed)?;
    if let Some(error) = refusal(&answers) {
        return Err(failed(error));
    }
    let mut who = Pipeline::new();
    who.cmd("ACL").arg("WHOAMI");
    let Ok(user) = first::<String>(link.send(&who).await) else {
        return Ok("may write and list clients; whether it may flush is not told");
    };
    let mut flush = Pipeline::new();
    flush
        .cmd("ACL")
        .arg("DRYRUN")
        .arg(&user)
        .arg("FLUSHDB")
        .arg("ASYNC");
    match first::<Value>(link.send(&flush).await) {
        Ok(Value::Okay) => Ok("may write, list clients and flush"),
        Ok(_) => Err(Error::new(
            ErrorKind::AccessDenied,
            format!("user `{user}` may not flush: `ACL SETUSER {user} +flushdb`"),
        )),
        // It may not ask.
        Err(_) => Ok("may write and list clients; whether it may flush is not told"),
    }
}
