//! Money in, money back, and the invoice.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::{GenericClient, Pool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::order_state::OrderStatus;
use crate::orders::{advance, lock};

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/orders/{id}/payments", post(pay).get(list))
        .route("/orders/{id}/invoice", get(invoice))
        .route("/payments/{id}/refunds", post(refund))
}

#[derive(Deserialize)]
struct NewPayment {
    method: String,
    amount_cents: i64,
    /// Chosen by the client: the same key twice is the same payment.
    idempotency_key: String,
}

/// Takes a payment, whole or in part; the one that settles the order makes its invoice and the customer's points.
async fn pay(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewPayment>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let status = lock(&transaction, id).await?;
    // After the lock: of two requests with one key the second finds the first's payment.
    let known = transaction
        .query_opt(
            "SELECT id, order_id FROM payments WHERE idempotency_key = $1",
            &[&new.idempotency_key],
        )
        .await?;
    if let Some(row) = known {
        if row.get::<_, i64>(1) != id {
            return Err(Error::conflict(
                "the idempotency key belongs to another order",
            ));
        }
        return Ok((
            StatusCode::OK,
            Json(json!({ "id": row.get::<_, i64>(0), "settled": status != OrderStatus::Placed })),
        ));
    }
    if status != OrderStatus::Placed {
        return Err(Error::conflict(format!(
            "an order that is {status} cannot be paid"
        )));
    }
    let method: i64 = transaction
        .query_opt(
            "SELECT id FROM payment_methods WHERE code = $1 AND enabled",
            &[&new.method],
        )
        .await?
        .ok_or_else(|| Error::invalid(format!("payment method `{}` is not accepted", new.method)))?
        .get(0);
    let due: i64 = transaction
        .query_one(
            "SELECT due_cents FROM reporting.order_balance WHERE order_id = $1",
            &[&id],
        )
        .await?
        .get(0);
    if new.amount_cents > due {
        return Err(Error::invalid(format!("only {due} cents are due")));
    }
    let payment: i64 = transaction
        .query_one(
            "INSERT INTO payments (order_id, method_id, amount_cents, idempotency_key) VALUES ($1, $2, $3, $4)
             RETURNING id",
            &[&id, &method, &new.amount_cents, &new.idempotency_key],
        )
        .await?
        .get(0);
    let settled = new.amount_cents == due;
    if settled {
        advance(&transaction, id, status, OrderStatus::Paid).await?;
        settle(&transaction, id).await?;
    }
    transaction.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": payment, "settled": settled })),
    ))
}

/// The invoice, and points for what the goods cost.
async fn settle(client: &impl GenericClient, order: i64) -> Result<(), Error> {
    client
        .execute("INSERT INTO invoices (order_id, total_cents) SELECT id, total_cents FROM orders WHERE id = $1", &[&order])
        .await?;
    client
        .execute(
            "INSERT INTO loyalty_entries (customer_id, points, reason)
             SELECT o.customer_id, points, 'order ' || o.number
             FROM orders o,
                  LATERAL (SELECT ((o.subtotal_cents - o.discount_cents) / s.value::bigint)::int AS points
                           FROM settings s WHERE s.key = 'loyalty.cents_per_point') AS earned
             WHERE o.id = $1 AND points > 0",
            &[&order],
        )
        .await?;
    Ok(())
}

async fn list(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT p.id, m.code, p.amount_cents FROM payments p JOIN payment_methods m ON m.id = p.method_id
             WHERE p.order_id = $1 ORDER BY p.id",
            &[&id],
        )
        .await?;
    let payments = rows.iter().map(|row| {
        json!({ "id": row.get::<_, i64>(0), "method": row.get::<_, &str>(1), "amount_cents": row.get::<_, i64>(2) })
    });
    Ok(Json(payments.collect()))
}

async fn invoice(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT number, total_cents FROM invoices WHERE order_id = $1",
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("invoice"))?;
    Ok(Json(
        json!({ "number": row.get::<_, &str>(0), "total_cents": row.get::<_, i64>(1) }),
    ))
}

#[derive(Deserialize)]
struct NewRefund {
    amount_cents: i64,
    reason: String,
}

/// Gives money back, never more than the payment had; when all of the order's is back, the order is refunded, and what
/// was still reserved for it is free.
async fn refund(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewRefund>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let order: i64 = transaction
        .query_opt("SELECT order_id FROM payments WHERE id = $1", &[&id])
        .await?
        .ok_or(Error::NotFound("payment"))?
        .get(0);
    let status = lock(&transaction, order).await?;
    let left: i64 = transaction
        .query_one(
            "SELECT p.amount_cents - coalesce((SELECT sum(r.amount_cents) FROM refunds r WHERE r.payment_id = p.id), 0)::bigint
             FROM payments p WHERE p.id = $1",
            &[&id],
        )
        .await?
        .get(0);
    if new.amount_cents > left {
        return Err(Error::invalid(format!("only {left} cents can be refunded")));
    }
    let refund: i64 = transaction
        .query_one(
            "INSERT INTO refunds (payment_id, amount_cents, reason) VALUES ($1, $2, $3) RETURNING id",
            &[&id, &new.amount_cents, &new.reason],
        )
        .await?
        .get(0);
    let balance = transaction
        .query_one(
            "SELECT refunded_cents = total_cents FROM reporting.order_balance WHERE order_id = $1",
            &[&order],
        )
        .await?;
    let complete: bool = balance.get(0);
    if complete {
        advance(&transaction, order, status, OrderStatus::Refunded).await?;
        crate::orders::release(&transaction, order).await?;
    }
    transaction.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": refund, "complete": complete })),
    ))
}
