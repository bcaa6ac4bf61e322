//! Customers, and what is known of them. Their addresses and wishes are in `addresses.rs` and `wishlists.rs`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::validate;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/customers", post(register))
        .route("/customers/{id}", get(read).patch(change).delete(erase))
        .route("/customers/{id}/notes", post(add_note))
        .route("/customers/{id}/loyalty", get(loyalty))
}

#[derive(Deserialize)]
struct NewCustomer {
    email: String,
    name: String,
    country: String,
}

async fn register(
    State(pool): State<Pool>,
    Json(new): Json<NewCustomer>,
) -> Result<(StatusCode, Json<Value>), Error> {
    if !validate::is_email(&new.email) {
        return Err(Error::invalid("`email` is not an address"));
    }
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let row = transaction
        .query_one(
            "INSERT INTO customers (email, name, country_code) VALUES ($1, $2, $3) RETURNING id",
            &[&new.email, &new.name, &new.country],
        )
        .await?;
    let id: i64 = row.get(0);
    crate::outbox::enqueue(
        &transaction,
        "customer.registered",
        &json!({ "customer_id": id }),
    )
    .await?;
    transaction.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": id, "email": new.email })),
    ))
}

async fn read(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT c.email, c.name, t.name, c.country_code,
                    (SELECT count(*) FROM customer_notes n WHERE n.customer_id = c.id)
             FROM customers c JOIN customer_tiers t ON t.id = c.tier_id WHERE c.id = $1",
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("customer"))?;
    Ok(Json(json!({
        "id": id,
        "email": row.get::<_, &str>(0),
        "name": row.get::<_, &str>(1),
        "tier": row.get::<_, &str>(2),
        "country": row.get::<_, &str>(3),
        "notes": row.get::<_, i64>(4),
    })))
}

#[derive(Deserialize)]
struct Change {
    name: Option<String>,
    tier: Option<String>,
}

async fn change(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<StatusCode, Error> {
    let client = pool.get().await?;
    let tier: Option<i64> = match &change.tier {
        Some(name) => Some(
            client
                .query_opt("SELECT id FROM customer_tiers WHERE name = $1", &[name])
                .await?
                .ok_or_else(|| Error::invalid(format!("there is no tier `{name}`")))?
                .get(0),
        ),
        None => None,
    };
    let changed = client
        .execute(
            "UPDATE customers SET name = coalesce($2, name), tier_id = coalesce($3, tier_id) WHERE id = $1",
            &[&id, &change.name, &tier],
        )
        .await?;
    if changed == 0 {
        Err(Error::NotFound("customer"))
    } else {
        Ok(StatusCode::NO_CONTENT)
    }
}

/// Erases everything about a customer who never ordered; the books forbid it for others.
async fn erase(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<StatusCode, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    if transaction
        .query_opt(
            "SELECT 1 FROM orders WHERE customer_id = $1 LIMIT 1",
            &[&id],
        )
        .await?
        .is_some()
    {
        return Err(Error::conflict("a customer with orders cannot be erased"));
    }
    if transaction
        .execute("DELETE FROM customers WHERE id = $1", &[&id])
        .await?
        == 0
    {
        return Err(Error::NotFound("customer"));
    }
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct NewNote {
    body: String,
}

async fn add_note(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewNote>,
) -> Result<StatusCode, Error> {
    let client = pool.get().await?;
    client
        .execute(
            "INSERT INTO customer_notes (customer_id, body) VALUES ($1, $2)",
            &[&id, &new.body],
        )
        .await?;
    Ok(StatusCode::CREATED)
}

async fn loyalty(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "SELECT coalesce(sum(points), 0)::bigint, count(*) FROM loyalty_entries WHERE customer_id = $1",
            &[&id],
        )
        .await?;
    Ok(Json(
        json!({ "points": row.get::<_, i64>(0), "entries": row.get::<_, i64>(1) }),
    ))
}
