//! Looks at a server as a test would use it, for `cargo dagz doctor`, and leaves nothing behind.
//!
//! [`doctor`] makes and drops a database by the same statements as a worker's.

use dagz_core::{Result, driver::Checkup};
use mysql_async::prelude::Queryable as _;

use super::{Stamp, admin::Admin};
use crate::{
    Config,
    driver::{NAME_LIMIT, is_system},
    route,
    server::Server,
};

/// Looks whether a run of `checkup` will find what it needs on the server of `config`.
pub async fn doctor(config: &Config, checkup: &mut Checkup) {
    let server = Server::new(&config.base);
    let mut admin = match Admin::connect_as(&server, "dagz doctor").await {
        Ok(admin) => admin,
        Err(error) => return checkup.failed("reachable", &error),
    };
    let facts = match server.facts() {
        Ok(facts) => facts,
        Err(error) => return checkup.failed("reachable", &error),
    };
    checkup.good(
        "reachable",
        format!("at {} as `{}`", server.shown(), facts.account),
    );
    checkup.good(
        "version",
        format!("{} {}", facts.flavour.name(), facts.version),
    );
    let base = route::database(&config.base);
    let base = match is_system(&base) {
        true => String::new(),
        false => base,
    };
    let tried = try_rights(&mut admin, checkup, &base).await;
    checkup.tried("rights", tried);
    match connections(&mut admin).await {
        Ok((used, most, setting)) => checkup.connections(used, most, setting),
        Err(error) => checkup.failed("connections", &error),
    }
}

/// By a name of the base's, since rights may be for such names only.
async fn try_rights(admin: &mut Admin<'_>, checkup: &Checkup, base: &str) -> Result<&'static str> {
    let name = checkup.trial(base, NAME_LIMIT)?;
    let stamp = Stamp::bare(checkup.project(), &name, ());
    admin.create_database(&name, &stamp, None).await?;
    admin.drop_database(&name).await?;
    Ok("may create and drop databases")
}

/// How many connections there are beside this one, how many there may be for dagz's user, and by which setting.
async fn connections(admin: &mut Admin<'_>) -> Result<(i64, i64, &'static str)> {
    let asked = async {
        let limits: Option<(i64, i64)> = admin
            .conn
            .query_first("SELECT @@max_connections, @@max_user_connections")
            .await?;
        let used: Option<(String, i64)> = admin
            .conn
            .query_first("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
            .await?;
        Ok::<_, mysql_async::Error>((limits, used))
    };
    let (limits, used) = match asked.await {
        Ok(told) => told,
        Err(error) => {
            return Err(admin.failed("cannot count the connections".to_owned(), error));
        }
    };
    let (most, own) = limits.unwrap_or_default();
    let used = used.map_or(0, |(_, used)| used - 1);
    Ok(match own {
        own if own > 0 && own < most => (used, own, "`max_user_connections`"),
        _ => (used, most, "`max_connections`"),
    })
}
