//! A database of any driver's: which there are on a server, and how one is dropped.
//!
//! The main type is [`Database`]; `clean.rs` drops them, and `doctor.rs` counts them.

use std::time::SystemTime;

use dagz_core::{Result, Worker};

use crate::service::{Kind, Service};

/// A database that a driver made for a project.
pub(crate) enum Database {
    Postgres(Box<dagz_postgres::Stamped>),
    Mysql(dagz_mysql::Stamped),
    Redis(Box<dagz_redis::Stamped>),
    Amqp(Box<dagz_amqp::Stamped>),
    Cassandra(Box<dagz_cassandra::Stamped>),
}

/// The same of each driver's.
macro_rules! each {
    ($database:expr, $stamped:ident => $what:expr) => {
        match $database {
            Database::Postgres($stamped) => $what,
            Database::Mysql($stamped) => $what,
            Database::Redis($stamped) => $what,
            Database::Amqp($stamped) => $what,
            Database::Cassandra($stamped) => $what,
        }
    };
}

impl Database {
    /// All that are stamped with `project` on the server of `service`.
    pub(crate) async fn list(service: &Service, project: &str) -> Result<Vec<Self>> {
        let url = service.url();
        Ok(match service.kind {
            Kind::Postgres => {
                let config = dagz_postgres::Config::new(url)?;
                let found = dagz_postgres::databases(&config, project).await?;
                found
                    .into_iter()
                    .map(Box::new)
                    .map(Self::Postgres)
                    .collect()
            }
            Kind::Mysql => {
                let config = dagz_mysql::Config::new(url)?;
                let found = dagz_mysql::databases(&config, project).await?;
                found.into_iter().map(Self::Mysql).collect()
            }
            Kind::Redis => {
                let config = dagz_redis::Config::new(url)?;
                let found = dagz_redis::databases(&config, project).await?;
                found.into_iter().map(Box::new).map(Self::Redis).collect()
            }
            Kind::Amqp => {
                let found = dagz_amqp::databases(&amqp(service)?, project).await?;
                found.into_iter().map(Box::new).map(Self::Amqp).collect()
            }
            Kind::Cassandra => {
                let config = dagz_cassandra::Config::of_cluster(url)?;
                let found = dagz_cassandra::databases(&config, project).await?;
                found
                    .into_iter()
                    .map(Box::new)
                    .map(Self::Cassandra)
                    .collect()
            }
        })
    }

    /// Drops it.
    pub(crate) async fn remove(&self) -> Result<()> {
        match self {
            Self::Postgres(database) => dagz_postgres::remove(database).await,
            Self::Mysql(database) => dagz_mysql::remove(database).await,
            Self::Redis(database) => dagz_redis::remove(database).await,
            Self::Amqp(database) => dagz_amqp::remove(database).await,
            Self::Cassandra(database) => dagz_cassandra::remove(database).await,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::Mysql(_) => Kind::Mysql,
            Self::Redis(_) => Kind::Redis,
            Self::Amqp(_) => Kind::Amqp,
            Self::Cassandra(_) => Kind::Cassandra,
        }
    }

    pub(crate) fn name(&self) -> &str {
        each!(self, database => database.name())
    }

    pub(crate) fn worker(&self) -> Option<Worker> {
        each!(self, database => database.worker())
    }

    pub(crate) fn base(&self) -> Option<&str> {
        each!(self, database => database.base())
    }

    pub(crate) fn made(&self) -> Option<SystemTime> {
        each!(self, database => database.made())
    }

    pub(crate) fn is_template(&self) -> bool {
        each!(self, database => database.is_template())
    }
}

/// RabbitMQ as `service` names it, with its management API.
pub(crate) fn amqp(service: &Service) -> Result<dagz_amqp::Config> {
    let config = dagz_amqp::Config::new(service.url())?;
    match service.management() {
        Some(management) => config.management(management),
        None => Ok(config),
    }
}
