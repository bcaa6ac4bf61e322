//! Placing orders: what they cost, what they reserve, and what makes them fail.

use serde_json::{Value, json};

use crate::app::TestApp;

/// Customer 1, and product 1 for ten euros, of which `stock` are there.
async fn shop(app: &TestApp, stock: i32) {
    app.customer("ada@shop.example").await;
    app.product("P-1", 1000, stock).await;
}

fn order(lines: &Value, shipping: &str) -> Value {
    json!({ "customer_id": 1, "shipping_method": shipping, "lines": lines })
}

fn pieces(quantity: i32) -> Value {
    json!([{ "product_id": 1, "quantity": quantity }])
}

#[dagz::test]
async fn the_first_order_is_number_one(app: TestApp) {
    shop(&app, 5).await;
    let placed = app
        .post("/orders", order(&pieces(2), "standard"))
        .await
        .expect(201);
    let expected = json!({
        "id": 1, "number": "SO-000001", "subtotal_cents": 2000, "discount_cents": 0, "tax_cents": 380,
        "shipping_cents": 490, "total_cents": 2870,
    });
    assert_eq!(placed, expected);
}

#[dagz::test]
async fn an_order_reads_as_it_was_placed(app: TestApp) {
    shop(&app, 5).await;
    app.order(1, 1, 2).await.expect(201);
    let read = app.get("/orders/1").await.expect(200);
    assert_eq!(
        (&read["status"], &read["due_cents"], &read["paid_cents"]),
        (&json!("placed"), &json!(2380), &json!(0))
    );
    assert_eq!(
        read["lines"],
        json!([{ "product_id": 1, "quantity": 2, "line_cents": 2000 }])
    );
}

#[dagz::test]
async fn an_order_reserves_and_leaves_the_goods_there(app: TestApp) {
    shop(&app, 5).await;
    app.order(1, 1, 2).await.expect(201);
    let level = app.get("/stock/1").await.expect(200);
    assert_eq!(
        level,
        json!({ "on_hand": 5, "reserved": 2, "available": 3, "warehouses": 1 })
    );
}

#[dagz::test]
async fn what_is_not_there_is_not_ordered(app: TestApp) {
    shop(&app, 5).await;
    assert_eq!(
        app.order(1, 1, 6).await.error(409),
        "not enough stock of product 1"
    );
    assert_eq!(app.get("/stock/1").await.expect(200)["reserved"], 0);
    assert_eq!(app.get("/orders").await.expect(200)["total"], 0);
}

#[dagz::test]
async fn one_missing_product_undoes_the_whole_order(app: TestApp) {
    shop(&app, 5).await;
    app.product("P-2", 500, 1).await;
    let lines = json!([{ "product_id": 1, "quantity": 2 }, { "product_id": 2, "quantity": 2 }]);
    app.post("/orders", order(&lines, "pickup"))
        .await
        .error(409);
    assert_eq!(app.get("/stock/1").await.expect(200)["reserved"], 0);
}

#[dagz::test]
async fn lines_for_one_product_become_one(app: TestApp) {
    shop(&app, 5).await;
    let lines = json!([{ "product_id": 1, "quantity": 2 }, { "product_id": 1, "quantity": 1 }]);
    app.post("/orders", order(&lines, "pickup"))
        .await
        .expect(201);
    assert_eq!(
        app.get("/orders/1").await.expect(200)["lines"][0]["quantity"],
        3
    );
}

#[dagz::test]
async fn the_second_warehouse_helps_out(app: TestApp) {
    shop(&app, 1).await;
    app.post(
        "/stock/receipts",
        json!({ "warehouse_id": 2, "product_id": 1, "quantity": 4 }),
    )
    .await
    .expect(201);
    app.order(1, 1, 3).await.expect(201);
    assert_eq!(
        app.value::<i64>("SELECT warehouse_id FROM reservations WHERE order_id = 1")
            .await,
        2
    );
}

#[dagz::test]
async fn an_order_has_lines_with_pieces(app: TestApp) {
    shop(&app, 5).await;
    assert_eq!(
        app.post("/orders", order(&json!([]), "pickup"))
            .await
            .error(422),
        "an order needs at least one line"
    );
    assert_eq!(
        app.order(1, 1, 0).await.error(422),
        "`quantity` must be at least 1"
    );
}

#[dagz::test]
async fn nobody_cannot_order(app: TestApp) {
    shop(&app, 5).await;
    assert_eq!(app.order(2, 1, 1).await.error(404), "customer not found");
}

#[dagz::test]
async fn nothing_cannot_be_ordered(app: TestApp) {
    shop(&app, 5).await;
    assert_eq!(app.order(1, 2, 1).await.error(404), "product not found");
}

#[dagz::test]
async fn drafts_are_not_for_sale(app: TestApp) {
    shop(&app, 5).await;
    app.patch("/products/1", json!({ "status": "draft" }))
        .await
        .expect(200);
    assert_eq!(
        app.order(1, 1, 1).await.error(409),
        "product 1 is not for sale"
    );
}

#[dagz::test]
async fn a_product_needs_a_price_in_the_orders_currency(app: TestApp) {
    shop(&app, 5).await;
    let mut in_dollars = order(&pieces(1), "pickup");
    in_dollars["currency"] = json!("USD");
    assert_eq!(
        app.post("/orders", in_dollars.clone()).await.error(422),
        "product 1 has no price in USD"
    );
    app.put("/products/1/prices/USD", json!({ "amount_cents": 1100 }))
        .await
        .expect(201);
    assert_eq!(
        app.post("/orders", in_dollars).await.expect(201)["subtotal_cents"],
        1100
    );
}

#[dagz::test]
async fn a_shipping_method_must_exist(app: TestApp) {
    shop(&app, 5).await;
    let error = app
        .post("/orders", order(&pieces(1), "drone"))
        .await
        .error(422);
    assert_eq!(error, "there is no shipping method `drone`");
}

#[dagz::test]
async fn a_shipping_method_that_was_deleted_is_no_choice(app: TestApp) {
    shop(&app, 5).await;
    app.sql("DELETE FROM shipping_methods WHERE code = 'express'")
        .await;
    app.post("/orders", order(&pieces(1), "express"))
        .await
        .error(422);
}

#[dagz::test]
async fn gold_customers_pay_five_percent_less(app: TestApp) {
    shop(&app, 5).await;
    app.patch("/customers/1", json!({ "tier": "gold" }))
        .await
        .expect(204);
    let placed = app.order(1, 1, 2).await.expect(201);
    assert_eq!(
        (&placed["discount_cents"], &placed["tax_cents"]),
        (&json!(100), &json!(361))
    );
}

#[dagz::test]
async fn taxes_are_those_of_the_customers_country(app: TestApp) {
    shop(&app, 5).await;
    app.sql("UPDATE customers SET country_code = 'CH' WHERE id = 1")
        .await;
    assert_eq!(app.order(1, 1, 1).await.expect(201)["tax_cents"], 81);
}

#[dagz::test]
async fn a_country_without_a_rate_pays_no_tax(app: TestApp) {
    shop(&app, 5).await;
    app.sql("DELETE FROM tax_rates WHERE country_code = 'DE'")
        .await;
    assert_eq!(app.order(1, 1, 1).await.expect(201)["tax_cents"], 0);
}

#[dagz::test]
async fn a_coupon_comes_after_the_tier(app: TestApp) {
    shop(&app, 5).await;
    app.patch("/customers/1", json!({ "tier": "gold" }))
        .await
        .expect(204);
    app.post(
        "/coupons",
        json!({ "code": "TEN", "percent": 10, "uses": 1 }),
    )
    .await
    .expect(201);
    let mut with_coupon = order(&pieces(1), "pickup");
    with_coupon["coupon"] = json!("TEN");
    assert_eq!(
        app.post("/orders", with_coupon).await.expect(201)["discount_cents"],
        145
    );
}

#[dagz::test]
async fn a_coupon_is_used_up(app: TestApp) {
    shop(&app, 5).await;
    app.post(
        "/coupons",
        json!({ "code": "TEN", "percent": 10, "uses": 1 }),
    )
    .await
    .expect(201);
    let mut with_coupon = order(&pieces(1), "pickup");
    with_coupon["coupon"] = json!("TEN");
    app.post("/orders", with_coupon.clone()).await.expect(201);
    assert_eq!(
        app.post("/orders", with_coupon).await.error(409),
        "coupon `TEN` is used up"
    );
    assert_eq!(app.get("/stock/1").await.expect(200)["reserved"], 1);
}

#[dagz::test]
async fn a_made_up_coupon_is_refused(app: TestApp) {
    shop(&app, 5).await;
    let mut with_coupon = order(&pieces(1), "pickup");
    with_coupon["coupon"] = json!("FREE");
    assert_eq!(
        app.post("/orders", with_coupon).await.error(422),
        "there is no coupon `FREE`"
    );
}

#[dagz::test]
async fn a_coupon_gives_at_most_everything(app: TestApp) {
    let error = app
        .post(
            "/coupons",
            json!({ "code": "MORE", "percent": 101, "uses": 1 }),
        )
        .await
        .error(422);
    assert_eq!(error, "violates `coupons_percent_check`");
}

#[dagz::test]
async fn orders_are_listed_newest_first(app: TestApp) {
    shop(&app, 5).await;
    for _ in 0..3 {
        app.order(1, 1, 1).await.expect(201);
    }
    let list = app.get("/orders?per_page=2").await.expect(200);
    assert_eq!(list["total"], 3);
    assert_eq!(
        (&list["orders"][0]["id"], &list["orders"][1]["id"]),
        (&json!(3), &json!(2))
    );
}

#[dagz::test]
async fn orders_are_filtered_by_state_and_customer(app: TestApp) {
    shop(&app, 5).await;
    let other = app.customer("bob@shop.example").await;
    app.order(1, 1, 1).await.expect(201);
    app.order(other, 1, 1).await.expect(201);
    app.post("/orders/1/cancel", json!({})).await.expect(204);
    assert_eq!(
        app.get("/orders?status=placed").await.expect(200)["orders"][0]["id"],
        2
    );
    assert_eq!(app.get("/orders?customer=1").await.expect(200)["total"], 1);
    assert_eq!(
        app.get("/orders?status=lost").await.error(422),
        "`lost` is not an order status"
    );
}

#[dagz::test]
async fn an_order_that_was_never_placed_is_not_found(app: TestApp) {
    app.get("/orders/1").await.error(404);
    app.get("/orders/1/history").await.error(404);
}
