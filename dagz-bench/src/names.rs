//! A worker's database for a driver that the benchmark drives itself: the core gives the name, and does nothing else.
//!
//! A process has one configuration per driver, and the benchmark measures many: so it takes names from a driver of
//! its own, that neither makes nor prepares anything, and hands them to the real ones.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use dagz_core::{Access, DbConfig, Endpoint, Target, Worker, configure, resolve_blocking};

type Rewrite = Box<dyn Fn(Worker, &str) -> dagz_core::Result<String> + Send + Sync>;

struct Names {
    driver: &'static str,
    rewrite: Rewrite,
}

impl DbConfig for Names {
    fn driver(&self) -> &'static str {
        self.driver
    }

    fn name_limit(&self) -> usize {
        255
    }

    fn rewrite(&self, worker: Worker, base: &str) -> dagz_core::Result<String> {
        (self.rewrite)(worker, base)
    }

    fn worker_of(&self, _: &str) -> Option<Worker> {
        None
    }
}

/// The current worker's database for `base` at `endpoint`, which `rewrite` names.
///
/// `driver` is a word that no real driver has; the first `rewrite` given for it serves all later calls.
pub(crate) fn target(
    driver: &'static str,
    endpoint: &str,
    base: &str,
    rewrite: impl Fn(Worker, &str) -> dagz_core::Result<String> + Send + Sync + 'static,
) -> Result<Target> {
    static KNOWN: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.insert(driver) {
        configure(Names {
            driver,
            rewrite: Box::new(rewrite),
        })?;
    }
    drop(known);
    let route = resolve_blocking(driver, Access::new(Endpoint::new(endpoint), base))?;
    let target = route.target().context("dagz is switched off")?;
    Ok(target.clone())
}
