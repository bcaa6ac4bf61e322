//! For driver authors: what the drivers of all servers have in common, beside [`DbConfig`](crate::DbConfig).
//!
//! A user of dagz needs none of it. A driver is free to do without a part; what it takes is, in the order of
//! its life:
//!
//! | part | for |
//! |---|---|
//! | [`Configured`] | the driver of the process, and its `configure` |
//! | [`Hook`], [`PrepareWith`], [`Migrations`], [`Migrate`] | functions of the user's, in the driver's `Config` |
//! | [`Known`], [`Server`] | the servers and databases that the process knows, and `identify` |
//! | [`Stamp`], [`Owner`], [`birth_number`] | whose a database is |
//! | [`template`] | names and fingerprints of templates, and which of them are too many |
//! | [`Stamped`] | what the driver's `databases` lists |
//! | [`Failure`], [`connection_ended`] | whether a reset is worth another connection, and what to say where one was ended |
//! | [`Shelf`] | connections that are kept from test to test |
//! | [`Lull`] | when to look what a test left, so that the next one need not |
//! | [`Checkup`] | what the driver's `doctor` finds out |
//! | [`command_line`] | what a person types to look into a database |

mod checkup;
mod cleanup;
mod command;
mod configured;
mod failure;
mod hook;
mod known;
mod lull;
mod shelf;
mod stamp;
pub mod template;

pub use self::{
    checkup::{Checkup, Finding, State},
    cleanup::Stamped,
    command::command_line,
    configured::Configured,
    failure::{Failure, connection_ended},
    hook::{BoxError, Hook, Migrate, Migrations, PrepareWith},
    known::{Known, Server},
    lull::Lull,
    shelf::Shelf,
    stamp::{Owner, Role, Stamp, birth_number},
};
