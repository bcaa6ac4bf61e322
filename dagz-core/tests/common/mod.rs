//! A driver for the core's own tests: a database is a folder, and preparing empties it.

pub(crate) mod state;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dagz_core::{
    Access, DbConfig, Endpoint, Error, ErrorKind, Options, Result, Route, Target, Worker,
    async_trait,
};

/// How often the driver was called, shared with the test that configured it.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) init: AtomicUsize,
    pub(crate) prepare: AtomicUsize,
    pub(crate) release: AtomicUsize,
}

impl Calls {
    pub(crate) fn seen(&self) -> (usize, usize, usize) {
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (read(&self.init), read(&self.prepare), read(&self.release))
    }
}

/// What a name is rewritten to, where a test wants another rule than the default.
pub(crate) type Rewrite = fn(Worker, &str) -> String;

pub(crate) struct Folders {
    pub(crate) driver: &'static str,
    pub(crate) root: PathBuf,
    pub(crate) options: Options,
    pub(crate) calls: Arc<Calls>,
    /// How long a preparation takes.
    pub(crate) slow: Duration,
    pub(crate) rewrite: Option<Rewrite>,
}

impl Folders {
    pub(crate) fn new(driver: &'static str) -> Self {
        Self {
            driver,
            root: state::root().join(driver),
            options: Options::default(),
            calls: Arc::default(),
            slow: Duration::ZERO,
            rewrite: None,
        }
    }
}

#[async_trait]
impl DbConfig for Folders {
    fn driver(&self) -> &'static str {
        self.driver
    }

    fn options(&self) -> Options {
        self.options.clone()
    }

    fn name_limit(&self) -> usize {
        32
    }

    fn is_system(&self, name: &str) -> bool {
        name == "system"
    }

    fn reroute(&self, name: &str) -> bool {
        name != "shared"
    }

    fn rewrite(&self, worker: Worker, base: &str) -> Result<String> {
        match self.rewrite {
            Some(rewrite) => Ok(rewrite(worker, base)),
            None => dagz_core::name::rewrite(worker, base, self.name_limit()),
        }
    }

    async fn worker_init(&self, target: &Target) -> Result<()> {
        self.calls.init.fetch_add(1, Ordering::SeqCst);
        if target.base() == "broken" {
            let cause = std::io::Error::other("disk full");
            let message = format!("creating the folder `{}` failed", target.name());
            return Err(Error::new(ErrorKind::WorkerInit, message).with_source(cause));
        }
        fs::create_dir_all(self.root.join(target.name()))
            .map_err(|error| Error::new(ErrorKind::WorkerInit, "no folder").with_source(error))
    }

    async fn prepare(&self, target: &Target) -> Result<()> {
        self.calls.prepare.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.slow).await;
        for entry in fs::read_dir(self.root.join(target.name())).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        Ok(())
    }

    async fn release(&self, _target: &Target) {
        self.calls.release.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn open(driver: &'static str, name: &str) -> Result<Route> {
    dagz_core::resolve_blocking(driver, access(name))
}

pub(crate) fn access(name: &str) -> Access {
    Access::new(Endpoint::new("disk"), name)
}
