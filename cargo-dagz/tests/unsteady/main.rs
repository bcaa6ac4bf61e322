//! A suite that does not pass each time, on purpose; `../cli` runs it to see what `cargo dagz test` makes of it.
//!
//! `FIXTURE_FOLDER` names a folder in which a test remembers that it has run. The databases are never reset.

use std::{env, fs, path::Path};

use dagz::{
    postgres::{Config, Prepare, tokio_postgres::NoTls},
    redis::redis::{AsyncCommands as _, aio::MultiplexedConnection, cmd},
};

#[dagz::setup]
fn databases() -> dagz::Result<()> {
    let variable = |name| env::var(name).unwrap_or_else(|_| panic!("`{name}` is not set"));
    let url = variable("DATABASE_URL");
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    let config = Config::new(&format!("{server}/{}", variable("FIXTURE_BASE")))?;
    let config = config.migrate_with("1", |config| async move {
        let (client, connection) = config.connect(NoTls).await?;
        let (done, ended) = tokio::join!(
            async move { client.batch_execute("CREATE TABLE item (id integer)").await },
            connection
        );
        done.and(ended)
    });
    dagz::postgres::configure(config.prepare(Prepare::None))?;
    let config = dagz::redis::Config::new(&variable("DAGZ_TEST_REDIS_URL"))?;
    let first = variable("FIXTURE_INDEX").parse().expect("a number");
    dagz::redis::configure(
        config
            .first_index(first)
            .prepare(dagz::redis::Prepare::None),
    )
}

async fn items(db: &dagz::postgres::Client) -> i64 {
    let row = db.query_one("SELECT count(*) FROM item", &[]).await;
    row.expect("the table is there").get(0)
}

#[dagz::test]
async fn a_leaves_an_item(db: dagz::postgres::Client, mut redis: MultiplexedConnection) {
    let () = redis.set("item", 1).await.expect("a key is set");
    let inserted = db.execute("INSERT INTO item VALUES (1)", &[]).await;
    assert_eq!(inserted.expect("the table is there"), 1);
}

#[dagz::test]
async fn b_expects_no_item(db: dagz::postgres::Client, mut redis: MultiplexedConnection) {
    let keys: i64 = cmd("DBSIZE")
        .query_async(&mut redis)
        .await
        .expect("a number");
    assert_eq!((items(&db).await, keys), (0, 0), "somebody left an item");
}

#[dagz::test]
async fn c_never_passes(db: dagz::postgres::Client) {
    assert_eq!(items(&db).await, 7, "on purpose");
}

#[dagz::test]
async fn d_passes_the_second_time(_db: dagz::postgres::Client) {
    let folder = env::var("FIXTURE_FOLDER").expect("`FIXTURE_FOLDER` is set");
    let mark = Path::new(&folder).join("has-run");
    let has_run = mark.exists();
    fs::write(mark, "").expect("the folder is there");
    assert!(has_run, "the first time, on purpose");
}

#[dagz::test(main_worker)]
fn e_is_on_the_base() {}

#[dagz::test(exclusive)]
fn f_is_alone() {}
