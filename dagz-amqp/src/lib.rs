#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! Start at `route.rs`, where native types come in, then `driver.rs`, what the core calls; the work is done in
//! `provision.rs` and `reset.rs`. `topology.rs` has what a vhost is made of, `login.rs` as whom a test logs in,
//! `management.rs` how the management API is spoken to.

mod client;
mod config;
#[cfg(feature = "deadpool")]
pub mod deadpool;
mod driver;
mod error;
mod login;
mod management;
mod provision;
mod reset;
mod route;
mod server;
mod topology;

pub use client::Amqp;
pub use config::{Config, Prepare};
pub use driver::{Driver, configure};
pub use lapin;
pub use provision::{Stamped, adopt, databases, doctor, remove};
pub use reset::reset;
pub use route::{RerouteExt, connect, connect_uri, reroute_url, reroute_url_blocking};
