//! The working driver: what the core calls, and what this process knows of clusters and keyspaces.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use dagz_core::{
    DbConfig, Endpoint, Error, ErrorKind, Options, Result, Target, Worker, async_trait, name,
};

use crate::{
    Config, Prepare,
    config::PrepareWith,
    error, provision,
    reset::{self, Keeper, Leases},
    server::{Kept, NAME_LIMIT, Server, Source},
};

/// The word for this driver everywhere.
pub(crate) const NAME: &str = "cassandra";

/// The driver of this process, once it is configured.
pub(crate) static DRIVER: OnceLock<Driver> = OnceLock::new();

/// Makes `config` the Cassandra configuration of this process.
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
            "the Cassandra driver is not configured: call `dagz::cassandra::configure(..)` first",
        )
    })
}

/// Cassandra for dagz, with its sessions and what it knows of this process's keyspaces.
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
    /// By the identity of an endpoint, as spelled and as told by the cluster.
    servers: Mutex<HashMap<String, Arc<Server>>>,
    /// By contact points, user and keyspace.
    kept: Mutex<HashMap<(String, Option<String>, String), Arc<Kept>>>,
    databases: Mutex<HashMap<(String, String), Arc<Database>>>,
    leases: Arc<Leases>,
}

/// One worker's keyspace, as this process knows it.
#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) keeper: tokio::sync::Mutex<Keeper>,
}

impl Driver {
    /// A driver for what `config` says.
    pub fn new(config: Config) -> Self {
        let configured = Arc::new(Server::new(&config.base));
        let id = config.base.endpoint().id().to_owned();
        Self {
            shared: Arc::new(Shared {
                servers: Mutex::new(HashMap::from([(id, Arc::clone(&configured))])),
                configured,
                config,
                kept: Mutex::default(),
                databases: Mutex::default(),
                leases: Arc::default(),
            }),
        }
    }

    /// What the user configured.
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// What keeps other runs off the keyspaces of this one.
    pub(crate) fn leases(&self) -> &Arc<Leases> {
        &self.shared.leases
    }

    /// Remembers that `endpoint` can be reached by `source`; what is known already stays.
    pub(crate) fn learn(&self, endpoint: &Endpoint, source: &Source) {
        let mut servers = self.servers();
        if !servers.contains_key(endpoint.id()) {
            servers.insert(endpoint.id().to_owned(), Arc::new(Server::new(source)));
        }
    }

    /// The cluster of `endpoint`.
    pub(crate) fn server(&self, endpoint: &Endpoint) -> Result<Arc<Server>> {
        self.servers().get(endpoint.id()).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("no session settings are known for the cluster at `{endpoint}`"),
            )
        })
    }

    /// The session of this process for what `source` names.
    pub(crate) fn kept(&self, source: &Source) -> Arc<Kept> {
        let key = (
            source.shown().to_owned(),
            source.user().map(str::to_owned),
            source.keyspace().to_owned(),
        );
        let mut kept = self
            .shared
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = kept
            .entry(key)
            .or_insert_with(|| Arc::new(Kept::new(source.clone(), self.config().fetch_schema)));
        Arc::clone(kept)
    }

    /// The session of this process for the keyspace of `target`.
    pub(crate) fn kept_for(&self, target: &Target) -> Result<Arc<Kept>> {
        let server = self.server(target.endpoint())?;
        Ok(self.kept(&server.source.in_keyspace(target.name())))
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

    async fn identity_of(&self, server: &Server) -> Result<Endpoint> {
        let kept = self.kept(&server.source.in_keyspace(""));
        let session = kept.ready().await?;
        let identity = server.identity(&session).await.map_err(|error| {
            error::statement(
                ErrorKind::Unreachable,
                format!(
                    "Cassandra at `{}` does not say who it is",
                    server.source.shown()
                ),
                "",
                server.source.user(),
                error,
            )
        })?;
        Ok(identity.clone())
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
        name == "system" || name.starts_with("system_") || name == reset::BOOKS
    }

    fn reroute(&self, name: &str) -> bool {
        self.config().wants(name)
    }

    fn rewrite(&self, worker: Worker, base: &str) -> Result<String> {
        if !base
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_')
        {
            return Err(Error::new(
                ErrorKind::InvalidName,
                format!(
                    "the cassandra keyspace {base:?} cannot be rerouted for {worker}: a keyspace's name has no characters but `A-Z`, `a-z`, `0-9` and `_`"
                ),
            ));
        }
        name::rewrite(worker, base, NAME_LIMIT)
    }

    /// The configured cluster is known by its configured address, without asking it: a session
    /// for nothing but that is more than a test should pay. Other addresses are asked whether they
    /// lead there.
    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        let server = self.server(endpoint)?;
        let configured = &self.shared.configured;
        if Arc::ptr_eq(configured, &server) {
            return Ok(self.config().base.endpoint());
        }
        let identity = self.identity_of(&server).await?;
        // That the configured cluster cannot be reached says nothing about this one.
        let is_configured = self
            .identity_of(configured)
            .await
            .is_ok_and(|other| other == identity);
        if is_configured {
            return Ok(self.config().base.endpoint());
        }
        self.servers()
            .entry(identity.id().to_owned())
            .or_insert_with(|| Arc::clone(&server));
        Ok(identity)
    }

    fn fingerprint(&self) -> String {
        provision::fingerprint(self.config())
    }

    async fn worker_init(&self, target: &Target) -> Result<()> {
        provision::init(self, target).await
    }

    async fn prepare(&self, target: &Target) -> Result<()> {
        match &self.config().prepare {
            PrepareWith::Own(prepare) => reset::prepare(self, target, *prepare).await,
            PrepareWith::Closure(closure) => {
                // Whatever the closure does, it does it to a keyspace that is this run's alone.
                reset::prepare(self, target, Prepare::None).await?;
                let session = self.kept_for(target)?.ready().await?;
                closure(target.clone(), session).await.map_err(|error| {
                    Error::new(
                        ErrorKind::Prepare,
                        format!("the `prepare_with` function failed for `{}`", target.name()),
                    )
                    .with_source(error)
                })
            }
        }
    }
}
