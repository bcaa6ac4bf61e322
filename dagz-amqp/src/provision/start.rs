//! What a worker's vhost is like at the start of each test, [`Start`], and where the broker keeps it.
//!
//! `source.rs` brings it about; [`Look`] tells what there is of it, and of the vhost.

use std::sync::Arc;

use dagz_core::{ErrorKind, Result, name};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::stamp::{Owner, owner};
use crate::{login, management::part, server::Server, topology::Topology};

/// What a vhost is like at the start of each test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) id: String,
    pub(crate) topology: Topology,
}

/// Where the start state of `vhost` is kept: in a parameter of the whole broker, since a vhost has no place for
/// it that a test would not see.
pub(super) fn start_path(vhost: &str) -> String {
    format!("/api/global-parameters/{}", part(&start_name(vhost)))
}

fn start_name(vhost: &str) -> String {
    // Encoded for an address, a long one would be too long for the management API.
    let kept: String = vhost.chars().take(60).collect();
    if kept == vhost {
        format!("dagz.start.{vhost}")
    } else {
        format!("dagz.start.{kept}.{}", name::short_hash(vhost))
    }
}

impl Start {
    /// What is in `vhost` now.
    pub(crate) async fn read(server: &Server, vhost: &str) -> Result<Self> {
        let definitions = server.definitions(vhost).await?.unwrap_or_default();
        let topology = Topology::of(&definitions);
        Ok(Self {
            id: topology.id(),
            topology,
        })
    }

    /// Records it on the broker, for other processes.
    pub(crate) async fn save(&self, server: &Server, vhost: &str) -> Result<()> {
        // As text: the broker would not give back every number as it came.
        let value = serde_json::to_string(self).unwrap_or_default();
        let body = json!({"name": start_name(vhost), "value": value});
        let saved = server.management().put(&start_path(vhost), body).await;
        saved.map_err(|trouble| {
            let doing = format!("record the start state of vhost `{vhost}`");
            trouble.into_error(ErrorKind::WorkerInit, &doing)
        })
    }

    async fn recorded(server: &Server, vhost: &str) -> Result<Option<Self>> {
        let told = server.management().get(&start_path(vhost)).await;
        let told = told.map_err(|trouble| {
            let doing = format!("read the start state of vhost `{vhost}`");
            trouble.into_error(ErrorKind::Prepare, &doing)
        })?;
        let text = told.as_ref().and_then(|told| told["value"].as_str());
        Ok(text.and_then(|text| serde_json::from_str(text).ok()))
    }
}

/// What the management API says of a worker's vhost.
#[derive(Debug)]
pub(crate) struct Look {
    pub(super) vhost: Option<Value>,
    /// Dagz's users in it.
    pub(crate) users: Vec<String>,
    /// Its start state, if it is the one that the stamp means.
    pub(crate) start: Option<Arc<Start>>,
}

impl Look {
    /// Asks all at once. `known` is not asked for again.
    pub(crate) async fn at(
        server: &Server,
        vhost: &str,
        known: Option<&Arc<Start>>,
    ) -> Result<Self> {
        let recorded = async {
            match known {
                Some(_) => Ok(None),
                None => Start::recorded(server, vhost).await,
            }
        };
        let (told, users, recorded) = futures_util::future::try_join3(
            server.vhost(vhost),
            login::all(server, vhost),
            recorded,
        )
        .await?;
        let mut start = known.cloned().or(recorded.map(Arc::new));
        if let Some(meant) = told.as_ref().and_then(start_of) {
            if known.is_some() && start.as_ref().is_some_and(|start| start.id != meant) {
                // Made anew by another process.
                start = Start::recorded(server, vhost).await?.map(Arc::new);
            }
            start = start.filter(|start| start.id == meant);
        }
        Ok(Self {
            vhost: told,
            users,
            start,
        })
    }

    /// Whose it is, in the eyes of `project`; `None` where it is not there.
    pub(crate) fn owner(&self, project: &str) -> Option<Owner> {
        owner(project, self.vhost.as_ref())
    }
}

/// The id of the start state that a vhost's stamp means.
fn start_of(vhost: &Value) -> Option<String> {
    let stamp: Value = serde_json::from_str(vhost["description"].as_str()?).ok()?;
    Some(stamp["start"].as_str()?.to_owned())
}
