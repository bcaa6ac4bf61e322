#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! Start at `route.rs`, where native types come in, then `driver.rs`, what the core calls, and `map.rs`, which
//! index is whose; the work is done in `provision.rs` and `reset.rs`.

mod client;
mod config;
#[cfg(feature = "deadpool")]
pub mod deadpool;
mod driver;
mod error;
mod map;
mod provision;
mod reset;
mod route;
mod server;

pub use client::Redis;
pub use config::{Config, Prepare};
pub use driver::{Driver, configure};
pub use provision::{PrivateServers, Stamped, adopt, databases, doctor, remove};
pub use redis;
pub use reset::{baseline, flush};
#[cfg(feature = "connection-manager")]
pub use route::connection_manager;
pub use route::{RerouteExt, connect, reroute_url, reroute_url_blocking};
