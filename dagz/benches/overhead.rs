//! What dagz adds to a test, against the same test written by hand, in one interleaved run.
//!
//! Run with `cargo bench -p dagz --features postgres`, a server in `DATABASE_URL` (`cargo xtask
//! services up postgres` prints it). Each row is the median over the rounds, and its ratio to the
//! floor, a prepared `SELECT 1` on a kept connection. Every round runs each row once, so that a
//! machine which slows down slows all of them. `cargo xtask bench` will take this over.

use std::time::{Duration, Instant};

use dagz::__private::{RuntimeSpec, TestSpec, argument, run_async, run_sync};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

const ROUNDS: usize = 300;
const TABLES: usize = 50;
const DIRTIED: [usize; 3] = [7, 23, 41];
const BASE: &str = "dagz_bench_overhead";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(
        |_| "`DATABASE_URL` is not set; `cargo xtask services up postgres` starts a server and prints it",
    )?;
    let mut base: tokio_postgres::Config = url.parse()?;
    base.dbname(BASE);
    let state = tempfile::tempdir()?;
    dagz::Settings::builder()
        .workers(1)
        .state_dir(state.path())
        .install()?;
    dagz::postgres::configure(
        dagz::postgres::Config::from_config(base.clone()).migrate_with(
            "bench 1",
            |config| async move {
                let client = connect(&config).await;
                client.batch_execute(&schema()).await
            },
        ),
    )?;

    let runtime = runtime();
    let mut worker_database = run_async(
        spec(),
        current_thread(),
        |_| async {
            use dagz::postgres::RerouteExt;
            base.reroute().await
        },
        Result::is_err,
    )?;
    // Without the test's tag: dagz ends what it takes for a leftover of a test.
    worker_database.application_name("by hand");
    let floor_client = runtime.block_on(connect(&worker_database));
    let floor = runtime.block_on(floor_client.prepare("SELECT 1"))?;

    let mut rows: Vec<Row> = vec![
        Row::new("floor: prepared `SELECT 1`", || {
            // Nothing but the round trip: the connection is there, the runtime is there.
            runtime
                .block_on(floor_client.query_one(&floor, &[]))
                .map(drop)
                .expect("the floor");
        }),
        Row::new("no database: plain thread", || {
            std::thread::spawn(|| ()).join().expect("a thread");
        }),
        Row::new("no database: dagz, in a thread", || {
            std::thread::spawn(|| run_sync(spec(), || (), |()| false))
                .join()
                .expect("a thread");
        }),
        Row::new("reads: by hand, connecting", || {
            by_hand(&worker_database, false);
        }),
        Row::new("reads: dagz", || with_dagz(false)),
        Row::new("writes 3 tables: by hand, connecting", || {
            by_hand(&worker_database, true);
        }),
        // Also pays for what the row above has left, as it does after a test.
        Row::new("writes 3 tables: dagz", || with_dagz(true)),
    ];
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.round();
        }
    }
    report(&mut rows);
    Ok(())
}

struct Row<'a> {
    name: &'static str,
    body: Box<dyn Fn() + 'a>,
    times: Vec<Duration>,
}

impl<'a> Row<'a> {
    fn new(name: &'static str, body: impl Fn() + 'a) -> Self {
        Self {
            name,
            body: Box::new(body),
            times: Vec::with_capacity(ROUNDS),
        }
    }

    fn round(&mut self) {
        let start = Instant::now();
        (self.body)();
        self.times.push(start.elapsed());
    }

    fn median(&mut self) -> Duration {
        self.times.sort_unstable();
        self.times[self.times.len() / 2]
    }
}

#[expect(clippy::print_stdout, reason = "a bench reports to people")]
fn report(rows: &mut [Row<'_>]) {
    let floor = rows[0].median();
    println!("{:<40} {:>12} {:>10}", "row", "median", "x floor");
    for row in rows {
        let median = row.median();
        let ratio = median.as_secs_f64() / floor.as_secs_f64();
        let micros = median.as_micros();
        println!("{:<40} {micros:>9} us {ratio:>10.1}", row.name);
    }
}

fn by_hand(config: &tokio_postgres::Config, writing: bool) {
    runtime().block_on(async {
        let client = connect(config).await;
        work(&client, writing).await;
    });
}

fn with_dagz(writing: bool) {
    run_async(
        spec(),
        current_thread(),
        |scope| async move {
            let client: dagz::postgres::Client = argument(&scope).await;
            work(&client, writing).await;
        },
        |()| false,
    );
}

async fn work(client: &Client, writing: bool) {
    if writing {
        for table in DIRTIED {
            let insert =
                format!("INSERT INTO t{table} (body) VALUES ('a'), ('b'), ('c'), ('d'), ('e')");
            client.batch_execute(&insert).await.expect("inserting");
        }
    }
    let count = format!("SELECT count(*) FROM t{}", DIRTIED[0]);
    client.simple_query(&count).await.expect("counting");
}

async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("connecting");
    tokio::spawn(connection);
    client
}

fn schema() -> String {
    (0..TABLES)
        .map(|table| {
            format!(
                "CREATE TABLE t{table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, made timestamptz DEFAULT now()); \
                 CREATE INDEX ON t{table} (body); CREATE INDEX ON t{table} (made);"
            )
        })
        .collect()
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn spec() -> TestSpec {
    TestSpec {
        name: "bench",
        main_worker: false,
        exclusive: false,
        should_panic: false,
    }
}

fn current_thread() -> RuntimeSpec {
    RuntimeSpec {
        multi_thread: false,
        worker_threads: None,
        start_paused: false,
    }
}
