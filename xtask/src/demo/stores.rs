//! The demo's other servers: a Redis and a RabbitMQ of its own, and databases of its own on a MariaDB and a Cassandra.
//! [`Stores`] is all.
//!
//! Indices of a Redis have no names by which one run of the demo could be told from another, and a RabbitMQ's vhosts cannot
//! be removed without its management API; so both get a server that nobody else uses. On the others, which may be the
//! user's own, nothing is touched but what bears the name of this run, which no other has.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use crate::services::cassandra::Cassandra;
use crate::services::mysql::MARIADB;
use crate::services::rabbitmq::RABBITMQ;
use crate::services::redis::REDIS;
use crate::services::{Place, Server, Service};
use crate::wait;

/// The other servers that the example uses.
pub(super) struct Stores {
    redis: Server,
    rabbitmq: Server,
    mariadb: Server,
    cassandra: Server,
}

impl Stores {
    /// Has all answer.
    pub(super) fn share(root: &Path) -> Result<Self> {
        let folder = root.join("target/demo-services");
        let own = Place::at(folder.clone())?;
        let left = folder.join(RABBITMQ.kind());
        if own.running(RABBITMQ.kind()).is_none() && left.exists() {
            // The vhosts of earlier demos.
            fs::remove_dir_all(&left)
                .with_context(|| format!("failed to remove `{}`", left.display()))?;
        }
        Ok(Self {
            redis: Server::share_private(&REDIS, &own)?,
            rabbitmq: Server::share_private(&RABBITMQ, &own)?,
            mariadb: Server::share(&MARIADB, &Place::of(root)?)?,
            cassandra: Server::share(&Cassandra, &Place::of(root)?)?,
        })
    }

    /// How the application finds them in the run called `name`, which uses dagz or does without.
    pub(super) fn environment(&self, name: &str, has_dagz: bool) -> Result<Vec<(String, String)>> {
        // The management API, too.
        let mut all = self.rabbitmq.environment();
        let books = with_database(self.mariadb.url(), name)?;
        all.push(("REDIS_URL".to_owned(), self.redis.url().to_owned()));
        all.push(("MYSQL_URL".to_owned(), books));
        let history = with_database(self.cassandra.url(), name)?;
        all.push(("CASSANDRA_URL".to_owned(), history));
        if has_dagz {
            // Without, it is the default vhost, since that is there.
            let events = with_database(self.rabbitmq.url(), name)?;
            all.push(("AMQP_URL".to_owned(), events));
        }
        Ok(all)
    }

    /// Removes what the run called `name` left behind.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let client =
            redis::Client::open(self.redis.url()).context("the address is not one of Redis")?;
        let mut connection = client
            .get_connection()
            .context("failed to connect to Redis")?;
        redis::cmd("FLUSHALL")
            .exec(&mut connection)
            .context("failed to empty the demo's own Redis")?;
        wait::on(self.remove_keyspaces(name))?;
        wait::on(async {
            let server = options(self.mariadb.url())?;
            let mut connection = Conn::new(server)
                .await
                .context("failed to connect to MariaDB")?;
            let databases: Vec<String> = connection
                .exec("SELECT schema_name FROM information_schema.schemata WHERE left(schema_name, char_length(?)) = ?", (name, name))
                .await
                .context("failed to list databases")?;
            for database in databases {
                let quoted = database.replace('`', "``");
                connection
                    .query_drop(format!("DROP DATABASE `{quoted}`"))
                    .await
                    .with_context(|| format!("failed to drop the database `{database}`"))?;
            }
            connection
                .disconnect()
                .await
                .context("failed to disconnect")
        })
    }
}

impl Stores {
    /// Drops the keyspaces whose names begin with `name`.
    async fn remove_keyspaces(&self, name: &str) -> Result<()> {
        let session = session(self.cassandra.url()).await?;
        let keyspaces = session
            .query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces", ())
            .await
            .context("failed to list keyspaces")?
            .into_rows_result()?;
        for keyspace in keyspaces.rows::<(String,)>()? {
            let (keyspace,) = keyspace?;
            if keyspace.starts_with(name) {
                session
                    .query_unpaged(format!("DROP KEYSPACE {keyspace}"), ())
                    .await
                    .with_context(|| format!("failed to drop the keyspace `{keyspace}`"))?;
            }
        }
        Ok(())
    }
}

/// A session on a Cassandra at `url`.
async fn session(url: &str) -> Result<Session> {
    let parts = || {
        let (account, host) = url.strip_prefix("cassandra://")?.split_once('@')?;
        Some((account.split_once(':')?, host))
    };
    let ((user, password), host) = parts().context("the address is not one of Cassandra")?;
    let builder = SessionBuilder::new().known_node(host).user(user, password);
    builder
        .build()
        .await
        .context("failed to connect to Cassandra")
}

/// Of the server and no database.
fn options(url: &str) -> Result<Opts> {
    let options = Opts::from_url(url).context("the address is not one of MySQL")?;
    let builder = OptsBuilder::from_opts(options).db_name(None::<String>);
    Ok(builder.into())
}

/// `server` with another database.
fn with_database(server: &str, name: &str) -> Result<String> {
    let (scheme, rest) = server
        .split_once("://")
        .context("the address of MariaDB is no URL")?;
    let (place, options) = match rest.split_once('?') {
        Some((place, options)) => (place, format!("?{options}")),
        None => (rest, String::new()),
    };
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    Ok(format!("{scheme}://{host}/{name}{options}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_exchanged_and_nothing_else() {
        for (before, after) in [
            ("mysql://u:p@h:1/mysql", "mysql://u:p@h:1/new"),
            ("mysql://u@h", "mysql://u@h/new"),
            (
                "mysql://h/old?prefer_socket=false",
                "mysql://h/new?prefer_socket=false",
            ),
        ] {
            let changed = with_database(before, "new").unwrap();
            assert_eq!(changed, after);
            assert_eq!(Opts::from_url(&changed).unwrap().db_name(), Some("new"));
        }
    }
}
