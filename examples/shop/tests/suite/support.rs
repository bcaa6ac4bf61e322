//! Where dagz comes in, and all of it: [`databases`] says once how databases are made and reset, and [`TestApp`] is what
//! a test asks for as its argument.
//!
//! What a test does with the application is in `app.rs`; what people do without dagz is in `today.rs`.

use dagz::postgres::{Prepare, RerouteExt};
use dagz::{Error, ErrorKind, FromScope, Scope};
use lapin::uri::AMQPUri;
use mysql_async::{Opts, OptsBuilder};
use redis::{ConnectionInfo, IntoConnectionInfo};
use tokio_postgres::Config;

use crate::app::TestApp;
use crate::broker::declare;
use crate::history;
use crate::{audit, today};

#[dagz::setup]
fn databases() -> dagz::Result<()> {
    dagz::redis::configure(dagz::redis::Config::from_connection_info(cache()?))?;
    dagz::mysql::configure(
        dagz::mysql::Config::from_opts(books()?)
            .migrations(concat!(env!("CARGO_MANIFEST_DIR"), "/ledger"))
            .prepare(dagz::mysql::Prepare::Baseline),
    )?;
    let mut broker = dagz::amqp::Config::from_uri(broker()?);
    if let Ok(management) = std::env::var("DAGZ_TEST_AMQP_MANAGEMENT_URL") {
        broker = broker.management(&management)?;
    }
    dagz::amqp::configure(broker.worker_init(|_, uri| declare(uri)))?;
    dagz::cassandra::configure(
        dagz::cassandra::Config::new(&history()?)?.migrate_with("1", history::migrate),
    )?;
    let config = dagz::postgres::Config::from_config(configured()?)
        .migrations(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
        .prepare(Prepare::Baseline);
    dagz::postgres::configure(if audit::is_wanted() {
        config.migrate_with(audit::VERSION, audit::install_into)
    } else {
        config
    })
}

/// Tells dagz that the implementation for [`TestApp`] is of this crate.
pub(crate) struct Shop;

impl FromScope<Shop> for TestApp {
    async fn from_scope(scope: &Scope) -> dagz::Result<Self> {
        let config = configured()?.reroute().await?;
        Ok(Self::over(
            today::unless_active(config, scope.test()).await?,
            scope.test(),
        ))
    }
}

/// The database of this thread's test, for code that is not async.
pub(crate) fn rerouted_blocking() -> dagz::Result<Config> {
    configured()?.reroute_blocking()
}

/// What the application would be configured with: `DATABASE_URL`, and `shop` where that names no database of its own.
fn configured() -> dagz::Result<Config> {
    let url = variable("DATABASE_URL", "postgres")?;
    let mut config: Config = url.parse().map_err(unusable("DATABASE_URL"))?;
    if config.get_dbname().is_none_or(|name| name == "postgres") {
        config.dbname("shop");
    }
    Ok(config)
}

/// The cache of the current test.
pub(crate) async fn rerouted_redis() -> dagz::Result<ConnectionInfo> {
    dagz::redis::RerouteExt::reroute(&cache()?).await
}

/// The bookkeepers' database of the current test.
pub(crate) async fn rerouted_books() -> dagz::Result<Opts> {
    dagz::mysql::RerouteExt::reroute(&books()?).await
}

/// The broker of the current test.
pub(crate) async fn rerouted_broker() -> dagz::Result<AMQPUri> {
    dagz::amqp::RerouteExt::reroute(&broker()?).await
}

/// What the shop would be configured with to tell its events: `AMQP_URL`.
fn broker() -> dagz::Result<AMQPUri> {
    let url = variable("AMQP_URL", "rabbitmq")?;
    url.parse().map_err(|_| {
        let message = "`AMQP_URL` is not usable";
        Error::new(ErrorKind::Settings, message)
    })
}

/// Where the shop would be configured to keep views: `CASSANDRA_URL`, and `shop_history` where that names no keyspace.
pub(crate) fn history() -> dagz::Result<String> {
    let url = variable("CASSANDRA_URL", "cassandra")?;
    let place = url.split_once("://").map_or("", |(_, place)| place);
    Ok(match place.split_once('/') {
        Some((_, keyspace)) if !keyspace.is_empty() => url,
        _ => format!("{}/shop_history", url.trim_end_matches('/')),
    })
}

/// What the storefront would be configured with: `REDIS_URL`.
fn cache() -> dagz::Result<ConnectionInfo> {
    variable("REDIS_URL", "redis")?
        .into_connection_info()
        .map_err(unusable("REDIS_URL"))
}

/// What the bookkeepers would be configured with: `MYSQL_URL`, and `ledger` where that names no database of its own.
fn books() -> dagz::Result<Opts> {
    let opts = Opts::from_url(&variable("MYSQL_URL", "mariadb")?).map_err(unusable("MYSQL_URL"))?;
    let is_named = opts.db_name().is_some_and(|name| name != "mysql");
    let builder = OptsBuilder::from_opts(opts.clone());
    Ok(match is_named {
        true => opts,
        false => builder.db_name(Some("ledger")).into(),
    })
}

fn variable(name: &'static str, kind: &str) -> dagz::Result<String> {
    std::env::var(name).map_err(|_| {
        let message = format!(
            "`{name}` is not set: run `cargo xtask test -p shop`, or start a server by `cargo xtask services up {kind}` and \
             set what it prints"
        );
        Error::new(ErrorKind::Settings, message)
    })
}

/// A setting that its library cannot read.
pub(crate) fn unusable<E>(name: &'static str) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |error| {
        Error::new(ErrorKind::Settings, format!("`{name}` is not usable")).with_source(error)
    }
}
