//! Looks at a broker as a test would use it, for `cargo dagz doctor`, and leaves nothing behind.
//!
//! [`doctor`] makes a vhost like a worker's, lets dagz's user in, and deletes it.

use std::sync::Arc;

use dagz_core::{ErrorKind, Result, driver::Checkup};
use serde_json::{Value, json};

use super::{cleanup, nonce, stamp};
use crate::{
    Config,
    driver::{DEFAULT, NAME_LIMIT},
    management::part,
    reset::Keeper,
    server::Server,
};

/// Looks whether a run of `checkup` will find what it needs on the broker of `config`.
pub async fn doctor(config: &Config, checkup: &mut Checkup) {
    let server = Arc::new(Server::new(
        &config.base,
        config.management_address().clone(),
    ));
    let overview = server.management().get("/api/overview").await;
    let overview = overview.map_err(|trouble| {
        trouble.into_error(ErrorKind::Unsupported, "ask RabbitMQ's management API")
    });
    match &overview {
        Ok(_) => checkup.good("management", format!("as `{}`", user(&server))),
        Err(error) => checkup.failed("management", error),
    }
    match server.connect(&config.base.vhost, "dagz doctor").await {
        Ok(connection) => {
            checkup.good(
                "reachable",
                format!("at {}, vhost `{}`", server.shown(), config.base.vhost),
            );
            // It ends with this process anyway.
            drop(connection.close(200, "seen".into()).await);
        }
        Err(error) => checkup.failed("reachable", &error),
    }
    let Ok(Some(overview)) = overview else {
        return;
    };
    let version = overview["rabbitmq_version"].as_str().unwrap_or("not told");
    checkup.good("version", format!("RabbitMQ {version}"));
    let base = match config.base.vhost.as_str() {
        DEFAULT => "",
        base => base,
    };
    let tried = try_rights(&server, checkup, base).await;
    checkup.tried("rights", tried);
    if let Some((used, most)) = connections(&server).await {
        checkup.connections(used, most, "the limit of open files");
    }
}

fn user(server: &Server) -> &str {
    &server.management().address().user
}

async fn try_rights(server: &Arc<Server>, checkup: &Checkup, base: &str) -> Result<&'static str> {
    let vhost = checkup.trial(base, NAME_LIMIT)?;
    let made = stamp::adopted(checkup.project(), &vhost, &nonce());
    stamp::write(server, &vhost, &made, None).await?;
    let entered = enter(server, &vhost).await;
    // Whatever came of it, the vhost goes.
    cleanup::delete(server, &vhost).await?;
    entered?;
    Ok("may make, enter and delete vhosts")
}

async fn enter(server: &Arc<Server>, vhost: &str) -> Result<()> {
    let path = format!("/api/permissions/{}/{}", part(vhost), part(user(server)));
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    let given = server.management().put(&path, all).await;
    given.map_err(|trouble| {
        trouble.into_error(ErrorKind::WorkerInit, &format!("enter vhost `{vhost}`"))
    })?;
    drop(Keeper::open(server, vhost, "doctor").await?);
    Ok(())
}

/// How many sockets the first node has open, and how many it may have; newer brokers do not tell.
async fn connections(server: &Server) -> Option<(i64, i64)> {
    let nodes = server.management().get("/api/nodes").await.ok()??;
    let node: &Value = nodes.as_array()?.first()?;
    let most = node["sockets_total"].as_i64().filter(|most| *most > 0)?;
    Some((node["sockets_used"].as_i64()?, most))
}
