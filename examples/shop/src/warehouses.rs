//! Warehouses and their bins.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/warehouses", get(warehouses).post(create_warehouse))
        .route("/warehouses/{id}/bins", post(create_bin))
}

async fn warehouses(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT w.id, w.code, coalesce(sum(s.on_hand), 0)::bigint FROM warehouses w
             LEFT JOIN stock_levels s ON s.warehouse_id = w.id GROUP BY w.id ORDER BY w.id",
            &[],
        )
        .await?;
    let warehouses = rows.iter().map(
        |row| json!({ "id": row.get::<_, i64>(0), "code": row.get::<_, &str>(1), "on_hand": row.get::<_, i64>(2) }),
    );
    Ok(Json(warehouses.collect()))
}

#[derive(Deserialize)]
struct NewWarehouse {
    code: String,
    name: String,
}

async fn create_warehouse(
    State(pool): State<Pool>,
    Json(new): Json<NewWarehouse>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO warehouses (code, name) VALUES ($1, $2) RETURNING id",
            &[&new.code, &new.name],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0) })),
    ))
}

#[derive(Deserialize)]
struct NewBin {
    code: String,
}

async fn create_bin(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewBin>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO bins (warehouse_id, code) VALUES ($1, $2) RETURNING id",
            &[&id, &new.code],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0) })),
    ))
}
