//! The working driver: what the core calls, and what this process knows of servers and databases.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    process,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use dagz_core::{
    DbConfig, Endpoint, Error, ErrorKind, Options, Result, Settings, Target, Worker, async_trait,
    name,
};
use redis::ConnectionInfo;

use crate::{
    Config, Prepare,
    config::PrepareWith,
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
pub(crate) static DRIVER: OnceLock<Driver> = OnceLock::new();

/// Makes `config` the Redis configuration of this process.
///
/// # Errors
/// [`ErrorKind::AlreadyConfigured`] the second time, [`ErrorKind::Settings`] where the declared indices
/// cannot be kept apart from the workers'.
pub fn configure(config: Config) -> Result<()> {
    static CONFIGURING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CONFIGURING.lock().unwrap_or_else(PoisonError::into_inner);
    config.map()?;
    let driver = Driver::new(config);
    if dagz_core::configured(NAME).is_none() {
        // First here, so that the first access through the core finds it.
        DRIVER.get_or_init(|| driver.clone());
    }
    dagz_core::configure(driver)
}

/// The driver of this process.
pub(crate) fn configured() -> Result<&'static Driver> {
    DRIVER.get().ok_or_else(|| {
        Error::new(
            ErrorKind::Unconfigured,
            "the Redis driver is not configured: call `dagz::redis::configure(..)` first",
        )
    })
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
    configured: Arc<Server>,
    /// Tells this driver's locks from those of other processes.
    holder: String,
    /// By the identity of an endpoint, as spelled and as told by the server.
    servers: Mutex<HashMap<String, Arc<Server>>>,
    databases: Mutex<HashMap<(String, String), Arc<Database>>>,
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
        let configured = Arc::new(Server::new(&config.base));
        let id = route::endpoint(&config.base).id().to_owned();
        // Containers have process numbers in common.
        let random = RandomState::new().hash_one(process::id());
        let servers = config.private_servers.clone();
        let fleet = servers.map(|servers| Fleet::new(servers, config.declared()));
        Self {
            shared: Arc::new(Shared {
                config,
                holder: format!("{:x}-{random:016x}", process::id()),
                servers: Mutex::new(HashMap::from([(id, Arc::clone(&configured))])),
                configured,
                databases: Mutex::default(),
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
        let mut servers = self.servers();
        if !servers.contains_key(endpoint.id()) {
            servers.insert(endpoint.id().to_owned(), Arc::new(Server::new(info)));
        }
    }

    /// The server of `endpoint`.
    pub(crate) fn server(&self, endpoint: &Endpoint) -> Result<Arc<Server>> {
        self.servers().get(endpoint.id()).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("no connection settings are known for the server at `{endpoint}`"),
            )
        })
    }

    /// What this process keeps for `target`.
    pub(crate) fn database(&self, target: &Target) -> Arc<Database> {
        let key = (target.endpoint().id().to_owned(), target.name().to_owned());
        let mut databases = self
            .shared
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(databases.entry(key).or_default())
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

    fn servers(&self) -> MutexGuard<'_, HashMap<String, Arc<Server>>> {
        self.shared
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        map.worker_of(name.parse().ok()?, workers().ok()?)
    }

    /// The configured server is known by its configured address, without asking it: a connection
    /// for nothing but that is more than a test should pay. Other addresses are asked whether they
    /// lead there.
    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        if self.fleet().is_some() {
            // Nobody needs a server there.
            return Ok(provision::stood_for(endpoint));
        }
        let server = self.server(endpoint)?;
        let configured = &self.shared.configured;
        if Arc::ptr_eq(configured, &server) {
            return Ok(route::endpoint(&self.config().base));
        }
        let identity = server.identity().await?;
        // That the configured server cannot be reached says nothing about this one.
        let is_configured = configured
            .identity()
            .await
            .is_ok_and(|other| other == identity);
        if is_configured {
            return Ok(route::endpoint(&self.config().base));
        }
        self.servers()
            .entry(identity.id().to_owned())
            .or_insert_with(|| Arc::clone(&server));
        Ok(identity.clone())
    }

    async fn worker_init(&self, target: &Target) -> Result<()> {
        provision::init(self, target).await
    }

    async fn prepare(&self, target: &Target) -> Result<()> {
        match &self.config().prepare {
            PrepareWith::Own(prepare) => reset::prepare(self, target, *prepare).await,
            PrepareWith::Closure(closure) => {
                // Whatever the closure does, it does it to a database that is this run's alone.
                reset::prepare(self, target, Prepare::None).await?;
                closure(target.clone(), self.info_for(target)?)
                    .await
                    .map_err(|error| {
                        Error::new(
                            ErrorKind::Prepare,
                            format!("the `prepare_with` function failed for `{}`", target.name()),
                        )
                        .with_source(error)
                    })
            }
        }
    }

    async fn release(&self, target: &Target) {
        reset::release(&self.database(target)).await;
    }
}
