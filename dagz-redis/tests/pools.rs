//! deadpool-redis: rerouted pools, and the guard against one that outlives its worker.

#![cfg(feature = "deadpool")]

mod support;

use std::sync::{Once, OnceLock};

use dagz_core::{Scope, ScopeGuard, Worker};
use dagz_redis::{Config, RerouteExt, configure, deadpool::guard};
use deadpool_redis::{Hook, Manager, Pool, PoolBuilder};
use support::{ask, blocks::Block, info, run, url};

/// A way to add a hook to a pool.
type Hooked = fn(PoolBuilder, Hook) -> PoolBuilder;

fn block() -> Block {
    static BLOCK: OnceLock<Block> = OnceLock::new();
    *BLOCK.get_or_init(|| Block::of_this_process(&url()).expect("a block becomes free"))
}

fn enter(test: &str) -> ScopeGuard {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::from_connection_info(info(block().bases()[0]));
        let config = config.bases(block().bases());
        configure(config.first_index(block().first_index())).unwrap();
    });
    Scope::builder(test).enter().unwrap()
}

async fn index(pool: &Pool) -> i64 {
    let connection = pool.get().await.unwrap();
    let told: String = ask(&connection, "CLIENT INFO").await.unwrap();
    let index = told.split(' ').find_map(|pair| pair.strip_prefix("db="));
    index.unwrap().parse().unwrap()
}

fn expected(worker: Worker) -> i64 {
    block().first_index() + i64::from(worker.number()) * 4
}

#[test]
fn deadpool_configurations_are_rerouted() {
    let guard = enter("pools::configuration");
    run(async {
        let expected = expected(guard.scope().worker());
        let base = info(block().bases()[0]);
        let by_info = deadpool_redis::Config::from_connection_info(base);
        let pool = by_info.reroute().await.unwrap().create_pool(None).unwrap();
        assert_eq!(index(&pool).await, expected);

        let text = url();
        let (server, _) = text.rsplit_once('/').unwrap();
        let by_url = deadpool_redis::Config::from_url(format!("{server}/{}", block().bases()[0]));
        let rerouted = by_url.reroute_blocking().unwrap();
        assert_eq!(rerouted.url, Some(format!("{server}/{expected}")));
        assert_eq!(index(&rerouted.create_pool(None).unwrap()).await, expected);

        let both = deadpool_redis::Config {
            url: Some("redis://:hunter2@h/0".to_owned()),
            ..by_info
        };
        let report = both.reroute().await.unwrap_err().report().to_string();
        assert!(!report.contains("hunter2"), "{report}");
        assert!(report.contains("one of them"), "{report}");
    });
}

#[test]
fn a_pool_of_another_worker_is_refused() {
    let scope = enter("pools::second");
    run(async {
        let own = info(block().bases()[0]).reroute().await.unwrap();
        // What a test on another worker would have made its pool from.
        let workers = dagz_core::Settings::current().unwrap().workers();
        assert!(workers > 1, "this test needs two workers");
        let other = Worker::new((scope.scope().worker().number() + 1) % workers);
        let elsewhere = info(expected(other));
        let pool = |guarded: &redis::ConnectionInfo, builder: Hooked| {
            let manager = Manager::new(own.clone()).unwrap();
            builder(Pool::builder(manager), guard(guarded))
                .build()
                .unwrap()
        };
        let (created, recycled): (Hooked, Hooked) =
            (PoolBuilder::post_create, PoolBuilder::pre_recycle);
        for builder in [created, recycled] {
            let own = pool(&own, builder);
            index(&own).await;
            index(&own).await;
        }
        let error = pool(&elsewhere, created)
            .get()
            .await
            .map(drop)
            .unwrap_err()
            .to_string();
        for part in [
            "pools::second",
            "a pool per test",
            &expected(other).to_string(),
        ] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        // One that is idle in the pool is not handed out, but a new one, which `post_create` sees.
        let stale = pool(&elsewhere, recycled);
        let id = async || {
            let connection = stale.get().await.unwrap();
            ask::<u64>(&connection, "CLIENT ID").await.unwrap()
        };
        assert_ne!(id().await, id().await);
    });
}
