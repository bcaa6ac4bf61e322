//! [`Watch`]: what a Postgres server does while something runs; and what ended child processes used of the processor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use dagz::postgres::tokio_postgres::{Client, Config};
use dagz_core::runtime;
use procfs::process::{Process, Stat, all_processes};
use tokio::task::JoinHandle;

use crate::postgres::connect;

/// How often connections are counted. What lives shorter may be missed.
const PERIOD: Duration = Duration::from_millis(20);

/// What a server did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// The most connections at once, without our own.
    pub(crate) connections: i64,
    /// What was written to its log.
    pub(crate) wal_bytes: i64,
    /// How many numbers it gave to new objects and files: a table is several, a truncated one some more.
    pub(crate) objects: i64,
    /// Processor time; unknown where the server is on another machine.
    pub(crate) cpu: Option<Duration>,
}

/// Watches until it is ended.
pub(crate) struct Watch {
    looker: JoinHandle<Result<i64>>,
    is_over: Arc<AtomicBool>,
    config: Config,
    before: Work,
}

impl Watch {
    /// Begins to watch the server of `config`.
    pub(crate) fn begin(config: &Config) -> Result<Self> {
        let before = {
            let config = config.clone();
            runtime::wait(async move { look(&connect(&config, "postgres").await?).await })??
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let looker = {
            let (config, is_over) = (config.clone(), Arc::clone(&is_over));
            runtime::spawn(async move { most_connections(&config, &is_over).await })
        };
        Ok(Self {
            looker,
            is_over,
            config: config.clone(),
            before,
        })
    }

    /// What the server did since.
    pub(crate) fn end(self) -> Result<Work> {
        self.is_over.store(true, Ordering::Relaxed);
        let Self {
            looker,
            config,
            before,
            ..
        } = self;
        runtime::wait(async move {
            let connections = looker.await??;
            let after = look(&connect(&config, "postgres").await?).await?;
            Ok(Work {
                connections,
                wal_bytes: after.wal_bytes - before.wal_bytes,
                objects: after.objects - before.objects,
                cpu: after
                    .cpu
                    .zip(before.cpu)
                    .map(|(after, before)| after.saturating_sub(before)),
            })
        })?
    }
}

async fn most_connections(config: &Config, is_over: &AtomicBool) -> Result<i64> {
    let client = connect(config, "postgres").await?;
    let count = "SELECT count(*) FROM pg_stat_activity \
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let count = client.prepare(count).await?;
    let mut most = 0;
    while !is_over.load(Ordering::Relaxed) {
        most = most.max(client.query_one(&count, &[]).await?.get(0));
        tokio::time::sleep(PERIOD).await;
    }
    Ok(most)
}

/// The server's counters as they are.
async fn look(client: &Client) -> Result<Work> {
    // A large object takes its number from the counter that tables and files take theirs from.
    let row = client
        .query_one(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, lo_create(0)::bigint, pg_backend_pid()",
            &[],
        )
        .await?;
    let (wal_bytes, objects, backend): (i64, i64, i32) = (row.get(0), row.get(1), row.get(2));
    let unlink = format!("SELECT lo_unlink({objects}::oid)");
    client.batch_execute(&unlink).await?;
    Ok(Work {
        connections: 0,
        wal_bytes,
        objects,
        cpu: processor_time(backend),
    })
}

/// The processor time of the server whose session has the process `backend`: of its parent, of all that this one
/// has now, and of all it had.
fn processor_time(backend: i32) -> Option<Duration> {
    let backend = Process::new(backend).ok()?.stat().ok()?;
    if !backend.comm.starts_with("postgres") {
        return None;
    }
    let server = Process::new(backend.ppid).ok()?.stat().ok()?;
    let ended = u64::try_from(server.cutime + server.cstime).ok()?;
    let living = all_processes()
        .ok()?
        .filter_map(|process| process.ok()?.stat().ok());
    let children = living.filter(|process| process.ppid == server.pid);
    let living: u64 = children.map(|process| used(&process)).sum();
    Some(ticks(used(&server) + ended + living))
}

fn used(stat: &Stat) -> u64 {
    stat.utime + stat.stime
}

/// The processor time of all child processes that have ended, and of theirs.
pub(crate) fn children() -> Result<Duration> {
    let own = Process::myself().and_then(|process| process.stat());
    let own = own.context("`/proc` cannot be read")?;
    Ok(ticks(u64::try_from(own.cutime + own.cstime)?))
}

/// The processor time of this process.
pub(crate) fn own() -> Result<Duration> {
    let own = Process::myself().and_then(|process| process.stat());
    Ok(ticks(used(&own.context("`/proc` cannot be read")?)))
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / procfs::ticks_per_second() as f64)
}
