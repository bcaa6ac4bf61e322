//! What hangs on products: tags, images, translations, reviews.

use serde_json::json;

use crate::app::TestApp;

/// Product 1, the World Atlas.
async fn atlas(app: &TestApp) {
    let product = json!({ "sku": "ATLAS-1", "name": "World Atlas", "category_id": 6 });
    app.post("/products", product).await.expect(201);
}

#[dagz::test]
async fn tags_come_into_being_by_use(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.product("P-2", 100, 0).await;
    for path in [
        "/products/1/tags/old",
        "/products/1/tags/big",
        "/products/2/tags/old",
        "/products/1/tags/old",
    ] {
        app.put(path, json!({})).await.expect(204);
    }
    assert_eq!(
        app.get("/products/1").await.expect(200)["tags"],
        json!(["big", "old"])
    );
    assert_eq!(app.get("/products?tag=old").await.expect(200)["total"], 2);
    assert_eq!(app.value::<i64>("SELECT count(*) FROM tags").await, 2);
}

#[dagz::test]
async fn a_tag_is_taken_off_once(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.put("/products/1/tags/old", json!({})).await.expect(204);
    app.delete("/products/1/tags/old").await.expect(204);
    assert_eq!(
        app.delete("/products/1/tags/old").await.error(404),
        "tag not found"
    );
}

#[dagz::test]
async fn images_change_places_in_one_transaction(app: TestApp) {
    app.product("P-1", 100, 0).await;
    for url in ["a.png", "b.png", "c.png"] {
        app.post("/products/1/images", json!({ "url": url }))
            .await
            .expect(201);
    }
    app.post(
        "/products/1/images/swap",
        json!({ "first": 1, "second": 3 }),
    )
    .await
    .expect(204);
    assert_eq!(
        app.get("/products/1/images").await.expect(200),
        json!(["c.png", "b.png", "a.png"])
    );
    app.post(
        "/products/1/images/swap",
        json!({ "first": 1, "second": 4 }),
    )
    .await
    .error(404);
}

#[dagz::test]
async fn a_missing_translation_falls_back_to_the_name(app: TestApp) {
    atlas(&app).await;
    app.put(
        "/products/1/translations/de",
        json!({ "name": "Weltatlas" }),
    )
    .await
    .expect(204);
    app.put(
        "/products/1/translations/de",
        json!({ "name": "Großer Weltatlas" }),
    )
    .await
    .expect(204);
    let german = app.get("/products/1/translations/de").await.expect(200);
    assert_eq!(
        german,
        json!({ "name": "Großer Weltatlas", "translated": true })
    );
    let polish = app.get("/products/1/translations/pl").await.expect(200);
    assert_eq!(
        polish,
        json!({ "name": "World Atlas", "translated": false })
    );
}

#[dagz::test]
async fn nothing_is_translated_into_a_language_we_do_not_have(app: TestApp) {
    atlas(&app).await;
    let error = app
        .put("/products/1/translations/xx", json!({ "name": "?" }))
        .await
        .error(422);
    assert_eq!(error, "violates `product_translations_language_code_fkey`");
}

#[dagz::test]
async fn only_those_who_received_a_product_review_it(app: TestApp) {
    app.shipped_order(1).await;
    let stranger = app.customer("stranger@shop.example").await;
    let review = |customer: i64| json!({ "customer_id": customer, "rating": 4 });
    app.post("/products/1/reviews", review(stranger))
        .await
        .error(409);
    app.post("/products/1/reviews", review(1)).await.expect(201);
    app.post("/products/1/reviews", review(1)).await.error(409);
    assert_eq!(
        app.get("/products/1/reviews").await.expect(200),
        json!({ "count": 1, "average": 4.0 })
    );
}

#[dagz::test]
async fn a_rating_has_five_steps(app: TestApp) {
    app.shipped_order(1).await;
    let error = app
        .post(
            "/products/1/reviews",
            json!({ "customer_id": 1, "rating": 6 }),
        )
        .await
        .error(422);
    assert_eq!(error, "violates `reviews_rating_check`");
    assert_eq!(
        app.get("/products/1/reviews").await.expect(200),
        json!({ "count": 0, "average": null })
    );
}
