//! What a process knows of servers and of workers' databases on them.
//!
//! The main type is [`Known`]; a driver has one, and answers [`DbConfig::identify`](crate::DbConfig::identify)
//! from it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Endpoint, Error, ErrorKind, Result, Target};

/// A server that a driver can reach.
pub trait Server: Send + Sync {
    /// Which server it is: the same for every address that leads to it. Asked once, and kept.
    ///
    /// # Errors
    /// What keeps the server from telling.
    fn identity(&self) -> impl Future<Output = Result<&Endpoint>> + Send;
}

/// The servers `S` that a driver knows, and what it keeps, `D`, for each worker's database.
///
/// Two servers may have databases of the same name, so these are told apart by both.
#[derive(Debug)]
pub struct Known<S, D> {
    configured: Arc<S>,
    endpoint: Endpoint,
    /// By the identity of an endpoint, as spelled and as told by the server.
    servers: Mutex<HashMap<String, Arc<S>>>,
    databases: Mutex<HashMap<(String, String), Arc<D>>>,
}

impl<S: Server, D> Known<S, D> {
    /// Knows the configured server, whose address is `endpoint`, and nothing else.
    pub fn new(endpoint: Endpoint, server: S) -> Self {
        let configured = Arc::new(server);
        let id = endpoint.id().to_owned();
        Self {
            servers: Mutex::new(HashMap::from([(id, Arc::clone(&configured))])),
            configured,
            endpoint,
            databases: Mutex::default(),
        }
    }

    /// Remembers that `endpoint` is reached by what `server` makes; what is known already stays.
    pub fn learn(&self, endpoint: &Endpoint, server: impl FnOnce() -> S) {
        let mut servers = self.servers();
        if !servers.contains_key(endpoint.id()) {
            servers.insert(endpoint.id().to_owned(), Arc::new(server()));
        }
    }

    /// The server of `endpoint`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] where nobody has told of it.
    pub fn server(&self, endpoint: &Endpoint) -> Result<Arc<S>> {
        self.servers().get(endpoint.id()).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("no connection settings are known for the server at `{endpoint}`"),
            )
        })
    }

    /// What is kept for the database of `target`, which `new` makes the first time.
    pub fn database(&self, target: &Target, new: impl FnOnce() -> D) -> Arc<D> {
        let key = (target.endpoint().id().to_owned(), target.name().to_owned());
        let mut databases = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(databases.entry(key).or_insert_with(|| Arc::new(new())))
    }

    /// The one identity of the server at `endpoint`.
    ///
    /// The configured server is known by its configured address, without asking it: a connection for nothing
    /// but that is more than a test should pay. Other addresses are asked whether they lead there.
    ///
    /// # Errors
    /// What keeps the server from telling.
    pub async fn identify(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        let server = self.server(endpoint)?;
        if Arc::ptr_eq(&self.configured, &server) {
            return Ok(self.endpoint.clone());
        }
        let identity = server.identity().await?;
        // That the configured server cannot be reached says nothing about this one.
        let configured = self.configured.identity().await;
        if configured.is_ok_and(|other| other == identity) {
            return Ok(self.endpoint.clone());
        }
        self.servers()
            .entry(identity.id().to_owned())
            .or_insert_with(|| Arc::clone(&server));
        Ok(identity.clone())
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<String, Arc<S>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
