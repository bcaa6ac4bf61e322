//! What is said about products: tags, images, translations, reviews.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;

/// A tag that nobody used yet comes into being.
pub(super) async fn tag(
    State(pool): State<Pool>,
    Path((id, tag)): Path<(i64, String)>,
) -> Result<StatusCode, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .execute(
            "INSERT INTO tags (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
            &[&tag],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO product_tags (product_id, tag_id) SELECT $1, id FROM tags WHERE name = $2
             ON CONFLICT DO NOTHING",
            &[&id, &tag],
        )
        .await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn untag(
    State(pool): State<Pool>,
    Path((id, tag)): Path<(i64, String)>,
) -> Result<StatusCode, Error> {
    let removed = pool
        .get()
        .await?
        .execute(
            "DELETE FROM product_tags USING tags WHERE product_id = $1 AND tag_id = tags.id AND tags.name = $2",
            &[&id, &tag],
        )
        .await?;
    if removed == 0 {
        Err(Error::NotFound("tag"))
    } else {
        Ok(StatusCode::NO_CONTENT)
    }
}

#[derive(Deserialize)]
pub(super) struct NewImage {
    url: String,
}

/// The new image comes last; the product's row is locked, so that two at once do not both take the same place.
pub(super) async fn add_image(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewImage>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .query_opt("SELECT 1 FROM products WHERE id = $1 FOR UPDATE", &[&id])
        .await?
        .ok_or(Error::NotFound("product"))?;
    let row = transaction
        .query_one(
            "INSERT INTO product_images (product_id, url, position)
             SELECT $1, $2, coalesce(max(position), 0) + 1 FROM product_images WHERE product_id = $1
             RETURNING id, position",
            &[&id, &new.url],
        )
        .await?;
    transaction.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0), "position": row.get::<_, i32>(1) })),
    ))
}

pub(super) async fn images(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT url FROM product_images WHERE product_id = $1 ORDER BY position",
            &[&id],
        )
        .await?;
    Ok(Json(
        rows.iter().map(|row| Value::String(row.get(0))).collect(),
    ))
}

#[derive(Deserialize)]
pub(super) struct Swap {
    first: i32,
    second: i32,
}

/// Two updates that would collide one after the other; the constraint is checked at the end.
pub(super) async fn swap_images(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(swap): Json<Swap>,
) -> Result<StatusCode, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let statement = "UPDATE product_images SET position = $3 WHERE product_id = $1 AND id =
        (SELECT id FROM product_images WHERE product_id = $1 AND position = $2 ORDER BY id LIMIT 1)";
    let row = transaction
        .query_opt(
            "SELECT id FROM product_images WHERE product_id = $1 AND position = $2",
            &[&id, &swap.second],
        )
        .await?
        .ok_or(Error::NotFound("image"))?;
    let second: i64 = row.get(0);
    if transaction
        .execute(statement, &[&id, &swap.first, &swap.second])
        .await?
        == 0
    {
        return Err(Error::NotFound("image"));
    }
    transaction
        .execute(
            "UPDATE product_images SET position = $2 WHERE id = $1",
            &[&second, &swap.first],
        )
        .await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct Translation {
    name: String,
}

pub(super) async fn translate(
    State(pool): State<Pool>,
    Path((id, language)): Path<(i64, String)>,
    Json(translation): Json<Translation>,
) -> Result<StatusCode, Error> {
    pool.get()
        .await?
        .execute(
            "INSERT INTO product_translations (product_id, language_code, name) VALUES ($1, $2, $3)
             ON CONFLICT (product_id, language_code) DO UPDATE SET name = EXCLUDED.name",
            &[&id, &language, &translation.name],
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The name in a language, or the product's own where there is none.
pub(super) async fn translation(
    State(pool): State<Pool>,
    Path((id, language)): Path<(i64, String)>,
) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_opt(
            "SELECT coalesce(t.name, p.name), t.name IS NOT NULL FROM products p
             LEFT JOIN product_translations t ON t.product_id = p.id AND t.language_code = $2
             WHERE p.id = $1",
            &[&id, &language],
        )
        .await?
        .ok_or(Error::NotFound("product"))?;
    Ok(Json(
        json!({ "name": row.get::<_, &str>(0), "translated": row.get::<_, bool>(1) }),
    ))
}

#[derive(Deserialize)]
pub(super) struct NewReview {
    customer_id: i64,
    rating: i16,
    #[serde(default)]
    body: String,
}

/// Only those who were sent the product may say what it is like.
pub(super) async fn review(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
    Json(new): Json<NewReview>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let client = pool.get().await?;
    let bought = client
        .query_opt(
            "SELECT 1 FROM order_lines l JOIN orders o ON o.id = l.order_id
             WHERE l.product_id = $1 AND o.customer_id = $2 AND o.status IN ('shipped', 'returned') LIMIT 1",
            &[&id, &new.customer_id],
        )
        .await?;
    if bought.is_none() {
        return Err(Error::conflict(
            "only customers who received the product may review it",
        ));
    }
    let row = client
        .query_one(
            "INSERT INTO reviews (product_id, customer_id, rating, body) VALUES ($1, $2, $3, $4) RETURNING id",
            &[&id, &new.customer_id, &new.rating, &new.body],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0) })),
    ))
}

pub(super) async fn reviews(
    State(pool): State<Pool>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "SELECT count(*), round(avg(rating), 1)::float8 FROM reviews WHERE product_id = $1",
            &[&id],
        )
        .await?;
    Ok(Json(
        json!({ "count": row.get::<_, i64>(0), "average": row.get::<_, Option<f64>>(1) }),
    ))
}
