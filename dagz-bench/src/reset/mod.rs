//! The group `reset`: what it costs to bring a database back to its start state, by dagz and by what people use today.
//!
//! A file per kind of server. In each, dagz has a worker's database and the other ways have one of their own beside
//! it, with the same schema, on the same server, and on connections that are kept, although most who use them connect
//! anew. What is timed is what the next test waits for: a driver's `prepare`.

mod amqp;
mod cassandra;
mod detection;
mod management;
mod mysql;
mod postgres;
mod redis;
mod worker;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    row::Row,
    say,
    schedule::{self, Extent},
};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Postgres,
    Mariadb,
    Redis,
    Rabbitmq,
    Cassandra,
}

impl Backend {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Postgres,
        Self::Mariadb,
        Self::Redis,
        Self::Rabbitmq,
        Self::Cassandra,
    ];

    /// What a small server stands. Cassandra keeps a table's part of its heap whether it is used or not: with 1 GiB of
    /// heap, `cargo xtask services`' own, it measured 200 tables at 1.2 GB of memory, and ended by itself with 500.
    fn largest(self) -> usize {
        match self {
            Self::Cassandra => 200,
            Self::Postgres | Self::Mariadb | Self::Redis | Self::Rabbitmq => usize::MAX,
        }
    }
}

/// Measures `backend` with `size` tables, and tells the rows.
///
/// # Errors
/// What a server says, or what a way did not clean.
pub(crate) fn run(backend: Backend, size: usize, extent: Extent) -> Result<Vec<Row>> {
    let largest = backend.largest();
    if size > largest {
        say::progress(&format!(
            "reset: {backend:?} is not measured with {size} tables: a server with 1 GiB of heap stands {largest}"
        ));
        return Ok(Vec::new());
    }
    say::progress(&format!("reset: {backend:?}, {size} tables"));
    match backend {
        Backend::Postgres => postgres::run(size, extent),
        Backend::Mariadb => mysql::run(size, extent),
        Backend::Redis => redis::run(size, extent),
        Backend::Rabbitmq => amqp::run(size, extent),
        Backend::Cassandra => cassandra::run(size, extent),
    }
}

/// Measures all ways of `site`.
async fn measure(
    site: &mut dyn schedule::Site,
    backend: &str,
    size: usize,
    extent: &Extent,
) -> Result<Vec<Row>> {
    schedule::measure(site, ("reset", backend), size, extent).await
}

/// The variable that says where a server is.
fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!("`{name}` is not set; `cargo xtask bench` starts the servers and sets it")
    })
}
