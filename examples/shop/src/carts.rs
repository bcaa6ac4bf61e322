//! Baskets: what a customer means to buy, until the checkout turns it into an order.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::orders::place::{self, NewLine, NewOrder, Placed};

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/customers/{id}/cart", get(read))
        .route("/customers/{id}/cart/{product}", put(set))
        .route("/customers/{id}/cart/checkout", post(checkout))
}

#[derive(Deserialize)]
struct Quantity {
    quantity: i32,
}

/// Sets how many of a product are in the basket; none takes it out.
async fn set(
    State(pool): State<Pool>,
    Path((id, product)): Path<(i64, i64)>,
    Json(wanted): Json<Quantity>,
) -> Result<StatusCode, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let cart: i64 = transaction
        .query_one(
            "INSERT INTO carts (customer_id) VALUES ($1)
             ON CONFLICT (customer_id) DO UPDATE SET updated_at = now() RETURNING id",
            &[&id],
        )
        .await?
        .get(0);
    if wanted.quantity == 0 {
        transaction
            .execute(
                "DELETE FROM cart_items WHERE cart_id = $1 AND product_id = $2",
                &[&cart, &product],
            )
            .await?;
    } else {
        transaction
            .execute(
                "INSERT INTO cart_items (cart_id, product_id, quantity) VALUES ($1, $2, $3)
                 ON CONFLICT (cart_id, product_id) DO UPDATE SET quantity = EXCLUDED.quantity",
                &[&cart, &product, &wanted.quantity],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT i.product_id, i.quantity, pp.amount_cents
             FROM carts c
             JOIN cart_items i ON i.cart_id = c.id
             LEFT JOIN product_prices pp ON pp.product_id = i.product_id
                 AND pp.currency = (SELECT value FROM settings WHERE key = 'shop.currency')
             WHERE c.customer_id = $1 ORDER BY i.product_id",
            &[&id],
        )
        .await?;
    let mut total = 0;
    let items: Vec<Value> = rows
        .iter()
        .map(|row| {
            let (quantity, cents) = (row.get::<_, i32>(1), row.get::<_, Option<i64>>(2));
            total += i64::from(quantity) * cents.unwrap_or_default();
            json!({ "product_id": row.get::<_, i64>(0), "quantity": quantity, "price_cents": cents })
        })
        .collect();
    Ok(Json(json!({ "items": items, "total_cents": total })))
}

/// How the basket is to be ordered.
#[derive(Deserialize)]
struct Checkout {
    shipping_method: String,
    coupon: Option<String>,
}

/// The order and the emptied basket come together: an order that fails leaves the basket as it was.
async fn checkout(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(checkout): Json<Checkout>,
) -> Result<(StatusCode, Json<Placed>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let rows = transaction
        .query(
            "DELETE FROM cart_items USING carts WHERE cart_id = carts.id AND carts.customer_id = $1
             RETURNING product_id, quantity",
            &[&id],
        )
        .await?;
    let lines = rows
        .iter()
        .map(|row| NewLine {
            product_id: row.get(0),
            quantity: row.get(1),
        })
        .collect();
    let order = NewOrder {
        customer_id: id,
        currency: None,
        shipping_method: checkout.shipping_method,
        coupon: checkout.coupon,
        lines,
    };
    let placed = place::place(&transaction, order).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(placed)))
}
