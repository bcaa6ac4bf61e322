//! What products cost, in each currency, and what they used to cost.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use deadpool_postgres::{GenericClient, Pool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::money;

#[derive(Deserialize)]
pub(super) struct Price {
    amount_cents: i64,
}

pub(super) async fn set(
    State(pool): State<Pool>,
    Path((id, currency)): Path<(i64, String)>,
    Json(price): Json<Price>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    if transaction
        .query_opt("SELECT 1 FROM products WHERE id = $1", &[&id])
        .await?
        .is_none()
    {
        return Err(Error::NotFound("product"));
    }
    let old = store(&transaction, id, &currency, price.amount_cents).await?;
    transaction.commit().await?;
    let status = if old.is_none() {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        Json(json!({ "amount_cents": price.amount_cents, "was_cents": old })),
    ))
}

/// Sets a price, records the change, and returns what it was before.
pub(super) async fn store(
    client: &impl GenericClient,
    product: i64,
    currency: &str,
    cents: i64,
) -> Result<Option<i64>, Error> {
    let old: Option<i64> = client
        .query_opt(
            "SELECT amount_cents FROM product_prices WHERE product_id = $1 AND currency = $2 FOR UPDATE",
            &[&product, &currency],
        )
        .await?
        .map(|row| row.get(0));
    client
        .execute(
            "INSERT INTO product_prices (product_id, currency, amount_cents) VALUES ($1, $2, $3)
             ON CONFLICT (product_id, currency) DO UPDATE SET amount_cents = EXCLUDED.amount_cents",
            &[&product, &currency, &cents],
        )
        .await?;
    if old != Some(cents) {
        client
            .execute(
                "INSERT INTO price_changes (product_id, currency, old_cents, new_cents) VALUES ($1, $2, $3, $4)",
                &[&product, &currency, &old, &cents],
            )
            .await?;
    }
    Ok(old)
}

pub(super) async fn read(
    State(pool): State<Pool>,
    Path((id, currency)): Path<(i64, String)>,
) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT pp.amount_cents, c.minor_units FROM product_prices pp JOIN currencies c ON c.code = pp.currency
             WHERE pp.product_id = $1 AND pp.currency = $2",
            &[&id, &currency],
        )
        .await?
        .ok_or(Error::NotFound("price"))?;
    let cents: i64 = row.get(0);
    let minor_units = u32::try_from(row.get::<_, i16>(1)).unwrap_or_default();
    Ok(Json(
        json!({ "amount_cents": cents, "display": money::display(cents, minor_units, &currency) }),
    ))
}

pub(super) async fn changes(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query("SELECT currency, old_cents, new_cents FROM price_changes WHERE product_id = $1 ORDER BY id", &[&id])
        .await?;
    let changes = rows.iter().map(|row| {
        json!({
            "currency": row.get::<_, &str>(0),
            "old_cents": row.get::<_, Option<i64>>(1),
            "new_cents": row.get::<_, i64>(2),
        })
    });
    Ok(Json(changes.collect()))
}
