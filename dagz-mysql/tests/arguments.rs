//! What tests take as arguments: kept connections come back clean, fresh ones are on the test's
//! runtime, pools are put back.

mod support;

use std::sync::Once;

use dagz_core::{ErrorKind, FromScope, Scope, Worker};
use dagz_mysql::{
    Config, Conn, Mysql, Pool, configure,
    mysql_async::{self, Opts, OptsBuilder, prelude::Queryable as _},
};
use support::{base, execute, opts, rows, run};

const SCHEMA: &str = "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY)";

/// Runs `body` as a test would be run, on a worker.
fn in_scope(test: &str, body: impl AsyncFnOnce(&Scope)) {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::from_opts(opts(&base("arguments"))).migrate_with("1", |opts| async {
            mysql_async::Conn::new(opts).await?.query_drop(SCHEMA).await
        });
        configure(config).unwrap();
    });
    let guard = Scope::builder(test).enter().unwrap();
    run(body(guard.scope()));
}

async fn argument<T: FromScope<Mysql>>(scope: &Scope) -> T {
    T::from_scope(scope)
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

/// What a test may leave in a session.
const SESSION: &str = "SELECT DATABASE(), @@sql_mode, @mine, @@autocommit, IS_USED_LOCK('mine')";

/// Leaves what a test may leave; tells the session and how it was before.
async fn leave(scope: &Scope) -> (u32, Vec<String>) {
    let mut conn: Conn = argument(scope).await;
    let first = rows(&mut conn, SESSION).await;
    let own = format!("{}_{}", base("arguments"), scope.worker());
    assert!(first[0].starts_with(&own), "{first:?}");
    execute(
        &mut conn,
        "USE mysql; SET sql_mode = 'ANSI_QUOTES', @mine = 1, autocommit = 0; DO GET_LOCK('mine', 0)",
    )
    .await;
    assert_ne!(rows(&mut conn, SESSION).await, first);
    execute(&mut conn, &format!("USE `{own}`")).await;
    execute(
        &mut conn,
        "CREATE TEMPORARY TABLE item (id INT); BEGIN; USE mysql",
    )
    .await;
    // A result that nobody reads to its end.
    drop(conn.query_iter("SELECT 1; SELECT 2").await.unwrap());
    (conn.id(), first)
}

#[test]
fn kept_connections_are_clean() {
    let mut is_seen = false;
    // The tests beside this one may take the worker that it had.
    for _ in 0..100 {
        let (mut worker, mut left) = (Worker::new(0), (0, Vec::new()));
        in_scope("arguments::first", async |scope| {
            (worker, left) = (scope.worker(), leave(scope).await);
        });
        in_scope("arguments::second", async |scope| {
            if scope.worker() != worker {
                return;
            }
            is_seen = true;
            let mut conn: Conn = argument(scope).await;
            assert_eq!(conn.id(), left.0, "it is the same");
            assert_eq!(rows(&mut conn, SESSION).await, left.1);
            execute(&mut conn, "INSERT INTO item VALUES (NULL)").await;
            // Another one, at the same time.
            let mut other: Conn = argument(scope).await;
            assert_ne!(other.id(), left.0);
            assert_eq!(rows(&mut other, "SELECT * FROM item").await, ["1"]);
        });
        if is_seen {
            return;
        }
    }
    panic!("no two tests were on one worker");
}

#[test]
fn fresh_connections_and_settings_are_the_worker_s() {
    in_scope("arguments::fresh", async |scope| {
        let expected = format!("{}_{}", base("arguments"), scope.worker());
        let mut conn: mysql_async::Conn = argument(scope).await;
        assert_eq!(rows(&mut conn, "SELECT DATABASE()").await, [&*expected]);
        let opts: Opts = argument(scope).await;
        assert_eq!(opts.db_name(), Some(&*expected));
    });
}

#[test]
fn a_use_does_not_outlive_its_turn_in_a_pool() {
    in_scope("arguments::pool", async |scope| {
        let expected = format!("{}_{}", base("arguments"), scope.worker());
        let one = |opts: Opts| {
            let constraints = mysql_async::PoolConstraints::new(1, 1).unwrap();
            let only = mysql_async::PoolOpts::new().with_constraints(constraints);
            OptsBuilder::from_opts(opts).pool_opts(only)
        };
        // The library's own, of rerouted settings, also where the user's set-up chooses one.
        let own = OptsBuilder::from_opts(argument::<Opts>(scope).await);
        let chosen = OptsBuilder::from_opts(opts(&base("arguments"))).setup(vec!["USE mysql"]);
        let chosen = dagz_mysql::RerouteExt::reroute(&chosen).await.unwrap();
        for opts in [own, chosen] {
            let pool = mysql_async::Pool::new(one(opts.into()));
            for _ in 0..3 {
                let mut conn = pool.get_conn().await.unwrap();
                assert_eq!(rows(&mut conn, "SELECT DATABASE()").await, [&*expected]);
                execute(&mut conn, "USE mysql").await;
            }
            pool.disconnect().await.unwrap();
        }
        // And dagz's, which looks itself.
        let opts = argument::<Opts>(scope).await;
        let careless = mysql_async::PoolOpts::new().with_reset_connection(false);
        let pool = Pool::new(OptsBuilder::from_opts(opts).pool_opts(careless));
        for _ in 0..3 {
            let mut conn = pool.get_conn().await.unwrap();
            assert_eq!(rows(&mut conn, "SELECT DATABASE()").await, [&*expected]);
            execute(&mut conn, "USE mysql").await;
        }
        pool.disconnect().await.unwrap();
    });
}

#[test]
fn a_pool_of_another_worker_is_refused() {
    in_scope("arguments::stale", async |scope| {
        let own: Pool = argument(scope).await;
        drop(own.get_conn().await.unwrap());
        // What a test on a worker that this run need not even have would have made its pool from.
        let other = Worker::new(scope.worker().number() + 1);
        let database = format!("{}_{other}", base("arguments"));
        let pool = Pool::new(opts(&database));
        let error = pool.get_conn().await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignWorker);
        for part in ["arguments::stale", "a pool per test", &database] {
            assert!(
                error.to_string().contains(part),
                "`{part}` is not in: {error}"
            );
        }
        assert!(!format!("{pool:?}").contains(opts("").pass().unwrap()));
        own.disconnect().await.unwrap();
    });
}
