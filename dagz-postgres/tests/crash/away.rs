//! A server that is away for a while, in which it lets nobody in: errors say which one it is and what to do, and the
//! next test works.

use dagz_core::{DbConfig as _, Error, ErrorKind, FromScope as _, Worker};
use dagz_postgres::{Client, Config, Driver, configure};
use dagz_testkit::site::enter_on;

use crate::{
    another,
    faults::{at_site, crash, crash_for, pid, recovered, session, turn},
    support::{Site, base, clean, config, dump, endpoint, rows, run, target},
    with_schema,
};

/// What every error says of a server that lets nobody in.
fn see_what_it_says(error: &Error) {
    let report = error.report().to_string();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{report}");
    for part in [
        &format!("Postgres at `{}` does not accept connections", endpoint()),
        "is it starting up or shutting down?",
        "the database system is in recovery mode",
    ] {
        assert!(report.contains(part), "`{part}` is not in: {report}");
    }
}

#[test]
fn errors_name_the_server_and_the_next_test_works() {
    at_site("crash_away", with_schema, async |site: &Site| {
        site.init().await;
        let client = site.connect().await;
        let start = dump(&client).await;
        let write = "INSERT INTO item (name) VALUES ('x'); DELETE FROM seed";
        client.batch_execute(write).await.unwrap();
        site.driver.release(&site.target).await;
        crash_for(pid(&client).await, 2).await;

        let fresh = Driver::new(with_schema(Config::from_config(config(&site.base))));
        see_what_it_says(&fresh.worker_init(&site.target).await.unwrap_err());
        see_what_it_says(&fresh.prepare(&site.target).await.unwrap_err());
        // Also of one that has a connection, as it believes; and more than once.
        for _ in 0..2 {
            see_what_it_says(&site.driver.prepare(&site.target).await.unwrap_err());
        }
        let error = site.driver.worker_init(&site.target).await.unwrap_err();
        see_what_it_says(&error);

        recovered().await;
        site.prepare().await;
        assert_eq!(dump(&site.connect().await).await, start);
        site.driver.release(&site.target).await;
        fresh.worker_init(&site.target).await.unwrap();
        fresh.prepare(&site.target).await.unwrap();
        fresh.release(&site.target).await;
        assert_eq!(dump(&site.connect().await).await, start);
        another(site, with_schema).await.release(&site.target).await;
    });
}

/// [`Client`]s are kept from test to test; one that a crash took is not handed out again.
#[test]
fn kept_clients_are_replaced() {
    let _turn = turn();
    let base = base("crash_clients");
    configure(with_schema(Config::from_config(config(&base)))).unwrap();
    let (mut worker, mut before, mut project) = (Worker::new(0), 0, String::new());
    // While a test has one, and between two tests.
    for is_open in [false, true, false] {
        let guard = enter_on(worker, "crash_clients");
        worker = guard.scope().worker();
        project = target(&base).project().to_owned();
        run(async {
            let client = Client::from_scope(guard.scope()).await;
            let client = client.unwrap_or_else(|error| panic!("{}", error.report()));
            let count = "SELECT count(*) FROM item";
            assert_eq!(rows(&client, count).await, ["0"]);
            let now = pid(&client).await;
            assert_ne!(now, before, "it is another one");
            before = now;
            let insert = "INSERT INTO item (name) VALUES ('x')";
            client.batch_execute(insert).await.unwrap();
            if is_open {
                client.batch_execute("BEGIN").await.unwrap();
                client.batch_execute(insert).await.unwrap();
                crash(now).await;
                client.batch_execute(insert).await.unwrap_err();
            } else {
                drop(client);
                // It stays, cleaned.
                let idle = format!(
                    "pid = {now} AND state = 'idle' AND query LIKE 'ROLLBACK; CLOSE ALL;%'"
                );
                crash(session(&idle).await).await;
            }
        });
    }
    run(clean(&base, &project));
}
