//! Nothing is flushed that dagz cannot prove to be its own.

mod support;

use std::time::{Duration, Instant};

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_redis::{Driver, adopt, databases, remove};
use support::{Site, ask, at_site, connect, info, keys, tell};

/// The key of the site's stamp, in the books.
fn stamp_key(site: &Site) -> String {
    format!("dagz:stamp:{}", site.index())
}

async fn is_refused(site: &Site, expected: &str) {
    for result in [
        site.driver.worker_init(&site.target).await,
        site.driver.prepare(&site.target).await,
        site.driver.flush(&site.target).await,
        site.driver.baseline(&site.target).await,
    ] {
        let error = result.expect_err("it is not ours");
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
        let report = error.report().to_string();
        assert!(
            report.contains(expected),
            "`{expected}` is not in: {report}"
        );
        assert!(report.contains(site.target.name()), "{report}");
    }
    let own = site.connect().await;
    assert_eq!(keys(&own).await, ["precious"]);
}

#[test]
fn a_developers_data_stay() {
    at_site(
        "refused",
        |config| config,
        async |site| {
            tell(&site.connect().await, "SET precious 1").await;
            is_refused(site, "dagz did not create it").await;
            is_refused(site, "`dagz::redis::adopt`").await;
        },
    );
}

#[test]
fn what_was_adopted_is_reset() {
    at_site(
        "adopted",
        |config| config,
        async |site| {
            tell(&site.connect().await, "SET precious 1").await;
            is_refused(site, "dagz did not create it").await;
            adopt(&site.config, site.index()).await.unwrap();
            // Also by the driver that has refused it.
            site.prepare().await;
            assert_eq!(keys(&site.connect().await).await, [""; 0]);
            let error = adopt(&site.config, site.block.bases()[0])
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{}", error.report());
        },
    );
}

#[test]
fn another_projects_database_stays() {
    at_site(
        "foreign",
        |config| config,
        async |site| {
            site.init().await;
            site.driver.release(&site.target).await;
            let books = connect(info(2_047)).await;
            let key = stamp_key(site);
            let stamp: String = ask(&books, &format!("GET {key}")).await.unwrap();
            let own = format!("\"project\":\"{}\"", site.target.project());
            assert!(stamp.contains(&own), "{stamp}");
            let foreign = stamp.replace(&own, "\"project\":\"elsewhere-1\"");
            tell(&books, &format!("SET {key} {foreign}")).await;
            tell(&site.connect().await, "SET precious 1").await;
            is_refused(site, "`elsewhere-1`").await;
            let error = adopt(&site.config, site.index()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
            // By a later dagz, or by nobody who can be understood.
            tell(&books, &format!("SET {key} notes")).await;
            is_refused(site, "not of this version of dagz").await;
        },
    );
}

#[test]
fn a_stamp_that_vanishes_stops_the_next_reset() {
    at_site(
        "unstamped",
        |config| config,
        async |site| {
            site.init().await;
            site.driver.release(&site.target).await;
            tell(&site.connect().await, "SET precious 1").await;
            tell(
                &connect(info(2_047)).await,
                &format!("DEL {}", stamp_key(site)),
            )
            .await;
            is_refused(site, "dagz did not create it").await;
        },
    );
}

#[test]
fn a_stamp_that_vanishes_between_look_and_flush_stops_it_too() {
    at_site(
        "race",
        |config| config,
        async |site| {
            // Whenever the stamp goes, what was written after that stays.
            let books = connect(info(2_047)).await;
            let own = site.connect().await;
            for round in 0..30 {
                site.init().await;
                site.driver.release(&site.target).await;
                tokio::time::sleep(Duration::from_micros(20 * round)).await;
                let gone = async {
                    tell(&books, &format!("DEL {}", stamp_key(site))).await;
                    tell(&own, "SET precious 1").await;
                };
                let (reset, ()) = tokio::join!(site.driver.prepare(&site.target), gone);
                let found = keys(&own).await;
                match reset {
                    // It came before the stamp went, or after that and before the key.
                    Ok(()) => assert!(found.is_empty() || found == ["precious"], "{found:?}"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
                        assert_eq!(found, ["precious"], "it was refused, and flushed");
                    }
                }
                site.driver.release(&site.target).await;
                tell(&own, "FLUSHDB").await;
            }
        },
    );
}

#[test]
fn what_dagz_took_is_listed_and_given_back() {
    at_site(
        "listed",
        |config| config,
        async |site| {
            site.init().await;
            tell(&site.connect().await, "SET key value").await;
            let project = site.target.project();
            let listed = databases(&site.config, project).await.unwrap();
            let name = site.target.name();
            let own = listed.iter().find(|database| database.name() == name);
            let own = own.expect("it is listed");
            assert_eq!(own.worker(), Some(site.target.worker()));
            assert_eq!(own.base(), Some(site.target.base()));
            let error = remove(own).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
            site.driver.release(&site.target).await;
            remove(own).await.unwrap();
            remove(own).await.unwrap();
            assert_eq!(keys(&site.connect().await).await, [""; 0]);
            let listed = databases(&site.config, project).await.unwrap();
            assert!(!listed.iter().any(|database| database.name() == name));
            // And a test after that begins anew.
            site.prepare().await;
        },
    );
}

#[test]
fn another_run_is_told_who_has_the_database() {
    let quick = |config: dagz_redis::Config| config.lock_timeout(Duration::from_millis(50));
    at_site("in_use", quick, async |site| {
        site.init().await;
        let other = Driver::new(site.config.clone());
        for result in [
            other.prepare(&site.target).await,
            other.worker_init(&site.target).await,
        ] {
            // Making nothing takes no lock.
            let Err(error) = result else { continue };
            assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
            let told = error.to_string();
            for part in [site.target.test(), "DAGZ_NODE_INDEX", "127.0.0.1:"] {
                assert!(told.contains(part), "`{part}` is not in: {told}");
            }
        }
        let error = other.prepare(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
        site.driver.release(&site.target).await;
        other.prepare(&site.target).await.unwrap();
        other.release(&site.target).await;
    });
}

#[test]
fn another_run_is_waited_for_as_long_as_configured() {
    let patient = |config: dagz_redis::Config| config.lock_timeout(Duration::from_millis(1_500));
    at_site("patient", patient, async |site| {
        site.init().await;
        let other = Driver::new(site.config.clone());
        let began = Instant::now();
        let (waited, ()) = tokio::join!(other.prepare(&site.target), async {
            // Longer than a few tries take.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            site.driver.release(&site.target).await;
        });
        waited.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(began.elapsed() > Duration::from_millis(1_050));
        let error = site.driver.prepare(&site.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
        assert!(
            error.to_string().contains("another run is using"),
            "{error}"
        );
        other.release(&site.target).await;
    });
}

#[test]
fn the_lock_of_a_run_that_is_gone_is_none() {
    at_site(
        "gone",
        |config| config,
        async |site| {
            site.init().await;
            // As `kill -9` would, the server ends the connection that has the lock.
            let admin = connect(info(0)).await;
            let list: String = ask(&admin, "CLIENT LIST").await.unwrap();
            let db = format!(" db={} ", site.index());
            let keeper = list
                .lines()
                .find(|line| line.contains("name=dagz-keeper:") && line.contains(&db))
                .and_then(|line| line.split(' ').next()?.strip_prefix("id="))
                .expect("the keeper is listed");
            tell(&admin, &format!("CLIENT KILL ID {keeper}")).await;
            let other = Driver::new(site.config.clone());
            other.prepare(&site.target).await.unwrap();
            other.release(&site.target).await;
            // And the first one connects again, and says nothing.
            site.prepare().await;
        },
    );
}
