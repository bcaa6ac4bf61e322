//! A shop's orders.

use tokio_postgres::{Client, Error};

/// Places an order, and tells its number.
pub async fn place(db: &Client, item: &str) -> Result<i64, Error> {
    let sql = "INSERT INTO orders (item) VALUES ($1) RETURNING id";
    Ok(db.query_one(sql, &[&item]).await?.get(0))
}

/// What was ordered, by name.
pub async fn list(db: &Client) -> Result<Vec<String>, Error> {
    let rows = db.query("SELECT item FROM orders ORDER BY item", &[]);
    Ok(rows.await?.iter().map(|row| row.get(0)).collect())
}
