//! What the groups share that measure on Postgres: a schema, connections, databases that are made and dropped.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use anyhow::{Result, bail};
use dagz::postgres::{
    Config, databases, remove,
    tokio_postgres::{self, Client, NoTls, config::Host},
};
use dagz_core::{Target, name, runtime};

use crate::names;

/// The current worker's database for `base`.
pub(crate) fn target(config: &tokio_postgres::Config, base: &str) -> Result<Target> {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => bail!("`DATABASE_URL` names no host"),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    names::target(
        "bench-postgres",
        &format!("{host}:{port}"),
        base,
        |worker, base| name::rewrite(worker, base, 63),
    )
}

/// A name for a database that this checkout makes and drops, and no other one: servers may be shared.
pub(crate) fn own(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
    format!("{name}_{:08x}", hasher.finish() as u32)
}

/// The server's kind and version, as rows name it.
pub(crate) async fn version(client: &Client) -> Result<String> {
    let row = client.query_one("SHOW server_version", &[]).await?;
    let version: String = row.get(0);
    let number = version.split(' ').next().unwrap_or_default();
    Ok(format!("postgres {number}"))
}

/// Tables as a service has them: a key, two more indices, a parent.
pub(crate) fn schema(tables: usize) -> String {
    (0..tables)
        .map(|n| {
            let reference = match n % 5 {
                0 => String::new(),
                other => format!(" REFERENCES t{}", n - other),
            };
            format!(
                "CREATE TABLE t{n} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint{reference}, name text, value integer); \
                 CREATE INDEX ON t{n} (name); CREATE INDEX ON t{n} (value);"
            )
        })
        .collect()
}

/// Five rows into each of `tables`.
pub(crate) fn writes(tables: impl IntoIterator<Item = usize>) -> String {
    let tables = tables.into_iter();
    tables
        .map(|n| {
            format!("INSERT INTO t{n} (name, value) SELECT 'x', i FROM generate_series(1, 5) i;")
        })
        .collect()
}

/// A connection that the control runtime drives, as it does dagz's own.
pub(crate) async fn connect(config: &tokio_postgres::Config, database: &str) -> Result<Client> {
    let mut config = config.clone();
    let (client, connection) = config.dbname(database).connect(NoTls).await?;
    runtime::spawn(connection);
    Ok(client)
}

/// Drops what dagz made for `base`.
pub(crate) async fn remove_databases(
    config: &tokio_postgres::Config,
    project: &str,
    base: &str,
) -> Result<()> {
    for database in databases(&Config::from_config(config.clone()), project).await? {
        if database.base() == Some(base) {
            remove(&database).await?;
        }
    }
    Ok(())
}

/// Makes a database of its own anew.
pub(crate) async fn make(elsewhere: &Client, database: &str, options: &str) -> Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
    elsewhere.batch_execute(&drop).await?;
    let create = format!("CREATE DATABASE {database} {options}");
    elsewhere.batch_execute(&create).await?;
    Ok(())
}
