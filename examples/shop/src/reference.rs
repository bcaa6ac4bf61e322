//! Countries, currencies, taxes, shipping methods, and the shop's settings.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::staff;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/countries", get(countries))
        .route("/currencies", get(currencies))
        .route("/tax-rates", get(tax_rates))
        .route("/shipping-methods", get(shipping_methods))
        .route("/settings", get(settings))
        .route("/settings/{key}", get(setting).put(change_setting))
}

#[derive(Deserialize)]
struct CountryFilter {
    eu: Option<bool>,
}

async fn countries(
    State(pool): State<Pool>,
    Query(filter): Query<CountryFilter>,
) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT code, name, is_eu FROM countries WHERE $1::boolean IS NULL OR is_eu = $1 ORDER BY code",
            &[&filter.eu],
        )
        .await?;
    let countries = rows.iter().map(
        |row| json!({ "code": row.get::<_, &str>(0), "name": row.get::<_, &str>(1), "eu": row.get::<_, bool>(2) }),
    );
    Ok(Json(countries.collect()))
}

async fn currencies(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT code, name, minor_units FROM currencies ORDER BY code",
            &[],
        )
        .await?;
    let currencies = rows.iter().map(|row| {
        json!({ "code": row.get::<_, &str>(0), "name": row.get::<_, &str>(1), "minor_units": row.get::<_, i16>(2) })
    });
    Ok(Json(currencies.collect()))
}

#[derive(Deserialize)]
struct TaxFilter {
    country: String,
}

async fn tax_rates(
    State(pool): State<Pool>,
    Query(filter): Query<TaxFilter>,
) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT id, kind, basis_points, percent::text FROM tax_rates WHERE country_code = $1 ORDER BY id",
            &[&filter.country],
        )
        .await?;
    if rows.is_empty() {
        return Err(Error::NotFound("tax rate"));
    }
    let rates = rows.iter().map(|row| {
        json!({
            "id": row.get::<_, i64>(0),
            "kind": row.get::<_, &str>(1),
            "basis_points": row.get::<_, i32>(2),
            "percent": row.get::<_, &str>(3),
        })
    });
    Ok(Json(rates.collect()))
}

async fn shipping_methods(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT id, code, price_cents FROM shipping_methods ORDER BY price_cents, id",
            &[],
        )
        .await?;
    let methods = rows.iter().map(|row| {
        json!({ "id": row.get::<_, i64>(0), "code": row.get::<_, &str>(1), "price_cents": row.get::<_, i64>(2) })
    });
    Ok(Json(methods.collect()))
}

async fn settings(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query("SELECT key, value FROM settings ORDER BY key", &[])
        .await?;
    let settings: serde_json::Map<String, Value> = rows
        .iter()
        .map(|row| (row.get(0), Value::String(row.get(1))))
        .collect();
    Ok(Json(Value::Object(settings)))
}

async fn setting(State(pool): State<Pool>, Path(key): Path<String>) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT value, version FROM settings WHERE key = $1",
            &[&key],
        )
        .await?
        .ok_or(Error::NotFound("setting"))?;
    Ok(Json(
        json!({ "value": row.get::<_, &str>(0), "version": row.get::<_, i32>(1) }),
    ))
}

/// A change names the version it was made from, so that two people cannot overwrite each other unseen.
#[derive(Deserialize)]
struct SettingChange {
    value: String,
    version: i32,
}

async fn change_setting(
    State(pool): State<Pool>,
    Path(key): Path<String>,
    headers: HeaderMap,
    Json(change): Json<SettingChange>,
) -> Result<Json<Value>, Error> {
    let client = pool.get().await?;
    staff::require(&client, &headers, "settings.write").await?;
    let changed = client
        .query_opt(
            "UPDATE settings SET value = $2, version = version + 1 WHERE key = $1 AND version = $3 RETURNING version",
            &[&key, &change.value, &change.version],
        )
        .await?;
    if let Some(row) = changed {
        return Ok(Json(
            json!({ "value": change.value, "version": row.get::<_, i32>(0) }),
        ));
    }
    match client
        .query_opt("SELECT 1 FROM settings WHERE key = $1", &[&key])
        .await?
    {
        Some(_) => Err(Error::conflict(format!(
            "setting `{key}` was changed by someone else"
        ))),
        None => Err(Error::NotFound("setting")),
    }
}
