#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! Start at `route.rs`, where native types come in, then `driver.rs`, what the core calls; the work is done in
//! `provision.rs` and `reset.rs`.

mod client;
mod config;
#[cfg(feature = "deadpool")]
pub mod deadpool;
mod driver;
mod error;
mod provision;
mod reset;
mod route;
mod server;
mod sql;

pub use client::{Client, Postgres};
pub use config::{Config, Prepare};
pub use driver::{Driver, configure};
pub use provision::{Stamped, adopt, databases, doctor, remove};
pub use reset::{baseline, truncate};
pub use route::{RerouteExt, connect, reroute_url, reroute_url_blocking};
pub use tokio_postgres;
