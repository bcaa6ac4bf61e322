//! Placing an order: prices, discounts, taxes, and stock that nobody else may have, in one transaction.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use deadpool_postgres::{GenericClient, Pool};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::money;
use crate::order_state::OrderStatus;

/// What a client orders.
#[derive(Deserialize)]
pub(crate) struct NewOrder {
    pub(crate) customer_id: i64,
    /// The shop's own currency when absent.
    pub(crate) currency: Option<String>,
    pub(crate) shipping_method: String,
    pub(crate) coupon: Option<String>,
    pub(crate) lines: Vec<NewLine>,
}

/// One product of an order.
#[derive(Deserialize)]
pub(crate) struct NewLine {
    pub(crate) product_id: i64,
    pub(crate) quantity: i32,
}

/// What came of it.
#[derive(Serialize)]
pub(crate) struct Placed {
    id: i64,
    number: String,
    subtotal_cents: i64,
    discount_cents: i64,
    tax_cents: i64,
    shipping_cents: i64,
    total_cents: i64,
}

pub(super) async fn create(
    State(pool): State<Pool>,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<Placed>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let placed = place(&transaction, new).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(placed)))
}

/// Places an order inside the caller's transaction, which commits it.
pub(crate) async fn place(client: &impl GenericClient, new: NewOrder) -> Result<Placed, Error> {
    // By product id: two orders for the same products lock them in the same order, and lines for one product are one.
    let mut wanted = BTreeMap::new();
    for line in &new.lines {
        if line.quantity < 1 {
            return Err(Error::invalid("`quantity` must be at least 1"));
        }
        *wanted.entry(line.product_id).or_insert(0) += line.quantity;
    }
    if wanted.is_empty() {
        return Err(Error::invalid("an order needs at least one line"));
    }
    let currency = match new.currency {
        Some(currency) => currency,
        None => client
            .query_one(
                "SELECT value FROM settings WHERE key = 'shop.currency'",
                &[],
            )
            .await?
            .get(0),
    };
    let customer = client
        .query_opt(
            "SELECT t.discount_basis_points,
                    coalesce((SELECT r.basis_points FROM tax_rates r
                              WHERE r.country_code = c.country_code AND r.kind = 'standard'), 0)
             FROM customers c JOIN customer_tiers t ON t.id = c.tier_id WHERE c.id = $1",
            &[&new.customer_id],
        )
        .await?
        .ok_or(Error::NotFound("customer"))?;
    let shipping = client
        .query_opt(
            "SELECT id, price_cents FROM shipping_methods WHERE code = $1",
            &[&new.shipping_method],
        )
        .await?
        .ok_or_else(|| {
            Error::invalid(format!(
                "there is no shipping method `{}`",
                new.shipping_method
            ))
        })?;

    let mut priced = Vec::with_capacity(wanted.len());
    for (&product, &quantity) in &wanted {
        let unit = price(client, product, &currency).await?;
        priced.push((
            product,
            quantity,
            unit,
            reserve(client, product, quantity).await?,
        ));
    }
    let subtotal: i64 = priced
        .iter()
        .map(|&(_, quantity, unit, _)| i64::from(quantity) * unit)
        .sum();
    let coupon = match &new.coupon {
        Some(code) => Some(redeem(client, code).await?),
        None => None,
    };
    let by_tier = money::share(subtotal, customer.get(0));
    let by_coupon = coupon.map_or(0, |(_, percent)| {
        money::share(subtotal - by_tier, percent * 100)
    });
    let discount = by_tier + by_coupon;
    let tax = money::share(subtotal - discount, customer.get(1));

    let order = client
        .query_one(
            "INSERT INTO orders (customer_id, shipping_method_id, currency, subtotal_cents, discount_cents, tax_cents,
                                 shipping_cents)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id, number, total_cents",
            &[
                &new.customer_id,
                &shipping.get::<_, i64>(0),
                &currency,
                &subtotal,
                &discount,
                &tax,
                &shipping.get::<_, i64>(1),
            ],
        )
        .await?;
    let id: i64 = order.get(0);
    for (product, quantity, unit, warehouse) in priced {
        client
            .execute(
                "WITH line AS (
                     INSERT INTO order_lines (order_id, product_id, quantity, unit_cents) VALUES ($1, $2, $3, $4)
                 )
                 INSERT INTO reservations (order_id, product_id, quantity, warehouse_id) VALUES ($1, $2, $3, $5)",
                &[&id, &product, &quantity, &unit, &warehouse],
            )
            .await?;
    }
    if let Some((coupon, _)) = coupon {
        client
            .execute(
                "INSERT INTO coupon_redemptions (coupon_id, order_id) VALUES ($1, $2)",
                &[&coupon, &id],
            )
            .await?;
    }
    super::log(client, id, OrderStatus::Placed).await?;
    Ok(Placed {
        id,
        number: order.get(1),
        subtotal_cents: subtotal,
        discount_cents: discount,
        tax_cents: tax,
        shipping_cents: shipping.get(1),
        total_cents: order.get(2),
    })
}

async fn price(client: &impl GenericClient, product: i64, currency: &str) -> Result<i64, Error> {
    let row = client
        .query_opt(
            "SELECT p.status = 'active', pp.amount_cents FROM products p
             LEFT JOIN product_prices pp ON pp.product_id = p.id AND pp.currency = $2 WHERE p.id = $1",
            &[&product, &currency],
        )
        .await?
        .ok_or(Error::NotFound("product"))?;
    if !row.get::<_, bool>(0) {
        return Err(Error::conflict(format!(
            "product {product} is not for sale"
        )));
    }
    row.get::<_, Option<i64>>(1)
        .ok_or_else(|| Error::invalid(format!("product {product} has no price in {currency}")))
}

/// Sets stock aside in the first warehouse that has enough, and returns that warehouse.
///
/// The rows are locked before they are looked at: an order that waited for another sees what that one left.
async fn reserve(client: &impl GenericClient, product: i64, quantity: i32) -> Result<i64, Error> {
    let levels = client
        .query(
            "SELECT warehouse_id, available FROM stock_levels WHERE product_id = $1 ORDER BY warehouse_id FOR UPDATE",
            &[&product],
        )
        .await?;
    let warehouse = levels
        .iter()
        .find(|level| level.get::<_, i32>(1) >= quantity)
        .map(|level| level.get::<_, i64>(0))
        .ok_or_else(|| Error::conflict(format!("not enough stock of product {product}")))?;
    client
        .execute(
            "UPDATE stock_levels SET reserved = reserved + $3 WHERE warehouse_id = $1 AND product_id = $2",
            &[&warehouse, &product, &quantity],
        )
        .await?;
    Ok(warehouse)
}

/// Uses a coupon up once; returns its id and percentage.
async fn redeem(client: &impl GenericClient, code: &str) -> Result<(i64, i32), Error> {
    let used = client
        .query_opt(
            "UPDATE coupons SET uses_left = uses_left - 1 WHERE code = $1 AND uses_left > 0 RETURNING id, percent",
            &[&code],
        )
        .await?;
    match used {
        Some(row) => Ok((row.get(0), row.get(1))),
        None => match client
            .query_opt("SELECT 1 FROM coupons WHERE code = $1", &[&code])
            .await?
        {
            Some(_) => Err(Error::conflict(format!("coupon `{code}` is used up"))),
            None => Err(Error::invalid(format!("there is no coupon `{code}`"))),
        },
    }
}
