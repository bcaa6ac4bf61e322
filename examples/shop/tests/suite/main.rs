//! The shop's tests, all in one binary: over HTTP, over SQL, with tasks and threads, and some without any database.
//!
//! `support.rs` is the whole of what dagz needs; `app.rs` and `stores.rs` are what tests work with; the others are tests by domain. They
//! commit, they count on literal ids and on seed rows, and some change those: each finds the database as the migrations
//! left it.

#![expect(
    clippy::unwrap_used,
    reason = "a test reports by panicking, with the line"
)]

mod app;
mod audit;
mod broker;
mod history;
mod stores;
mod support;
mod today;
mod today_stores;

mod blocking;
mod carts;
mod catalog;
mod concurrency;
mod customers;
mod events;
mod extras;
mod fulfilment;
mod inventory;
mod ledger;
mod orders;
mod outbox;
mod payments;
mod plain;
mod prices;
mod purchasing;
mod reference;
mod reports;
mod schema;
mod server;
mod staff;
mod storefront;
mod threads;
mod views;
