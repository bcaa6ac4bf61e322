//! The working driver: what the core calls, and what this process knows of clusters and keyspaces.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use dagz_core::{
    DbConfig, Endpoint, Error, ErrorKind, Options, Result, Target, Worker, async_trait,
    driver::{Configured, Known, PrepareWith},
    name,
};

use crate::{
    Config, Prepare, provision,
    reset::{self, Keeper, Leases},
    server::{Kept, NAME_LIMIT, Server},
    source::Source,
};

/// The word for this driver everywhere.
pub(crate) const NAME: &str = "cassandra";

/// The driver of this process, once it is configured.
pub(crate) static DRIVER: Configured<Driver> = Configured::new(NAME, "Cassandra");

/// Makes `config` the Cassandra configuration of this process.
///
/// # Errors
/// [`ErrorKind::AlreadyConfigured`] the second time.
pub fn configure(config: Config) -> Result<()> {
    DRIVER.configure(Driver::new(config))
}

/// The driver of this process.
pub(crate) fn configured() -> Result<&'static Driver> {
    DRIVER.required()
}

/// Cassandra for dagz, with its sessions and what it knows of this process's keyspaces.
///
/// Usually made by [`configure`]; made by hand where another [`DbConfig`] delegates to it. Clones
/// share everything.
#[derive(Clone, Debug)]
pub struct Driver {
    shared: Arc<Shared>,
}

/// Contact points, user and keyspace.
type SessionKey = (String, Option<String>, String);

#[derive(Debug)]
struct Shared {
    config: Config,
    known: Known<Server, Database>,
    kept: Mutex<HashMap<SessionKey, Arc<Kept>>>,
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
        Self {
            shared: Arc::new(Shared {
                known: Known::new(config.base.endpoint(), Server::new(&config.base)),
                config,
                kept: Mutex::default(),
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
        self.shared.known.learn(endpoint, || Server::new(source));
    }

    /// The cluster of `endpoint`.
    pub(crate) fn server(&self, endpoint: &Endpoint) -> Result<Arc<Server>> {
        self.shared.known.server(endpoint)
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
        self.shared.known.database(target, Database::default)
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

    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        self.shared.known.identify(endpoint).await
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
            PrepareWith::Hook(hook) => {
                // Whatever the function does, it does it to a keyspace that is this run's alone.
                reset::prepare(self, target, Prepare::None).await?;
                let session = self.kept_for(target)?.ready().await?;
                hook.call(target, session).await
            }
        }
    }

    fn client_command(&self, target: &Target) -> Option<String> {
        let server = self.server(target.endpoint()).ok()?;
        Some(server.source.client_command(target.name()))
    }
}
