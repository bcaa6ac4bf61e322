//! Clients that earlier tests left behind are closed, and nobody else's.

mod support;

use std::time::Duration;

use dagz_core::DbConfig as _;
use dagz_redis::Prepare;
use support::{Site, ask, at_site, connect, info, keys, tell};

/// A client that waits for a push, as a task that a test forgot.
fn waiting(connection: &redis::aio::MultiplexedConnection) -> tokio::task::JoinHandle<bool> {
    let mut connection = connection.clone();
    connection.set_response_timeout(Duration::from_secs(30));
    tokio::spawn(async move {
        // Whether it got anything.
        ask::<Option<(String, String)>>(&connection, "BLPOP queue 20")
            .await
            .is_ok_and(|popped| popped.is_some())
    })
}

/// Waits until the server has somebody waiting in the database `index`.
async fn until_waiting(index: i64) {
    let admin = connect(info(0)).await;
    for _ in 0..500 {
        let list: String = ask(&admin, "CLIENT LIST").await.unwrap();
        let is_there = list
            .lines()
            .any(|line| line.contains(&format!(" db={index} ")) && line.contains("cmd=blpop"));
        if is_there {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("nobody waits in database `{index}`");
}

async fn next_prepare(site: &mut Site, test: &str) {
    site.driver.release(&site.target).await;
    site.next_test(test);
    site.prepare().await;
}

#[test]
fn a_waiting_pop_does_not_take_what_the_next_test_pushes() {
    at_site(
        "thief",
        |config| config,
        async |site| {
            site.init().await;
            let thief = waiting(&site.connect().await);
            until_waiting(site.index()).await;
            next_prepare(site, "the next one").await;
            let test = site.connect().await;
            tell(&test, "RPUSH queue job").await;
            assert!(!thief.await.unwrap(), "the job was stolen");
            let jobs: Vec<String> = ask(&test, "LRANGE queue 0 -1").await.unwrap();
            assert_eq!(jobs, ["job"]);
        },
    );
}

#[test]
fn the_thief_works_where_nobody_closes_it() {
    // The control of the test above: without a prepare in between, the job is gone.
    at_site(
        "thief_control",
        |config| config,
        async |site| {
            site.init().await;
            let thief = waiting(&site.connect().await);
            until_waiting(site.index()).await;
            tell(&site.connect().await, "RPUSH queue job").await;
            assert!(thief.await.unwrap(), "it waits for nothing");
        },
    );
}

#[test]
fn a_transaction_that_was_left_open_never_runs() {
    at_site(
        "left_multi",
        |config| config,
        async |site| {
            site.init().await;
            let leaked = site.connect().await;
            tell(&leaked, "MULTI").await;
            tell(&leaked, "SET leaked value").await;
            next_prepare(site, "the next one").await;
            ask::<redis::Value>(&leaked, "EXEC").await.unwrap_err();
            assert_eq!(keys(&site.connect().await).await, [""; 0]);
        },
    );
}

#[test]
fn an_idle_client_of_an_ended_test_is_closed_and_one_of_this_test_is_not() {
    at_site(
        "left_idle",
        |config| config,
        async |site| {
            site.init().await;
            let named = async |tag: &str| {
                let client = site.connect().await;
                tell(&client, &format!("CLIENT SETNAME {tag}")).await;
                client
            };
            let target = &site.target;
            let earlier = named(&format!("dagz:{}.jw99.t999:some::test", target.job())).await;
            let own = named(&format!("dagz:{}.{}:this", target.job(), target.tag())).await;
            let listening = named(&format!("dagz:{}.jw99.t998:another", target.job())).await;
            tell(&listening, "SUBSCRIBE news").await;
            site.prepare().await;
            ask::<redis::Value>(&earlier, "PING").await.unwrap_err();
            ask::<redis::Value>(&listening, "PING").await.unwrap_err();
            tell(&own, "PING").await;
        },
    );
}

#[test]
fn a_strangers_clients_stay() {
    at_site(
        "strangers",
        |config| config.prepare(Prepare::Flush),
        async |site| {
            site.init().await;
            // A developer who looks at the worker's database, one who waits in another, and a subscriber.
            let looking = site.connect().await;
            tell(&looking, "PING").await;
            let subscriber = site.connect().await;
            tell(&subscriber, "SUBSCRIBE news").await;
            let base = site.block.bases()[0];
            let elsewhere = connect(info(base)).await;
            let popped = waiting(&elsewhere);
            until_waiting(base).await;
            // Another worker of the same project, whose test goes on.
            let neighbour = site.index() + site.block.bases().len() as i64;
            let other = connect(info(neighbour)).await;
            let name = format!("CLIENT SETNAME dagz:{}.jw01.t001:other", site.target.job());
            tell(&other, &name).await;
            next_prepare(site, "the next one").await;
            next_prepare(site, "one more").await;
            tell(&looking, "PING").await;
            tell(&subscriber, "PING").await;
            tell(&other, "PING").await;
            tell(&connect(info(base)).await, "RPUSH queue job").await;
            assert!(popped.await.unwrap(), "the stranger was closed");
            tell(&connect(info(base)).await, "FLUSHDB").await;
        },
    );
}
