//! What management reads: sales straight from the orders, best sellers from a table that a background run fills.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/reports/sales", get(sales))
        .route("/reports/receivables", get(receivables))
        .route("/reports/best-sellers", get(best_sellers))
        .route("/reports/best-sellers/refresh", post(refresh))
        .route("/reports/runs/{id}", get(run))
}

/// What was sold, by country, in one currency; given-up orders do not count.
async fn sales(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT c.country_code, count(*), sum(o.total_cents)::bigint
             FROM orders o JOIN customers c ON c.id = o.customer_id
             WHERE o.status IN ('paid', 'shipped') AND o.currency = (SELECT value FROM settings WHERE key = 'shop.currency')
             GROUP BY c.country_code ORDER BY 3 DESC, 1",
            &[],
        )
        .await?;
    let sales = rows.iter().map(|row| {
        json!({ "country": row.get::<_, &str>(0), "orders": row.get::<_, i64>(1), "total_cents": row.get::<_, i64>(2) })
    });
    Ok(Json(sales.collect()))
}

/// What customers still owe.
async fn receivables(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "SELECT count(*), coalesce(sum(b.due_cents), 0)::bigint
             FROM reporting.order_balance b JOIN orders o ON o.id = b.order_id
             WHERE o.status = 'placed' AND b.due_cents > 0",
            &[],
        )
        .await?;
    Ok(Json(
        json!({ "orders": row.get::<_, i64>(0), "due_cents": row.get::<_, i64>(1) }),
    ))
}

#[derive(Deserialize)]
struct Top {
    limit: Option<i64>,
}

async fn best_sellers(
    State(pool): State<Pool>,
    Query(top): Query<Top>,
) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT p.sku, s.sold, s.revenue_cents FROM reporting.product_sales s JOIN products p ON p.id = s.product_id
             ORDER BY s.revenue_cents DESC, p.id LIMIT $1",
            &[&top.limit.unwrap_or(10).clamp(1, 100)],
        )
        .await?;
    let sellers = rows.iter().map(|row| {
        json!({ "sku": row.get::<_, &str>(0), "sold": row.get::<_, i32>(1), "revenue_cents": row.get::<_, i64>(2) })
    });
    Ok(Json(sellers.collect()))
}

/// Starts a run and answers at once; the run's row says when it is done.
async fn refresh(State(pool): State<Pool>) -> Result<(StatusCode, Json<Value>), Error> {
    let id: i64 = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO reporting.runs DEFAULT VALUES RETURNING id",
            &[],
        )
        .await?
        .get(0);
    tokio::spawn(async move {
        if fill(&pool, id).await.is_err() {
            // The row is how anybody learns of it; if even this fails, the database is gone and the run stays `running`.
            if let Ok(client) = pool.get().await {
                let _ = client
                    .execute(
                        "UPDATE reporting.runs SET status = 'failed' WHERE id = $1",
                        &[&id],
                    )
                    .await;
            }
        }
    });
    Ok((StatusCode::ACCEPTED, Json(json!({ "run_id": id }))))
}

async fn fill(pool: &Pool, run: i64) -> Result<(), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .execute("DELETE FROM reporting.product_sales", &[])
        .await?;
    transaction
        .execute(
            "INSERT INTO reporting.product_sales (product_id, run_id, sold, revenue_cents)
             SELECT l.product_id, $1, sum(l.quantity)::int, sum(l.line_cents)::bigint
             FROM order_lines l JOIN orders o ON o.id = l.order_id
             WHERE o.status IN ('paid', 'shipped') GROUP BY l.product_id",
            &[&run],
        )
        .await?;
    transaction
        .execute(
            "UPDATE reporting.runs SET status = 'done' WHERE id = $1",
            &[&run],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

async fn run(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt("SELECT status FROM reporting.runs WHERE id = $1", &[&id])
        .await?
        .ok_or(Error::NotFound("run"))?;
    Ok(Json(json!({ "status": row.get::<_, &str>(0) })))
}
