//! Sessions of roles that dagz's own may not look at: for a role that is no superuser they hide what they do, and yet
//! none of their transactions reaches the next test.

mod support;

use std::time::{Duration, Instant};

use dagz_core::{DbConfig as _, ErrorKind};
use dagz_postgres::Config;
use support::{Site, at_site, base, config, connect, dump, rows, run};
use tokio_postgres::Client;

const SCHEMA: &str = "
CREATE TABLE item (id integer);
CREATE TABLE one (id integer PRIMARY KEY, name text);
INSERT INTO one VALUES (1, 'one'), (2, 'two');
CREATE TABLE two (id integer PRIMARY KEY, name text);
INSERT INTO two VALUES (1, 'one'), (2, 'two');
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
";

/// Whom the application connects as.
const APPLICATION: &str = "dagz_test_application";

/// Whom dagz connects as, without a right to what others do, and with the right to end them.
const OWNER: &str = "dagz_test_owner";
const ENDING: &str = "dagz_test_owner_ending";
/// With the right to skip triggers, which came with Postgres 15.
const REPLICATING: &str = "dagz_test_owner_replicating";

/// Much longer than a session takes to end, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(1);

async fn make_roles() {
    let admin = connect(&config("postgres")).await;
    for role in [
        format!("CREATE ROLE {APPLICATION} LOGIN PASSWORD 'hidden'"),
        format!("CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD 'hidden'"),
        format!("CREATE ROLE {ENDING} LOGIN CREATEDB PASSWORD 'hidden' IN ROLE pg_signal_backend"),
        format!(
            "CREATE ROLE {REPLICATING} LOGIN CREATEDB PASSWORD 'hidden'; \
             GRANT SET ON PARAMETER session_replication_role TO {REPLICATING}"
        ),
    ] {
        // There already, or made by another process at this moment: both are well.
        drop(admin.batch_execute(&role).await);
    }
}

/// [`at_site`], with dagz as `role`.
fn with_dagz_as(role: &str, test: &str, body: impl AsyncFnOnce(&Site)) {
    run(make_roles());
    let mut base = config(&base(test));
    base.user(role).password("hidden");
    let configured = |_: Config| {
        Config::from_config(base)
            .leak_patience(PATIENCE)
            .migrate_with("1", |config| async move {
                connect(&config).await.batch_execute(SCHEMA).await
            })
    };
    at_site(test, configured, async |site: &Site| {
        site.init().await;
        site.driver.release(&site.target).await;
        body(site).await;
    });
}

/// A session of the application's.
async fn application(site: &Site, name: &str) -> Client {
    let mut config = site.config();
    config.user(APPLICATION).password("hidden");
    connect(config.application_name(name)).await
}

/// The name of a session of an earlier test's.
fn earlier(site: &Site) -> String {
    format!("{}.t000 shop::tests::leaks", site.target.worker())
}

const WRITE: &str = "BEGIN; INSERT INTO item VALUES (1)";
const ITEMS: &str = "SELECT count(*) FROM item";

/// A prepare must fail, by an error that has `parts`.
async fn is_refused(site: &Site, parts: &[&str]) {
    let started = Instant::now();
    let error = site.driver.prepare(&site.target).await.unwrap_err();
    site.driver.release(&site.target).await;
    let patience = PATIENCE..10 * PATIENCE;
    assert!(patience.contains(&started.elapsed()), "it has its patience");
    assert_eq!(error.kind(), ErrorKind::AccessDenied, "{}", error.report());
    let report = error.report().to_string();
    for part in parts.iter().chain([&site.target.name()]) {
        assert!(report.contains(part), "`{part}` is not in: {report}");
    }
}

#[test]
fn one_that_may_not_be_ended_is_an_error_that_tells_the_remedy() {
    with_dagz_as(OWNER, "hidden_refused", async |site: &Site| {
        let remedy = format!(
            "`GRANT pg_signal_backend, pg_read_all_stats TO {OWNER}`, or `GRANT {APPLICATION} TO {OWNER}`"
        );
        let leaked = application(site, "shop").await;
        leaked.batch_execute(WRITE).await.unwrap();
        is_refused(site, &["of `shop` has a transaction open", &remedy]).await;
        leaked.batch_execute("COMMIT").await.unwrap();
        site.prepare().await;
        site.driver.release(&site.target).await;
        assert_eq!(rows(&leaked, ITEMS).await, ["0"]);
        drop(leaked);

        let leaked = site.connect_as("admin").await;
        leaked.batch_execute(WRITE).await.unwrap();
        let parts = ["of `admin` has a transaction open", "only a superuser may"];
        is_refused(site, &parts).await;
        leaked.batch_execute("ROLLBACK").await.unwrap();
        drop(leaked);

        let ended = application(site, &earlier(site)).await;
        is_refused(site, &["is left of an ended test", &remedy]).await;
        let closing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(ended);
        };
        tokio::join!(site.prepare(), closing);
    });
}

#[test]
fn one_that_commits_in_time_is_undone_and_stays() {
    with_dagz_as(OWNER, "hidden_late", async |site: &Site| {
        let leaked = application(site, "shop").await;
        leaked.batch_execute(WRITE).await.unwrap();
        let commit = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            leaked.batch_execute("COMMIT").await
        };
        let ((), committed) = tokio::join!(site.prepare(), commit);
        committed.expect("it was waited for");
        assert_eq!(rows(&leaked, ITEMS).await, ["0"]);
    });
}

#[test]
fn one_that_may_be_ended_is() {
    with_dagz_as(ENDING, "hidden_ended", async |site: &Site| {
        let (leaked, ended) = (
            application(site, "shop").await,
            application(site, &earlier(site)).await,
        );
        leaked.batch_execute(WRITE).await.unwrap();
        site.prepare().await;
        leaked
            .batch_execute("COMMIT")
            .await
            .expect_err("the session has ended");
        ended.check_connection().await.expect_err("it has ended");
        assert_eq!(rows(&site.connect().await, ITEMS).await, ["0"]);
    });
}

#[test]
fn what_one_writes_during_a_repair_is_not_taken_for_the_start_state() {
    let version = run(async {
        let admin = connect(&config("postgres")).await;
        rows(&admin, "SHOW server_version_num").await.remove(0)
    });
    if version.as_str() < "150000" {
        return;
    }
    with_dagz_as(REPLICATING, "hidden_mark", async |site: &Site| {
        let client = site.connect_as("app").await;
        let start = dump(&client).await;
        // Of the present test, so that its transaction may be open meanwhile.
        let own = application(site, site.target.tag()).await;
        let update = "UPDATE one SET name = 'x' WHERE id = 1";
        client.batch_execute(update).await.unwrap();
        let update = "BEGIN; UPDATE two SET name = 'x' WHERE id = 1";
        own.batch_execute(update).await.unwrap();
        site.prepare().await;
        assert_eq!(dump(&client).await, start);
        own.batch_execute("COMMIT").await.unwrap();
        assert_ne!(dump(&client).await, start);
        site.driver.release(&site.target).await;
        site.prepare().await;
        assert_eq!(dump(&client).await, start);
        client.check_connection().await.expect("restored in place");
    });
}
