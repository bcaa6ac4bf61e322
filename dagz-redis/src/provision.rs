//! Makes workers' databases: takes an index into dagz's books, and fills it by the user's function.
//!
//! An index is there already, so there is nothing to create; what is to be decided is whether it may be
//! taken. `provision/stamp.rs` decides whose an index is, `provision/cleanup.rs` lists and removes what
//! dagz took, `provision/private.rs` starts servers of dagz's own. [`init`] is where the driver enters; the
//! connection is that of `reset/keeper.rs`.

mod cleanup;
mod doctor;
mod private;
mod stamp;

use dagz_core::{Error, ErrorKind, Result, Target, Worker, event::Event};

pub use self::{
    cleanup::{Stamped, adopt, databases, remove},
    doctor::doctor,
    private::PrivateServers,
};
pub(crate) use self::{
    private::{Fleet, Started},
    stamp::{Owner, Stamp, key as stamp_key, owner, refusal, stamp},
};
use crate::{
    Driver, driver,
    reset::{self, Keeper},
    route,
    server::{Link, Server},
};

/// Makes the database of `target` dagz's, for this project, and fills it.
pub(crate) async fn init(driver: &Driver, target: &Target) -> Result<()> {
    reset::make(driver, target).await
}

/// A connection for the database of `target`, on a private server if so configured, which is then started
/// where there is none. `again` says that a connection has just been lost.
pub(crate) async fn keeper(driver: &Driver, target: &Target, again: bool) -> Result<Keeper> {
    let index = route::index_of(target)?;
    let purpose = target.worker().to_string();
    if let Some(fleet) = driver.fleet() {
        let (server, own) = fleet.server(target, false).await?;
        let mut keeper = match Keeper::open(&server, index, &purpose).await {
            // A test may have stopped it, or locked everybody out.
            Err(_) if again || own.is_some() => {
                drop(own);
                let (server, own) = fleet.server(target, true).await?;
                let mut keeper = Keeper::open(&server, index, &purpose).await?;
                keeper.private = Some(own);
                return Ok(keeper);
            }
            opened => opened?,
        };
        keeper.private = Some(own);
        return Ok(keeper);
    }
    let server = driver.server(target.endpoint())?;
    let keeper = Keeper::open(&server, index, &purpose).await?;
    enough_databases(driver, keeper.link(), target.worker())?;
    Ok(keeper)
}

/// Makes sure that the configured server has databases for `worker`, which may stand in for another one.
pub(crate) async fn serves(driver: &Driver, worker: Worker) -> Result<()> {
    let server = Server::new(&driver.config().base);
    let link = server.link("dagz-keep").await?;
    enough_databases(driver, &link, worker)
}

/// Makes sure that the server has a database for every worker up to `worker` at least, and one for the books.
fn enough_databases(driver: &Driver, link: &Link, worker: Worker) -> Result<()> {
    let map = driver.config().map()?;
    let workers = driver::workers()?.max(worker.number().saturating_add(1));
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
    init.call(target, driver.info_for(target)?).await?;
    Event::new("fill")
        .target(target)
        .duration(started.elapsed())
        .record();
    Ok(())
}
