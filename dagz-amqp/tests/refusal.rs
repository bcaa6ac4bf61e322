//! What dagz refuses, and that it says what to do about it.

#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::net::TcpListener;

use dagz_amqp::{Config, Driver, adopt, databases, remove};
use dagz_core::{DbConfig as _, ErrorKind};
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use support::{
    Site, at_site, channel, counts, definitions,
    management::{self, part},
    publish,
};

/// Makes the worker's vhost as somebody who has never heard of dagz, with a message in it.
async fn somebody_elses(site: &Site, description: &str) {
    let path = format!("/api/vhosts/{}", part(site.target.name()));
    management::put(&path, &json!({"description": description})).unwrap();
    let visit = channel(&site.visit().await).await;
    support::declare(&visit, "precious").await;
    publish(&visit, "", "precious", "message").await;
}

async fn is_untouched(site: &Site) {
    let visit = channel(&site.visit().await).await;
    assert_eq!(counts(&visit, "precious").await.0, 1);
}

#[test]
fn a_vhost_that_dagz_did_not_create() {
    at_site(
        "unstamped",
        |config| config,
        async |site| {
            somebody_elses(site, "mine").await;
            for error in [
                site.driver.worker_init(&site.target).await.unwrap_err(),
                site.driver.prepare(&site.target).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
                let told = error.report().to_string();
                for part in [
                    "dagz did not create it",
                    site.target.name(),
                    "dagz::amqp::adopt",
                ] {
                    assert!(told.contains(part), "{told}");
                }
            }
            is_untouched(site).await;
        },
    );
}

#[test]
fn a_vhost_of_another_project() {
    at_site(
        "foreign",
        |config| config,
        async |site| {
            site.init().await;
            site.driver.release(&site.target).await;
            // Waits for what that began.
            site.prepare().await;
            let vhost = site.target.name().to_owned();
            let path = format!("/api/vhosts/{}", part(&vhost));
            let told = management::get(&path).unwrap();
            let own = told["description"].as_str().unwrap().to_owned();
            let foreign = own.replace(site.target.project(), "another-project");
            management::put(&path, &json!({"description": foreign})).unwrap();
            let fresh = Driver::new(site.config.clone());
            let error = fresh.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains("`another-project`"), "{error}");
            let listed = databases(&site.config, "another-project").await.unwrap();
            assert!(listed.iter().any(|one| one.name() == vhost));
            let listed = databases(&site.config, site.target.project())
                .await
                .unwrap();
            assert!(listed.iter().all(|one| one.name() != vhost));
        },
    );
}

#[test]
fn a_vhost_that_lost_its_stamp_is_not_reset_any_more() {
    at_site(
        "lost",
        |config| config,
        async |site| {
            site.init().await;
            publish(&channel(&site.connect().await).await, "", "orders", "order").await;
            let path = format!("/api/vhosts/{}", part(site.target.name()));
            management::put(&path, &json!({"description": "mine now"})).unwrap();
            site.driver.release(&site.target).await;
            let error = site.driver.prepare(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{}", error.report());
            assert_eq!(
                counts(&channel(&site.visit().await).await, "orders")
                    .await
                    .0,
                1
            );
        },
    );
}

#[test]
fn an_adopted_vhost_is_reset_to_what_was_declared_in_it() {
    at_site(
        "adopted",
        |config| config,
        async |site| {
            somebody_elses(site, "mine").await;
            let error = adopt(&site.config, &site.base).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName);
            adopt(&site.config, site.target.name()).await.unwrap();
            site.driver.worker_init(&site.target).await.unwrap();
            site.prepare().await;
            let own = channel(&site.connect().await).await;
            assert_eq!(counts(&own, "precious").await.0, 0);
            support::declare(&own, "extra").await;
            site.next_test().await;
            site.prepare().await;
            let left = definitions(site.target.name());
            assert_eq!(left["queues"].as_array().unwrap().len(), 1, "{left}");
        },
    );
}

#[test]
fn what_dagz_made_is_removed_with_its_users_unless_it_is_in_use() {
    at_site(
        "removed",
        |config| config.lock_timeout(std::time::Duration::from_millis(50)),
        async |site| {
            site.init().await;
            let name = site.target.name();
            let ours = || async {
                let all = databases(&site.config, site.target.project())
                    .await
                    .unwrap();
                all.into_iter().find(|one| one.name() == name)
            };
            let made = ours().await.unwrap();
            assert_eq!(made.base(), Some(site.base.as_str()));
            assert_eq!(made.worker(), Some(site.target.worker()));
            let error = remove(&made).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse, "{}", error.report());
            // Its process ends.
            let user = site.driver.address(&site.target).await.unwrap();
            site.driver = Driver::new(site.config.clone());
            loop {
                match remove(&made).await {
                    Err(error) if error.kind() == ErrorKind::InUse => {}
                    done => break done.unwrap(),
                }
            }
            assert!(ours().await.is_none());
            let again = Connection::connect_uri(user, ConnectionProperties::default()).await;
            assert!(again.is_err());
            let users = management::get("/api/users").unwrap().to_string();
            assert!(!users.contains(&format!("dagz.{name}.")), "{users}");
        },
    );
}

#[test]
fn another_run_on_the_same_vhost() {
    at_site(
        "in_use",
        |config| config.lock_timeout(std::time::Duration::from_millis(50)),
        async |site| {
            site.init().await;
            let other = Driver::new(site.config.clone());
            let error = other.prepare(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse);
            let told = error.report().to_string();
            assert!(
                told.contains(site.target.name()) && told.contains("in use by"),
                "{told}"
            );
            // Given back at the test's end.
            site.driver.release(&site.target).await;
            let error = site.driver.prepare(&site.target).await.err();
            assert!(error.is_none());
            site.driver.release(&site.target).await;
            let waits = Driver::new(
                site.config
                    .clone()
                    .lock_timeout(std::time::Duration::from_secs(5)),
            );
            waits.prepare(&site.target).await.unwrap();
        },
    );
}

#[test]
fn messages_of_worker_init() {
    let init = |_, uri| async move {
        let connection = support::connect(uri).await;
        let own = channel(&connection).await;
        support::declare(&own, "greetings").await;
        publish(&own, "", "greetings", "hello").await;
        lapin::Result::Ok(())
    };
    at_site(
        "greeting",
        |config| config.worker_init(init),
        async |site| {
            let error = site.driver.worker_init(&site.target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerInit);
            assert_eq!(
                error.to_string(),
                format!(
                    "the `worker_init` function left 1 messages in queue `greetings` of vhost `{}`: a message is there to be consumed, and no part of the start state; publish it in the test",
                    site.target.name()
                )
            );
        },
    );
}

#[test]
fn what_worker_init_declares_is_the_start_state() {
    let init = |_, uri| async move {
        let connection = support::connect(uri).await;
        support::declare(&channel(&connection).await, "greetings").await;
        lapin::Result::Ok(())
    };
    at_site(
        "declares",
        |config| config.worker_init(init),
        async |site| {
            site.init().await;
            let own = channel(&site.connect().await).await;
            publish(&own, "", "greetings", "hello").await;
            support::declare(&own, "extra").await;
            site.next_test().await;
            site.prepare().await;
            let left = definitions(site.target.name());
            assert_eq!(left["queues"].as_array().unwrap().len(), 1, "{left}");
            let own = channel(&site.connect().await).await;
            assert_eq!(counts(&own, "greetings").await, (0, 0));
        },
    );
}

#[test]
fn a_management_api_that_is_off() {
    at_site(
        "off",
        |config| config,
        async |site| {
            // A port that was free a moment ago.
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let config = site.config.clone();
            let config = config
                .management(&format!("http://127.0.0.1:{port}"))
                .unwrap();
            let error = Driver::new(config)
                .worker_init(&site.target)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unreachable);
            let told = error.to_string();
            for part in [
                format!("127.0.0.1:{port}"),
                "rabbitmq-plugins enable rabbitmq_management".into(),
                "`Config::management`".into(),
            ] {
                assert!(told.contains(&part), "{told}");
            }
        },
    );
}

#[test]
fn a_port_where_something_else_listens() {
    at_site(
        "else",
        |config| config,
        async |site| {
            // The broker itself does not speak HTTP.
            let port = support::uri("/").authority.port;
            let config = site.config.clone();
            let config = config
                .management(&format!("http://127.0.0.1:{port}"))
                .unwrap();
            let error = Driver::new(config)
                .worker_init(&site.target)
                .await
                .unwrap_err();
            let told = error.report().to_string();
            assert!(told.contains(&format!("127.0.0.1:{port}")), "{told}");
        },
    );
}

#[test]
fn no_secret_is_shown() {
    at_site(
        "secret",
        |config| config,
        async |site| {
            site.init().await;
            let address = site.driver.address(&site.target).await.unwrap();
            let shown = format!("{:?} {:?}", site.driver, site.config);
            for secret in [
                &address.authority.userinfo.password,
                &support::uri("/").authority.userinfo.password,
            ] {
                assert!(!shown.contains(secret.as_str()), "{shown}");
            }
            let config = Config::new("amqp://u:hunter2@127.0.0.1:1/x").unwrap();
            let error = Driver::new(config)
                .worker_init(&site.target)
                .await
                .unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        },
    );
}
