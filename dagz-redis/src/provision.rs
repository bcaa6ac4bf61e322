//! Makes workers' databases: takes an index into dagz's books, and fills it by the user's function.
//!
//! An index is there already, so there is nothing to create; what is to be decided is whether it may be
//! taken. `provision/stamp.rs` decides whose an index is, `provision/cleanup.rs` lists and removes what
//! dagz took. [`init`] is where the driver enters; the connection is that of `reset/keeper.rs`.

mod cleanup;
mod stamp;

use dagz_core::{Error, ErrorKind, Result, Target, event::Event};

pub use self::cleanup::{Stamped, adopt, databases, remove};
pub(crate) use self::stamp::{Owner, Stamp, key as stamp_key, owner};
use crate::{Driver, driver, reset, route, server::Link};

/// Makes the database of `target` dagz's, for this project, and fills it.
pub(crate) async fn init(driver: &Driver, target: &Target) -> Result<()> {
    reset::make(driver, target).await
}

/// Makes sure that the server has a database for every worker, and one for the books.
pub(crate) fn enough_databases(driver: &Driver, link: &Link) -> Result<()> {
    let map = driver.config().map()?;
    let workers = driver::workers()?;
    let (needed, has) = (map.databases(workers), link.databases());
    if needed <= has {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "Redis at `{}` has {has} databases, and {workers} workers with {} indices each need {needed}: set `databases {needed}` in its configuration or start it with `--databases {needed}`, run with fewer workers (`DAGZ_WORKERS`), or let dagz start servers by `Config::private_servers`",
            link.shown(),
            map.bases().len(),
        ),
    ))
}

/// Runs the user's function for the database of `target`, if there is one.
pub(crate) async fn init_by_user(driver: &Driver, target: &Target) -> Result<()> {
    let Some(init) = &driver.config().worker_init else {
        return Ok(());
    };
    let started = std::time::Instant::now();
    let index = route::index_of(target)?;
    let info = driver.server(target.endpoint())?.info_for(index);
    init(target.clone(), info).await.map_err(|error| {
        Error::new(
            ErrorKind::WorkerInit,
            format!("the `worker_init` function failed for `{}`", target.name()),
        )
        .with_source(error)
    })?;
    Event::new("fill")
        .target(target)
        .duration(started.elapsed())
        .record();
    Ok(())
}
