//! What the tests of this crate share: a broker, a worker's target on it, and a look at its vhost.
//!
//! Tests drive a [`Driver`] of their own through [`Site`], since a process has only one configured.

pub(crate) mod management;

use std::{env, process, sync::Once};

use dagz_amqp::{Config, Driver};
use dagz_core::{
    Access, DbConfig, Endpoint, Scope, ScopeGuard, Target, Worker, configure, resolve_blocking,
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
    uri::AMQPUri,
};
use management::part;
use serde_json::{Value, json};

/// The broker to test against.
pub(crate) fn url() -> String {
    env::var("DAGZ_TEST_AMQP_URL").unwrap_or_else(|_| {
        panic!(
            "`DAGZ_TEST_AMQP_URL` is not set: start a server by `cargo xtask services up rabbitmq`"
        )
    })
}

/// The address of `vhost`, for the user who may do everything.
pub(crate) fn uri(vhost: &str) -> AMQPUri {
    let mut uri: AMQPUri = url().parse().expect("`DAGZ_TEST_AMQP_URL` is a URL");
    vhost.clone_into(&mut uri.vhost);
    uri
}

/// A configuration for the base `vhost`.
pub(crate) fn config(vhost: &str) -> Config {
    let management = management::url().expect("the management API is known");
    Config::from_uri(uri(vhost))
        .management(&management)
        .expect("its address can be used")
}

/// A connection, driven by the test's runtime.
pub(crate) async fn connect(uri: AMQPUri) -> Connection {
    let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await;
    connection.expect("the broker lets this user in")
}

/// A channel that confirms.
pub(crate) async fn channel(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.expect("a channel opens");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("the broker confirms");
    channel
}

/// Publishes to the queue, and waits until the broker has it.
pub(crate) async fn publish(channel: &Channel, exchange: &str, key: &str, text: &str) {
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions::default(),
            text.as_bytes(),
            BasicProperties::default(),
        )
        .await
        .expect("it is sent")
        .await
        .expect("the broker takes it");
}

/// A durable queue without arguments.
pub(crate) async fn declare(channel: &Channel, queue: &str) {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), durable, FieldTable::default())
        .await
        .expect("the queue is declared");
}

/// How many messages are ready in the queue, and how many consumers it has.
pub(crate) async fn counts(channel: &Channel, queue: &str) -> (u32, u32) {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let told = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await
        .expect("the queue is there");
    (told.message_count(), told.consumer_count())
}

/// The start state of the tests: two exchanges, bound to five queues, and a policy.
pub(crate) fn topology() -> Value {
    let queue = |name: &str, arguments: Value| json!({"name": name, "durable": true, "auto_delete": false, "arguments": arguments});
    let exchange = |name: &str, kind: &str| json!({"name": name, "type": kind, "durable": true, "auto_delete": false, "internal": false, "arguments": {}});
    let binding = |source: &str, kind: &str, destination: &str, key: &str, arguments: Value| json!({"source": source, "destination_type": kind, "destination": destination, "routing_key": key, "arguments": arguments});
    json!({
        "queues": [
            queue("orders", json!({})),
            queue("mail", json!({"x-max-length": 1000, "x-queue-type": "classic"})),
            queue("ledger", json!({"x-queue-type": "quorum"})),
            queue("audit", json!({"x-queue-type": "stream"})),
            queue("retry", json!({"x-message-ttl": 60000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders"})),
        ],
        "exchanges": [exchange("events", "topic"), exchange("all", "fanout")],
        "bindings": [
            binding("events", "queue", "orders", "order.*", json!({})),
            binding("events", "queue", "ledger", "order.paid", json!({})),
            binding("all", "queue", "mail", "", json!({"x-match": "any", "n": 1})),
            binding("events", "exchange", "all", "#", json!({})),
        ],
        "policies": [{"name": "short", "pattern": "^tmp", "definition": {"max-length": 3}, "priority": 1, "apply-to": "queues"}],
        "parameters": [],
    })
}

/// Brings `vhost` about, with this in it.
pub(crate) fn make(vhost: &str, definitions: &Value) {
    management::put(&format!("/api/vhosts/{}", part(vhost)), &json!({})).expect("it is made");
    management::post(&format!("/api/definitions/{}", part(vhost)), definitions)
        .expect("it is filled");
}

/// The definitions of `vhost`, in an order of their own, without dagz's queues.
pub(crate) fn definitions(vhost: &str) -> Value {
    let mut told = management::get(&format!("/api/definitions/{}", part(vhost))).expect("told");
    let mut kept = serde_json::Map::new();
    for key in ["queues", "exchanges", "bindings", "policies", "parameters"] {
        let mut list = told[key].take().as_array().cloned().unwrap_or_default();
        list.retain(|one| {
            !one["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("dagz."))
        });
        for one in &mut list {
            if let Some(one) = one.as_object_mut() {
                one.remove("vhost");
            }
        }
        list.sort_by_key(Value::to_string);
        kept.insert(key.to_owned(), Value::Array(list));
    }
    Value::Object(kept)
}

/// Knows how a driver names vhosts, and nothing of brokers: a way to a target that no driver has touched.
struct Names;

impl DbConfig for Names {
    fn driver(&self) -> &'static str {
        "names"
    }

    fn name_limit(&self) -> usize {
        255
    }

    fn rewrite(&self, worker: Worker, base: &str) -> dagz_core::Result<String> {
        Driver::new(Config::from_uri(uri(base))).rewrite(worker, base)
    }
}

/// A driver, and a worker's vhost that it is to make.
pub(crate) struct Site {
    pub(crate) driver: Driver,
    pub(crate) config: Config,
    pub(crate) target: Target,
    pub(crate) base: String,
    /// Keeps the worker.
    pub(crate) scope: Option<ScopeGuard>,
}

impl Site {
    /// A site with a base vhost of its own, which holds [`topology`], and a driver configured by `configured`.
    pub(crate) fn new(test: &str, configured: impl FnOnce(Config) -> Config) -> Self {
        let scope = Scope::builder(format!("{}::{test}", module_path!()));
        let scope = scope.enter().expect("a worker becomes free");
        let base = format!("t_{test}_{}", process::id());
        make(&base, &topology());
        let config = configured(config(&base));
        Self {
            driver: Driver::new(config.clone()),
            config,
            target: target(&base),
            base,
            scope: Some(scope),
        }
    }

    /// A connection as the test has it.
    pub(crate) async fn connect(&self) -> Connection {
        let uri = self.driver.address(&self.target).await;
        connect(uri.expect("somebody may log in")).await
    }

    /// A connection of nobody's test.
    pub(crate) async fn visit(&self) -> Connection {
        connect(uri(self.target.name())).await
    }

    /// Ends this test; the next one has the same worker, whose lease is kept, since others wait for it, too.
    pub(crate) async fn next_test(&mut self) {
        self.driver.release(&self.target).await;
    }

    /// Makes the vhost, and resets it.
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

    /// Fails unless the vhost is in its start state: as declared, without messages and consumers.
    pub(crate) async fn is_as_at_the_start(&self, when: &str) {
        let vhost = self.target.name();
        assert_eq!(definitions(vhost), definitions(&self.base), "{when}");
        let visit = channel(&self.visit().await).await;
        for queue in topology()["queues"].as_array().expect("a list") {
            let queue = queue["name"].as_str().expect("a name");
            assert_eq!(counts(&visit, queue).await, (0, 0), "`{queue}` {when}");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.scope.take());
        let users = management::get("/api/users").unwrap_or_default();
        for user in users.as_array().into_iter().flatten() {
            let user = user["name"].as_str().unwrap_or_default();
            if user.starts_with(&format!("dagz.{}.", self.target.name())) {
                drop(management::delete(&format!("/api/users/{}", part(user))));
            }
        }
        let name = part(self.target.name());
        let start = format!("/api/global-parameters/dagz%2Estart%2E{name}");
        drop(management::delete(&start));
        for vhost in [name, part(&self.base)] {
            drop(management::delete(&format!("/api/vhosts/{vhost}")));
        }
    }
}

/// The current worker's vhost for `base`.
pub(crate) fn target(base: &str) -> Target {
    static NAMES: Once = Once::new();
    NAMES.call_once(|| configure(Names).expect("nobody else knows names"));
    let authority = uri(base).authority;
    let endpoint = Endpoint::new(format!("{}:{}", authority.host, authority.port));
    resolve_blocking("names", Access::new(endpoint, base))
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
        // Waits for what that began.
        drop(site.driver.reset(&site.target).await);
    });
}

/// Blocks on `future` with a runtime of the test's own.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}
