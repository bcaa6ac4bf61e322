//! The suite with dagz: on as many workers as `DAGZ_WORKERS` says, by whichever runner.

use std::env;

use dagz_bench::suite;

#[dagz::setup]
fn databases() -> dagz::Result<()> {
    let url = env::var("DAGZ_BENCH_URL").unwrap_or_default();
    dagz::postgres::configure(dagz::postgres::Config::new(&url)?.migrations(suite::migrations()))
}

macro_rules! one {
    ($name:ident, $number:expr) => {
        #[dagz::test]
        async fn $name(client: dagz::postgres::Client) -> anyhow::Result<()> {
            suite::case($number, &*client).await
        }
    };
}

dagz_bench::suite!(one);
