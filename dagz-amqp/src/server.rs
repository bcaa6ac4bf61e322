//! One broker: how it is reached, by AMQP and by its management API, and what it is called.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dagz_core::{Endpoint, ErrorKind, Result};
use lapin::{Connection, ConnectionProperties, uri::AMQPUri};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    error::{self, Destination},
    login::Rights,
    management::{Address, Management, part},
    route,
};

/// How long opening a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker.
#[derive(Debug)]
pub(crate) struct Server {
    uri: Uri,
    management: Management,
    identity: OnceCell<Endpoint>,
    /// By base vhost.
    rights: Mutex<HashMap<String, Arc<Rights>>>,
}

/// An address whose password is not shown.
struct Uri(AMQPUri);

impl std::fmt::Debug for Uri {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(route::endpoint(&self.0).id())
    }
}

impl Server {
    /// The broker that `uri` leads to, whatever its vhost.
    pub(crate) fn new(uri: &AMQPUri, management: Address) -> Self {
        Self {
            uri: Uri(uri.clone()),
            management: Management::new(management),
            identity: OnceCell::new(),
            rights: Mutex::default(),
        }
    }

    /// As the application has it.
    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.uri.0
    }

    pub(crate) fn management(&self) -> &Management {
        &self.management
    }

    /// `host:port`, for people.
    pub(crate) fn shown(&self) -> String {
        route::endpoint(self.uri()).to_string()
    }

    /// What no other broker is called.
    pub(crate) async fn identity(&self) -> Result<&Endpoint> {
        let ask = || async {
            let told = self
                .management
                .get("/api/global-parameters/internal_cluster_id")
                .await
                .map_err(|trouble| {
                    let doing = format!("tell which broker is at `{}`", self.shown());
                    trouble.into_error(ErrorKind::Unsupported, &doing)
                })?;
            let told = told.as_ref().and_then(|told| told["value"].as_str());
            Ok(match told {
                Some(id) => Endpoint::new(id).shown_as(self.shown()),
                None => route::endpoint(self.uri()),
            })
        };
        self.identity.get_or_try_init(ask).await
    }

    /// Opens a connection of dagz's own to `vhost`.
    pub(crate) async fn connect(&self, vhost: &str, name: &str) -> Result<Connection> {
        let mut uri = self.uri().clone();
        vhost.clone_into(&mut uri.vhost);
        let Address { user, password, .. } = self.management.address();
        user.clone_into(&mut uri.authority.userinfo.username);
        password.clone_into(&mut uri.authority.userinfo.password);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        open(uri, properties).await
    }

    /// What the configured user may do in the vhost `base`.
    pub(crate) async fn rights(&self, base: &str) -> Result<Arc<Rights>> {
        let known = self.known_rights().get(base).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let rights = Arc::new(Rights::of(self, base).await?);
        self.known_rights()
            .insert(base.to_owned(), Arc::clone(&rights));
        Ok(rights)
    }

    fn known_rights(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Rights>>> {
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the management API says of `vhost` itself.
    pub(crate) async fn vhost(&self, vhost: &str) -> Result<Option<Value>> {
        let path = format!("/api/vhosts/{}", part(vhost));
        self.management.get(&path).await.map_err(|trouble| {
            let doing = format!("look at vhost `{vhost}`");
            trouble.into_error(ErrorKind::WorkerInit, &doing)
        })
    }

    /// Removes the limits of `vhost`, which may keep dagz out, too. A reset sets those of the start state once more.
    pub(crate) async fn lift_limits(&self, vhost: &str) -> Result<()> {
        for limit in ["max-connections", "max-queues"] {
            let path = format!("/api/vhost-limits/{}/{limit}", part(vhost));
            self.management.delete(&path).await.map_err(|trouble| {
                let doing = format!("remove the limits of vhost `{vhost}`");
                trouble.into_error(ErrorKind::Prepare, &doing)
            })?;
        }
        Ok(())
    }

    /// The definitions of `vhost`.
    pub(crate) async fn definitions(&self, vhost: &str) -> Result<Option<Value>> {
        let told = if vhost.is_ascii() {
            let path = format!("/api/definitions/{}", part(vhost));
            self.management.get(&path).await
        } else {
            // RabbitMQ 4 puts the name into a header as it is, and fails.
            let all = self.management.get("/api/definitions").await;
            all.map(|all| all.map(|all| of_vhost(all, vhost)))
        };
        told.map_err(|trouble| {
            let doing = format!("read the definitions of vhost `{vhost}`");
            trouble.into_error(ErrorKind::WorkerInit, &doing)
        })
    }
}

/// Of the definitions of a whole broker those of `vhost`.
fn of_vhost(mut all: Value, vhost: &str) -> Value {
    for list in all.as_object_mut().into_iter().flatten() {
        if let Value::Array(list) = list.1 {
            list.retain(|one| one["vhost"] == vhost);
        }
    }
    all
}

/// Opens a connection by `uri`, driven by the current runtime.
pub(crate) async fn open(uri: AMQPUri, properties: ConnectionProperties) -> Result<Connection> {
    let to = Destination::of(&uri);
    match tokio::time::timeout(PATIENCE, Connection::connect_uri(uri, properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error::connecting(to, error)),
        Err(_) => Err(error::silent(to, PATIENCE)),
    }
}
