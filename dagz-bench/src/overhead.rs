//! The group `overhead`: what a test pays beside its own statements, and what the dirty log costs those.
//!
//! Every round does each thing once, so that a machine which slows down slows all of them. The floor is a prepared
//! `SELECT 1` on a kept connection, as it is in the other groups.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dagz::{
    __private::argument,
    postgres::{
        Config, Driver, Prepare, RerouteExt as _, configure,
        tokio_postgres::{self, Client, NoTls},
    },
};
use dagz_core::{DbConfig as _, Lease, Scope, Settings, runtime};
use tokio::runtime::{Builder, Runtime};

use crate::{
    harness,
    postgres::{own, remove_databases, schema, target, version, writes},
    row::Row,
    say,
};

const TABLES: usize = 50;
const DIRTIED: [usize; 3] = [7, 23, 41];

/// The database whose name dagz reroutes.
fn base() -> String {
    own("dagz_bench_overhead")
}

/// Databases like it, in which nobody but us does anything: one has the log of writes, to see what that costs whoever
/// writes, and one has not, in which by hand is done what tests do. In the database of dagz's own tests it would cost
/// those: dagz looks after what others did there.
fn others() -> [(String, bool); 2] {
    [
        (own("dagz_bench_overhead_logged"), true),
        (own("dagz_bench_overhead_plain"), false),
    ]
}

/// What is measured: a name, how much is dirty before the next, and the thing itself, which says how long it took.
type Thing<'a> = (&'static str, usize, Box<dyn Fn() -> Result<Duration> + 'a>);

/// Measures all, `rounds` times; `is_unclean` has dagz clean nothing, which must leave no figure.
///
/// # Errors
/// What a server or dagz says; and a row of another test's, where there must be none.
pub(crate) fn run(rounds: usize, is_unclean: bool) -> Result<Vec<Row>> {
    say::progress("overhead: what a test pays beside its statements");
    let url = std::env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    let mut base: tokio_postgres::Config = url.parse()?;
    base.dbname(self::base());
    let mut config = Config::from_config(base.clone()).migrate_with("bench", migrate);
    if is_unclean {
        config = config.prepare(Prepare::None);
    }
    configure(config)?;
    let outcome = measure(&base, rounds);
    let project = Settings::current()?.project();
    runtime::wait(async move {
        remove_databases(&base, project, &self::base()).await?;
        for (other, _) in others() {
            remove_databases(&base, project, &other).await?;
        }
        anyhow::Ok(())
    })??;
    outcome
}

fn measure(base: &tokio_postgres::Config, rounds: usize) -> Result<Vec<Row>> {
    let runtime = new_runtime()?;
    let floor_client = runtime.block_on(by_hand(base, "postgres"))?;
    let one = runtime.block_on(floor_client.prepare("SELECT 1"))?;
    let backend = runtime.block_on(version(&floor_client))?;
    let [logged_name, plain_name] = others().map(|(name, has_log)| other(base, &name, has_log));
    let (logged_name, plain_name) = (logged_name?, plain_name?);
    let logged = runtime.block_on(by_hand(base, &logged_name))?;
    let plain = runtime.block_on(by_hand(base, &plain_name))?;
    let insert = writes([DIRTIED[0]]);
    let settings = Settings::current()?;

    let things: Vec<Thing<'_>> = vec![
        (
            "a thread, which a test is",
            0,
            Box::new(|| timed(|| joined(|| ()))),
        ),
        (
            "dagz, a lease",
            0,
            Box::new(|| timed(|| Ok(Lease::acquire(settings, "j1", "bench").map(drop)?))),
        ),
        (
            "dagz, a scope",
            0,
            Box::new(|| timed(|| Ok(Scope::builder("bench").enter().map(drop)?))),
        ),
        (
            "dagz, a thread and a test without a database",
            0,
            Box::new(|| timed(|| joined(harness::empty_test))),
        ),
        (
            "dagz, a thread and an async test without a database",
            0,
            Box::new(|| timed(|| joined(harness::empty_async_test))),
        ),
        (
            "dagz, the path when all is prepared",
            0,
            Box::new(|| {
                let time = std::cell::Cell::new(Duration::ZERO);
                harness::test(|_| async {
                    base.reroute().await?;
                    let started = Instant::now();
                    base.reroute().await?;
                    time.set(started.elapsed());
                    Ok(())
                })?;
                Ok(time.get())
            }),
        ),
        (
            "a test that reads, connecting by hand",
            0,
            Box::new(|| timed(|| new_runtime()?.block_on(connecting(base, &plain_name, false)))),
        ),
        (
            "dagz, a test that reads",
            0,
            Box::new(|| after(false, || with_dagz(false))),
        ),
        (
            "a test that writes, connecting by hand",
            DIRTIED.len(),
            Box::new(|| timed(|| new_runtime()?.block_on(connecting(base, &plain_name, true)))),
        ),
        (
            // It also pays for what the one before it has left.
            "dagz, a test that writes",
            DIRTIED.len(),
            Box::new(|| after(true, || with_dagz(true))),
        ),
        (
            "dagz, an insert of five rows, logged",
            1,
            Box::new(|| timed(|| Ok(runtime.block_on(logged.batch_execute(&insert))?))),
        ),
        (
            "an insert of five rows, not logged",
            1,
            Box::new(|| timed(|| Ok(runtime.block_on(plain.batch_execute(&insert))?))),
        ),
    ];
    let mut times = vec![Vec::new(); things.len()];
    let mut floors = Vec::new();
    for round in 0..rounds + 5 {
        let started = Instant::now();
        runtime.block_on(floor_client.query_one(&one, &[]))?;
        let floor = started.elapsed();
        // In an order that changes: the first one finds the processor as the floor left it.
        let mut order: Vec<_> = things.iter().zip(&mut times).collect();
        order.rotate_left(round % things.len());
        for ((.., thing), times) in order {
            let time = thing()?;
            // The first ones find nothing warm.
            if round >= 5 {
                times.push(time);
            }
        }
        if round >= 5 {
            floors.push(floor);
        }
        let clean: String = DIRTIED
            .map(|table| format!("DELETE FROM t{table};"))
            .concat();
        for client in [&logged, &plain] {
            runtime.block_on(client.batch_execute(&clean))?;
        }
    }
    let mut rows = Vec::new();
    for ((name, dirty, _), times) in things.iter().zip(&times) {
        rows.push(Row {
            tables: TABLES,
            dirty: *dirty,
            ..Row::of("overhead", &backend, name, times, &floors)?
        });
    }
    Ok(rows)
}

async fn migrate(config: tokio_postgres::Config) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    runtime::spawn(connection);
    client.batch_execute(&schema(TABLES)).await
}

/// A worker's database that is ours alone; tells its name.
fn other(base: &tokio_postgres::Config, name: &str, has_log: bool) -> Result<String> {
    let mut base = base.clone();
    base.dbname(name);
    let scope = Scope::builder("bench").enter()?;
    let target = target(&base, name)?;
    let name = target.name().to_owned();
    runtime::wait(async move {
        let config = Config::from_config(base).write_log(has_log);
        let driver = Driver::new(config.migrate_with("bench", migrate));
        driver.worker_init(&target).await?;
        driver.prepare(&target).await?;
        driver.release(&target).await;
        anyhow::Ok(())
    })??;
    drop(scope);
    Ok(name)
}

fn timed(thing: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    thing()?;
    Ok(started.elapsed())
}

/// How long `test` takes that follows one which wrote or did not.
fn after(is_writing: bool, test: impl FnOnce() -> Result<()>) -> Result<Duration> {
    with_dagz(is_writing)?;
    timed(test)
}

fn joined(body: impl FnOnce() + Send + 'static) -> Result<()> {
    let joined = std::thread::spawn(body).join();
    ensure!(joined.is_ok(), "a test panicked");
    Ok(())
}

fn new_runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// A connection on the caller's runtime, where a test has its own.
async fn by_hand(config: &tokio_postgres::Config, database: &str) -> Result<Client> {
    let mut config = config.clone();
    dagz_bench::suite::connect(config.dbname(database)).await
}

async fn connecting(config: &tokio_postgres::Config, name: &str, is_writing: bool) -> Result<()> {
    work(&by_hand(config, name).await?, is_writing)
        .await
        .map(drop)
}

fn with_dagz(is_writing: bool) -> Result<()> {
    harness::test(|scope| async move {
        let client: dagz::postgres::Client = argument(&scope).await;
        let found = work(&client, is_writing).await?;
        let own = if is_writing { 5 } else { 0 };
        ensure!(
            found == own,
            "a test sees {found} rows and wrote {own}: what does not isolate has no figure"
        );
        Ok(())
    })
}

/// Statements of a small test; tells how many rows it sees in the first of its tables.
async fn work(client: &Client, is_writing: bool) -> Result<i64> {
    if is_writing {
        for table in DIRTIED {
            client.batch_execute(&writes([table])).await?;
        }
    }
    let count = format!("SELECT count(*) FROM t{}", DIRTIED[0]);
    use dagz_bench::suite::Connection as _;
    client.number(&count).await
}
