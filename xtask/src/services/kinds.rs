//! Which servers there are: [`all`] that tests use, their other versions ([`matrix`]), and those that are as their makers
//! deliver them ([`as_delivered`]).

use super::{Service, cassandra, mysql, postgres, rabbitmq, redis};

/// The kinds that are started where none is named, in the order they are listed: five, and one that tests may crash.
pub(crate) fn all() -> &'static [&'static dyn Service] {
    &[
        &postgres::POSTGRES,
        &mysql::MARIADB,
        &redis::REDIS,
        &rabbitmq::RABBITMQ,
        &cassandra::Cassandra,
        &postgres::POSTGRES_FAULTS,
    ]
}

/// Other versions of some of them, for the compatibility table.
pub(crate) fn matrix() -> &'static [&'static dyn Service] {
    &[
        &postgres::NEWEST,
        &postgres::POSTGRES_14,
        &postgres::POSTGRES_16,
        &postgres::POSTGRES_17,
        &mysql::MYSQL,
        &redis::VALKEY,
        &rabbitmq::NEWEST,
    ]
}

/// Durable, with the settings that a server has where nobody gave it any, to see what dagz costs there.
fn as_delivered() -> &'static [&'static dyn Service] {
    &[
        &postgres::AS_DELIVERED,
        &mysql::MARIADB_AS_DELIVERED,
        &mysql::MYSQL_AS_DELIVERED,
    ]
}

/// Every kind there is.
pub(crate) fn known() -> impl Iterator<Item = &'static dyn Service> {
    all().iter().chain(matrix()).chain(as_delivered()).copied()
}
