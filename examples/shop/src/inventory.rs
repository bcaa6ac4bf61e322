//! Stock: what lies where, how much of it is spoken for, and how it moves.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::{GenericClient, Pool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/stock/receipts", post(receipt))
        .route("/stock/transfers", post(transfer))
        .route("/stock/counts", post(count))
        .route("/stock/low", get(low))
        .route("/stock/{product}", get(level))
        .route("/stock/{product}/movements", get(movements))
}

#[derive(Deserialize)]
struct Receipt {
    warehouse_id: i64,
    product_id: i64,
    quantity: i32,
}

async fn receipt(
    State(pool): State<Pool>,
    Json(receipt): Json<Receipt>,
) -> Result<(StatusCode, Json<Value>), Error> {
    if receipt.quantity < 1 {
        return Err(Error::invalid("`quantity` must be at least 1"));
    }
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let on_hand = add(
        &transaction,
        receipt.warehouse_id,
        receipt.product_id,
        receipt.quantity,
        "receipt",
    )
    .await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(json!({ "on_hand": on_hand }))))
}

/// Puts `quantity` of a product into a warehouse, records the move, and returns how many lie there now.
pub(crate) async fn add(
    client: &impl GenericClient,
    warehouse: i64,
    product: i64,
    quantity: i32,
    kind: &str,
) -> Result<i32, Error> {
    let row = client
        .query_one(
            "INSERT INTO stock_levels AS s (warehouse_id, product_id, on_hand) VALUES ($1, $2, $3)
             ON CONFLICT (warehouse_id, product_id) DO UPDATE SET on_hand = s.on_hand + EXCLUDED.on_hand
             RETURNING on_hand",
            &[&warehouse, &product, &quantity],
        )
        .await?;
    record(client, warehouse, product, quantity, kind).await?;
    Ok(row.get(0))
}

/// Writes a move of stock into the journal; goods that leave count negative.
pub(crate) async fn record(
    client: &impl GenericClient,
    warehouse: i64,
    product: i64,
    quantity: i32,
    kind: &str,
) -> Result<(), Error> {
    client
        .execute(
            "INSERT INTO stock_movements (kind, warehouse_id, product_id, quantity) VALUES ($1, $2, $3, $4)",
            &[&kind, &warehouse, &product, &quantity],
        )
        .await?;
    Ok(())
}

#[derive(Deserialize)]
struct Transfer {
    product_id: i64,
    from: i64,
    to: i64,
    quantity: i32,
}

async fn transfer(
    State(pool): State<Pool>,
    Json(transfer): Json<Transfer>,
) -> Result<StatusCode, Error> {
    let Transfer {
        product_id,
        from,
        to,
        quantity,
    } = transfer;
    if from == to || quantity < 1 {
        return Err(Error::invalid(
            "a transfer needs two warehouses and at least one piece",
        ));
    }
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    // Both rows in one fixed order: two opposite transfers at once wait for each other instead of a deadlock.
    transaction
        .query(
            "SELECT 1 FROM stock_levels WHERE product_id = $1 AND warehouse_id IN ($2, $3)
             ORDER BY warehouse_id FOR UPDATE",
            &[&product_id, &from, &to],
        )
        .await?;
    let taken = transaction
        .execute(
            "UPDATE stock_levels SET on_hand = on_hand - $3
             WHERE warehouse_id = $1 AND product_id = $2 AND available >= $3",
            &[&from, &product_id, &quantity],
        )
        .await?;
    if taken == 0 {
        return Err(Error::conflict("not enough free stock in the warehouse"));
    }
    record(&transaction, from, product_id, -quantity, "transfer").await?;
    add(&transaction, to, product_id, quantity, "transfer").await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Count {
    warehouse_id: i64,
    product_id: i64,
    counted: i32,
}

/// What was counted on the shelf is right; what the books said is not.
async fn count(State(pool): State<Pool>, Json(count): Json<Count>) -> Result<Json<Value>, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let row = transaction
        .query_opt(
            "SELECT on_hand FROM stock_levels WHERE warehouse_id = $1 AND product_id = $2 FOR UPDATE",
            &[&count.warehouse_id, &count.product_id],
        )
        .await?
        .ok_or(Error::NotFound("stock"))?;
    let difference = count.counted - row.get::<_, i32>(0);
    if difference != 0 {
        transaction
            .execute(
                "UPDATE stock_levels SET on_hand = $3 WHERE warehouse_id = $1 AND product_id = $2",
                &[&count.warehouse_id, &count.product_id, &count.counted],
            )
            .await?;
        record(
            &transaction,
            count.warehouse_id,
            count.product_id,
            difference,
            "count",
        )
        .await?;
    }
    transaction.commit().await?;
    Ok(Json(json!({ "difference": difference })))
}

#[derive(Deserialize)]
struct LowFilter {
    threshold: Option<i32>,
}

/// What is nearly gone; the threshold is the client's or the shop's setting.
async fn low(
    State(pool): State<Pool>,
    Query(filter): Query<LowFilter>,
) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT p.sku, sum(s.available)::bigint AS available
             FROM stock_levels s JOIN products p ON p.id = s.product_id
             WHERE p.status = 'active'
             GROUP BY p.id
             HAVING sum(s.available) <= coalesce($1, (SELECT value::int FROM settings WHERE key = 'stock.low'), 0)
             ORDER BY 2, 1",
            &[&filter.threshold],
        )
        .await?;
    let low = rows
        .iter()
        .map(|row| json!({ "sku": row.get::<_, &str>(0), "available": row.get::<_, i64>(1) }));
    Ok(Json(low.collect()))
}

async fn level(State(pool): State<Pool>, Path(product): Path<i64>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT sum(on_hand)::bigint, sum(reserved)::bigint, sum(available)::bigint, count(*)
             FROM stock_levels WHERE product_id = $1 HAVING count(*) > 0",
            &[&product],
        )
        .await?
        .ok_or(Error::NotFound("stock"))?;
    Ok(Json(json!({
        "on_hand": row.get::<_, i64>(0),
        "reserved": row.get::<_, i64>(1),
        "available": row.get::<_, i64>(2),
        "warehouses": row.get::<_, i64>(3),
    })))
}

async fn movements(
    State(pool): State<Pool>,
    Path(product): Path<i64>,
) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT id, kind, warehouse_id, quantity FROM stock_movements WHERE product_id = $1 ORDER BY id",
            &[&product],
        )
        .await?;
    let movements = rows.iter().map(|row| {
        json!({
            "id": row.get::<_, i64>(0),
            "kind": row.get::<_, &str>(1),
            "warehouse_id": row.get::<_, i64>(2),
            "quantity": row.get::<_, i32>(3),
        })
    });
    Ok(Json(movements.collect()))
}
