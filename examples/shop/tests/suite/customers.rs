//! Customers, addresses, wishes, tiers.

use serde_json::{Value, json};

use crate::app::TestApp;

fn ada() -> Value {
    json!({ "email": "ada@shop.example", "name": "Ada", "country": "DE" })
}

fn address(city: &str, default: bool) -> Value {
    json!({ "line": "Ring 1", "city": city, "postcode": "1000", "country": "DE", "default": default })
}

#[dagz::test]
async fn the_first_customer_is_number_one_and_basic(app: TestApp) {
    app.post("/customers", ada()).await.expect(201);
    let customer = app.get("/customers/1").await.expect(200);
    let expected = json!({
        "id": 1, "email": "ada@shop.example", "name": "Ada", "tier": "basic", "country": "DE", "notes": 0,
    });
    assert_eq!(customer, expected);
}

#[dagz::test]
async fn the_same_address_registers_once(app: TestApp) {
    app.post("/customers", ada()).await.expect(201);
    let again = json!({ "email": "Ada@Shop.Example", "name": "Ada", "country": "FR" });
    assert_eq!(
        app.post("/customers", again).await.error(409),
        "violates `customers_email`"
    );
}

#[dagz::test]
async fn a_refused_registration_announces_nothing(app: TestApp) {
    let nowhere = json!({ "email": "ada@shop.example", "name": "Ada", "country": "XX" });
    assert_eq!(
        app.post("/customers", nowhere).await.error(422),
        "violates `customers_country_code_fkey`"
    );
    assert_eq!(app.get("/outbox").await.expect(200), json!([]));
}

#[dagz::test]
async fn an_address_without_a_domain_is_refused(app: TestApp) {
    let new = json!({ "email": "ada@localhost", "name": "Ada", "country": "DE" });
    assert_eq!(
        app.post("/customers", new).await.error(422),
        "`email` is not an address"
    );
}

#[dagz::test]
async fn customers_rise_by_tier(app: TestApp) {
    app.post("/customers", ada()).await.expect(201);
    app.patch("/customers/1", json!({ "tier": "gold" }))
        .await
        .expect(204);
    assert_eq!(app.get("/customers/1").await.expect(200)["tier"], "gold");
    let error = app
        .patch("/customers/1", json!({ "tier": "platinum" }))
        .await
        .error(422);
    assert_eq!(error, "there is no tier `platinum`");
}

#[dagz::test]
async fn nobody_is_nobody(app: TestApp) {
    app.get("/customers/1").await.error(404);
    app.patch("/customers/1", json!({ "name": "Eve" }))
        .await
        .error(404);
    app.delete("/customers/1").await.error(404);
}

#[dagz::test]
async fn erasing_takes_everything_along(app: TestApp) {
    app.post("/customers", ada()).await.expect(201);
    app.post("/customers/1/addresses", address("Berlin", false))
        .await
        .expect(201);
    app.post("/customers/1/notes", json!({ "body": "likes maps" }))
        .await
        .expect(201);
    assert_eq!(app.get("/customers/1").await.expect(200)["notes"], 1);
    app.delete("/customers/1").await.expect(204);
    let left = "SELECT (SELECT count(*) FROM addresses) + (SELECT count(*) FROM customer_notes)";
    assert_eq!(app.value::<i64>(left).await, 0);
}

#[dagz::test]
async fn who_ordered_is_not_erased(app: TestApp) {
    app.paid_order(1).await;
    assert_eq!(
        app.delete("/customers/1").await.error(409),
        "a customer with orders cannot be erased"
    );
}

#[dagz::test]
async fn the_first_address_is_the_default(app: TestApp) {
    app.post("/customers", ada()).await.expect(201);
    assert_eq!(
        app.post("/customers/1/addresses", address("Berlin", false))
            .await
            .expect(201)["default"],
        true
    );
    assert_eq!(
        app.post("/customers/1/addresses", address("Bonn", false))
            .await
            .expect(201)["default"],
        false
    );
}

#[dagz::test]
async fn a_new_default_address_takes_over(app: TestApp) {
    app.post("/customers", ada()).await.expect(201);
    app.post("/customers/1/addresses", address("Berlin", true))
        .await
        .expect(201);
    app.post("/customers/1/addresses", address("Bonn", true))
        .await
        .expect(201);
    let addresses = app.get("/customers/1/addresses").await.expect(200);
    let expected = json!([
        { "id": 1, "city": "Berlin", "default": false },
        { "id": 2, "city": "Bonn", "default": true },
    ]);
    assert_eq!(addresses, expected);
}

#[dagz::test]
async fn two_default_addresses_break_the_partial_index(app: TestApp) {
    app.customer("ada@shop.example").await;
    let insert =
        "INSERT INTO addresses (customer_id, line, city, postcode, country_code, is_default)
                  SELECT 1, 'Ring 1', 'Berlin', '1000', 'DE', true FROM generate_series(1, 2)";
    let error = app.connect().await.batch_execute(insert).await.unwrap_err();
    assert_eq!(
        error.as_db_error().unwrap().constraint(),
        Some("addresses_one_default")
    );
}

#[dagz::test]
async fn a_wish_is_made_once(app: TestApp) {
    let product = app.product("P-1", 100, 0).await;
    let path = format!(
        "/customers/{}/wishlist/{product}",
        app.customer("ada@shop.example").await
    );
    app.put(&path, json!({})).await.expect(201);
    app.put(&path, json!({})).await.expect(204);
    app.delete(&path).await.expect(204);
    app.delete(&path).await.error(404);
}

#[dagz::test]
async fn the_wishlist_says_what_is_there(app: TestApp) {
    app.customer("ada@shop.example").await;
    app.product("P-1", 100, 3).await;
    app.product("P-2", 100, 0).await;
    app.put("/customers/1/wishlist/1", json!({}))
        .await
        .expect(201);
    app.put("/customers/1/wishlist/2", json!({}))
        .await
        .expect(201);
    let wishes = app.get("/customers/1/wishlist").await.expect(200);
    assert_eq!(
        wishes,
        json!([{ "sku": "P-1", "available": true }, { "sku": "P-2", "available": false }])
    );
}

#[dagz::test]
async fn points_come_with_the_paid_order(app: TestApp) {
    app.paid_order(3).await;
    assert_eq!(
        app.get("/customers/1/loyalty").await.expect(200),
        json!({ "points": 30, "entries": 1 })
    );
}

#[dagz::test]
async fn points_can_be_made_dearer(app: TestApp) {
    app.sql("UPDATE settings SET value = '1000' WHERE key = 'loyalty.cents_per_point'")
        .await;
    app.paid_order(3).await;
    assert_eq!(
        app.get("/customers/1/loyalty").await.expect(200)["points"],
        3
    );
}
