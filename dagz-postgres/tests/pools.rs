//! deadpool-postgres: rerouted pools, and the guard against one that outlives its worker.

#![cfg(feature = "deadpool")]

mod support;

use std::{
    sync::{Mutex, Once, mpsc},
    thread,
};

use dagz_core::Scope;
use dagz_postgres::{Config, RerouteExt, configure, deadpool::guard};
use deadpool_postgres::{Manager, Pool};
use support::{base, config, run};
use tokio_postgres::NoTls;

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
    let first = enter("pools::first");
    run(async {
        let config = config(&base("pools")).reroute().await.unwrap();
        let pool = Pool::builder(Manager::new(config.clone(), NoTls))
            .pre_recycle(guard(&config))
            .post_create(guard(&config))
            .build()
            .unwrap();
        database(&pool).await;
        database(&pool).await;

        // Another test, on a thread and a worker of its own, finds the pool in a static.
        let (done, results) = mpsc::channel();
        let shared = Mutex::new(pool.clone());
        thread::scope(|threads| {
            threads.spawn(|| {
                let _second = enter("pools::second");
                let pool = shared.lock().unwrap().clone();
                // The connection that is idle in the pool, and a new one.
                done.send(run(async { (pool.get().await, pool.get().await) }))
                    .unwrap();
            });
        });
        let (idle, fresh) = results.recv().unwrap();
        for result in [idle, fresh] {
            let error = result.map(drop).unwrap_err().to_string();
            for part in [
                "pools::second",
                "a pool per test",
                config.get_dbname().unwrap(),
            ] {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
    });
    drop(first);
}
