//! What each choice leaves, and what happens where there is no start state.

mod support;

use std::sync::{Arc, Mutex};

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_redis::{Driver, Prepare};
use support::{ask, at_site, keys, seed, tell};

#[test]
fn each_choice_leaves_what_it_says() {
    for (prepare, expected) in [
        (Prepare::None, &["seed:0000", "written"][..]),
        (Prepare::Flush, &[]),
        (Prepare::Baseline, &["seed:0000"]),
    ] {
        let chosen = |config: dagz_redis::Config| config.prepare(prepare).worker_init(seed(1));
        at_site("choices", chosen, async |site| {
            site.init().await;
            let test = site.connect().await;
            let first: &[&str] = match prepare {
                Prepare::Flush => &[],
                _ => &["seed:0000"],
            };
            assert_eq!(keys(&test).await, first, "{prepare:?}");
            tell(&test, "SET written value").await;
            tell(&test, "SET seed:0000 spoilt").await;
            site.driver.release(&site.target).await;
            site.prepare().await;
            let left: Vec<String> = keys(&test).await;
            assert_eq!(left, expected, "{prepare:?}");
            if prepare == Prepare::Baseline {
                let seed: String = ask(&test, "GET seed:0000").await.unwrap();
                assert_eq!(seed, "sown");
            }
            // By hand, whatever was chosen.
            tell(&test, "SET written value").await;
            site.driver.baseline(&site.target).await.unwrap();
            assert_eq!(keys(&test).await, ["seed:0000"], "{prepare:?}");
            site.driver.flush(&site.target).await.unwrap();
            assert_eq!(keys(&test).await, [""; 0], "{prepare:?}");
        });
    }
}

#[test]
fn a_server_that_lost_everything_is_filled_again() {
    at_site(
        "lost",
        |config| config.worker_init(seed(2)),
        async |site| {
            site.init().await;
            site.driver.release(&site.target).await;
            // What a restart without persistence leaves.
            tell(&site.connect().await, "FLUSHDB").await;
            let books = support::connect(support::info(2_047)).await;
            let index = site.index();
            tell(
                &books,
                &format!("DEL dagz:stamp:{index} dagz:baseline:{index}"),
            )
            .await;
            site.prepare().await;
            assert_eq!(keys(&site.connect().await).await.len(), 2);
        },
    );
}

#[test]
fn a_failing_worker_init_is_told_and_holds_nothing() {
    let failing = |config: dagz_redis::Config| {
        config.worker_init(|_, _| async { Err::<(), _>("it fails on purpose") })
    };
    at_site("failing", failing, async |site| {
        let error = site.driver.worker_init(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerInit);
        let report = error.report().to_string();
        assert!(report.contains("it fails on purpose"), "{report}");
        let other = Driver::new(site.config.clone().worker_init(seed(1)));
        other.worker_init(&site.target).await.unwrap();
        assert_eq!(keys(&site.connect().await).await, ["seed:0000"]);
    });
}

#[test]
fn what_was_half_sown_is_sown_anew() {
    // What each attempt finds.
    let found = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&found);
    let half = move |config: dagz_redis::Config| {
        config.worker_init(move |_, info| {
            let told = Arc::clone(&told);
            async move {
                let db = support::connect(info).await;
                let attempt = {
                    let there = keys(&db).await;
                    let mut found = told.lock().expect("nobody panics");
                    found.push(there);
                    found.len()
                };
                tell(&db, &format!("SET seed:{attempt} sown")).await;
                if attempt < 4 {
                    return Err("it fails on purpose");
                }
                tell(&db, "SET seed:whole sown").await;
                Ok(())
            }
        })
    };
    at_site("half_sown", half, async |site| {
        for attempt in 1..4 {
            // As this process does it, as its prepare, and as another process.
            let other = Driver::new(site.config.clone());
            let error = match attempt {
                1 => site.driver.worker_init(&site.target).await,
                2 => site.driver.prepare(&site.target).await,
                _ => other.worker_init(&site.target).await,
            };
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerInit, "{}", error.report());
            let half = format!("seed:{attempt}");
            assert_eq!(keys(&site.connect().await).await, [half], "half sown");
            site.driver.release(&site.target).await;
            other.release(&site.target).await;
        }
        site.prepare().await;
        let test = site.connect().await;
        assert_eq!(keys(&test).await, ["seed:4", "seed:whole"]);
        assert_eq!(*found.lock().unwrap(), [const { Vec::<String>::new() }; 4]);
        // And that is what is restored.
        tell(&test, "DEL seed:4").await;
        site.driver.release(&site.target).await;
        site.prepare().await;
        assert_eq!(keys(&test).await, ["seed:4", "seed:whole"]);
        assert_eq!(found.lock().unwrap().len(), 4);
    });
}
