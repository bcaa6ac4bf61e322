//! The command as users run it: real runs of a suite on real servers, then what each subcommand says.
//!
//! `support.rs` runs both, and takes out of the output what differs from run to run. Servers come by
//! `cargo xtask services up`.

mod brokers;
mod clean;
mod doctor;
mod init;
mod jobs;
mod kept;
mod logs;
mod playbook;
mod support;
mod symptoms;
mod test;
