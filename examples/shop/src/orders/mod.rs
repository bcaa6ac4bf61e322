//! Orders: how they come to be ([`place`]), what becomes of them ([`fulfil`]), and how they are read.

mod fulfil;
pub(crate) mod place;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::{GenericClient, Pool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::order_state::OrderStatus;
use crate::page::Page;

pub(crate) use fulfil::release;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/coupons", post(create_coupon))
        .route("/orders", get(list).post(place::create))
        .route("/orders/{id}", get(read))
        .route("/orders/{id}/history", get(history))
        .route("/orders/{id}/cancel", post(fulfil::cancel))
        .route("/orders/{id}/ship", post(fulfil::ship))
        .route("/orders/{id}/returns", post(fulfil::take_back))
}

#[derive(Deserialize)]
struct NewCoupon {
    code: String,
    percent: i32,
    uses: i32,
}

async fn create_coupon(
    State(pool): State<Pool>,
    Json(new): Json<NewCoupon>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO coupons (code, percent, uses_left) VALUES ($1, $2, $3) RETURNING id",
            &[&new.code, &new.percent, &new.uses],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0) })),
    ))
}

#[derive(Deserialize)]
struct Filter {
    page: Option<i64>,
    per_page: Option<i64>,
    status: Option<String>,
    customer: Option<i64>,
}

/// Newest first.
async fn list(
    State(pool): State<Pool>,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, Error> {
    if let Some(status) = &filter.status {
        status
            .parse::<OrderStatus>()
            .map_err(|error| Error::invalid(error.to_string()))?;
    }
    let page = Page {
        page: filter.page,
        per_page: filter.per_page,
    };
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT id, number, status::text, total_cents, count(*) OVER () FROM orders
             WHERE ($1::text IS NULL OR status = $1::text::order_status)
               AND ($2::bigint IS NULL OR customer_id = $2)
             ORDER BY id DESC LIMIT $3 OFFSET $4",
            &[
                &filter.status,
                &filter.customer,
                &page.limit(),
                &page.offset(),
            ],
        )
        .await?;
    let total = rows.first().map_or(0, |row| row.get::<_, i64>(4));
    let orders: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.get::<_, i64>(0),
                "number": row.get::<_, &str>(1),
                "status": row.get::<_, &str>(2),
                "total_cents": row.get::<_, i64>(3),
            })
        })
        .collect();
    Ok(Json(json!({ "orders": orders, "total": total })))
}

async fn read(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let client = pool.get().await?;
    let row = client
        .query_opt(
            "SELECT o.number, o.status::text, o.currency, o.subtotal_cents, o.discount_cents, o.tax_cents,
                    o.shipping_cents, o.total_cents, b.paid_cents, b.refunded_cents, b.due_cents, o.customer_id
             FROM orders o JOIN reporting.order_balance b ON b.order_id = o.id WHERE o.id = $1",
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("order"))?;
    let lines = client
        .query(
            "SELECT product_id, quantity, line_cents FROM order_lines WHERE order_id = $1 ORDER BY product_id",
            &[&id],
        )
        .await?;
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "product_id": line.get::<_, i64>(0),
                "quantity": line.get::<_, i32>(1),
                "line_cents": line.get::<_, i64>(2),
            })
        })
        .collect();
    Ok(Json(json!({
        "id": id,
        "number": row.get::<_, &str>(0),
        "status": row.get::<_, &str>(1),
        "currency": row.get::<_, &str>(2),
        "subtotal_cents": row.get::<_, i64>(3),
        "discount_cents": row.get::<_, i64>(4),
        "tax_cents": row.get::<_, i64>(5),
        "shipping_cents": row.get::<_, i64>(6),
        "total_cents": row.get::<_, i64>(7),
        "paid_cents": row.get::<_, i64>(8),
        "refunded_cents": row.get::<_, i64>(9),
        "due_cents": row.get::<_, i64>(10),
        "customer_id": row.get::<_, i64>(11),
        "lines": lines,
    })))
}

async fn history(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT status::text FROM order_events WHERE order_id = $1 ORDER BY id",
            &[&id],
        )
        .await?;
    if rows.is_empty() {
        return Err(Error::NotFound("order"));
    }
    Ok(Json(
        rows.iter().map(|row| Value::String(row.get(0))).collect(),
    ))
}

/// Locks an order for the rest of the transaction and returns its state.
pub(crate) async fn lock(client: &impl GenericClient, id: i64) -> Result<OrderStatus, Error> {
    let row = client
        .query_opt(
            "SELECT status::text FROM orders WHERE id = $1 FOR UPDATE",
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("order"))?;
    row.get::<_, &str>(0)
        .parse()
        .map_err(|error: crate::order_state::UnknownStatus| Error::conflict(error.to_string()))
}

/// Moves a locked order from `from` to `to`, into its history and the outbox, if that step exists.
pub(crate) async fn advance(
    client: &impl GenericClient,
    id: i64,
    from: OrderStatus,
    to: OrderStatus,
) -> Result<(), Error> {
    if !from.can_become(to) {
        return Err(Error::conflict(format!(
            "an order that is {from} cannot become {to}"
        )));
    }
    client
        .execute(
            "UPDATE orders SET status = $2::text::order_status WHERE id = $1",
            &[&id, &to.as_str()],
        )
        .await?;
    log(client, id, to).await
}

async fn log(client: &impl GenericClient, id: i64, status: OrderStatus) -> Result<(), Error> {
    client
        .execute(
            "INSERT INTO order_events (order_id, status) VALUES ($1, $2::text::order_status)",
            &[&id, &status.as_str()],
        )
        .await?;
    crate::outbox::enqueue(
        client,
        &format!("order.{status}"),
        &json!({ "order_id": id }),
    )
    .await
}
