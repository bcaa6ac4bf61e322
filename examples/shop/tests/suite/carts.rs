//! Baskets and the checkout.

use serde_json::json;

use crate::app::TestApp;

/// Customer 1 with two pieces of product 1, of which five are in stock, in the basket.
async fn filled(app: &TestApp) {
    app.customer("ada@shop.example").await;
    app.product("P-1", 1000, 5).await;
    app.put("/customers/1/cart/1", json!({ "quantity": 2 }))
        .await
        .expect(204);
}

#[dagz::test]
async fn a_basket_adds_up(app: TestApp) {
    filled(&app).await;
    app.product("P-2", 250, 5).await;
    app.put("/customers/1/cart/2", json!({ "quantity": 4 }))
        .await
        .expect(204);
    let cart = app.get("/customers/1/cart").await.expect(200);
    assert_eq!(cart["total_cents"], 3000);
    assert_eq!(
        cart["items"][1],
        json!({ "product_id": 2, "quantity": 4, "price_cents": 250 })
    );
}

#[dagz::test]
async fn a_quantity_is_set_not_added(app: TestApp) {
    filled(&app).await;
    app.put("/customers/1/cart/1", json!({ "quantity": 3 }))
        .await
        .expect(204);
    assert_eq!(
        app.get("/customers/1/cart").await.expect(200)["items"][0]["quantity"],
        3
    );
}

#[dagz::test]
async fn none_takes_a_product_out(app: TestApp) {
    filled(&app).await;
    app.put("/customers/1/cart/1", json!({ "quantity": 0 }))
        .await
        .expect(204);
    assert_eq!(
        app.get("/customers/1/cart").await.expect(200)["items"],
        json!([])
    );
}

#[dagz::test]
async fn less_than_none_breaks_the_check(app: TestApp) {
    filled(&app).await;
    let error = app
        .put("/customers/1/cart/1", json!({ "quantity": -1 }))
        .await
        .error(422);
    assert_eq!(error, "violates `cart_items_quantity_check`");
}

#[dagz::test]
async fn nobody_has_no_basket(app: TestApp) {
    app.product("P-1", 1000, 5).await;
    let error = app
        .put("/customers/1/cart/1", json!({ "quantity": 1 }))
        .await
        .error(422);
    assert_eq!(error, "violates `carts_customer_id_fkey`");
}

#[dagz::test]
async fn the_checkout_empties_the_basket(app: TestApp) {
    filled(&app).await;
    let placed = app
        .post(
            "/customers/1/cart/checkout",
            json!({ "shipping_method": "standard" }),
        )
        .await
        .expect(201);
    assert_eq!(
        (&placed["id"], &placed["total_cents"]),
        (&json!(1), &json!(2870))
    );
    assert_eq!(
        app.get("/customers/1/cart").await.expect(200)["items"],
        json!([])
    );
}

#[dagz::test]
async fn a_checkout_that_fails_keeps_the_basket(app: TestApp) {
    filled(&app).await;
    app.put("/customers/1/cart/1", json!({ "quantity": 6 }))
        .await
        .expect(204);
    let error = app
        .post(
            "/customers/1/cart/checkout",
            json!({ "shipping_method": "pickup" }),
        )
        .await
        .error(409);
    assert_eq!(error, "not enough stock of product 1");
    assert_eq!(
        app.get("/customers/1/cart").await.expect(200)["items"][0]["quantity"],
        6
    );
}

#[dagz::test]
async fn an_empty_basket_is_no_order(app: TestApp) {
    app.customer("ada@shop.example").await;
    let error = app
        .post(
            "/customers/1/cart/checkout",
            json!({ "shipping_method": "pickup" }),
        )
        .await
        .error(422);
    assert_eq!(error, "an order needs at least one line");
}
