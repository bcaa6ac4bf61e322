//! Looks at a server as a test would use it, for `cargo dagz doctor`, and leaves nothing behind.
//!
//! [`doctor`] makes and drops a database by the same statements as a worker's.

use dagz_core::{Result, driver::Checkup};

use super::admin::Admin;
use crate::{
    Config,
    driver::{NAME_LIMIT, SYSTEM_DATABASES},
    server::Server,
    sql,
};

/// Looks whether a run of `checkup` will find what it needs on the server of `config`.
pub async fn doctor(config: &Config, checkup: &mut Checkup) {
    let server = Server::new(&config.base);
    let admin = match Admin::connect_as(&server, "dagz doctor").await {
        Ok(admin) => admin,
        Err(error) => return checkup.failed("reachable", &error),
    };
    checkup.good(
        "reachable",
        format!("at {} as `{}`", server.shown(), server.user()),
    );
    checkup.tried("version", version(&admin).await);
    let base = config.base.get_dbname().unwrap_or_default();
    let base = match SYSTEM_DATABASES.contains(&base) {
        true => "",
        false => base,
    };
    let tried = try_rights(&admin, checkup, base).await;
    checkup.tried("rights", tried);
    match connections(&admin).await {
        Ok((used, most, setting)) => checkup.connections(used, most, &setting),
        Err(error) => checkup.failed("connections", &error),
    }
}

async fn version(admin: &Admin<'_>) -> Result<String> {
    let row = admin
        .client()
        .query_one("SELECT current_setting('server_version')", &[])
        .await
        .map_err(|error| admin.failed("cannot ask for the version".to_owned(), error))?;
    Ok(format!("PostgreSQL {}", row.get::<_, String>(0)))
}

async fn try_rights(admin: &Admin<'_>, checkup: &Checkup, base: &str) -> Result<&'static str> {
    let name = checkup.trial(base, NAME_LIMIT)?;
    admin
        .create_database(checkup.project(), &name, None)
        .await?;
    admin.drop_database(&name, None).await?;
    Ok("may create and drop databases")
}

/// How many connections there are beside this one, how many there may be for dagz's user, and by which setting.
async fn connections(admin: &Admin<'_>) -> Result<(i64, i64, String)> {
    let row = admin
        .client()
        .query_one(
            "SELECT (SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'), \
                    current_setting('max_connections')::bigint \
                    - CASE WHEN rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::bigint END, \
                    rolconnlimit::bigint, \
                    (SELECT count(*) - 1 FROM pg_stat_activity WHERE usename = current_user) \
             FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await
        .map_err(|error| admin.failed("cannot count the connections".to_owned(), error))?;
    let (used, most, own_limit, own): (i64, i64, i64, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    Ok(match own_limit {
        limit if limit >= 0 && limit - own < most - used => {
            let user = sql::identifier(&admin.server().user());
            (own, limit, format!("`ALTER ROLE {user} CONNECTION LIMIT`"))
        }
        _ => (used, most, "`max_connections`".to_owned()),
    })
}
