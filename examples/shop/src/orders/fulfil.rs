//! What becomes of a placed order: given up, sent, taken back.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use deadpool_postgres::{GenericClient, Pool};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{advance, lock};
use crate::error::Error;
use crate::inventory;
use crate::order_state::OrderStatus;

/// Gives an unpaid order up: its stock is free again, its coupon can be used again.
pub(super) async fn cancel(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let status = lock(&transaction, id).await?;
    advance(&transaction, id, status, OrderStatus::Cancelled).await?;
    release(&transaction, id).await?;
    transaction
        .execute(
            "WITH redeemed AS (DELETE FROM coupon_redemptions WHERE order_id = $1 RETURNING coupon_id)
             UPDATE coupons SET uses_left = uses_left + 1 FROM redeemed WHERE id = redeemed.coupon_id",
            &[&id],
        )
        .await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Frees what an order had reserved.
pub(crate) async fn release(client: &impl GenericClient, id: i64) -> Result<(), Error> {
    client
        .execute(
            "WITH freed AS (DELETE FROM reservations WHERE order_id = $1 RETURNING warehouse_id, product_id, quantity)
             UPDATE stock_levels s SET reserved = s.reserved - freed.quantity FROM freed
             WHERE s.warehouse_id = freed.warehouse_id AND s.product_id = freed.product_id",
            &[&id],
        )
        .await?;
    Ok(())
}

#[derive(Deserialize)]
pub(super) struct Dispatch {
    tracking: String,
}

/// Sends a paid order: what was reserved leaves the warehouse.
pub(super) async fn ship(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(dispatch): Json<Dispatch>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let status = lock(&transaction, id).await?;
    advance(&transaction, id, status, OrderStatus::Shipped).await?;
    let shipment: i64 = transaction
        .query_one(
            "INSERT INTO shipments (order_id, tracking) VALUES ($1, $2) RETURNING id",
            &[&id, &dispatch.tracking],
        )
        .await?
        .get(0);
    let reserved = transaction
        .query(
            "DELETE FROM reservations WHERE order_id = $1 RETURNING warehouse_id, product_id, quantity",
            &[&id],
        )
        .await?;
    for row in &reserved {
        let (warehouse, product, quantity): (i64, i64, i32) = (row.get(0), row.get(1), row.get(2));
        transaction
            .execute(
                "UPDATE stock_levels SET on_hand = on_hand - $3, reserved = reserved - $3
                 WHERE warehouse_id = $1 AND product_id = $2",
                &[&warehouse, &product, &quantity],
            )
            .await?;
        transaction
            .execute(
                "INSERT INTO shipment_lines (shipment_id, product_id, warehouse_id, quantity) VALUES ($1, $2, $3, $4)",
                &[&shipment, &product, &warehouse, &quantity],
            )
            .await?;
        inventory::record(&transaction, warehouse, product, -quantity, "sale").await?;
    }
    transaction.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "shipment_id": shipment, "lines": reserved.len() })),
    ))
}

#[derive(Deserialize)]
pub(super) struct NewReturn {
    reason: String,
    lines: Vec<ReturnLine>,
}

#[derive(Deserialize)]
struct ReturnLine {
    product_id: i64,
    quantity: i32,
}

/// Takes goods back into the warehouse they came from; an order of which all came back is returned.
pub(super) async fn take_back(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewReturn>,
) -> Result<(StatusCode, Json<Value>), Error> {
    if new.lines.is_empty() {
        return Err(Error::invalid("a return needs at least one line"));
    }
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let status = lock(&transaction, id).await?;
    if status != OrderStatus::Shipped {
        return Err(Error::conflict(format!(
            "nothing of an order that is {status} can be returned"
        )));
    }
    let number: i64 = transaction
        .query_one(
            "INSERT INTO returns (order_id, reason) VALUES ($1, $2) RETURNING id",
            &[&id, &new.reason],
        )
        .await?
        .get(0);
    for line in &new.lines {
        let row = transaction
            .query_opt(
                "SELECT l.warehouse_id FROM shipment_lines l JOIN shipments s ON s.id = l.shipment_id
                 WHERE s.order_id = $1 AND l.product_id = $2
                   AND l.quantity >= $3 + coalesce((SELECT sum(rl.quantity) FROM return_lines rl
                        JOIN returns r ON r.id = rl.return_id
                        WHERE r.order_id = $1 AND rl.product_id = $2), 0)",
                &[&id, &line.product_id, &i64::from(line.quantity)],
            )
            .await?
            .ok_or_else(|| Error::invalid(format!("more of product {} than was sent", line.product_id)))?;
        transaction
            .execute(
                "INSERT INTO return_lines (return_id, product_id, quantity) VALUES ($1, $2, $3)",
                &[&number, &line.product_id, &line.quantity],
            )
            .await?;
        inventory::add(
            &transaction,
            row.get(0),
            line.product_id,
            line.quantity,
            "return",
        )
        .await?;
    }
    let outstanding: i64 = transaction
        .query_one(
            "SELECT (SELECT coalesce(sum(quantity), 0) FROM order_lines WHERE order_id = $1)
                  - (SELECT coalesce(sum(rl.quantity), 0) FROM return_lines rl
                     JOIN returns r ON r.id = rl.return_id WHERE r.order_id = $1)",
            &[&id],
        )
        .await?
        .get(0);
    if outstanding == 0 {
        advance(&transaction, id, status, OrderStatus::Returned).await?;
    }
    transaction.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "return_id": number, "outstanding": outstanding })),
    ))
}
