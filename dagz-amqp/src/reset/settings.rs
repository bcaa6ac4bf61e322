//! What only the management API can change: policies, parameters, limits, and bindings with arguments.

use dagz_core::{ErrorKind, Result};
use serde_json::{Value, json};

use crate::{
    management::{Trouble, part},
    server::Server,
    topology::{Binding, Drift, Setting},
};

/// Does the part of `drift` that needs the management API.
pub(super) async fn apply(server: &Server, vhost: &str, drift: &Drift) -> Result<()> {
    let failed = |trouble: Trouble| {
        let doing = format!("reset the policies and parameters of vhost `{vhost}`");
        trouble.into_error(ErrorKind::Prepare, &doing)
    };
    let management = server.management();
    let mut listed = None;
    for binding in drift.unbind.iter().filter(|one| one.arguments != "{}") {
        if listed.is_none() {
            let path = format!("/api/bindings/{}", part(vhost));
            listed = management.get(&path).await.map_err(failed)?;
        }
        if let Some(path) = listed.as_ref().and_then(|all| path_of(all, vhost, binding)) {
            management.delete(&path).await.map_err(failed)?;
        }
    }
    for setting in &drift.unset {
        let (path, _) = request(setting, vhost);
        management.delete(&path).await.map_err(failed)?;
    }
    for setting in &drift.set {
        let (path, body) = request(setting, vhost);
        management.put(&path, body).await.map_err(failed)?;
    }
    Ok(())
}

/// Where the API has the policy or parameter, and what it takes there. Limits are one parameter: where the API has them
/// one by one, an empty one stays when the last has gone.
fn request(setting: &Setting, vhost: &str) -> (String, Value) {
    let vhost = part(vhost);
    let name = part(&setting.name);
    let value: Value = serde_json::from_str(&setting.value).unwrap_or_default();
    match setting.component.as_str() {
        "policy" => (format!("/api/policies/{vhost}/{name}"), value),
        "operator_policy" => (format!("/api/operator-policies/{vhost}/{name}"), value),
        component => {
            let path = format!("/api/parameters/{}/{vhost}/{name}", part(component));
            (path, json!({"value": value}))
        }
    }
}

/// Where the API has the binding, which it knows by a key of its own.
fn path_of(all: &Value, vhost: &str, binding: &Binding) -> Option<String> {
    let found = all.as_array()?.iter().find(|one| {
        let is = |key: &str, value: &str| one[key].as_str() == Some(value);
        let arguments: Value = serde_json::from_str(&binding.arguments).unwrap_or_default();
        is("source", &binding.source)
            && is("destination", &binding.destination)
            && is("destination_type", &binding.destination_type)
            && is("routing_key", &binding.routing_key)
            && one["arguments"] == arguments
    })?;
    let kind = if binding.to_queue() { "q" } else { "e" };
    Some(format!(
        "/api/bindings/{}/e/{}/{kind}/{}/{}",
        part(vhost),
        part(&binding.source),
        part(&binding.destination),
        part(found["properties_key"].as_str()?)
    ))
}
