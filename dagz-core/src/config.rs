//! What a driver is to the core: the [`DbConfig`] trait, and the words it is spoken to in.
//!
//! A driver is configured once per process ([`configure`]); every access of its databases then goes
//! through [`resolve`](crate::resolve()), which calls the trait's methods in the order it fixes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;

use crate::{Error, ErrorKind, Result, Worker, name};

/// A server, told apart by its identity and shown to people by its address.
#[derive(Clone, Debug)]
pub struct Endpoint {
    id: String,
    shown: String,
}

impl Endpoint {
    /// The server of this identity, which is also how it is shown; without secrets.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            shown: id.clone(),
            id,
        }
    }

    /// The same server shown as `shown`, usually `host:port`; without secrets.
    #[must_use]
    pub fn shown_as(mut self, shown: impl Into<String>) -> Self {
        self.shown = shown.into();
        self
    }

    /// What tells it apart from other servers.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Endpoint {}

impl std::hash::Hash for Endpoint {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A database that is about to be opened: on which server, and by which name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// The server.
    pub endpoint: Endpoint,
    /// The database's identity on it, as text: a name, a decoded vhost, an index.
    pub name: String,
}

impl Access {
    /// An access of the database `name` at `endpoint`.
    pub fn new(endpoint: Endpoint, name: impl Into<String>) -> Self {
        Self {
            endpoint,
            name: name.into(),
        }
    }
}

/// One worker's database, as `worker_init` and `prepare` see it.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) driver: &'static str,
    pub(crate) worker: Worker,
    pub(crate) endpoint: Endpoint,
    pub(crate) base: String,
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) test: String,
    pub(crate) job: String,
    pub(crate) project: String,
    pub(crate) is_fresh: bool,
}

impl Target {
    /// The driver whose database it is, `postgres`.
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// The worker whose database it is.
    pub fn worker(&self) -> Worker {
        self.worker
    }

    /// The server it is on, as [`DbConfig::identify`] told it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The name in the application's configuration, `myapp`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The worker's own name, `myapp_jw03`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The worker and the number of its test, `jw03.t017`.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The test that opens it.
    pub fn test(&self) -> &str {
        &self.test
    }

    /// The job it runs in, `j12`.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The project under which its database is stamped.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Whether the test is to find a database that no other has used: `worker_init` then makes what is there
    /// anew, however well it would do. So it is when `cargo dagz test` runs a failed test for the last time.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }
}

/// What a user chooses for a driver as a whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// With a single worker, use the base databases un-rerouted and never prepare them.
    /// Default: `false`.
    pub single_worker_disable: bool,
    /// Tests marked `main_worker` use the base databases un-rerouted. Default: `true`.
    pub main_worker_bypass: bool,
    /// An access outside a test is an error even while no test runs. Default: `false`.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            single_worker_disable: false,
            main_worker_bypass: true,
            strict: false,
        }
    }
}

/// A kind of database: how its names are rewritten, and how a worker's own is made and cleaned.
///
/// Only [`driver`](Self::driver) and [`name_limit`](Self::name_limit) must be given. The methods
/// are called on dagz's control runtime, on which connections may be kept ([`runtime`]).
/// `dagz-testkit`'s contract tells an implementor when a driver is right.
///
/// [`runtime`]: crate::runtime
///
/// ```
/// use dagz_core::{DbConfig, Result, Target, async_trait};
///
/// /// A database is a folder.
/// struct Folders(std::path::PathBuf);
///
/// #[async_trait]
/// impl DbConfig for Folders {
///     fn driver(&self) -> &'static str {
///         "folders"
///     }
///     fn name_limit(&self) -> usize {
///         255
///     }
///     async fn worker_init(&self, target: &Target) -> Result<()> {
///         std::fs::create_dir_all(self.0.join(target.name())).map_err(|error| {
///             let message = format!("creating the folder `{}` failed", target.name());
///             dagz_core::Error::new(dagz_core::ErrorKind::WorkerInit, message).with_source(error)
///         })
///     }
/// }
/// ```
#[async_trait]
pub trait DbConfig: Send + Sync + 'static {
    /// One lowercase word, the same everywhere: crate suffix, feature, service, `postgres`.
    fn driver(&self) -> &'static str;

    /// What the user chose for the driver as a whole.
    fn options(&self) -> Options {
        Options::default()
    }

    /// The longest name the server takes, in bytes.
    fn name_limit(&self) -> usize;

    /// Whether `name` is one of the server's own databases, which are never rerouted.
    fn is_system(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// The user's filter: whether accesses of `name` are rerouted at all. An empty name, a system
    /// database and the worker's own name never are, whatever this says.
    fn reroute(&self, name: &str) -> bool {
        let _ = name;
        true
    }

    /// The server's one identity, whichever of its addresses was used.
    ///
    /// # Errors
    ///
    /// What keeps the server from telling, such as its being unreachable.
    async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        Ok(endpoint.clone())
    }

    /// The name of `base` on `worker`: different for every worker and base, and unchanged for a
    /// name that is already this worker's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] when there is no such name.
    fn rewrite(&self, worker: Worker, base: &str) -> Result<String> {
        name::rewrite(worker, base, self.name_limit())
    }

    /// The worker whose name this is, if it is any worker's.
    fn worker_of(&self, name: &str) -> Option<Worker> {
        name::worker(name)
    }

    /// What `worker_init` depends on, such as a hash of the migrations: when it changes within a
    /// job, `worker_init` is called again.
    fn fingerprint(&self) -> String {
        String::new()
    }

    /// Makes the worker's database. Called once per worker and job, across processes; a run that
    /// was killed inside it is followed by another call, which must cope with what is there. So is each
    /// test whose target [`is_fresh`](Target::is_fresh): for it, what is there and dagz's must go.
    ///
    /// # Errors
    ///
    /// What kept it from being made; reported to every test of the job that needs it. Only after one
    /// that [passes by itself](Error::is_retryable) does the next test try again.
    async fn worker_init(&self, target: &Target) -> Result<()> {
        let _ = target;
        Ok(())
    }

    /// Brings the worker's database to its start state. Called once per scope and database,
    /// before the access that asked for it is answered.
    ///
    /// # Errors
    ///
    /// What kept it from being cleaned.
    async fn prepare(&self, target: &Target) -> Result<()> {
        let _ = target;
        Ok(())
    }

    /// Called for each database the scope prepared, after the test's body and before its worker is
    /// given back. What the test left must still be there afterwards: it may be kept for a person to look at.
    async fn release(&self, target: &Target) {
        let _ = target;
    }

    /// Whether the server has room for `worker`'s databases; asked before `worker` stands in for one that is
    /// kept as a failed test left it.
    ///
    /// # Errors
    ///
    /// What to do for there to be room. The failed state is not kept then.
    async fn serves(&self, worker: Worker) -> Result<()> {
        let _ = worker;
        Ok(())
    }

    /// The command by which a person looks into the database, `psql ..`; never with a password.
    fn client_command(&self, target: &Target) -> Option<String> {
        let _ = target;
        None
    }
}

static REGISTRY: RwLock<Option<HashMap<&'static str, Arc<dyn DbConfig>>>> = RwLock::new(None);

/// Makes `config` its driver's configuration for this process.
///
/// # Errors
///
/// [`ErrorKind::AlreadyConfigured`] when the driver has one.
pub fn configure(config: impl DbConfig) -> Result<()> {
    let driver = config.driver();
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    let drivers = registry.get_or_insert_default();
    if drivers.contains_key(driver) {
        return Err(Error::new(
            ErrorKind::AlreadyConfigured,
            format!(
                "`dagz::{driver}::configure` was called twice in one process; call it once, in `#[dagz::setup]`"
            ),
        ));
    }
    drivers.insert(driver, Arc::new(config));
    Ok(())
}

/// The configuration of `driver` in this process, if it has one.
pub fn configured(driver: &str) -> Option<Arc<dyn DbConfig>> {
    let registry = REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
    registry.as_ref()?.get(driver).cloned()
}

/// The configurations of all drivers in this process.
pub(crate) fn all_configured() -> Vec<Arc<dyn DbConfig>> {
    let registry = REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
    let drivers = registry.iter().flat_map(HashMap::values);
    drivers.cloned().collect()
}
