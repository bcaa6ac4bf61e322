//! What is sold: products ([`products`]), what they cost ([`prices`]), and what is said about them ([`extras`]).

mod extras;
mod prices;
mod products;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::validate;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/categories", get(categories).post(create_category))
        .route("/categories/{id}/path", get(category_path))
        .route("/brands", post(create_brand))
        .route("/products", get(products::list).post(products::create))
        .route("/products/import", post(products::import))
        .route(
            "/products/{id}",
            get(products::read)
                .patch(products::change)
                .delete(products::archive),
        )
        .route(
            "/products/{id}/prices/{currency}",
            put(prices::set).get(prices::read),
        )
        .route("/products/{id}/price-changes", get(prices::changes))
        .route(
            "/products/{id}/tags/{tag}",
            put(extras::tag).delete(extras::untag),
        )
        .route(
            "/products/{id}/images",
            post(extras::add_image).get(extras::images),
        )
        .route("/products/{id}/images/swap", post(extras::swap_images))
        .route(
            "/products/{id}/translations/{language}",
            put(extras::translate).get(extras::translation),
        )
        .route(
            "/products/{id}/reviews",
            post(extras::review).get(extras::reviews),
        )
}

/// Each category with the number of its products, those of its children included.
async fn categories(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "WITH RECURSIVE under (root, id) AS (
                 SELECT id, id FROM categories
                 UNION ALL
                 SELECT under.root, c.id FROM categories c JOIN under ON c.parent_id = under.id
             )
             SELECT c.id, c.slug, c.parent_id, count(p.id)
             FROM categories c
             JOIN under ON under.root = c.id
             LEFT JOIN products p ON p.category_id = under.id AND p.status = 'active'
             GROUP BY c.id ORDER BY c.id",
            &[],
        )
        .await?;
    let categories = rows.iter().map(|row| {
        json!({
            "id": row.get::<_, i64>(0),
            "slug": row.get::<_, &str>(1),
            "parent_id": row.get::<_, Option<i64>>(2),
            "products": row.get::<_, i64>(3),
        })
    });
    Ok(Json(categories.collect()))
}

#[derive(Deserialize)]
struct NewCategory {
    name: String,
    parent_id: Option<i64>,
}

async fn create_category(
    State(pool): State<Pool>,
    Json(new): Json<NewCategory>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let slug = validate::slug(&new.name);
    if slug.is_empty() {
        return Err(Error::invalid("`name` needs a letter or a digit"));
    }
    let row = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO categories (parent_id, slug, name) VALUES ($1, $2, $3) RETURNING id",
            &[&new.parent_id, &slug, &new.name],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0), "slug": slug })),
    ))
}

/// The slugs from the root to a category, as a breadcrumb shows them.
async fn category_path(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "WITH RECURSIVE up (id, parent_id, slug, depth) AS (
                 SELECT id, parent_id, slug, 0 FROM categories WHERE id = $1
                 UNION ALL
                 SELECT c.id, c.parent_id, c.slug, up.depth + 1 FROM categories c JOIN up ON c.id = up.parent_id
             )
             SELECT array_agg(slug ORDER BY depth DESC) FROM up",
            &[&id],
        )
        .await?;
    let path: Option<Vec<String>> = row.get(0);
    path.map(|path| Json(json!(path)))
        .ok_or(Error::NotFound("category"))
}

#[derive(Deserialize)]
struct NewBrand {
    name: String,
}

async fn create_brand(
    State(pool): State<Pool>,
    Json(new): Json<NewBrand>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO brands (name) VALUES ($1) RETURNING id",
            &[&new.name],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0), "name": new.name })),
    ))
}
