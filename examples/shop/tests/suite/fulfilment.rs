//! What becomes of orders: cancelled, sent, taken back.

use serde_json::{Value, json};

use crate::app::TestApp;

fn back(quantity: i32) -> Value {
    json!({ "reason": "too big", "lines": [{ "product_id": 1, "quantity": quantity }] })
}

#[dagz::test]
async fn a_cancelled_order_frees_its_stock(app: TestApp) {
    let product = app.product("P-1", 1000, 5).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 5).await.expect(201);
    app.order(customer, product, 1).await.error(409);
    app.post("/orders/1/cancel", json!({})).await.expect(204);
    assert_eq!(app.get("/stock/1").await.expect(200)["available"], 5);
    assert_eq!(
        app.get("/orders/1/history").await.expect(200),
        json!(["placed", "cancelled"])
    );
}

#[dagz::test]
async fn a_cancelled_order_gives_its_coupon_back(app: TestApp) {
    let product = app.product("P-1", 1000, 5).await;
    let customer = app.customer("ada@shop.example").await;
    app.post(
        "/coupons",
        json!({ "code": "TEN", "percent": 10, "uses": 1 }),
    )
    .await
    .expect(201);
    let lines = json!([{ "product_id": product, "quantity": 1 }]);
    let order = json!({ "customer_id": customer, "shipping_method": "pickup", "coupon": "TEN", "lines": lines });
    app.post("/orders", order.clone()).await.expect(201);
    app.post("/orders/1/cancel", json!({})).await.expect(204);
    app.post("/orders", order).await.expect(201);
}

#[dagz::test]
async fn a_paid_order_is_not_cancelled(app: TestApp) {
    app.paid_order(1).await;
    let error = app.post("/orders/1/cancel", json!({})).await.error(409);
    assert_eq!(error, "an order that is paid cannot become cancelled");
}

#[dagz::test]
async fn an_order_is_cancelled_once(app: TestApp) {
    let product = app.product("P-1", 1000, 5).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 5).await.expect(201);
    app.post("/orders/1/cancel", json!({})).await.expect(204);
    app.post("/orders/1/cancel", json!({})).await.error(409);
    assert_eq!(app.get("/stock/1").await.expect(200)["reserved"], 0);
}

#[dagz::test]
async fn an_unpaid_order_is_not_sent(app: TestApp) {
    let product = app.product("P-1", 1000, 5).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 1).await.expect(201);
    let error = app
        .post("/orders/1/ship", json!({ "tracking": "T-1" }))
        .await
        .error(409);
    assert_eq!(error, "an order that is placed cannot become shipped");
}

#[dagz::test]
async fn what_is_sent_leaves_the_warehouse(app: TestApp) {
    app.paid_order(3).await;
    let shipped = app
        .post("/orders/1/ship", json!({ "tracking": "T-1" }))
        .await
        .expect(201);
    assert_eq!(shipped, json!({ "shipment_id": 1, "lines": 1 }));
    let level = app.get("/stock/1").await.expect(200);
    assert_eq!(
        level,
        json!({ "on_hand": 0, "reserved": 0, "available": 0, "warehouses": 1 })
    );
    assert_eq!(
        app.get("/stock/1/movements").await.expect(200)[0]["kind"],
        "sale"
    );
}

#[dagz::test]
async fn a_tracking_number_is_used_once(app: TestApp) {
    app.shipped_order(1).await;
    app.post(
        "/stock/receipts",
        json!({ "warehouse_id": 1, "product_id": 1, "quantity": 1 }),
    )
    .await
    .expect(201);
    app.order(1, 1, 1).await.expect(201);
    app.pay(2, 1190).await.expect(201);
    let error = app
        .post("/orders/2/ship", json!({ "tracking": "T-1" }))
        .await
        .error(409);
    assert_eq!(error, "violates `shipments_tracking_key`");
    assert_eq!(app.get("/orders/2").await.expect(200)["status"], "paid");
}

#[dagz::test]
async fn a_part_can_come_back(app: TestApp) {
    app.shipped_order(3).await;
    let returned = app.post("/orders/1/returns", back(2)).await.expect(201);
    assert_eq!(returned, json!({ "return_id": 1, "outstanding": 1 }));
    assert_eq!(app.get("/orders/1").await.expect(200)["status"], "shipped");
    assert_eq!(app.get("/stock/1").await.expect(200)["available"], 2);
}

#[dagz::test]
async fn when_all_is_back_the_order_is_returned(app: TestApp) {
    app.shipped_order(3).await;
    app.post("/orders/1/returns", back(2)).await.expect(201);
    assert_eq!(
        app.post("/orders/1/returns", back(1)).await.expect(201)["outstanding"],
        0
    );
    let history = app.get("/orders/1/history").await.expect(200);
    assert_eq!(history, json!(["placed", "paid", "shipped", "returned"]));
}

#[dagz::test]
async fn no_more_comes_back_than_was_sent(app: TestApp) {
    app.shipped_order(3).await;
    app.post("/orders/1/returns", back(2)).await.expect(201);
    assert_eq!(
        app.post("/orders/1/returns", back(2)).await.error(422),
        "more of product 1 than was sent"
    );
    assert_eq!(app.value::<i64>("SELECT count(*) FROM returns").await, 1);
}

#[dagz::test]
async fn what_was_not_sent_does_not_come_back(app: TestApp) {
    app.paid_order(3).await;
    let error = app.post("/orders/1/returns", back(1)).await.error(409);
    assert_eq!(error, "nothing of an order that is paid can be returned");
    app.post("/orders/1/returns", json!({ "reason": "?", "lines": [] }))
        .await
        .error(422);
}
