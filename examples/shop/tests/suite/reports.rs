//! Reports, one of which a task spawned by the application fills.

use serde_json::{Value, json};

use crate::app::TestApp;

fn is_done(run: &Value) -> bool {
    run["status"] == "done"
}

#[dagz::test]
async fn paid_orders_are_sales(app: TestApp) {
    app.paid_order(2).await;
    app.post(
        "/stock/receipts",
        json!({ "warehouse_id": 1, "product_id": 1, "quantity": 1 }),
    )
    .await
    .expect(201);
    app.order(1, 1, 1).await.expect(201);
    let sales = app.get("/reports/sales").await.expect(200);
    assert_eq!(
        sales,
        json!([{ "country": "DE", "orders": 1, "total_cents": 2380 }])
    );
}

#[dagz::test]
async fn sales_are_in_the_shops_currency(app: TestApp) {
    app.paid_order(2).await;
    app.sql("UPDATE settings SET value = 'USD' WHERE key = 'shop.currency'")
        .await;
    assert_eq!(app.get("/reports/sales").await.expect(200), json!([]));
}

#[dagz::test]
async fn receivables_are_what_is_due(app: TestApp) {
    assert_eq!(
        app.get("/reports/receivables").await.expect(200),
        json!({ "orders": 0, "due_cents": 0 })
    );
    let product = app.product("P-1", 1000, 9).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 2).await.expect(201);
    app.order(customer, product, 1).await.expect(201);
    app.pay(1, 380).await.expect(201);
    assert_eq!(
        app.get("/reports/receivables").await.expect(200),
        json!({ "orders": 2, "due_cents": 3190 })
    );
}

#[dagz::test]
async fn the_first_run_is_number_one_and_gets_done(app: TestApp) {
    let started = app
        .post("/reports/best-sellers/refresh", json!({}))
        .await
        .expect(202);
    assert_eq!(started, json!({ "run_id": 1 }));
    app.until("/reports/runs/1", is_done).await;
    assert_eq!(
        app.get("/reports/best-sellers").await.expect(200),
        json!([])
    );
}

#[dagz::test]
async fn best_sellers_are_as_of_the_last_run(app: TestApp) {
    app.paid_order(2).await;
    assert_eq!(
        app.get("/reports/best-sellers").await.expect(200),
        json!([])
    );
    app.post("/reports/best-sellers/refresh", json!({}))
        .await
        .expect(202);
    app.until("/reports/runs/1", is_done).await;
    let sellers = app.get("/reports/best-sellers").await.expect(200);
    assert_eq!(
        sellers,
        json!([{ "sku": "ATLAS-1", "sold": 2, "revenue_cents": 2000 }])
    );
}

#[dagz::test]
async fn a_run_replaces_the_one_before(app: TestApp) {
    app.paid_order(2).await;
    app.post("/reports/best-sellers/refresh", json!({}))
        .await
        .expect(202);
    app.until("/reports/runs/1", is_done).await;
    app.post(
        "/payments/1/refunds",
        json!({ "amount_cents": 2380, "reason": "lost" }),
    )
    .await
    .expect(201);
    app.post("/reports/best-sellers/refresh", json!({}))
        .await
        .expect(202);
    app.until("/reports/runs/2", is_done).await;
    assert_eq!(
        app.get("/reports/best-sellers").await.expect(200),
        json!([])
    );
}

#[dagz::test]
async fn a_run_that_cannot_write_says_so(app: TestApp) {
    app.paid_order(1).await;
    // More pieces than the report's column can hold.
    app.sql(
        "INSERT INTO orders (customer_id, shipping_method_id, status, currency, subtotal_cents, discount_cents, tax_cents,
                             shipping_cents)
         VALUES (1, 1, 'paid', 'EUR', 0, 0, 0, 0);
         INSERT INTO order_lines (order_id, product_id, quantity, unit_cents) VALUES (2, 1, 2000000000, 1);
         UPDATE order_lines SET quantity = 2000000000, unit_cents = 1 WHERE order_id = 1",
    )
    .await;
    app.post("/reports/best-sellers/refresh", json!({}))
        .await
        .expect(202);
    app.until("/reports/runs/1", |run| run["status"] == "failed")
        .await;
}

#[dagz::test]
async fn an_unknown_run_is_not_found(app: TestApp) {
    assert_eq!(app.get("/reports/runs/1").await.error(404), "run not found");
}
