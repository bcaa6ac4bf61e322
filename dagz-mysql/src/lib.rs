#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! Start at `route.rs`, where native types come in, then `driver.rs`, what the core calls; the work is done in
//! `provision.rs` and `reset.rs`, over the schema as `schema.rs` reads it.

mod batch;
mod client;
mod config;
mod driver;
mod error;
mod pool;
mod provision;
mod reset;
mod route;
mod schema;
mod server;
mod sql;

pub use client::{Conn, Mysql};
pub use config::{Config, Identity, Prepare};
pub use driver::{Driver, configure};
pub use mysql_async;
pub use pool::Pool;
pub use provision::{Stamped, adopt, databases, doctor, remove};
pub use reset::{baseline, truncate};
pub use route::{RerouteExt, connect, reroute_url, reroute_url_blocking};
