//! Customers' addresses, one of which is the default.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;

pub(crate) fn routes() -> Router<Pool> {
    Router::new().route(
        "/customers/{id}/addresses",
        post(add_address).get(addresses),
    )
}

#[derive(Deserialize)]
struct NewAddress {
    line: String,
    city: String,
    postcode: String,
    country: String,
    #[serde(default)]
    default: bool,
}

/// The first address is the default; a later one becomes it when it says so.
async fn add_address(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewAddress>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .query_opt("SELECT 1 FROM customers WHERE id = $1 FOR UPDATE", &[&id])
        .await?
        .ok_or(Error::NotFound("customer"))?;
    let first = transaction
        .query_opt(
            "SELECT 1 FROM addresses WHERE customer_id = $1 LIMIT 1",
            &[&id],
        )
        .await?
        .is_none();
    if new.default {
        transaction
            .execute(
                "UPDATE addresses SET is_default = false WHERE customer_id = $1",
                &[&id],
            )
            .await?;
    }
    let row = transaction
        .query_one(
            "INSERT INTO addresses (customer_id, line, city, postcode, country_code, is_default)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            &[
                &id,
                &new.line,
                &new.city,
                &new.postcode,
                &new.country,
                &(first || new.default),
            ],
        )
        .await?;
    transaction.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0), "default": first || new.default })),
    ))
}

async fn addresses(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT id, city, is_default FROM addresses WHERE customer_id = $1 ORDER BY id",
            &[&id],
        )
        .await?;
    let addresses = rows.iter().map(|row| {
        json!({ "id": row.get::<_, i64>(0), "city": row.get::<_, &str>(1), "default": row.get::<_, bool>(2) })
    });
    Ok(Json(addresses.collect()))
}
