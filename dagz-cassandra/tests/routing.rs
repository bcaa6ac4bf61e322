//! From an application's settings to the worker's keyspace: what is rerouted, and what cannot be.

mod support;

use std::sync::{Arc, Once};

use dagz_cassandra::{
    Cassandra, Config, RerouteExt as _, configure, connect, keyspace, reroute_url,
    reroute_url_blocking,
    scylla::client::{session::Session, session_builder::SessionBuilder},
    session,
};
use dagz_core::{ErrorKind, FromScope, Scope};
use support::{REPLICATION, base, builder, execute, made_by, plain, rows, run, url};

const SCHEMA: &str = "CREATE TABLE item (id text PRIMARY KEY)";

/// Runs `body` as a test would be run, on a worker.
fn in_scope(test: &str, body: impl AsyncFnOnce(&Scope)) {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::new(&url(&base("routing"))).unwrap();
        configure(made_by(config, SCHEMA)).unwrap();
    });
    let guard = Scope::builder(test).enter().unwrap();
    run(body(guard.scope()));
}

async fn argument<T: FromScope<Cassandra>>(scope: &Scope) -> T {
    T::from_scope(scope)
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

fn own(scope: &Scope) -> String {
    format!("{}_{}", base("routing"), scope.worker())
}

/// The keyspace that a session uses, in the words of the driver library.
fn used(session: &Session) -> String {
    session
        .get_keyspace()
        .map_or_else(String::new, |name| name.to_string())
}

#[test]
fn all_ways_lead_to_the_workers_keyspace() {
    in_scope("ways", async |scope| {
        let name = base("routing");
        let own = own(scope);
        let write = "INSERT INTO item (id) VALUES ('x')";
        let kept: Arc<Session> = argument(scope).await;
        let fresh: Session = argument(scope).await;
        let settings: SessionBuilder = argument(scope).await;
        let from_url = session(&url(&name)).await.unwrap();
        let connected = connect(&builder().use_keyspace(&name, false))
            .await
            .unwrap();
        let rerouted = builder().use_keyspace(&name, true).reroute().await.unwrap();
        let blocking = builder()
            .use_keyspace(&name, true)
            .reroute_blocking()
            .unwrap();
        execute(&kept, write).await;
        for session in [
            &*kept,
            &fresh,
            &from_url,
            &connected,
            &settings.build().await.unwrap(),
            &rerouted.build().await.unwrap(),
            &blocking.build().await.unwrap(),
        ] {
            assert_eq!(used(session), own);
            assert_eq!(rows(session, "SELECT id FROM item").await, ["x"]);
        }
        assert!(
            Arc::ptr_eq(&kept, &from_url),
            "one session per process and keyspace"
        );
        assert_eq!(keyspace(&name).await.unwrap(), own);
        assert_eq!(dagz_cassandra::keyspace_blocking(&name).unwrap(), own);
        let text = reroute_url(&url(&name)).await.unwrap();
        assert!(
            text.ends_with(&format!("/{own}")),
            "the worker's name has small letters only"
        );
        assert_eq!(reroute_url_blocking(&url(&name)).unwrap(), text);
        assert_eq!(
            used(&session(&text).await.unwrap()),
            own,
            "it is rerouted once"
        );
    });
}

#[test]
fn capitals_are_kept_where_they_are_meant() {
    in_scope("capitals", async |scope| {
        let name = format!("{}_Shop", base("case"));
        for (is_spelled, expected) in [(true, name.clone()), (false, name.to_lowercase())] {
            let session = connect(&builder().use_keyspace(&name, is_spelled))
                .await
                .unwrap();
            assert_eq!(used(&session), format!("{expected}_{}", scope.worker()));
            execute(&session, "INSERT INTO item (id) VALUES ('x')").await;
            assert_eq!(rows(&session, "SELECT id FROM item").await, ["x"]);
        }
        let spelled = connect(&builder().use_keyspace(&name, true)).await.unwrap();
        let config = Config::new(&url(&name)).unwrap();
        let project = dagz_core::Settings::current().unwrap().project();
        for database in dagz_cassandra::databases(&config, project).await.unwrap() {
            if database
                .base()
                .is_some_and(|base| base.eq_ignore_ascii_case(&name))
            {
                dagz_cassandra::remove(&database).await.unwrap();
            }
        }
        drop(spelled);
    });
}

#[test]
fn a_session_without_a_keyspace_is_not_rerouted_and_says_so() {
    in_scope("absent", async |_| {
        let session = connect(&builder()).await.unwrap();
        assert_eq!(used(&session), "");
        let error = session
            .query_unpaged("SELECT id FROM item", ())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("No keyspace has been specified"),
            "{error}"
        );
        let url = url("");
        assert_eq!(reroute_url(&url).await.unwrap(), url);
        let error = Config::new(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        let error = Config::from_builder(builder()).unwrap_err();
        assert!(
            error.to_string().contains("no keyspace is named"),
            "{error}"
        );
    });
}

#[test]
fn a_name_that_no_keyspace_can_have_is_refused() {
    in_scope("names", async |scope| {
        for name in ["my-shop", "my shop", "shöp", "shop;"] {
            let error = keyspace(name).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{}", error.report());
            let said = error.report().to_string();
            assert!(
                said.contains(name) && said.contains(&scope.worker().to_string()),
                "{said}"
            );
        }
    });
}

#[test]
fn names_of_up_to_48_characters_are_told_apart() {
    let name = |end: &str| format!("{}{end}", "x".repeat(47));
    assert_eq!(name("a").len(), 48);
    in_scope("long", async |scope| {
        let driver = dagz_core::configured("cassandra").unwrap();
        let (first, second) = (
            driver.rewrite(scope.worker(), &name("a")).unwrap(),
            driver.rewrite(scope.worker(), &name("b")).unwrap(),
        );
        assert_ne!(first, second);
        assert!(first.len() <= 48 && second.len() <= 48, "{first} {second}");
        let short = "y".repeat(43);
        let whole = driver.rewrite(scope.worker(), &short).unwrap();
        assert_eq!(whole, format!("{short}_{}", scope.worker()));
    });
}

#[test]
fn use_reaches_the_whole_session_and_not_the_next_test() {
    in_scope("use", async |scope| {
        let kept: Arc<Session> = argument(scope).await;
        kept.query_unpaged("USE system", ()).await.unwrap();
        assert_eq!(used(&kept), "system", "it is the server's to obey");
    });
    in_scope("after USE", async |scope| {
        let kept: Arc<Session> = argument(scope).await;
        assert_eq!(used(&kept), own(scope));
        assert!(rows(&kept, "SELECT id FROM item").await.is_empty());
        // Of the library's own making, and failing.
        kept.use_keyspace("there_is_none", true).await.unwrap_err();
    });
    in_scope("after a failed USE", async |scope| {
        let kept: Arc<Session> = argument(scope).await;
        assert_eq!(used(&kept), own(scope));
        assert!(rows(&kept, "SELECT id FROM item").await.is_empty());
    });
}

#[test]
fn qualified_names_reach_what_they_name() {
    in_scope("qualified", async |scope| {
        let other = base("qualified");
        let plain = plain().await;
        execute(
            &plain,
            &format!(
                "DROP KEYSPACE IF EXISTS {other}; CREATE KEYSPACE {other} WITH {REPLICATION}; CREATE TABLE {other}.item (id text PRIMARY KEY)"
            ),
        )
        .await;
        let kept: Arc<Session> = argument(scope).await;
        // The text of statements is not changed,
        execute(
            &kept,
            &format!("INSERT INTO {other}.item (id) VALUES ('base')"),
        )
        .await;
        assert_eq!(
            rows(&plain, &format!("SELECT id FROM {other}.item")).await,
            ["base"]
        );
        assert!(rows(&kept, "SELECT id FROM item").await.is_empty());
        // so that it has to be made of the worker's name.
        let own = keyspace(&base("routing")).await.unwrap();
        execute(
            &kept,
            &format!("INSERT INTO {own}.item (id) VALUES ('own')"),
        )
        .await;
        assert_eq!(rows(&kept, "SELECT id FROM item").await, ["own"]);
        execute(&plain, &format!("DROP KEYSPACE {other}")).await;
    });
}

#[test]
fn a_kept_session_is_used_on_any_runtime() {
    for test in ["first runtime", "second runtime"] {
        in_scope(test, async |scope| {
            let kept: Arc<Session> = argument(scope).await;
            // A change of the schema has the library refresh what it knows, on the session's runtime.
            execute(&kept, "CREATE TABLE more (id text PRIMARY KEY)").await;
            execute(&kept, "INSERT INTO more (id) VALUES ('x')").await;
            assert_eq!(rows(&kept, "SELECT id FROM more").await, ["x"]);
        });
    }
}
