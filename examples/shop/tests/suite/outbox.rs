//! The outbox and the background task that empties it.

use std::time::Duration;

use serde_json::{Value, json};
use shop::outbox::{Dispatcher, dispatch};

use crate::app::TestApp;

const SOON: Duration = Duration::from_millis(5);

async fn subscribe(app: &TestApp, topic: &str) -> Value {
    app.post(
        "/webhooks",
        json!({ "topic": topic, "url": "https://partner.example" }),
    )
    .await
    .expect(201)["id"]
        .clone()
}

fn is_empty(body: &Value) -> bool {
    body == &json!([])
}

#[dagz::test]
async fn what_happens_waits_in_the_outbox(app: TestApp) {
    app.paid_order(1).await;
    assert_eq!(
        app.get("/outbox").await.expect(200),
        json!(["order.placed", "order.paid"])
    );
}

#[dagz::test]
async fn an_order_that_fails_says_nothing(app: TestApp) {
    let product = app.product("P-1", 1000, 1).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 2).await.error(409);
    assert_eq!(app.get("/outbox").await.expect(200), json!([]));
}

#[dagz::test]
async fn the_task_empties_the_outbox(app: TestApp) {
    let dispatcher = Dispatcher::start(app.pool.clone(), SOON);
    app.post(
        "/customers",
        json!({ "email": "ada@shop.example", "name": "Ada", "country": "DE" }),
    )
    .await
    .expect(201);
    app.until("/outbox", is_empty).await;
    assert_eq!(dispatcher.stop().await.unwrap(), 1);
}

#[dagz::test]
async fn subscribers_get_their_topics(app: TestApp) {
    let paid = subscribe(&app, "order.paid").await;
    let shipped = subscribe(&app, "order.shipped").await;
    app.paid_order(1).await;
    assert_eq!(dispatch(&app.pool).await.unwrap(), 2);
    assert_eq!(
        app.get(&format!("/webhooks/{paid}/deliveries"))
            .await
            .expect(200),
        json!(["order.paid"])
    );
    assert_eq!(
        app.get(&format!("/webhooks/{shipped}/deliveries"))
            .await
            .expect(200),
        json!([])
    );
}

#[dagz::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tasks_hand_each_event_on_once(app: TestApp) {
    let webhook = subscribe(&app, "order.placed").await;
    app.sql("INSERT INTO outbox (topic, payload) SELECT 'order.placed', '{}' FROM generate_series(1, 120)").await;
    let first = Dispatcher::start(app.pool.clone(), SOON);
    let second = Dispatcher::start(app.pool.clone(), SOON);
    app.until("/outbox", is_empty).await;
    assert_eq!(
        first.stop().await.unwrap() + second.stop().await.unwrap(),
        120
    );
    let delivered = app
        .get(&format!("/webhooks/{webhook}/deliveries"))
        .await
        .expect(200);
    assert_eq!(delivered.as_array().unwrap().len(), 120);
}

#[dagz::test]
async fn events_that_another_holds_are_skipped(app: TestApp) {
    app.sql("INSERT INTO outbox (topic, payload) SELECT 'order.placed', '{}' FROM generate_series(1, 3)").await;
    let mut holder = app.connect().await;
    let held = holder.transaction().await.unwrap();
    held.execute("SELECT 1 FROM outbox WHERE id = 2 FOR UPDATE", &[])
        .await
        .unwrap();
    assert_eq!(dispatch(&app.pool).await.unwrap(), 2);
    held.rollback().await.unwrap();
    assert_eq!(dispatch(&app.pool).await.unwrap(), 1);
}

#[dagz::test]
async fn a_task_that_is_dropped_hands_nothing_on(app: TestApp) {
    drop(Dispatcher::start(app.pool.clone(), SOON));
    app.sql("INSERT INTO outbox (topic, payload) VALUES ('order.placed', '{}')")
        .await;
    tokio::time::sleep(SOON * 4).await;
    assert_eq!(
        app.get("/outbox").await.expect(200),
        json!(["order.placed"])
    );
}

#[dagz::test]
async fn a_subscription_is_made_once(app: TestApp) {
    subscribe(&app, "order.paid").await;
    let again = json!({ "topic": "order.paid", "url": "https://partner.example" });
    assert_eq!(
        app.post("/webhooks", again).await.error(409),
        "violates `webhooks_topic_url_key`"
    );
}
