//! The working driver: what the core calls, and what this process knows of servers and databases.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use dagz_core::{DbConfig, Endpoint, Error, ErrorKind, Options, Result, Target, async_trait};
use mysql_async::Opts;

use crate::{
    Config, Prepare, client::Shelf, config::PrepareWith, provision, reset, reset::Keeper, route,
    server::Server,
};

/// The word for this driver everywhere.
pub(crate) const NAME: &str = "mysql";

/// The longest name of a database: 64 characters for the server, bytes here, to be on the safe side.
const NAME_LIMIT: usize = 64;

/// Databases of the server, which are never an application's.
const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Whether `name` is one of the server's own, some of which it finds in any spelling.
pub(crate) fn is_system(name: &str) -> bool {
    SYSTEM_DATABASES
        .iter()
        .any(|system| system.eq_ignore_ascii_case(name))
}

/// The driver of this process, once it is configured.
pub(crate) static DRIVER: OnceLock<Driver> = OnceLock::new();

/// Makes `config` the MySQL configuration of this process.
///
/// # Errors
/// [`ErrorKind::AlreadyConfigured`] the second time.
pub fn configure(config: Config) -> Result<()> {
    static CONFIGURING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CONFIGURING.lock().unwrap_or_else(PoisonError::into_inner);
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
            "the MySQL driver is not configured: call `dagz::mysql::configure(..)` first",
        )
    })
}

/// MySQL and MariaDB for dagz, with its connections and what it knows of this process's databases.
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
    /// By the identity of an endpoint, as spelled and as told by the server.
    servers: Mutex<HashMap<String, Arc<Server>>>,
    databases: Mutex<HashMap<(String, String), Arc<Database>>>,
    fingerprint: OnceLock<String>,
}

/// One worker's database, as this process knows it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) server: Arc<Server>,
    pub(crate) keeper: Arc<tokio::sync::Mutex<Option<Keeper>>>,
    pub(crate) shelf: Arc<Shelf>,
}

impl Driver {
    /// A driver for what `config` says.
    pub fn new(config: Config) -> Self {
        let configured = Arc::new(Server::new(&config.base));
        let id = route::endpoint(&config.base).id().to_owned();
        Self {
            shared: Arc::new(Shared {
                config,
                servers: Mutex::new(HashMap::from([(id, Arc::clone(&configured))])),
                configured,
                databases: Mutex::default(),
                fingerprint: OnceLock::new(),
            }),
        }
    }

    /// What the user configured.
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Remembers that `endpoint` can be reached by `opts`; what is known already stays.
    pub(crate) fn learn(&self, endpoint: &Endpoint, opts: &Opts) {
        let mut servers = self.servers();
        if !servers.contains_key(endpoint.id()) {
            servers.insert(endpoint.id().to_owned(), Arc::new(Server::new(opts)));
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
    pub(crate) fn database(&self, target: &Target) -> Result<Arc<Database>> {
        let server = self.server(target.endpoint())?;
        let key = (target.endpoint().id().to_owned(), target.name().to_owned());
        let mut databases = self
            .shared
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(databases.entry(key).or_insert_with(|| {
            Arc::new(Database {
                shelf: Arc::new(Shelf::new(Arc::clone(&server), target)),
                server,
                keeper: Arc::default(),
            })
        })))
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<String, Arc<Server>>> {
        self.shared
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
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

    fn is_system(&self, name: &str) -> bool {
        is_system(name)
    }

    fn reroute(&self, name: &str) -> bool {
        self.config().wants(name)
    }

    fn fingerprint(&self) -> String {
        // Migrations do not change under a running process; one that cannot read them says so
        // when it needs them.
        self.shared
            .fingerprint
            .get_or_init(|| provision::fingerprint(self.config()).unwrap_or_default())
            .clone()
    }

    /// The configured server is known by its configured address, without asking it: a connection
    /// for nothing but that is more than a test should pay. Other addresses are asked whether they
    /// lead there.
    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
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
            PrepareWith::Own(prepare) => reset::prepare(self, target, *prepare).await?,
            PrepareWith::Closure(closure) => {
                // Whatever the closure does, it does it to a database that is this run's alone.
                reset::prepare(self, target, Prepare::None).await?;
                let opts = self.server(target.endpoint())?.opts_for(target.name());
                closure(target.clone(), opts).await.map_err(|error| {
                    Error::new(
                        ErrorKind::Prepare,
                        format!("the `prepare_with` function failed for `{}`", target.name()),
                    )
                    .with_source(error)
                })?;
            }
        }
        let database = self.database(target)?;
        reset::note(&database, target).await;
        Ok(())
    }

    async fn release(&self, target: &Target) {
        if let Ok(database) = self.database(target) {
            reset::release(&database, target).await;
        }
    }
}
