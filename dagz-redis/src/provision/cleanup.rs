//! Lists, removes and adopts indices in dagz's books, for `cargo dagz clean` and for users.
//!
//! [`databases`] lists, [`remove`] gives one back unless somebody uses it, [`adopt`] takes one that the
//! user fills.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dagz_core::{Error, ErrorKind, Result, Settings, Worker};
use redis::{Pipeline, Value};

use super::stamp::{self, Owner, STAMPS, Stamp};
use crate::{
    Config,
    reset::{Keeper, baseline_key},
    server::{Server, first},
};

/// An index that dagz took for a project.
#[derive(Clone, Debug)]
pub struct Stamped {
    config: Config,
    stamp: Stamp,
}

impl Stamped {
    /// Its index, as text.
    pub fn name(&self) -> String {
        self.stamp.index.to_string()
    }

    /// The project it was taken for.
    pub fn project(&self) -> &str {
        &self.stamp.project
    }

    /// The job it was made in.
    pub fn job(&self) -> Option<&str> {
        Some(self.stamp.job.as_str())
    }

    /// The worker it belongs to.
    pub fn worker(&self) -> Option<Worker> {
        Some(Worker::new(self.stamp.worker))
    }

    /// The base index it stands for.
    pub fn base(&self) -> Option<&str> {
        Some(self.stamp.base.as_str())
    }

    /// When it was made.
    pub fn made(&self) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(self.stamp.made))
    }
}

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
    found.sort_by_key(|stamp| stamp.index);
    // A scan may tell a key twice.
    found.dedup_by_key(|stamp| stamp.index);
    Ok(found
        .into_iter()
        .map(|stamp| Stamped {
            config: config.clone(),
            stamp,
        })
        .collect())
}

/// Flushes `database` and forgets it, if it still is of the project for which [`databases`] saw it.
///
/// # Errors
/// [`ErrorKind::InUse`] where a run uses it, [`ErrorKind::Refused`] where it is not the project's any
/// more.
pub async fn remove(database: &Stamped) -> Result<()> {
    let index = database.stamp.index;
    let server = Server::new(&database.config.base);
    let mut keeper = Keeper::open(&server, index, "clean").await?;
    let patience = database.config.lock_timeout;
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
                Owner::Vacant => Ok(false),
                owner if owner.is_ours() => Ok(true),
                owner => Err(owner.refusal("flush", index)),
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
    let stamp = Stamp {
        project: project.clone(),
        worker: worker.number(),
        base: base.to_string(),
        ..Stamp::bare(index)
    };
    let mut commands = Pipeline::new();
    commands
        .cmd("SELECT")
        .arg(keeper.link().books())
        .cmd("SET")
        .arg(stamp::key(index))
        .arg(stamp.finished(None).to_json());
    keeper
        .change(
            config.lock_timeout,
            &commands,
            |stamp, keys| match stamp::owner(&project, stamp, keys) {
                Owner::Ours(_) => Ok(false),
                owner @ (Owner::Foreign(_) | Owner::Later) => Err(owner.refusal("adopt", index)),
                Owner::HalfMade | Owner::Unstamped | Owner::Vacant => Ok(true),
            },
        )
        .await
}
