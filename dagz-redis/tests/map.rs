//! The index map on a real server: enough databases, undeclared ones, and where dagz keeps its books.

mod support;

use dagz_core::{DbConfig as _, ErrorKind, Worker};
use dagz_redis::{Config, Driver};
use support::{at_site, connect, info, keys, tell};

#[test]
fn each_base_has_an_index_of_its_own_on_each_worker() {
    at_site(
        "map_bases",
        |config| config,
        async |site| {
            let bases = site.block.bases();
            let mut seen = bases.to_vec();
            for number in 0..8 {
                for base in bases {
                    let name = site
                        .driver
                        .rewrite(Worker::new(number), &base.to_string())
                        .expect("it is declared");
                    let index: i64 = name.parse().expect("it is an index");
                    assert!(!seen.contains(&index), "{index} is used twice");
                    assert!(site.block.contains(index), "{index}");
                    seen.push(index);
                }
            }
        },
    );
}

#[test]
fn an_undeclared_index_is_named_with_the_remedy() {
    let driver = Driver::new(Config::from_connection_info(info(0)).bases([0, 2]));
    let error = driver.rewrite(Worker::new(0), "900").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    let told = error.to_string();
    assert!(told.contains("`Config::bases([0, 2, 900])`"), "{told}");
}

#[test]
fn too_few_databases_are_named_with_how_many_are_needed() {
    at_site(
        "map_few",
        |config| config.first_index(1_000_000),
        async |site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.report());
            let workers = dagz_core::Settings::current().unwrap().workers();
            let needed = 1_000_000 + 4 * workers + 1;
            let told = error.to_string();
            for part in [
                "has 2048 databases",
                &format!("`databases {needed}`"),
                &format!("`--databases {needed}`"),
                "`Config::private_servers`",
            ] {
                assert!(told.contains(part), "`{part}` is not in: {told}");
            }
        },
    );
}

#[test]
fn bases_among_the_workers_are_refused_when_configured() {
    let config = Config::from_connection_info(info(0))
        .bases([0, 9])
        .first_index(4);
    let error = dagz_redis::configure(config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings, "{}", error.report());
    assert!(error.to_string().contains("first_index(10)"), "{error}");
}

#[test]
fn a_server_that_hides_its_configuration_is_asked_by_selecting() {
    at_site(
        "map_probed",
        |config| config,
        async |site| {
            let user = format!("probed-{}", site.index());
            let admin = connect(info(0)).await;
            tell(
                &admin,
                &format!("ACL SETUSER {user} reset on >pass ~* +@all -config -info"),
            )
            .await;
            let info = info(site.block.bases()[0]);
            let settings = info.redis_settings().clone();
            let settings = settings.set_username(&user).set_password("pass");
            let config = Config::from_connection_info(info.set_redis_settings(settings))
                .bases(site.block.bases())
                .first_index(site.block.first_index());
            let driver = Driver::new(config);
            driver.worker_init(&site.target).await.unwrap();
            driver.prepare(&site.target).await.unwrap();
            // The books are where everybody else has them: the stamp is seen.
            driver.release(&site.target).await;
            site.prepare().await;
            tell(&admin, &format!("ACL DELUSER {user}")).await;
        },
    );
}

#[test]
fn a_test_sees_no_key_of_dagz_and_may_flush_its_database() {
    at_site(
        "map_books",
        |config| config,
        async |site| {
            site.init().await;
            let test = site.connect().await;
            assert_eq!(keys(&test).await, [""; 0]);
            tell(&test, "FLUSHDB").await;
            tell(&test, "SET key value").await;
            site.driver.release(&site.target).await;
            site.prepare().await;
            assert_eq!(keys(&test).await, [""; 0]);
        },
    );
}
