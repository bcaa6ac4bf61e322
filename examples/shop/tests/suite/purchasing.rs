//! Suppliers and purchase orders.

use serde_json::json;

use crate::app::TestApp;

/// Supplier 1, products 1 and 2, and purchase order 1 for ten and twenty of them.
async fn purchase(app: &TestApp) {
    app.post("/suppliers", json!({ "name": "Mercator", "country": "BE" }))
        .await
        .expect(201);
    app.product("P-1", 100, 0).await;
    app.product("P-2", 100, 0).await;
    let lines = json!([
        { "product_id": 1, "quantity": 10, "cost_cents": 60 },
        { "product_id": 2, "quantity": 20, "cost_cents": 40 },
    ]);
    let order = json!({ "supplier_id": 1, "warehouse_id": 2, "lines": lines });
    assert_eq!(
        app.post("/purchase-orders", order).await.expect(201)["id"],
        1
    );
}

#[dagz::test]
async fn a_purchase_knows_its_cost(app: TestApp) {
    purchase(&app).await;
    let order = app.get("/purchase-orders/1").await.expect(200);
    assert_eq!(
        order,
        json!({ "supplier": "Mercator", "received": false, "cost_cents": 1400 })
    );
}

#[dagz::test]
async fn goods_are_received_into_their_warehouse(app: TestApp) {
    purchase(&app).await;
    assert_eq!(
        app.post("/purchase-orders/1/receive", json!({}))
            .await
            .expect(200)["pieces"],
        30
    );
    assert_eq!(app.get("/warehouses").await.expect(200)[1]["on_hand"], 30);
    assert_eq!(app.get("/stock/2").await.expect(200)["on_hand"], 20);
}

#[dagz::test]
async fn goods_are_received_once(app: TestApp) {
    purchase(&app).await;
    app.post("/purchase-orders/1/receive", json!({}))
        .await
        .expect(200);
    let error = app
        .post("/purchase-orders/1/receive", json!({}))
        .await
        .error(409);
    assert_eq!(error, "the purchase order was received already");
    assert_eq!(app.get("/stock/1").await.expect(200)["on_hand"], 10);
}

#[dagz::test]
async fn a_purchase_of_one_product_twice_is_refused_whole(app: TestApp) {
    purchase(&app).await;
    let line = json!({ "product_id": 1, "quantity": 1, "cost_cents": 60 });
    let order = json!({ "supplier_id": 1, "warehouse_id": 1, "lines": [line, line] });
    assert_eq!(
        app.post("/purchase-orders", order).await.error(409),
        "violates `purchase_order_lines_pkey`"
    );
    assert_eq!(
        app.value::<i64>("SELECT count(*) FROM purchase_orders")
            .await,
        1
    );
}

#[dagz::test]
async fn a_purchase_needs_a_line_and_a_supplier(app: TestApp) {
    app.post(
        "/purchase-orders",
        json!({ "supplier_id": 1, "warehouse_id": 1, "lines": [] }),
    )
    .await
    .error(422);
    let lines = json!([{ "product_id": 1, "quantity": 1, "cost_cents": 60 }]);
    let order = json!({ "supplier_id": 1, "warehouse_id": 1, "lines": lines });
    let error = app.post("/purchase-orders", order).await.error(422);
    assert_eq!(error, "violates `purchase_orders_supplier_id_fkey`");
}

#[dagz::test]
async fn an_unknown_purchase_is_not_received(app: TestApp) {
    assert_eq!(
        app.post("/purchase-orders/1/receive", json!({}))
            .await
            .error(404),
        "purchase order not found"
    );
}

#[dagz::test]
async fn a_supplier_is_known_by_one_name(app: TestApp) {
    let supplier = json!({ "name": "Mercator", "country": "BE" });
    app.post("/suppliers", supplier.clone()).await.expect(201);
    app.post("/suppliers", supplier).await.error(409);
}
