//! Prices in several currencies, and their history.

use serde_json::json;

use crate::app::TestApp;

async fn unpriced(app: &TestApp) {
    app.post(
        "/products",
        json!({ "sku": "ATLAS-1", "name": "World Atlas", "category_id": 6 }),
    )
    .await
    .expect(201);
}

#[dagz::test]
async fn a_first_price_is_created_and_a_second_replaces_it(app: TestApp) {
    unpriced(&app).await;
    let first = app
        .put("/products/1/prices/EUR", json!({ "amount_cents": 1990 }))
        .await
        .expect(201);
    assert_eq!(first, json!({ "amount_cents": 1990, "was_cents": null }));
    let second = app
        .put("/products/1/prices/EUR", json!({ "amount_cents": 1490 }))
        .await
        .expect(200);
    assert_eq!(second, json!({ "amount_cents": 1490, "was_cents": 1990 }));
}

#[dagz::test]
async fn a_price_is_shown_as_people_write_it(app: TestApp) {
    unpriced(&app).await;
    app.put("/products/1/prices/EUR", json!({ "amount_cents": 1905 }))
        .await
        .expect(201);
    app.put("/products/1/prices/JPY", json!({ "amount_cents": 3000 }))
        .await
        .expect(201);
    assert_eq!(
        app.get("/products/1/prices/EUR").await.expect(200)["display"],
        "19.05 EUR"
    );
    assert_eq!(
        app.get("/products/1/prices/JPY").await.expect(200)["display"],
        "3000 JPY"
    );
}

#[dagz::test]
async fn a_currency_with_three_decimals_is_shown_with_three(app: TestApp) {
    app.sql("UPDATE currencies SET minor_units = 3 WHERE code = 'CHF'")
        .await;
    unpriced(&app).await;
    app.put("/products/1/prices/CHF", json!({ "amount_cents": 1905 }))
        .await
        .expect(201);
    assert_eq!(
        app.get("/products/1/prices/CHF").await.expect(200)["display"],
        "1.905 CHF"
    );
}

#[dagz::test]
async fn a_price_of_nothing_breaks_the_check(app: TestApp) {
    unpriced(&app).await;
    let error = app
        .put("/products/1/prices/EUR", json!({ "amount_cents": 0 }))
        .await
        .error(422);
    assert_eq!(error, "violates `product_prices_amount_cents_check`");
    app.get("/products/1/prices/EUR").await.error(404);
}

#[dagz::test]
async fn a_currency_we_do_not_take_is_refused(app: TestApp) {
    unpriced(&app).await;
    let error = app
        .put("/products/1/prices/DKK", json!({ "amount_cents": 100 }))
        .await
        .error(422);
    assert_eq!(error, "violates `product_prices_currency_fkey`");
}

#[dagz::test]
async fn a_product_that_does_not_exist_has_no_price(app: TestApp) {
    app.put("/products/7/prices/EUR", json!({ "amount_cents": 100 }))
        .await
        .error(404);
}

#[dagz::test]
async fn each_change_of_a_price_is_kept(app: TestApp) {
    unpriced(&app).await;
    for cents in [1000, 1000, 900] {
        app.put("/products/1/prices/EUR", json!({ "amount_cents": cents }))
            .await;
    }
    let changes = app.get("/products/1/price-changes").await.expect(200);
    assert_eq!(
        changes,
        json!([
            { "currency": "EUR", "old_cents": null, "new_cents": 1000 },
            { "currency": "EUR", "old_cents": 1000, "new_cents": 900 },
        ])
    );
}

#[dagz::test]
async fn a_product_made_with_a_price_has_it_in_the_shops_currency(app: TestApp) {
    app.sql("UPDATE settings SET value = 'GBP' WHERE key = 'shop.currency'")
        .await;
    let product =
        json!({ "sku": "ATLAS-1", "name": "World Atlas", "category_id": 6, "price_cents": 2500 });
    app.post("/products", product).await.expect(201);
    assert_eq!(
        app.get("/products/1/prices/GBP").await.expect(200)["display"],
        "25.00 GBP"
    );
    app.get("/products/1/prices/EUR").await.error(404);
}
