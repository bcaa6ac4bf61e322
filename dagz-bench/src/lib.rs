#![doc = include_str!("../README.md")]
//!
//! # Reading this crate
//!
//! This library is the one suite that is run under each strategy, in [`mod@suite`]; its test binaries are in
//! `tests/suite`. The measurements are the program's: `main.rs`, then `schedule.rs`, which every group of small
//! measurements goes through, and `reset/`, `suites.rs`, `overhead.rs`, `scale.rs`, a group each.

pub mod suite;
