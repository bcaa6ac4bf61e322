#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! Start at `route.rs`, where native types come in, then `driver.rs`, what the core calls; the work is done in
//! `provision.rs` and `reset.rs`, over the schema as `schema.rs` reads it.

mod client;
mod config;
mod cql;
mod driver;
mod error;
mod provision;
mod reset;
mod route;
mod schema;
mod server;
mod source;

pub use client::Cassandra;
pub use config::{Config, Prepare};
pub use driver::{Driver, configure};
pub use provision::{Stamped, adopt, databases, doctor, remove};
pub use reset::{baseline, truncate, truncate_session};
pub use route::{
    RerouteExt, connect, keyspace, keyspace_blocking, reroute_url, reroute_url_blocking, session,
};
pub use scylla;
