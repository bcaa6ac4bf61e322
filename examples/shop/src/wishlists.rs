//! What customers would like to have.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde_json::{Value, json};

use crate::error::Error;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/customers/{id}/wishlist", get(wishlist))
        .route(
            "/customers/{id}/wishlist/{product}",
            put(wish).delete(unwish),
        )
}

async fn wish(
    State(pool): State<Pool>,
    Path((id, product)): Path<(i64, i64)>,
) -> Result<StatusCode, Error> {
    let added = pool
        .get()
        .await?
        .execute(
            "INSERT INTO wishlist_items (customer_id, product_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&id, &product],
        )
        .await?;
    Ok(if added == 1 {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    })
}

async fn unwish(
    State(pool): State<Pool>,
    Path((id, product)): Path<(i64, i64)>,
) -> Result<StatusCode, Error> {
    let removed = pool
        .get()
        .await?
        .execute(
            "DELETE FROM wishlist_items WHERE customer_id = $1 AND product_id = $2",
            &[&id, &product],
        )
        .await?;
    if removed == 0 {
        Err(Error::NotFound("wish"))
    } else {
        Ok(StatusCode::NO_CONTENT)
    }
}

async fn wishlist(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT p.sku, coalesce((SELECT sum(s.available) FROM stock_levels s WHERE s.product_id = p.id), 0) > 0
             FROM wishlist_items w JOIN products p ON p.id = w.product_id WHERE w.customer_id = $1 ORDER BY p.sku",
            &[&id],
        )
        .await?;
    let wishes = rows
        .iter()
        .map(|row| json!({ "sku": row.get::<_, &str>(0), "available": row.get::<_, bool>(1) }));
    Ok(Json(wishes.collect()))
}
