//! A child's other stores, which no other child has: indices of a Redis, databases of a MariaDB, vhosts of a RabbitMQ and
//! keyspaces of a Cassandra. [`Stores`] is all.

use std::env;

use dagz::cassandra::scylla::client::session_builder::SessionBuilder;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use redis::AsyncCommands;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Where a child finds them, and what takes them away again.
pub(crate) struct Stores {
    /// Of the child, and how its databases' names begin.
    name: String,
    redis: String,
    mysql: String,
    amqp: String,
    management: String,
    cassandra: String,
}

impl Stores {
    /// Those of the child called `name`, whose base index is `index`; those of its workers follow.
    pub(crate) fn of(name: &str, index: u32) -> Self {
        let variable = |name: &str, kind: &str| {
            env::var(name).unwrap_or_else(|_| {
                panic!(
                    "`{name}` is not set: run `cargo xtask test -p shop`, or start a server by `cargo xtask services up {kind}`"
                )
            })
        };
        let redis = variable("REDIS_URL", "redis");
        let mysql = variable("MYSQL_URL", "mariadb");
        let cassandra = variable("CASSANDRA_URL", "cassandra");
        Self {
            name: name.to_owned(),
            redis: with_path(&redis, &index.to_string()),
            mysql: with_path(&mysql, name),
            amqp: variable("AMQP_URL", "rabbitmq"),
            management: variable("DAGZ_TEST_AMQP_MANAGEMENT_URL", "rabbitmq"),
            cassandra: with_path(&cassandra, name),
        }
    }

    /// What the child must know.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("REDIS_URL", &self.redis),
            ("MYSQL_URL", &self.mysql),
            // The default vhost: a child without dagz needs one that is there.
            ("AMQP_URL", &self.amqp),
            ("DAGZ_TEST_AMQP_MANAGEMENT_URL", &self.management),
            ("CASSANDRA_URL", &self.cassandra),
        ]
    }

    /// The base vhost of a child with dagz, by which its workers' are called.
    pub(crate) fn vhost(&self) -> String {
        with_path(&self.amqp, &self.name)
    }

    /// Removes what the child left.
    pub(crate) fn remove(&self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            self.remove_indices().await?;
            self.remove_databases().await?;
            self.remove_vhosts().await?;
            self.remove_keyspaces().await
        })
    }

    async fn remove_indices(&self) -> Outcome {
        let config = dagz::redis::Config::new(&self.redis)?;
        // The child's project has its name.
        for index in dagz::redis::databases(&config, &self.name).await? {
            dagz::redis::remove(&index).await?;
        }
        // Without dagz the base index was used, and it was empty before, or the child would have refused it.
        let client = redis::Client::open(self.redis.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        if connection
            .exists("made_by_the_tests_of_dagz_example_shop")
            .await?
        {
            redis::cmd("FLUSHDB").exec_async(&mut connection).await?;
        }
        Ok(())
    }

    async fn remove_vhosts(&self) -> Outcome {
        let config = dagz::amqp::Config::new(&self.vhost())?.management(&self.management)?;
        for vhost in dagz::amqp::databases(&config, &self.name).await? {
            dagz::amqp::remove(&vhost).await?;
        }
        Ok(())
    }

    async fn remove_keyspaces(&self) -> Outcome {
        let config = dagz::cassandra::Config::new(&self.cassandra)?;
        for keyspace in dagz::cassandra::databases(&config, &self.name).await? {
            dagz::cassandra::remove(&keyspace).await?;
        }
        // Without dagz the base keyspace was made.
        let (account, place) = self.cassandra["cassandra://".len()..]
            .split_once('@')
            .ok_or("`CASSANDRA_URL` names no user")?;
        let (user, password) = account.split_once(':').ok_or("no password")?;
        let host = place.split('/').next().unwrap_or(place);
        let session = SessionBuilder::new()
            .known_node(host)
            .user(user, password)
            .build()
            .await?;
        let statement = format!("DROP KEYSPACE IF EXISTS {}", self.name);
        session.query_unpaged(statement, ()).await?;
        Ok(())
    }

    async fn remove_databases(&self) -> Outcome {
        let server = OptsBuilder::from_opts(Opts::from_url(&self.mysql)?).db_name(None::<String>);
        let mut connection = Conn::new(server).await?;
        let databases: Vec<String> = connection
            .exec(
                "SELECT schema_name FROM information_schema.schemata WHERE left(schema_name, char_length(?)) = ?",
                (&self.name, &self.name),
            )
            .await?;
        for database in databases {
            let quoted = database.replace('`', "``");
            connection
                .query_drop(format!("DROP DATABASE `{quoted}`"))
                .await?;
        }
        Ok(connection.disconnect().await?)
    }
}

/// `url` with another path.
fn with_path(url: &str, path: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("it is a URL");
    let host = rest.split(['/', '?']).next().unwrap_or(rest);
    format!("{scheme}://{host}/{path}")
}
