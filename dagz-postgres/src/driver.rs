//! The working driver: what the core calls, and what this process knows of servers and databases.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dagz_core::{
    DbConfig, Endpoint, Options, Result, Target, async_trait,
    driver::{self, Configured, Known, Lull, PrepareWith, Shelf},
};

use crate::{
    Config, Prepare, client::Kept, provision, reset, reset::Keeper, route, server::Server,
};

/// The word for this driver everywhere.
pub(crate) const NAME: &str = "postgres";

/// The longest name of a database, in bytes.
pub(crate) const NAME_LIMIT: usize = 63;

/// Databases of servers and of hosting services, which are never an application's.
pub(crate) const SYSTEM_DATABASES: [&str; 7] = [
    "postgres",
    "template0",
    "template1",
    "azure_maintenance",
    "azure_sys",
    "cloudsqladmin",
    "rdsadmin",
];

/// The driver of this process, once it is configured.
pub(crate) static DRIVER: Configured<Driver> = Configured::new(NAME, "Postgres");

/// Makes `config` the Postgres configuration of this process.
///
/// # Errors
/// [`ErrorKind::AlreadyConfigured`](dagz_core::ErrorKind::AlreadyConfigured) the second time.
pub fn configure(config: Config) -> Result<()> {
    DRIVER.configure(Driver::new(config))
}

/// The driver of this process.
pub(crate) fn configured() -> Result<&'static Driver> {
    DRIVER.required()
}

/// Postgres for dagz, with its connections and what it knows of this process's databases.
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
    known: Known<Server, Database>,
    fingerprint: OnceLock<String>,
}

/// One worker's database, as this process knows it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) server: Arc<Server>,
    pub(crate) keeper: tokio::sync::Mutex<Option<Keeper>>,
    pub(crate) shelf: Arc<Shelf<Kept>>,
    pub(crate) lull: Lull,
    /// Sessions that did not become clean after a test, and may go on with what it asked of them.
    unclean: Mutex<Vec<i32>>,
}

impl Database {
    /// The next reset is to end the session `pid`.
    pub(crate) fn note_unclean(&self, pid: i32) {
        self.unclean
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pid);
    }

    /// The sessions to end, which are forgotten by it.
    pub(crate) fn take_unclean(&self) -> Vec<i32> {
        std::mem::take(&mut *self.unclean.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Driver {
    /// A driver for what `config` says.
    pub fn new(config: Config) -> Self {
        Self {
            shared: Arc::new(Shared {
                known: Known::new(route::endpoint(&config.base), Server::new(&config.base)),
                config,
                fingerprint: OnceLock::new(),
            }),
        }
    }

    /// What the user configured.
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Remembers that `endpoint` can be reached by `config`; what is known already stays.
    pub(crate) fn learn(&self, endpoint: &Endpoint, config: &tokio_postgres::Config) {
        self.shared.known.learn(endpoint, || Server::new(config));
    }

    /// The server of `endpoint`.
    pub(crate) fn server(&self, endpoint: &Endpoint) -> Result<Arc<Server>> {
        self.shared.known.server(endpoint)
    }

    /// What this process keeps for `target`.
    pub(crate) fn database(&self, target: &Target) -> Result<Arc<Database>> {
        let server = self.server(target.endpoint())?;
        Ok(self.shared.known.database(target, || Database {
            shelf: Arc::default(),
            lull: Lull::default(),
            server,
            keeper: tokio::sync::Mutex::default(),
            unclean: Mutex::default(),
        }))
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
        SYSTEM_DATABASES.contains(&name)
    }

    fn reroute(&self, name: &str) -> bool {
        self.config().wants(name)
    }

    fn fingerprint(&self) -> String {
        // Migrations do not change under a running process; one that cannot read them says so
        // when it needs them.
        self.shared
            .fingerprint
            .get_or_init(|| {
                self.config()
                    .migrations
                    .fingerprint(&self.config().format())
                    .unwrap_or_default()
            })
            .clone()
    }

    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
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
                let config = self.server(target.endpoint())?.config_for(target.name());
                hook.call(target, config).await
            }
        }
    }

    async fn release(&self, target: &Target) {
        if let Ok(database) = self.database(target) {
            reset::release(database).await;
        }
    }

    fn client_command(&self, target: &Target) -> Option<String> {
        let server = self.server(target.endpoint()).ok()?;
        Some(server.client_command(target.name()))
    }
}

impl driver::Server for Server {
    async fn identity(&self) -> Result<&Endpoint> {
        self.identity().await
    }
}
