//! One server: how dagz reaches it, what it is, and which one it is under all its addresses.
//!
//! All of dagz's own connections are opened here, on the control runtime, where they may be kept: a
//! [`Link`] is one. The main type is [`Server`]; `driver.rs` holds them.

use std::time::Duration;

use dagz_core::{Endpoint, Error, ErrorKind, Result, runtime};
use redis::{
    AsyncConnectionConfig, ConnectionInfo, FromRedisValue, Pipeline, RedisError, RedisResult,
    Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::sync::OnceCell;

use crate::{
    error::{self, Destination},
    route,
};

/// The oldest version whose commands dagz is written for; Valkey began above it.
const OLDEST_SUPPORTED: u32 = 7;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a command may take: a test may have given the server something long to do.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// A server and the settings by which dagz connects to it.
#[derive(Debug)]
pub(crate) struct Server {
    info: ConnectionInfo,
    identity: OnceCell<Endpoint>,
}

/// One of dagz's own connections, with the words that its errors need.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    shown: String,
    user: String,
    /// How many databases the server has.
    databases: i64,
}

impl Server {
    /// The server that `info` leads to.
    pub(crate) fn new(info: &ConnectionInfo) -> Self {
        Self {
            info: info.clone(),
            identity: OnceCell::new(),
        }
    }

    /// The settings of a connection to `index`, as the user gave them.
    pub(crate) fn info_for(&self, index: i64) -> ConnectionInfo {
        let settings = self.info.redis_settings().clone().set_db(index);
        self.info.clone().set_redis_settings(settings)
    }

    /// A new connection, called `name` on the server, which is made sure to be one that dagz can use.
    pub(crate) async fn link(&self, name: &str) -> Result<Link> {
        // The index of the books is known once the server has told how many there are.
        let settings = self
            .info
            .redis_settings()
            .clone()
            .set_db(0)
            .set_protocol(redis::ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let info = self.info.clone().set_redis_settings(settings);
        let name = name.to_owned();
        runtime::run(async move { connected(info, &name).await }).await?
    }

    /// Which server this is: the same for every address that leads to it.
    pub(crate) async fn identity(&self) -> Result<&Endpoint> {
        self.identity
            .get_or_try_init(|| async {
                let link = self.link("dagz-identify").await?;
                let mut info = Pipeline::new();
                info.cmd("INFO").arg("server");
                let text: String = first(link.send(&info).await).map_err(|error| {
                    link.failed(
                        ErrorKind::Unsupported,
                        format!("Redis at `{}` does not say which server it is", link.shown),
                        error,
                    )
                })?;
                let id = text
                    .lines()
                    .find_map(|line| line.strip_prefix("run_id:"))
                    .map(str::trim);
                let Some(id) = id else {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("Redis at `{}` tells no `run_id`", link.shown),
                    ));
                };
                Ok(Endpoint::new(format!("redis-{id}")).shown_as(&link.shown))
            })
            .await
    }
}

impl Link {
    /// Sends all at once, and tells all the answers; one that is an error is an answer, too.
    pub(crate) async fn send(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        let mut connection = self.connection.clone();
        connection.req_packed_commands(commands, 0, count).await
    }

    /// `host:port`, for people.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// How many databases the server has.
    pub(crate) fn databases(&self) -> i64 {
        self.databases
    }

    /// The index of the books: the last one.
    pub(crate) fn books(&self) -> i64 {
        self.databases - 1
    }

    /// The error for a command that failed.
    pub(crate) fn failed(&self, kind: ErrorKind, message: String, error: RedisError) -> Error {
        error::command(kind, message, &self.user, error)
    }
}

/// An answer, unless the server refused it.
pub(crate) fn answer<T: FromRedisValue>(value: Value) -> RedisResult<T> {
    RedisResult::<T>::from_redis_value(value)?
}

/// The first answer, unless the server refused it.
pub(crate) fn first<T: FromRedisValue>(answers: RedisResult<Vec<Value>>) -> RedisResult<T> {
    answer(answers?.into_iter().next().unwrap_or(Value::Nil))
}

/// The first of `answers` that is an error.
pub(crate) fn refusal(answers: &[Value]) -> Option<RedisError> {
    answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(error.clone().into()),
        _ => None,
    })
}

async fn connected(info: ConnectionInfo, name: &str) -> Result<Link> {
    let to = Destination::of(&info);
    let (shown, user) = (route::endpoint(&info).to_string(), error::user(&info));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let connection = route::client(info)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|error| error::connecting(to, error))?;
    let mut link = Link {
        connection,
        shown,
        user,
        databases: 0,
    };
    let mut asked = Pipeline::new();
    asked
        .cmd("HELLO")
        .cmd("CLIENT")
        .arg("SETNAME")
        .arg(name)
        .cmd("CONFIG")
        .arg("GET")
        .arg("databases")
        // Whoever may not use a transaction would be flushed without one.
        .cmd("MULTI")
        .cmd("EXEC");
    let cannot = |error| {
        link.failed(
            ErrorKind::Unsupported,
            format!("Redis at `{}` does not answer as dagz needs it", link.shown),
            error,
        )
    };
    let mut answers = link.send(&asked).await.map_err(|error| {
        if error::is_connection_lost(&error) {
            let message = format!(
                "what listens at `{}` took the connection and ended it: is it Redis, and has it just stopped?",
                link.shown
            );
            return Error::new(ErrorKind::Unreachable, message).with_source(error);
        }
        cannot(error)
    })?;
    if answers.len() != asked.len() {
        return Err(cannot(
            (redis::ErrorKind::Parse, "answers are missing").into(),
        ));
    }
    let databases = answers.remove(2);
    let hello = answers.remove(0);
    supported(&link.shown, &hello)?;
    if let Some(error) = refusal(&answers) {
        return Err(cannot(error));
    }
    let told: RedisResult<Vec<String>> = answer(databases);
    link.databases = match told.ok().and_then(|pair| pair.get(1)?.parse().ok()) {
        Some(count) => count,
        // `CONFIG` is forbidden, as hosted servers do, or renamed.
        None => probed(&link).await?,
    };
    Ok(link)
}

/// Makes sure, by its answer to `HELLO`, that the server is one that dagz can use.
fn supported(shown: &str, hello: &Value) -> Result<()> {
    let unsupported =
        |why: String| Error::new(ErrorKind::Unsupported, format!("Redis at `{shown}` {why}"));
    let words = match hello {
        Value::ServerError(error) if error.code() == "NOPERM" => return Ok(()),
        Value::ServerError(_) => {
            return Err(unsupported(format!(
                "is too old: dagz needs Redis {OLDEST_SUPPORTED} or later, or Valkey"
            )));
        }
        Value::Array(words) => words,
        _ => {
            return Err(unsupported(
                "answers in a way that Redis does not".to_owned(),
            ));
        }
    };
    let word = |name: &str| {
        words.chunks_exact(2).find_map(|pair| {
            let key = String::from_redis_value_ref(&pair[0]).ok()?;
            (key == name).then(|| String::from_redis_value_ref(&pair[1]).ok())?
        })
    };
    match word("mode").as_deref() {
        Some("cluster") => {
            return Err(unsupported(
                "is a node of a cluster, which has no databases to give to workers: test against a single server".to_owned(),
            ));
        }
        Some("sentinel") => {
            return Err(unsupported(
                "is a sentinel and holds no data: configure the address of its master".to_owned(),
            ));
        }
        _ => {}
    }
    let version = word("version").unwrap_or_default();
    // A server that does not say is taken for the newest.
    let major = version.split('.').next().map(str::parse::<u32>);
    match major {
        Some(Ok(major)) if major < OLDEST_SUPPORTED => Err(unsupported(format!(
            "is version {version}: dagz needs {OLDEST_SUPPORTED} or later"
        ))),
        _ => Ok(()),
    }
}

/// How many databases the server has, by trying: the highest index that can be selected, plus one.
async fn probed(link: &Link) -> Result<i64> {
    let has = async |index: i64| {
        let mut select = Pipeline::new();
        select.cmd("SELECT").arg(index);
        match first::<Value>(link.send(&select).await) {
            Ok(_) => Ok(true),
            Err(error) if error::is_out_of_range(&error) => Ok(false),
            Err(error) => Err(link.failed(
                ErrorKind::Unsupported,
                format!(
                    "Redis at `{}` does not say how many databases it has",
                    link.shown
                ),
                error,
            )),
        }
    };
    let (mut has_it, mut has_not) = (0, 16);
    while has_not < i64::from(i32::MAX / 2) && has(has_not).await? {
        has_it = has_not;
        has_not *= 2;
    }
    while has_not - has_it > 1 {
        let middle = has_it + (has_not - has_it) / 2;
        if has(middle).await? {
            has_it = middle;
        } else {
            has_not = middle;
        }
    }
    Ok(has_it + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(words: &[(&str, &str)]) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        Value::Array(
            words
                .iter()
                .flat_map(|(key, value)| [text(key), text(value)])
                .collect(),
        )
    }

    #[test]
    fn servers_that_cannot_be_used_are_named() {
        for (words, expected) in [
            (
                &[("version", "6.2.14"), ("mode", "standalone")][..],
                "version 6.2.14",
            ),
            (&[("version", "7.4.1"), ("mode", "cluster")], "no databases"),
            (&[("version", "7.4.1"), ("mode", "sentinel")], "its master"),
        ] {
            let error = supported("h:1", &hello(words)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let told = error.to_string();
            assert!(told.contains(expected) && told.contains("`h:1`"), "{told}");
        }
        let good = [
            ("server", "valkey"),
            ("version", "9.1.2"),
            ("mode", "standalone"),
        ];
        supported("h:1", &hello(&good)).unwrap();
        supported("h:1", &hello(&[("version", "8.0.6")])).unwrap();
    }
}
