//! What the tests of this crate share: a server, a worker's target on it, and a look at its keys.
//!
//! Tests drive a [`Driver`] of their own through [`Site`], since a process has only one configured.

#![expect(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod blocks;
pub(crate) mod players;
pub(crate) mod start;

use std::{env, sync::Once};

use blocks::Block;
use dagz_core::{
    Access, DbConfig, Endpoint, Scope, ScopeGuard, Target, Worker, configure, resolve_blocking,
};
use dagz_redis::{Config, Driver};
use dagz_testkit::site;
pub(crate) use dagz_testkit::site::run;
use futures_util::future::BoxFuture;
use redis::{
    Client, ConnectionInfo, FromRedisValue, IntoConnectionInfo, aio::MultiplexedConnection,
};

/// The server to test against.
pub(crate) fn url() -> String {
    env::var("DAGZ_TEST_REDIS_URL").unwrap_or_else(|_| {
        panic!(
            "`DAGZ_TEST_REDIS_URL` is not set: start a server by `cargo xtask services up redis`"
        )
    })
}

/// Settings of a connection to the database `index`.
pub(crate) fn info(index: i64) -> ConnectionInfo {
    let info = url()
        .into_connection_info()
        .expect("`DAGZ_TEST_REDIS_URL` is a URL");
    let settings = info.redis_settings().clone().set_db(index);
    info.set_redis_settings(settings)
}

/// A connection, driven by the test's runtime.
pub(crate) async fn connect(info: impl IntoConnectionInfo) -> MultiplexedConnection {
    let client = Client::open(info).expect("the settings can be used");
    let connection = client.get_multiplexed_async_connection().await;
    connection.expect("the server answers")
}

/// Asks the server, in words separated by blanks; a no-break space in a word stands for a blank.
pub(crate) async fn ask<T: FromRedisValue>(
    connection: &MultiplexedConnection,
    words: &str,
) -> redis::RedisResult<T> {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        command.arg(word.replace('\u{a0}', " "));
    });
    command.query_async(&mut connection.clone()).await
}

/// Tells the server to do something, which it must.
pub(crate) async fn tell(connection: &MultiplexedConnection, words: &str) {
    ask::<redis::Value>(connection, words)
        .await
        .unwrap_or_else(|error| panic!("`{words}`: {error}"));
}

/// All keys, sorted.
pub(crate) async fn keys(connection: &MultiplexedConnection) -> Vec<String> {
    let mut keys: Vec<String> = ask(connection, "KEYS *").await.expect("keys are told");
    keys.sort();
    keys
}

/// Knows how a driver maps indices, and nothing of servers: a way to a target that no driver has touched.
struct Names;

impl DbConfig for Names {
    fn driver(&self) -> &'static str {
        "names"
    }

    fn name_limit(&self) -> usize {
        40
    }

    fn rewrite(&self, worker: Worker, base: &str) -> dagz_core::Result<String> {
        match base.parse() {
            Ok(base) => {
                let config = Config::from_connection_info(info(base));
                let block = Block::around(base);
                let config = config.bases(block.bases()).first_index(block.first_index());
                Driver::new(config).rewrite(worker, &base.to_string())
            }
            Err(_) => dagz_core::name::rewrite(worker, base, self.name_limit()),
        }
    }

    fn worker_of(&self, _: &str) -> Option<Worker> {
        None
    }
}

/// A driver, and a worker's database that it is to make.
pub(crate) struct Site {
    pub(crate) driver: Driver,
    pub(crate) config: Config,
    pub(crate) target: Target,
    pub(crate) block: Block,
    name: String,
    /// Keeps the worker.
    pub(crate) scope: Option<ScopeGuard>,
}

impl Site {
    /// A site for a block of its own, with a driver configured by `configured`.
    pub(crate) fn new(test: &str, configured: impl FnOnce(Config) -> Config) -> Self {
        let scope = Scope::builder(format!("{}::{test}", module_path!()));
        let scope = scope.enter().expect("a worker becomes free");
        let name = format!("{test}-{}", std::process::id());
        let block = Block::of(&url(), &name).expect("a block becomes free");
        let config = Config::from_connection_info(info(block.bases()[0]))
            .bases(block.bases())
            .first_index(block.first_index());
        let config = configured(config);
        Self {
            driver: Driver::new(config.clone()),
            config,
            target: target(block.bases()[0]),
            block,
            name,
            scope: Some(scope),
        }
    }

    /// The index of the worker's database.
    pub(crate) fn index(&self) -> i64 {
        self.target.name().parse().expect("a name is an index")
    }

    /// A connection to the worker's database that no test is known to have opened.
    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        connect(info(self.index())).await
    }

    /// Ends this test, and begins another on the same worker.
    pub(crate) fn next_test(&mut self, test: &str) {
        let worker = self.target.worker();
        drop(self.scope.take());
        self.scope = Some(site::enter_on(worker, test));
        self.target = target(self.block.bases()[0]);
    }

    /// Makes the database, and resets it.
    pub(crate) async fn init(&self) {
        self.driver
            .worker_init(&self.target)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
        self.prepare().await;
    }

    pub(crate) async fn prepare(&self) {
        self.driver
            .prepare(&self.target)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        Block::give_back(&url(), &self.name).expect("the block is given back");
    }
}

/// The current worker's database for the base index `base` of a block.
pub(crate) fn target(base: i64) -> Target {
    static NAMES: Once = Once::new();
    NAMES.call_once(|| configure(Names).expect("nobody else knows names"));
    let info = info(base);
    let endpoint = Endpoint::new(info.addr().to_string());
    resolve_blocking("names", Access::new(endpoint, base.to_string()))
        .expect("names are resolved without a server")
        .target()
        .expect("the test is in a scope")
        .clone()
}

/// Runs a test at a site of its own.
pub(crate) fn at_site(
    test: &str,
    configured: impl FnOnce(Config) -> Config,
    body: impl AsyncFnOnce(&mut Site),
) {
    let mut site = Site::new(test, configured);
    run(async {
        body(&mut site).await;
        site.driver.release(&site.target).await;
    });
}

/// A `worker_init` that leaves so many keys.
pub(crate) fn seed(
    count: usize,
) -> impl Fn(Target, ConnectionInfo) -> BoxFuture<'static, redis::RedisResult<()>> + Send + Sync {
    move |_, info| {
        Box::pin(async move {
            let mut connection = Client::open(info)?
                .get_multiplexed_async_connection()
                .await?;
            for number in 0..count {
                redis::cmd("SET")
                    .arg(format!("seed:{number:04}"))
                    .arg("sown")
                    .exec_async(&mut connection)
                    .await?;
            }
            Ok(())
        })
    }
}
