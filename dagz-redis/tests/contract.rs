//! The contract of every driver, for Redis and Valkey against a real server.
//!
//! `DAGZ_TEST_REDIS_URL` names the server and a user who may do everything on it: `cargo xtask test -p
//! dagz-redis` sets it for a server of its own. The cases are `dagz-testkit`'s; what only Redis has is
//! tested beside this file.

#[expect(dead_code, reason = "the contract needs a part of it")]
#[path = "support/blocks.rs"]
mod blocks;

use std::{
    collections::HashMap,
    env,
    net::TcpListener,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use blocks::Block;
use dagz_core::Target;
use dagz_redis::Config;
use dagz_testkit::{Choice, Contract, Fault, FaultyAddress, Hook, Made, Prepare, SEED};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, aio::MultiplexedConnection,
};

fn main() -> ExitCode {
    dagz_testkit::main(Redis)
}

struct Redis;

/// How a password that is wrong looks, to be looked for in errors.
const WRONG: &str = "hunter2-and-more";

impl Contract for Redis {
    type Session = MultiplexedConnection;

    const DECLARATION: &'static str = include_str!("contract.toml");

    async fn server(&self) -> Result<()> {
        let remedy = "run `cargo xtask test -p dagz-redis`, or start a server by `cargo xtask services up redis` and set `DAGZ_TEST_REDIS_URL` to it";
        let url = url().with_context(|| format!("no Redis server is known: {remedy}"))?;
        let mut connection = connected(url.as_str())
            .await
            .with_context(|| format!("the Redis server does not answer: {remedy}"))?;
        redis::cmd("SELECT")
            .arg(2_047)
            .exec_async(&mut connection)
            .await
            .with_context(|| format!("the Redis server needs 1,024 databases: {remedy}"))
    }

    /// A number of the case's own block, which the server knows by the case's name.
    fn base(&self, unique: &str) -> String {
        let (name, position) = case_of(unique);
        match block(name) {
            Ok(block) => block.bases()[position].to_string(),
            // The server was there when the case began; whoever opens this is told what is wrong.
            Err(error) => format!("no index: {error:#}"),
        }
    }

    fn address(&self, name: &str) -> String {
        at(name, |info| info).unwrap_or_default()
    }

    fn configure(&self, address: &str, choice: &Choice) -> dagz_core::Result<()> {
        let mut config = Config::new(address)?;
        let index = address
            .into_connection_info()
            .map_or(0, |info| info.redis_settings().db());
        let block = Block::around(index);
        config = config
            .bases(block.bases())
            .first_index(block.first_index())
            .single_worker_disable(choice.single_worker_disable)
            .main_worker_bypass(choice.main_worker_bypass)
            .strict(choice.strict);
        let hook = choice.worker_init.clone();
        config = config.worker_init(move |target, at| seed(hook.clone(), target, at));
        config = match &choice.prepare {
            Prepare::None => config.prepare(dagz_redis::Prepare::None),
            Prepare::Empty => config.prepare(dagz_redis::Prepare::Flush),
            Prepare::Baseline => config.prepare(dagz_redis::Prepare::Baseline),
            Prepare::Own(hook) => {
                let hook = hook.clone();
                config.prepare_with(move |target, _| prepare_by_hand(hook.clone(), target))
            }
        };
        if let Some(unfiltered) = choice.unfiltered.clone() {
            config = config.reroute_if(move |index| index.to_string() != unfiltered);
        }
        dagz_redis::configure(config)
    }

    async fn open(&self, address: &str) -> dagz_core::Result<MultiplexedConnection> {
        dagz_redis::connect(address).await
    }

    async fn database(&self, session: &MultiplexedConnection) -> Result<String> {
        let told: String = redis::cmd("CLIENT")
            .arg("INFO")
            .query_async(&mut session.clone())
            .await?;
        let index = told.split(' ').find_map(|pair| pair.strip_prefix("db="));
        Ok(index.context("the server tells no index")?.to_owned())
    }

    async fn put(&self, session: &MultiplexedConnection, key: &str, value: &str) -> Result<()> {
        let mut set = redis::cmd("SET");
        Ok(set
            .arg(key)
            .arg(value)
            .exec_async(&mut session.clone())
            .await?)
    }

    async fn entries(&self, session: &MultiplexedConnection) -> Result<Vec<(String, String)>> {
        let mut session = session.clone();
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut session)
            .await?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = redis::cmd("MGET");
        let values: Vec<Option<String>> = read.arg(&keys).query_async(&mut session).await?;
        let entries = keys.into_iter().zip(values);
        Ok(entries
            .filter_map(|(key, value)| Some((key, value?)))
            .collect())
    }

    async fn remove(&self, session: &MultiplexedConnection, key: &str) -> Result<()> {
        let mut delete = redis::cmd("DEL");
        let count: u64 = delete.arg(key).query_async(&mut session.clone()).await?;
        ensure!(count == 1, "no entry `{key}`");
        Ok(())
    }

    fn listens_at(&self) -> Result<(String, u16)> {
        match url()?.into_connection_info()?.addr() {
            ConnectionAddr::Tcp(host, port) => Ok((host.clone(), *port)),
            _ => bail!("`DAGZ_TEST_REDIS_URL` must name a TCP host for this case"),
        }
    }

    fn address_through(&self, port: u16, name: &str) -> String {
        let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), port);
        at(name, |info| info.set_addr(address)).unwrap_or_default()
    }

    async fn create(&self, name: &str) -> Result<()> {
        // An index is there, whoever looks at it first.
        connected(self.address(name).as_str()).await.map(drop)
    }

    async fn faulty(&self, fault: Fault, base: &str) -> Result<FaultyAddress> {
        if fault == Fault::Unreachable {
            // A port that was free a moment ago.
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            return Ok(FaultyAddress {
                address: format!("redis://app:{WRONG}@127.0.0.1:{port}/{base}"),
                secret: Some(WRONG.to_owned()),
                told: vec![format!("127.0.0.1:{port}"), "is it running?".to_owned()],
            });
        }
        let (user, right) = (user_of(base), "a-password-like-any-other");
        let mut rights = redis::cmd("ACL");
        rights.arg("SETUSER").arg(&user).arg("reset").arg("on");
        rights.arg(format!(">{right}")).arg("~*").arg("&*");
        rights.arg("+@all").arg("-flushdb");
        rights
            .exec_async(&mut connected(url()?.as_str()).await?)
            .await?;
        let (password, remedy) = match fault {
            Fault::MissingRights => (right, format!("ACL SETUSER {user} ")),
            _ => (WRONG, "check the user, the password".to_owned()),
        };
        let address = at(base, |info| {
            let settings = info.redis_settings().clone();
            let settings = settings.set_username(&user).set_password(password);
            info.set_redis_settings(settings)
        })?;
        Ok(FaultyAddress {
            address,
            secret: Some(password.to_owned()),
            told: vec![format!("`{user}`"), remedy],
        })
    }

    async fn clean(&self, made: &Made) -> Result<()> {
        let (url, block) = (url()?, block(&made.prefix)?);
        let config = Config::new(&url)?;
        for database in dagz_redis::databases(&config, &made.project).await? {
            let index: i64 = database.name().parse()?;
            ensure!(block.contains(index), "`{index}` is none of this case's");
            dagz_redis::remove(&database).await?;
        }
        let mut delete = redis::cmd("ACL");
        delete.arg("DELUSER");
        for base in &made.bases {
            delete.arg(user_of(base));
        }
        delete
            .exec_async(&mut connected(url.as_str()).await?)
            .await?;
        Block::give_back(&url, &made.prefix)
    }
}

/// The case that wishes for a base, and which of its bases it wishes for.
fn case_of(wish: &str) -> (&str, usize) {
    for (position, suffix) in [(1, "_second"), (2, "_third"), (3, "_fourth")] {
        if let Some(case) = wish.strip_suffix(suffix) {
            return (case, position);
        }
    }
    (wish, 0)
}

/// The block of a case, asked for once per process.
fn block(case: &str) -> Result<Block> {
    static KNOWN: Mutex<Option<HashMap<String, Block>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(block) = known.get(case) {
        return Ok(*block);
    }
    let block = Block::of(&url()?, case)?;
    known.insert(case.to_owned(), block);
    Ok(block)
}

/// A user of the case that has the base database `base`.
fn user_of(base: &str) -> String {
    format!("dagz_contract_{base}")
}

/// The user's own preparation: dagz's, with something before it.
async fn prepare_by_hand(hook: Hook, target: Target) -> Result<()> {
    hook.call(&target).await?;
    Ok(dagz_redis::flush(&target).await?)
}

/// What fills a worker's database, with what the case wants before it.
async fn seed(hook: Option<Hook>, target: Target, at: ConnectionInfo) -> Result<()> {
    if let Some(hook) = hook {
        hook.call(&target).await?;
    }
    let (key, value) = SEED;
    let mut set = redis::cmd("SET");
    set.arg(key).arg(value);
    Ok(set.exec_async(&mut connected(at).await?).await?)
}

/// The server as a user would reach it who has never heard of dagz.
fn url() -> Result<String> {
    env::var("DAGZ_TEST_REDIS_URL").context("`DAGZ_TEST_REDIS_URL` is not set")
}

async fn connected(info: impl IntoConnectionInfo) -> Result<MultiplexedConnection> {
    let client = Client::open(info)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// The URL of the database `name` on the server, changed by `change`.
fn at(name: &str, change: impl FnOnce(ConnectionInfo) -> ConnectionInfo) -> Result<String> {
    let info = change(url()?.into_connection_info()?);
    let settings = info.redis_settings();
    Ok(format!(
        "redis://{}:{}@{}/{name}",
        settings.username().unwrap_or_default(),
        settings.password().unwrap_or_default(),
        info.addr()
    ))
}
