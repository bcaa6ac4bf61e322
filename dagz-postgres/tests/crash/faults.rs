//! A server that may be crashed, one test at a time: its sessions are killed, whereupon it ends all others and
//! recovers by itself.
//!
//! [`at_site`] is the way in, [`crash`] and [`crash_for`] what is done there. It is a server of its own, `postgres-faults`
//! of `cargo xtask services`, since whoever else uses it loses all sessions.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use dagz_core::{Error, ErrorKind};
use dagz_postgres::Config;
use tokio_postgres::{Client, NoTls};

use crate::support::{self, Site, config, connect, rows};

/// How long anything here may take that a server does by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the server for one test, whatever process it is in; the others wait before they take a worker.
pub(crate) fn turn() -> File {
    support::use_server("DAGZ_TEST_POSTGRES_FAULTS_URL", "postgres-faults");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres-faults.lock");
    let file = File::create(&path).expect("the folder for tests' files is there");
    file.lock().expect("the file can be locked");
    // One that failed may have left it crashed.
    support::run(recovered());
    file
}

/// [`support::at_site`], on that server and in turn.
pub(crate) fn at_site(
    test: &str,
    configured: impl FnOnce(Config) -> Config,
    body: impl AsyncFnOnce(&Site),
) {
    let _turn = turn();
    support::at_site(test, configured, body);
}

/// What an error says whose server went away in the middle: in a statement, or in connecting anew.
pub(crate) fn see_that_it_went(error: &Error) {
    let report = error.report().to_string();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{report}");
    let remedies = ["is it running?", "is it starting up or shutting down?"];
    let has_remedy = remedies.iter().any(|remedy| report.contains(remedy));
    assert!(has_remedy, "no remedy: {report}");
}

/// Kills the session `pid`, and waits until the server has recovered from it.
pub(crate) async fn crash(pid: i32) {
    let killer = connect(&config("postgres")).await;
    kill(&killer, &format!("kill -KILL {pid}")).await;
    lost(&killer).await;
    recovered().await;
}

/// The same, but does not wait: for as many `seconds` the server only ends sessions and lets nobody in.
///
/// It waits that long for a session that was stopped.
pub(crate) async fn crash_for(pid: i32, seconds: u32) {
    let (killer, watch) = (
        connect(&config("postgres")).await,
        connect(&config("postgres")).await,
    );
    let bystander = connect(&config("postgres")).await;
    let bystander = rows(&bystander, PID).await.remove(0);
    // The server's signal reaches what the killer has started, too.
    let command = format!(
        "trap \"\" QUIT; kill -STOP {bystander}; kill -KILL {pid}; sleep {seconds}; kill -CONT {bystander}"
    );
    // Not waited for: what it has started keeps its connection open.
    tokio::spawn(async move { kill(&killer, &command).await });
    lost(&watch).await;
}

pub(crate) const PID: &str = "SELECT pg_backend_pid()";

pub(crate) async fn pid(client: &Client) -> i32 {
    let row = client.query_one(PID, &[]).await;
    row.expect("the session is there").get(0)
}

/// Has the server's machine run `command`, on which the session that asks for it may end.
async fn kill(killer: &Client, command: &str) {
    let copy = format!("COPY (SELECT 1) TO PROGRAM '{command}'");
    drop(killer.batch_execute(&copy).await);
}

/// Waits until `client`'s session has ended.
pub(crate) async fn lost(client: &Client) {
    let started = Instant::now();
    while !client.is_closed() {
        assert!(started.elapsed() < PATIENCE, "the server did not crash");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the server lets sessions in.
pub(crate) async fn recovered() {
    let started = Instant::now();
    while let Err(error) = config("postgres").connect(NoTls).await {
        assert!(started.elapsed() < PATIENCE, "no recovery: {error:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The first session of the server's that is as `condition` says of `pg_stat_activity`, once there is one.
pub(crate) async fn session(condition: &str) -> i32 {
    let watch = connect(&config("postgres")).await;
    let query = format!(
        "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {condition} LIMIT 1"
    );
    let started = Instant::now();
    loop {
        let found = watch.query_opt(&query, &[]).await;
        if let Some(row) = found.expect("sessions are listed") {
            return row.get(0);
        }
        assert!(started.elapsed() < PATIENCE, "no session where {condition}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
