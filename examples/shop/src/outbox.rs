//! The outbox: what happened is written with the change itself, and a background task hands it on.
//!
//! [`Dispatcher`] is that task. Several instances may run one: rows are claimed with `SKIP LOCKED`.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::{GenericClient, Pool};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::Error;

/// Most events handed on in one transaction.
const BATCH: i64 = 50;

pub(crate) fn routes() -> Router<Pool> {
    Router::new()
        .route("/webhooks", post(subscribe))
        .route("/webhooks/{id}/deliveries", get(deliveries))
        .route("/outbox", get(waiting))
}

/// Puts an event into the outbox, in the caller's transaction.
pub(crate) async fn enqueue(
    client: &impl GenericClient,
    topic: &str,
    payload: &Value,
) -> Result<(), Error> {
    client
        .execute(
            "INSERT INTO outbox (topic, payload) VALUES ($1, $2::text::jsonb)",
            &[&topic, &payload.to_string()],
        )
        .await?;
    Ok(())
}

#[derive(Deserialize)]
struct Subscription {
    topic: String,
    url: String,
}

async fn subscribe(
    State(pool): State<Pool>,
    Json(new): Json<Subscription>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let row = pool
        .get()
        .await?
        .query_one(
            "INSERT INTO webhooks (topic, url) VALUES ($1, $2) RETURNING id",
            &[&new.topic, &new.url],
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": row.get::<_, i64>(0) })),
    ))
}

async fn deliveries(State(pool): State<Pool>, Path(id): Path<i64>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT o.topic FROM deliveries d JOIN outbox o ON o.id = d.outbox_id WHERE d.webhook_id = $1
             ORDER BY d.outbox_id",
            &[&id],
        )
        .await?;
    Ok(Json(
        rows.iter().map(|row| Value::String(row.get(0))).collect(),
    ))
}

async fn waiting(State(pool): State<Pool>) -> Result<Json<Value>, Error> {
    let rows = pool
        .get()
        .await?
        .query(
            "SELECT topic FROM outbox WHERE dispatched_at IS NULL ORDER BY id",
            &[],
        )
        .await?;
    Ok(Json(
        rows.iter().map(|row| Value::String(row.get(0))).collect(),
    ))
}

/// Hands one batch of events on and returns how many there were.
///
/// # Errors
/// When the database refuses or gives no connection; the batch then stays in the outbox.
pub async fn dispatch(pool: &Pool) -> Result<u64, Error> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let claimed: Vec<i64> = transaction
        .query(
            "SELECT id FROM outbox WHERE dispatched_at IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
            &[&BATCH],
        )
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if claimed.is_empty() {
        return Ok(0);
    }
    transaction
        .execute(
            "INSERT INTO deliveries (outbox_id, webhook_id)
             SELECT o.id, w.id FROM outbox o JOIN webhooks w ON w.topic = o.topic WHERE o.id = ANY($1)
             ORDER BY o.id, w.id",
            &[&claimed],
        )
        .await?;
    let done = transaction
        .execute(
            "UPDATE outbox SET dispatched_at = now() WHERE id = ANY($1)",
            &[&claimed],
        )
        .await?;
    transaction.commit().await?;
    Ok(done)
}

/// The background task that empties the outbox until it is stopped. Dropping it ends the task at its next await.
#[derive(Debug)]
pub struct Dispatcher {
    stop: watch::Sender<bool>,
    task: JoinHandle<u64>,
}

impl Dispatcher {
    /// Starts the task on the current tokio runtime; it looks for events every `interval`.
    ///
    /// A batch that fails is tried again at the next look, since the database may be back by then.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(pool: Pool, interval: Duration) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut handed_on = 0;
            loop {
                handed_on += dispatch(&pool).await.unwrap_or(0);
                let stopping = tokio::time::timeout(interval, stopped.wait_for(|&stop| stop)).await;
                if stopping.is_ok() {
                    return handed_on;
                }
            }
        });
        Self { stop, task }
    }

    /// Lets the batch in hand finish, ends the task, and returns how many events it handed on in its life.
    ///
    /// # Errors
    /// When the task panicked.
    pub async fn stop(mut self) -> Result<u64, tokio::task::JoinError> {
        self.stop.send_replace(true);
        (&mut self.task).await
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
