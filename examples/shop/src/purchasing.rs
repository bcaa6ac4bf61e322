//! Suppliers, and the goods ordered from them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::inventory;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/suppliers", post(create_supplier))
        .route("/purchase-orders", post(order))
        .route("/purchase-orders/{id}", get(read))
        .route("/purchase-orders/{id}/receive", post(receive))
}

#[derive(Deserialize)]
struct NewSupplier {
    name: String,
    country: String,
}

async fn create_supplier(
    State(pool): State<Pool>,
    Json(new): Json<NewSupplier>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO suppliers (name, country_code) VALUES ($1, $2) RETURNING id",
            &[&new.name, &new.country],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0) })),
    ))
}

#[derive(Deserialize)]
struct NewPurchase {
    supplier_id: i64,
    warehouse_id: i64,
    lines: Vec<PurchaseLine>,
}

#[derive(Deserialize)]
struct PurchaseLine {
    product_id: i64,
    quantity: i32,
    cost_cents: i64,
}

async fn order(
    State(pool): State<Pool>,
    Json(new): Json<NewPurchase>,
) -> Result<(StatusCode, Json<Value>), Error> {
    if new.lines.is_empty() {
        return Err(Error::invalid("a purchase needs at least one line"));
    }
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let id: i64 = transaction
        .query_one(
            "INSERT INTO purchase_orders (supplier_id, warehouse_id) VALUES ($1, $2) RETURNING id",
            &[&new.supplier_id, &new.warehouse_id],
        )
        .await?
        .get(0);
    for line in &new.lines {
        transaction
            .execute(
                "INSERT INTO purchase_order_lines (purchase_order_id, product_id, quantity, cost_cents)
                 VALUES ($1, $2, $3, $4)",
                &[&id, &line.product_id, &line.quantity, &line.cost_cents],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

async fn read(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT s.name, po.received, coalesce(sum(l.quantity * l.cost_cents), 0)::bigint
             FROM purchase_orders po
             JOIN suppliers s ON s.id = po.supplier_id
             LEFT JOIN purchase_order_lines l ON l.purchase_order_id = po.id
             WHERE po.id = $1 GROUP BY po.id, s.id",
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("purchase order"))?;
    Ok(Json(json!({
        "supplier": row.get::<_, &str>(0),
        "received": row.get::<_, bool>(1),
        "cost_cents": row.get::<_, i64>(2),
    })))
}

/// Takes the goods in, once: whoever comes second finds the order received.
async fn receive(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let row = transaction
        .query_opt(
            "SELECT warehouse_id, received FROM purchase_orders WHERE id = $1 FOR UPDATE",
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("purchase order"))?;
    if row.get::<_, bool>(1) {
        return Err(Error::conflict("the purchase order was received already"));
    }
    let warehouse: i64 = row.get(0);
    let lines = transaction
        .query(
            "SELECT product_id, quantity FROM purchase_order_lines WHERE purchase_order_id = $1 ORDER BY product_id",
            &[&id],
        )
        .await?;
    let mut pieces = 0;
    for line in &lines {
        let quantity: i32 = line.get(1);
        inventory::add(&transaction, warehouse, line.get(0), quantity, "receipt").await?;
        pieces += i64::from(quantity);
    }
    transaction
        .execute(
            "UPDATE purchase_orders SET received = true WHERE id = $1",
            &[&id],
        )
        .await?;
    transaction.commit().await?;
    Ok(Json(json!({ "pieces": pieces })))
}
