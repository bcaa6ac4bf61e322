//! deadpool-postgres: rerouted pools, and the guard against one that outlives its worker.

#![cfg(feature = "deadpool")]

mod support;

use std::sync::Once;

use dagz_core::{Scope, Worker};
use dagz_postgres::{Config, RerouteExt, configure, deadpool::guard};
use deadpool_postgres::{Hook, Manager, Pool, PoolBuilder};
use support::{base, config, run};
use tokio_postgres::NoTls;

/// A way to add a hook to a pool.
type Hooked = fn(PoolBuilder, Hook) -> PoolBuilder;

fn enter(test: &str) -> dagz_core::ScopeGuard {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::from_config(config(&base("pools")))
            .migrate_with("1", |_| async { Ok::<_, dagz_core::Error>(()) });
        configure(config).unwrap();
    });
    Scope::builder(test).enter().unwrap()
}

async fn database(pool: &Pool) -> String {
    let client = pool.get().await.unwrap();
    let row = client
        .query_one("SELECT current_database()", &[])
        .await
        .unwrap();
    row.get(0)
}

#[test]
fn deadpool_configurations_are_rerouted() {
    let guard = enter("pools::configuration");
    run(async {
        let expected = format!("{}_{}", base("pools"), guard.scope().worker());
        let by_url = deadpool_postgres::Config {
            url: Some(support::url()),
            dbname: Some(base("pools")),
            ..Default::default()
        };
        let rerouted = by_url.reroute().await.unwrap();
        assert_eq!(rerouted.url, by_url.url);
        let pool = rerouted.create_pool(None, NoTls).unwrap();
        assert_eq!(database(&pool).await, expected);
        assert_eq!(by_url.reroute_blocking().unwrap().dbname, Some(expected));

        let secret = deadpool_postgres::Config {
            url: Some("postgres://u:hunter2@h:x/db".to_owned()),
            ..Default::default()
        };
        let report = secret.reroute().await.unwrap_err().report().to_string();
        assert!(!report.contains("hunter2"), "{report}");
        assert!(report.contains("`url`"), "{report}");
    });
}

#[test]
fn a_pool_of_another_worker_is_refused() {
    let scope = enter("pools::second");
    run(async {
        let config = config(&base("pools")).reroute().await.unwrap();
        // What a test on a worker that this run need not even have would have made its pool from.
        let mut elsewhere = config.clone();
        let other = Worker::new(scope.scope().worker().number() + 1);
        let database_of_other = format!("{}_{other}", base("pools"));
        elsewhere.dbname(&database_of_other);
        let pool = |guarded: &tokio_postgres::Config, builder: Hooked| {
            let manager = Manager::new(config.clone(), NoTls);
            builder(Pool::builder(manager), guard(guarded))
                .build()
                .unwrap()
        };
        let (created, recycled): (Hooked, Hooked) =
            (PoolBuilder::post_create, PoolBuilder::pre_recycle);

        for builder in [created, recycled] {
            let own = pool(&config, builder);
            database(&own).await;
            database(&own).await;
        }
        let error = pool(&elsewhere, created)
            .get()
            .await
            .map(drop)
            .unwrap_err()
            .to_string();
        for part in ["pools::second", "a pool per test", &database_of_other] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        // One that is idle in the pool is not handed out, but a new one, which `post_create` sees.
        let stale = pool(&elsewhere, recycled);
        let pid = async || {
            let client = stale.get().await.unwrap();
            client
                .query_one("SELECT pg_backend_pid()", &[])
                .await
                .unwrap()
                .get::<_, i32>(0)
        };
        assert_ne!(pid().await, pid().await);
    });
}
