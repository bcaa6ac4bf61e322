//! Products: create, import, read, search, change, archive.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use deadpool_postgres::{GenericClient, Pool};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::prices;
use crate::error::Error;
use crate::page::Page;
use crate::validate;

const COLUMNS: &str = "p.id, p.sku, p.name, p.description, p.category_id, p.brand_id, p.status::text,
    ARRAY(SELECT t.name FROM tags t JOIN product_tags pt ON pt.tag_id = t.id WHERE pt.product_id = p.id ORDER BY 1)";

#[derive(Serialize)]
pub(super) struct Product {
    id: i64,
    sku: String,
    name: String,
    description: String,
    category_id: i64,
    brand_id: Option<i64>,
    status: String,
    tags: Vec<String>,
}

impl Product {
    fn from_row(row: &Row) -> Self {
        Self {
            id: row.get(0),
            sku: row.get(1),
            name: row.get(2),
            description: row.get(3),
            category_id: row.get(4),
            brand_id: row.get(5),
            status: row.get(6),
            tags: row.get(7),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct NewProduct {
    sku: String,
    name: String,
    #[serde(default)]
    description: String,
    category_id: i64,
    brand_id: Option<i64>,
    /// The price in the shop's own currency, if it has one already.
    price_cents: Option<i64>,
}

pub(super) async fn create(
    State(pool): State<Pool>,
    Json(new): Json<NewProduct>,
) -> Result<(StatusCode, Json<Product>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let id = insert(&transaction, &new).await?;
    let product = fetch(&transaction, id).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(product)))
}

/// All of the list or nothing of it: a bad line undoes the good ones before it.
pub(super) async fn import(
    State(pool): State<Pool>,
    Json(list): Json<Vec<NewProduct>>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let mut ids = Vec::with_capacity(list.len());
    for new in &list {
        ids.push(insert(&transaction, new).await?);
    }
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(json!({ "ids": ids }))))
}

async fn insert(client: &impl GenericClient, new: &NewProduct) -> Result<i64, Error> {
    if !validate::is_sku(&new.sku) {
        return Err(Error::invalid(format!(
            "`{}` is not a stock-keeping unit",
            new.sku
        )));
    }
    let row = client
        .query_one(
            "INSERT INTO products (sku, name, description, category_id, brand_id) VALUES ($1, $2, $3, $4, $5)
             RETURNING id",
            &[&new.sku, &new.name, &new.description, &new.category_id, &new.brand_id],
        )
        .await?;
    let id = row.get(0);
    if let Some(cents) = new.price_cents {
        let currency = client
            .query_one(
                "SELECT value FROM settings WHERE key = 'shop.currency'",
                &[],
            )
            .await?;
        prices::store(client, id, currency.get(0), cents).await?;
    }
    Ok(id)
}

async fn fetch(client: &impl GenericClient, id: i64) -> Result<Product, Error> {
    let row = client
        .query_opt(
            &format!("SELECT {COLUMNS} FROM products p WHERE p.id = $1"),
            &[&id],
        )
        .await?
        .ok_or(Error::NotFound("product"))?;
    Ok(Product::from_row(&row))
}

pub(super) async fn read(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
) -> Result<Json<Product>, Error> {
    let client = pool.get().await?;
    fetch(&client, id).await.map(Json)
}

// Not flattened `Page`: serde's flatten turns numbers of a query string into text.
#[derive(Deserialize)]
pub(super) struct Filter {
    page: Option<i64>,
    per_page: Option<i64>,
    category: Option<String>,
    tag: Option<String>,
    /// The beginning of the name, in any case.
    q: Option<String>,
}

pub(super) async fn list(
    State(pool): State<Pool>,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, Error> {
    let page = Page {
        page: filter.page,
        per_page: filter.per_page,
    };
    let client = pool.get().await?;
    let from = "FROM products p
         WHERE p.status = 'active'
           AND ($1::text IS NULL OR p.category_id = (SELECT c.id FROM categories c WHERE c.slug = $1))
           AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM product_tags pt JOIN tags t ON t.id = pt.tag_id
                                            WHERE pt.product_id = p.id AND t.name = $2))
           AND ($3::text IS NULL OR starts_with(lower(p.name), lower($3)))";
    let total: i64 = client
        .query_one(
            &format!("SELECT count(*) {from}"),
            &[&filter.category, &filter.tag, &filter.q],
        )
        .await?
        .get(0);
    let rows = client
        .query(
            &format!("SELECT {COLUMNS} {from} ORDER BY p.name, p.id LIMIT $4 OFFSET $5"),
            &[
                &filter.category,
                &filter.tag,
                &filter.q,
                &page.limit(),
                &page.offset(),
            ],
        )
        .await?;
    let products: Vec<Product> = rows.iter().map(Product::from_row).collect();
    Ok(Json(
        json!({ "products": products, "total": total, "page": page.number(), "pages": page.pages(total) }),
    ))
}

#[derive(Deserialize)]
pub(super) struct Change {
    name: Option<String>,
    description: Option<String>,
    category_id: Option<i64>,
    status: Option<String>,
}

pub(super) async fn change(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Result<Json<Product>, Error> {
    if let Some(status) = change.status.as_deref()
        && !matches!(status, "draft" | "active" | "archived")
    {
        return Err(Error::invalid(format!(
            "`{status}` is not a product status"
        )));
    }
    let client = pool.get().await?;
    client
        .execute(
            "UPDATE products SET name = coalesce($2, name), description = coalesce($3, description),
                 category_id = coalesce($4, category_id), status = coalesce($5::text::product_status, status)
             WHERE id = $1",
            &[&id, &change.name, &change.description, &change.category_id, &change.status],
        )
        .await?;
    fetch(&client, id).await.map(Json)
}

/// What was ever sold stays for the books: a product is archived, and leaves all baskets.
pub(super) async fn archive(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let changed = transaction
        .execute(
            "UPDATE products SET status = 'archived' WHERE id = $1 AND status <> 'archived'",
            &[&id],
        )
        .await?;
    if changed == 0 {
        return Err(Error::NotFound("product"));
    }
    transaction
        .execute("DELETE FROM cart_items WHERE product_id = $1", &[&id])
        .await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
