//! A suite that uses all five servers and ails on purpose; `../cli` runs its tests one by one.
//!
//! `FIXTURE_PAUSE` names a file: as long as it is there, `waits` does not end. `FIXTURE_TWICE` makes the schema
//! twice, as set-up does that is written down in two places.

use std::{env, path::Path, sync::Arc, time::Duration};

use dagz::{
    amqp::lapin,
    cassandra::scylla::client::session::Session,
    mysql::mysql_async::prelude::Queryable as _,
    postgres::tokio_postgres::NoTls,
    redis::redis::{AsyncCommands as _, aio::MultiplexedConnection},
};

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("`{name}` is not set"))
}

/// The base name, of its own for each run that must not meet another.
fn base() -> String {
    env::var("FIXTURE_BASE").unwrap_or_else(|_| "ailing".to_owned())
}

/// The address of a server with the database `name`.
fn url(server: &str, name: &str) -> String {
    let url = variable(server);
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    format!("{}/{name}", &url[..end])
}

#[dagz::setup]
fn databases() -> dagz::Result<()> {
    let config = dagz::postgres::Config::new(&url("DATABASE_URL", &base()))?;
    dagz::postgres::configure(config.migrate_with("1", |config| async move {
        let (client, connection) = config.connect(NoTls).await?;
        let times = if env::var_os("FIXTURE_TWICE").is_some() {
            2
        } else {
            1
        };
        let schema = "CREATE TABLE item (id integer);".repeat(times);
        let fill = async move { client.batch_execute(&schema).await };
        let (done, ended) = tokio::join!(fill, connection);
        done.and(ended)
    }))?;
    let config = dagz::mysql::Config::new(&url("DAGZ_TEST_MYSQL_URL", &base()))?;
    dagz::mysql::configure(config.migrate_with("1", |opts| async move {
        let mut conn = dagz::mysql::mysql_async::Conn::new(opts).await?;
        conn.query_drop("CREATE TABLE item (id integer)").await?;
        conn.disconnect().await
    }))?;
    let first = variable("FIXTURE_INDEX").parse().expect("a number");
    let config = dagz::redis::Config::new(&url("DAGZ_TEST_REDIS_URL", "0"))?;
    dagz::redis::configure(config.first_index(first))?;
    let config = dagz::amqp::Config::new(&url("DAGZ_TEST_AMQP_URL", &base()))?;
    dagz::amqp::configure(config.management(&variable("DAGZ_TEST_AMQP_MANAGEMENT_URL"))?)?;
    let config = dagz::cassandra::Config::new(&url("DAGZ_TEST_CASSANDRA_URL", &base()))?;
    dagz::cassandra::configure(
        config.migrate_with("1", |session: Arc<Session>| async move {
            let table = "CREATE TABLE item (id int PRIMARY KEY)";
            session.query_unpaged(table, ()).await.map(drop)
        }),
    )
}

/// Writes into each of the worker's five databases.
async fn write(
    postgres: dagz::postgres::Client,
    mut mysql: dagz::mysql::Conn,
    mut redis: MultiplexedConnection,
    amqp: lapin::Channel,
    cassandra: Arc<Session>,
) {
    let insert = "INSERT INTO item VALUES (42)";
    postgres.batch_execute(insert).await.unwrap();
    mysql.query_drop(insert).await.unwrap();
    let () = redis.set("item", 42).await.unwrap();
    let durable = lapin::options::QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    amqp.queue_declare("item".into(), durable, Default::default())
        .await
        .unwrap();
    cassandra
        .query_unpaged("INSERT INTO item (id) VALUES (42)", ())
        .await
        .unwrap();
}

#[dagz::test]
async fn fails_on_all(
    postgres: dagz::postgres::Client,
    mysql: dagz::mysql::Conn,
    redis: MultiplexedConnection,
    amqp: lapin::Channel,
    cassandra: Arc<Session>,
) {
    write(postgres, mysql, redis, amqp, cassandra).await;
    panic!("on purpose");
}

#[dagz::test]
async fn passes_on_all(
    postgres: dagz::postgres::Client,
    mysql: dagz::mysql::Conn,
    redis: MultiplexedConnection,
    amqp: lapin::Channel,
    cassandra: Arc<Session>,
) {
    write(postgres, mysql, redis, amqp, cassandra).await;
}

#[dagz::test]
async fn brokers(_amqp: lapin::Channel, _cassandra: Arc<Session>) {}

#[dagz::test]
async fn brokers_wait(_amqp: lapin::Channel, _cassandra: Arc<Session>) {
    pause().await;
}

#[dagz::test]
async fn waits(_db: dagz::postgres::Client) {
    pause().await;
}

async fn pause() {
    if let Some(path) = env::var_os("FIXTURE_PAUSE") {
        while Path::new(&path).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[dagz::test]
fn idles_one() {}

#[dagz::test]
fn idles_two() {}

#[dagz::test]
fn idles_three() {}

/// What several of these write, each of them finds.
async fn on_the_base() {
    let _shared = dagz::bypass();
    let (client, connection) = dagz::postgres::connect(&url("DATABASE_URL", &base()), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client.batch_execute("SELECT 1").await.unwrap();
}

#[dagz::test]
async fn shares_one() {
    on_the_base().await;
}

#[dagz::test]
async fn shares_two() {
    on_the_base().await;
}

/// As with a pool that is kept in a `static` by a test of another worker.
#[dagz::test]
async fn opens_anothers() {
    let own = dagz::current().expect("a test has a scope").worker();
    let other = own.number() + 1;
    let name = format!("{}_jw{other:02}", base());
    if let Err(error) = dagz::postgres::connect(&url("DATABASE_URL", &name), NoTls).await {
        panic!("{}", error.report());
    }
}
