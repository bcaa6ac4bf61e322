//! Lists, removes and adopts indices in dagz's books, for `cargo dagz clean` and for users.
//!
//! [`databases`] lists, [`remove`] gives one back unless somebody uses it, [`adopt`] takes one that the
//! user fills.

use dagz_core::{Error, ErrorKind, Result, Settings, driver};
use redis::{Pipeline, Value};

use super::stamp::{self, Owner, STAMPS, Stamp};
use crate::{
    Config,
    reset::{Keeper, baseline_key},
    route,
    server::{Server, first},
};

/// An index that dagz took for a project; its name is its number.
pub type Stamped = driver::Stamped<Config>;

/// All indices that dagz has taken for `project` on the server of `config`, in their order.
///
/// # Errors
/// Where the server cannot be reached or asked.
pub async fn databases(config: &Config, project: &str) -> Result<Vec<Stamped>> {
    let link = Server::new(&config.base).link("dagz-clean").await?;
    let failed = |error| {
        let message = format!("cannot list what dagz took at `{}`", link.shown());
        link.failed(ErrorKind::Unsupported, message, error)
    };
    let mut select = Pipeline::new();
    select.cmd("SELECT").arg(link.books());
    first::<Value>(link.send(&select).await).map_err(failed)?;
    let mut found = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let mut scan = Pipeline::new();
        scan.cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{STAMPS}*"))
            .arg("COUNT")
            .arg(1_000);
        let (next, keys): (u64, Vec<String>) = first(link.send(&scan).await).map_err(failed)?;
        if !keys.is_empty() {
            let mut read = Pipeline::new();
            read.cmd("MGET").arg(&keys);
            let stamps: Vec<Option<String>> = first(link.send(&read).await).map_err(failed)?;
            let stamps = stamps.into_iter().flatten();
            found.extend(stamps.filter_map(|stamp| serde_json::from_str::<Stamp>(&stamp).ok()));
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    found.retain(|stamp| stamp.project == project);
    found.sort_by_key(|stamp| stamp.more.index);
    // A scan may tell a key twice.
    found.dedup_by_key(|stamp| stamp.more.index);
    Ok(found
        .into_iter()
        .map(|stamp| {
            let name = stamp.more.index.to_string();
            Stamped::new(config.clone(), project, name, Some(&stamp))
        })
        .collect())
}

/// Flushes `database` and forgets it, if it still is of the project for which [`databases`] saw it.
///
/// # Errors
/// [`ErrorKind::InUse`] where a run uses it, [`ErrorKind::Refused`] where it is not the project's any
/// more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let index = route::index_named(database.name())?;
    let server = Server::new(&database.at().base);
    let mut keeper = Keeper::open(&server, index, "clean").await?;
    let patience = database.at().lock_timeout;
    let project = database.project().to_owned();
    let mut commands = Pipeline::new();
    commands
        .cmd("FLUSHDB")
        .arg("ASYNC")
        .cmd("SELECT")
        .arg(keeper.link().books())
        .cmd("DEL")
        .arg(stamp::key(index))
        .arg(baseline_key(index));
    keeper
        .change(patience, &commands, |stamp, keys| {
            match stamp::owner(&project, stamp, keys) {
                None => Ok(false),
                Some(owner) if owner.is_ours() => Ok(true),
                Some(owner) => Err(stamp::refusal(&owner, "flush", index)),
            }
        })
        .await
}

/// Declares that database `index` on the server of `config`, with all that it holds, is dagz's to flush,
/// for the current project. It must be one of a worker's.
///
/// # Errors
/// [`ErrorKind::Refused`] where it belongs to another project, [`ErrorKind::InvalidName`] where it is no
/// worker's index, [`ErrorKind::InUse`] where a run uses it.
pub async fn adopt(config: &Config, index: i64) -> Result<()> {
    let map = config.map()?;
    let workers = crate::driver::workers()?;
    let (Some(worker), Some(base)) = (map.worker_of(index, workers), map.base_of(index)) else {
        return Err(Error::new(
            ErrorKind::InvalidName,
            format!("cannot adopt database `{index}`: it is not one of a worker's"),
        ));
    };
    let project = Settings::current()?.project().to_owned();
    let server = Server::new(&config.base);
    let mut keeper = Keeper::open(&server, index, "adopt").await?;
    let mut stamp = stamp::bare(&project, index).complete();
    stamp.worker = worker.number();
    stamp.base = base.to_string();
    let mut commands = Pipeline::new();
    commands
        .cmd("SELECT")
        .arg(keeper.link().books())
        .cmd("SET")
        .arg(stamp::key(index))
        .arg(stamp.to_json());
    keeper
        .change(
            config.lock_timeout,
            &commands,
            |stamp, keys| match stamp::owner(&project, stamp, keys) {
                Some(Owner::Ours(_)) => Ok(false),
                None | Some(Owner::HalfMade | Owner::Unstamped) => Ok(true),
                Some(owner) => Err(stamp::refusal(&owner, "adopt", index)),
            },
        )
        .await
}
