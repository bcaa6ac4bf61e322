//! The working driver: what the core calls, and what this process knows of brokers and vhosts.
//!
//! [`Driver`] implements [`DbConfig`]; the work is done in `provision` and `reset`. [`configure`]
//! makes one the driver of this process.

use std::sync::{Arc, Mutex, PoisonError};

use dagz_core::{
    DbConfig, Endpoint, Options, Result, Target, Worker, async_trait,
    driver::{self, Configured, Known, PrepareWith},
    name, runtime,
};
use lapin::uri::AMQPUri;

use crate::{
    Config, Prepare,
    login::{self, Login},
    management::Address,
    provision,
    reset::{self, Keeper},
    route,
    server::Server,
};

/// The word for this driver everywhere.
pub(crate) const NAME: &str = "amqp";

/// A vhost's name is a short string of AMQP.
pub(crate) const NAME_LIMIT: usize = 255;

/// The name of the default vhost.
pub(crate) const DEFAULT: &str = "/";

/// The driver of this process, once it is configured.
pub(crate) static DRIVER: Configured<Driver> = Configured::new(NAME, "RabbitMQ");

/// Makes `config` the RabbitMQ configuration of this process.
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

/// RabbitMQ for dagz, with its connections and what it knows of this process's vhosts.
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
}

/// One worker's vhost, as this process knows it.
#[derive(Debug, Default)]
pub(crate) struct Database {
    /// Locked while the vhost is being reset, also after a test.
    pub(crate) keeper: Arc<tokio::sync::Mutex<Option<Keeper>>>,
    /// The test that has it, and as whom it logs in.
    login: Mutex<Option<(String, Login)>>,
}

impl Database {
    /// As whom the test of `target` logs in, if this process knows.
    pub(crate) fn login(&self, target: &Target) -> Option<Login> {
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        let (test, login) = login.as_ref()?;
        (*test == test_of(target)).then(|| login.clone())
    }

    /// Remembers as whom the test of `target` logs in; gives back who was there before.
    pub(crate) fn logs_in(&self, target: &Target, login: Option<Login>) -> Option<Login> {
        let mut slot = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        let now = login.map(|login| (test_of(target), login));
        std::mem::replace(&mut *slot, now).map(|(_, login)| login)
    }
}

fn test_of(target: &Target) -> String {
    format!("{}.{}", target.job(), target.tag())
}

impl Driver {
    /// A driver for what `config` says.
    pub fn new(config: Config) -> Self {
        let server = Server::new(&config.base, config.management_address().clone());
        Self {
            shared: Arc::new(Shared {
                known: Known::new(route::endpoint(&config.base), server),
                config,
            }),
        }
    }

    /// What the user configured.
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Remembers that `endpoint` can be reached by `uri`; what is known already stays.
    pub(crate) fn learn(&self, endpoint: &Endpoint, uri: &AMQPUri) {
        self.shared.known.learn(endpoint, || {
            let login = &uri.authority.userinfo;
            let host = &uri.authority.host;
            let management = Address::usual(host, &login.username, &login.password);
            Server::new(uri, management)
        });
    }

    /// The broker of `endpoint`.
    pub(crate) fn server(&self, endpoint: &Endpoint) -> Result<Arc<Server>> {
        self.shared.known.server(endpoint)
    }

    /// What this process keeps for `target`.
    pub(crate) fn database(&self, target: &Target) -> Arc<Database> {
        self.shared.known.database(target, Database::default)
    }

    /// The address with which the test of `target` logs in.
    ///
    /// # Errors
    /// Where the vhost was prepared elsewhere, and the broker cannot be asked who that is.
    pub async fn address(&self, target: &Target) -> Result<AMQPUri> {
        let login = match self.login_of(target) {
            Some(login) => login,
            None => {
                let (driver, target) = (self.clone(), target.clone());
                runtime::run(async move { driver.find_login(&target).await }).await??
            }
        };
        self.uri_for(target, &login)
    }

    /// As whom the test of `target` logs in, if this process has prepared the vhost for it.
    pub(crate) fn login_of(&self, target: &Target) -> Option<Login> {
        self.database(target).login(target)
    }

    /// As whom the test of `target` logs in, where another process has prepared the vhost, or nobody.
    pub(crate) async fn find_login(&self, target: &Target) -> Result<Login> {
        let server = self.server(target.endpoint())?;
        let rights = server.rights(target.base()).await?;
        let database = self.database(target);
        // What was released is not on its way any more.
        let _still = database.keeper.lock().await;
        let login = login::found(&server, target.name(), &rights).await?;
        database.logs_in(target, Some(login.clone()));
        Ok(login)
    }

    /// The address of the vhost of `target`, for `login`.
    pub(crate) fn uri_for(&self, target: &Target, login: &Login) -> Result<AMQPUri> {
        let mut uri = self.server(target.endpoint())?.uri().clone();
        target.name().clone_into(&mut uri.vhost);
        login.applied_to(&mut uri);
        Ok(uri)
    }
}

/// The worker whose default vhost this is: `jw03` → jw03.
fn alone(name: &str) -> Option<Worker> {
    name::worker(&format!("base_{name}")).filter(|_| !name.contains('_'))
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
        self.config().wants(name)
    }

    /// `orders` → `orders_jw03`; the default vhost's is `jw03`, which can be read and typed.
    fn rewrite(&self, worker: Worker, base: &str) -> Result<String> {
        if base == DEFAULT || alone(base) == Some(worker) {
            return Ok(worker.to_string());
        }
        name::rewrite(worker, base, NAME_LIMIT)
    }

    fn worker_of(&self, name: &str) -> Option<Worker> {
        alone(name).or_else(|| name::worker(name))
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
                // Whatever it does, it does it to a vhost that is this run's alone.
                reset::prepare(self, target, Prepare::None).await?;
                hook.call(target, self.address(target).await?).await
            }
        }
    }

    async fn release(&self, target: &Target) {
        reset::release(self, target).await;
    }

    fn client_command(&self, target: &Target) -> Option<String> {
        let server = self.server(target.endpoint()).ok()?;
        Some(server.management().client_command(target.name()))
    }
}

impl driver::Server for Server {
    async fn identity(&self) -> Result<&Endpoint> {
        self.identity().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver() -> Driver {
        Driver::new(Config::new("amqp://localhost").unwrap())
    }

    #[test]
    fn the_default_vhost_of_a_worker_has_a_name_to_be_read() {
        let worker = Worker::new(3);
        assert_eq!(driver().rewrite(worker, "/").unwrap(), "jw03");
        assert_eq!(driver().rewrite(worker, "orders").unwrap(), "orders_jw03");
        assert_eq!(driver().worker_of("jw03"), Some(worker));
        assert_eq!(driver().worker_of("orders_jw03"), Some(worker));
        assert_eq!(driver().worker_of("/"), None);
    }

    #[test]
    fn a_workers_own_name_stays() {
        let worker = Worker::new(3);
        for name in ["jw03", "orders_jw03"] {
            assert_eq!(driver().rewrite(worker, name).unwrap(), name);
        }
    }

    #[test]
    fn vhosts_that_look_alike_are_kept_apart() {
        let worker = Worker::new(3);
        let names = ["/", "//", "_", "a/b", "ab"].map(|base| driver().rewrite(worker, base));
        let mut names: Vec<_> = names.into_iter().map(Result::unwrap).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 5);
    }
}
