//! The back office of a web shop: an axum service on tokio-postgres, with its stock, orders and payments; its storefront
//! keeps pages in Redis, its bookkeepers have a MySQL database of their own, what happens is
//! told on a RabbitMQ exchange, and what visitors saw is kept in Cassandra.
//!
//! Start at [`router`]; each domain is a module that offers a `routes()`. What needs no database ([`money`], [`page`],
//! [`order_state`], [`validate`]) is public and plain. Nothing here knows about dagz: only the tests do.

mod addresses;
mod carts;
mod catalog;
mod customers;
mod db;
mod error;
pub mod events;
mod inventory;
pub mod ledger;
mod migrations;
pub mod money;
pub mod order_state;
mod orders;
pub mod outbox;
pub mod page;
mod payments;
mod purchasing;
mod reference;
mod reports;
mod staff;
pub mod storefront;
pub mod validate;
pub mod views;
mod warehouses;
mod wishlists;

pub use db::pool;
pub use error::Error;
pub use migrations::{MIGRATIONS, Migration, migrate, seed_sql};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use deadpool_postgres::Pool;
use serde_json::{Value, json};

/// The whole HTTP interface, over a pool of connections.
///
/// Background work that a request starts (a report's refresh) is spawned on the runtime that serves it; the outbox is
/// emptied by [`outbox::Dispatcher`], which the caller starts.
pub fn router(pool: Pool) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/version", get(version))
        .merge(reference::routes())
        .merge(staff::routes())
        .merge(catalog::routes())
        .merge(customers::routes())
        .merge(addresses::routes())
        .merge(wishlists::routes())
        .merge(carts::routes())
        .merge(warehouses::routes())
        .merge(inventory::routes())
        .merge(purchasing::routes())
        .merge(orders::routes())
        .merge(payments::routes())
        .merge(outbox::routes())
        .merge(reports::routes())
        .with_state(pool)
}

/// The same, with the storefront's pages and counters in `cache`.
pub fn router_with_storefront(pool: Pool, cache: storefront::Cache) -> Router {
    router(pool.clone()).merge(storefront::routes(pool, cache))
}

/// Whether the database answers.
async fn health(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let client = pool.get().await?;
    client.query_one("SELECT 1", &[]).await?;
    Ok(Json(json!({ "status": "ok" })))
}

/// Which version runs; asks no database, so that it answers when the database does not.
async fn version() -> Json<Value> {
    Json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}
