//! The storefront: what visitors see, from Redis where it has been seen lately, and what they look at most.
//!
//! [`crate::router_with_storefront`] merges its routes into the application's. Postgres stays the truth: a
//! page in the cache is a copy that a change of the product removes, and that nobody misses when it is gone.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Client, RedisError};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::error::Error;

/// How long a page is shown without asking Postgres again, in seconds.
const PAGE_SECONDS: u64 = 60;
/// The sorted set of products by views.
const VIEWS: &str = "views";
/// How many products count as popular.
const POPULAR: isize = 10;

/// The cache and the counters, over one connection that all requests share.
#[derive(Debug, Clone)]
pub struct Cache {
    client: Client,
    connection: Arc<OnceCell<MultiplexedConnection>>,
}

impl Cache {
    /// A cache on the server and database of `client`; connects at its first use.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            connection: Arc::default(),
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let connect = || self.client.get_multiplexed_async_connection();
        self.connection.get_or_try_init(connect).await.cloned()
    }
}

#[derive(Debug, Clone)]
struct Storefront {
    pool: Pool,
    cache: Cache,
}

/// The storefront's own routes, over Postgres and a cache.
pub(crate) fn routes(pool: Pool, cache: Cache) -> Router {
    Router::new()
        .route("/storefront/products/{id}", get(page))
        .route("/storefront/products/{id}/refresh", post(refresh))
        .route("/storefront/popular", get(popular))
        .with_state(Storefront { pool, cache })
}

fn key(id: i64) -> String {
    format!("page:{id}")
}

/// A product's page, which counts as a view of it.
async fn page(
    State(storefront): State<Storefront>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Error> {
    let mut cache = storefront.cache.connection().await?;
    let cached: Option<String> = cache.get(key(id)).await?;
    let (text, from) = match cached {
        Some(text) => (text, "cache"),
        None => {
            let text = read(&storefront.pool, id).await?;
            let () = cache.set_ex(key(id), &text, PAGE_SECONDS).await?;
            (text, "database")
        }
    };
    let views: f64 = cache.zincr(VIEWS, id, 1).await?;
    let page: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Json(
        json!({ "product": page, "from": from, "views": views }),
    ))
}

async fn read(pool: &Pool, id: i64) -> Result<String, Error> {
    let row = pool
        .get()
        .await?
        .query_opt("SELECT sku, name FROM products WHERE id = $1", &[&id])
        .await?
        .ok_or(Error::NotFound("product"))?;
    Ok(json!({ "sku": row.get::<_, &str>(0), "name": row.get::<_, &str>(1) }).to_string())
}

/// Forgets a page, for who has changed the product.
async fn refresh(
    State(storefront): State<Storefront>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Error> {
    let mut cache = storefront.cache.connection().await?;
    let () = cache.del(key(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The products that were looked at most, the first one most of all.
async fn popular(State(storefront): State<Storefront>) -> Result<Json<Value>, Error> {
    let mut cache = storefront.cache.connection().await?;
    let ranked: Vec<(i64, f64)> = cache.zrevrange_withscores(VIEWS, 0, POPULAR - 1).await?;
    let ranked = ranked
        .into_iter()
        .map(|(id, views)| json!({ "id": id, "views": views }));
    Ok(Json(ranked.collect()))
}
