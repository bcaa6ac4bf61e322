//! The working driver: what the core calls, and what this process knows of servers and databases.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::{
    hash::{BuildHasher, RandomState},
    process,
    sync::Arc,
};

use dagz_core::{
    DbConfig, Endpoint, Error, ErrorKind, Options, Result, Settings, Target, Worker, async_trait,
    driver::{self, Configured, Known, PrepareWith},
    name,
};
use redis::ConnectionInfo;

use crate::{
    Config, Prepare,
    map::IndexMap,
    provision::{self, Fleet},
    reset::{self, Keeper},
    route,
    server::Server,
};

/// The word for this driver everywhere.
pub(crate) const NAME: &str = "redis";

/// More than any index has digits, with a worker behind it.
const NAME_LIMIT: usize = 40;

/// The driver of this process, once it is configured.
pub(crate) static DRIVER: Configured<Driver> = Configured::new(NAME, "Redis");

/// Makes `config` the Redis configuration of this process.
///
/// # Errors
/// [`ErrorKind::AlreadyConfigured`] the second time, [`ErrorKind::Settings`] where the declared indices
/// cannot be kept apart from the workers'.
pub fn configure(config: Config) -> Result<()> {
    config.map()?;
    DRIVER.configure(Driver::new(config))
}

/// The driver of this process.
pub(crate) fn configured() -> Result<&'static Driver> {
    DRIVER.required()
}

/// Redis for dagz, with its connections and what it knows of this process's databases.
///
/// Usually made by [`configure`]; made by hand where another [`DbConfig`] delegates to it. Clones
/// share everything.
#[derive(Clone, Debug)]
pub struct Driver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Tells this driver's locks from those of other processes.
    holder: String,
    known: Known<Server, Database>,
    fleet: Option<Fleet>,
}

/// One worker's database, as this process knows it.
#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) keeper: tokio::sync::Mutex<Option<Keeper>>,
}

impl Driver {
    /// A driver for what `config` says.
    pub fn new(config: Config) -> Self {
        // Containers have process numbers in common.
        let random = RandomState::new().hash_one(process::id());
        let servers = config.private_servers.clone();
        let fleet = servers.map(|servers| Fleet::new(servers, config.declared()));
        Self {
            shared: Arc::new(Shared {
                known: Known::new(route::endpoint(&config.base), Server::new(&config.base)),
                config,
                holder: format!("{:x}-{random:016x}", process::id()),
                fleet,
            }),
        }
    }

    /// What the user configured.
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// What tells this driver's locks from those of others.
    pub(crate) fn holder(&self) -> &str {
        &self.shared.holder
    }

    /// Remembers that `endpoint` can be reached by `info`; what is known already stays.
    pub(crate) fn learn(&self, endpoint: &Endpoint, info: &ConnectionInfo) {
        self.shared.known.learn(endpoint, || Server::new(info));
    }

    /// The server of `endpoint`.
    pub(crate) fn server(&self, endpoint: &Endpoint) -> Result<Arc<Server>> {
        self.shared.known.server(endpoint)
    }

    /// What this process keeps for `target`.
    pub(crate) fn database(&self, target: &Target) -> Arc<Database> {
        self.shared.known.database(target, Database::default)
    }

    /// The private servers, if so configured.
    pub(crate) fn fleet(&self) -> Option<&Fleet> {
        self.shared.fleet.as_ref()
    }

    /// The settings of a connection to the database of `target`.
    pub(crate) fn info_for(&self, target: &Target) -> Result<ConnectionInfo> {
        let base = &self.config().base;
        match self.fleet() {
            Some(fleet) => fleet.rerouted(base, target),
            None => {
                let server = self.server(target.endpoint())?;
                Ok(server.info_for(route::index_of(target)?))
            }
        }
    }
}

/// How many workers there are on all nodes together.
pub(crate) fn workers() -> Result<u32> {
    let settings = Settings::current()?;
    Ok(settings.workers().saturating_mul(settings.node_total()))
}

/// The error for an index that is no base's and no worker's.
fn undeclared(map: &IndexMap, base: &str) -> Error {
    let mut all: Vec<String> = map.bases().iter().map(ToString::to_string).collect();
    let declared = all.join(", ");
    all.push(base.to_owned());
    Error::new(
        ErrorKind::InvalidName,
        format!(
            "the redis database `{base}` is not declared, only {declared}: say `Config::bases([{}])`, all the indices that the application uses",
            all.join(", ")
        ),
    )
}

#[async_trait]
impl DbConfig for Driver {
    fn driver(&self) -> &'static str {
        NAME
    }

    fn options(&self) -> Options {
        self.config().options.clone()
    }

    fn name_limit(&self) -> usize {
        NAME_LIMIT
    }

    fn reroute(&self, name: &str) -> bool {
        name.parse()
            .map_or(true, |index| self.config().wants(index))
    }

    fn rewrite(&self, worker: Worker, base: &str) -> Result<String> {
        let map = self.config().map()?;
        if self.worker_of(base) == Some(worker) {
            return Ok(base.to_owned());
        }
        let index = base.parse().ok().and_then(|base| map.index(worker, base));
        match index {
            Some(_) if self.fleet().is_some() => name::rewrite(worker, base, NAME_LIMIT),
            Some(index) => Ok(index.to_string()),
            None => Err(undeclared(&map, base)),
        }
    }

    fn worker_of(&self, name: &str) -> Option<Worker> {
        if self.fleet().is_some() {
            return name::worker(name);
        }
        let map = self.config().map().ok()?;
        // Those that stand in for kept workers are workers too.
        let bound = Settings::current().ok()?.worker_bound();
        map.worker_of(name.parse().ok()?, bound)
    }

    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        if self.fleet().is_some() {
            // Nobody needs a server there.
            return Ok(route::stood_for(endpoint));
        }
        self.shared.known.identify(endpoint).await
    }

    async fn worker_init(&self, target: &Target) -> Result<()> {
        provision::init(self, target).await
    }

    async fn prepare(&self, target: &Target) -> Result<()> {
        match &self.config().prepare {
            PrepareWith::Own(prepare) => reset::prepare(self, target, *prepare).await,
            PrepareWith::Hook(hook) => {
                // Whatever it does, it does it to a database that is this run's alone.
                reset::prepare(self, target, Prepare::None).await?;
                hook.call(target, self.info_for(target)?).await
            }
        }
    }

    async fn release(&self, target: &Target) {
        reset::release(&self.database(target)).await;
    }

    async fn serves(&self, worker: Worker) -> Result<()> {
        if self.fleet().is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "private Redis servers end with the run, and what is in them",
            ));
        }
        provision::serves(self, worker).await
    }

    fn client_command(&self, target: &Target) -> Option<String> {
        let info = self.info_for(target).ok()?;
        Some(route::client_command(&info))
    }
}

impl driver::Server for Server {
    async fn identity(&self) -> Result<&Endpoint> {
        self.identity().await
    }
}
