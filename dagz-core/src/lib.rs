#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! Start at `resolve.rs`, the one path; then `scope.rs`, `lease.rs` and `config.rs`.

mod again;
mod argument;
mod config;
pub mod driver;
mod error;
pub mod event;
mod handover;
mod harness;
pub mod history;
mod job;
mod kept;
mod lease;
mod lock;
pub mod migrations;
pub mod name;
mod node;
mod once;
mod progress;
mod resolve;
pub mod runtime;
mod scope;
mod settings;
mod setup;
mod slow;
mod turn;
mod worker;

pub use async_trait::async_trait;

pub use crate::{
    argument::{Core, FromScope},
    config::{Access, DbConfig, Endpoint, Options, Target, configure, configured},
    error::{Error, ErrorKind, Report, Result},
    handover::HandOver,
    lease::Lease,
    once::add_worker_init,
    resolve::{Route, resolve, resolve_blocking},
    scope::{
        AttachGuard, BypassGuard, Carried, Scope, ScopeBuilder, ScopeGuard, assert_exclusive,
        assert_main_worker, bypass, current, manual_init,
    },
    settings::{Origin, Section, Settings, SettingsBuilder},
    worker::Worker,
};

/// What the macros expand to. No part of the public API: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::harness::*;
}

/// Whether dagz reroutes in this process: `false` with `DAGZ=off`, with zero workers, and when the
/// settings cannot be read (which the first test then reports).
pub fn active() -> bool {
    Settings::current().is_ok_and(Settings::active)
}
