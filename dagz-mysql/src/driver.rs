//! The working driver: what the core calls, and what this process knows of servers and databases.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::sync::{Arc, OnceLock};

use dagz_core::{
    DbConfig, Endpoint, Options, Result, Target, async_trait,
    driver::{self, Configured, Known, Lull, PrepareWith, Shelf},
};
use mysql_async::Opts;

use crate::{
    Config, Prepare, provision,
    reset::{self, Keeper, Prepared},
    route,
    server::Server,
};

/// The word for this driver everywhere.
pub(crate) const NAME: &str = "mysql";

/// The longest name of a database: 64 characters for the server, bytes here, to be on the safe side.
pub(crate) const NAME_LIMIT: usize = 64;

/// Databases of the server, which are never an application's.
const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Whether `name` is one of the server's own, some of which it finds in any spelling.
pub(crate) fn is_system(name: &str) -> bool {
    SYSTEM_DATABASES
        .iter()
        .any(|system| system.eq_ignore_ascii_case(name))
}

/// The driver of this process, once it is configured.
pub(crate) static DRIVER: Configured<Driver> = Configured::new(NAME, "MySQL");

/// Makes `config` the MySQL configuration of this process.
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
    known: Known<Server, Database>,
    fingerprint: OnceLock<String>,
}

/// One worker's database, as this process knows it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) server: Arc<Server>,
    pub(crate) keeper: Arc<tokio::sync::Mutex<Option<Keeper>>>,
    pub(crate) shelf: Arc<Shelf<mysql_async::Conn>>,
    pub(crate) lull: Lull,
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

    /// Remembers that `endpoint` can be reached by `opts`; what is known already stays.
    pub(crate) fn learn(&self, endpoint: &Endpoint, opts: &Opts) {
        self.shared.known.learn(endpoint, || Server::new(opts));
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
            keeper: Arc::default(),
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
            .get_or_init(|| {
                self.config()
                    .migrations
                    .fingerprint(provision::FORMAT)
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
        let prepared = match &self.config().prepare {
            PrepareWith::Own(prepare) => reset::prepare(self, target, *prepare).await?,
            PrepareWith::Hook(hook) => {
                // Whatever it does, it does it to a database that is this run's alone.
                reset::prepare(self, target, Prepare::None).await?.settle();
                let opts = self.server(target.endpoint())?.opts_for(target.name());
                hook.call(target, opts).await?;
                Prepared::again(&*self.database(target)?).await
            }
        };
        prepared.note(target);
        Ok(())
    }

    async fn release(&self, target: &Target) {
        if let Ok(database) = self.database(target) {
            reset::release(self, database, target).await;
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
