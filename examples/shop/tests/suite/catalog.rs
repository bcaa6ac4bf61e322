//! Products and what hangs on them: categories and brands.

use serde_json::{Value, json};

use crate::app::TestApp;

fn atlas(sku: &str) -> Value {
    json!({ "sku": sku, "name": "World Atlas", "category_id": 6 })
}

#[dagz::test]
async fn the_first_product_is_number_one(app: TestApp) {
    app.post("/products", atlas("ATLAS-1")).await.expect(201);
    let product = app.get("/products/1").await.expect(200);
    assert_eq!(
        product,
        json!({
            "id": 1, "sku": "ATLAS-1", "name": "World Atlas", "description": "", "category_id": 6, "brand_id": null,
            "status": "active", "tags": [],
        })
    );
}

#[dagz::test]
async fn the_second_product_is_number_two(app: TestApp) {
    app.post("/products", atlas("ATLAS-1")).await.expect(201);
    assert_eq!(
        app.post("/products", atlas("ATLAS-2")).await.expect(201)["id"],
        2
    );
}

#[dagz::test]
async fn a_product_that_does_not_exist_is_not_found(app: TestApp) {
    assert_eq!(app.get("/products/1").await.error(404), "product not found");
}

#[dagz::test]
async fn a_stock_keeping_unit_is_taken_once(app: TestApp) {
    app.post("/products", atlas("ATLAS-1")).await.expect(201);
    assert_eq!(
        app.post("/products", atlas("ATLAS-1")).await.error(409),
        "violates `products_sku_key`"
    );
}

#[dagz::test]
async fn a_refused_product_uses_its_number_up(app: TestApp) {
    app.post("/products", atlas("ATLAS-1")).await.expect(201);
    app.post("/products", atlas("ATLAS-1")).await.error(409);
    assert_eq!(
        app.post("/products", atlas("ATLAS-2")).await.expect(201)["id"],
        3
    );
}

#[dagz::test]
async fn a_stock_keeping_unit_in_lower_case_is_refused(app: TestApp) {
    assert_eq!(
        app.post("/products", atlas("atlas-1")).await.error(422),
        "`atlas-1` is not a stock-keeping unit"
    );
}

#[dagz::test]
async fn a_product_needs_a_category_that_exists(app: TestApp) {
    let product = json!({ "sku": "ATLAS-1", "name": "World Atlas", "category_id": 99 });
    assert_eq!(
        app.post("/products", product).await.error(422),
        "violates `products_category_id_fkey`"
    );
}

#[dagz::test]
async fn a_product_without_a_name_breaks_the_check(app: TestApp) {
    let product = json!({ "sku": "ATLAS-1", "name": "", "category_id": 6 });
    assert_eq!(
        app.post("/products", product).await.error(422),
        "violates `products_name_check`"
    );
}

#[dagz::test]
async fn a_body_that_is_no_product_is_refused_before_the_database(app: TestApp) {
    let reply = app.post("/products", json!({ "sku": 7 })).await;
    assert_eq!(reply.status, 422);
    assert!(
        reply.body.as_str().unwrap().contains("sku"),
        "{}",
        reply.body
    );
}

#[dagz::test]
async fn products_are_listed_by_page(app: TestApp) {
    for number in 1..=7 {
        app.product(&format!("P-{number}"), 100, 0).await;
    }
    let page = app.get("/products?page=2&per_page=3").await.expect(200);
    assert_eq!(
        (&page["total"], &page["pages"], &page["page"]),
        (&json!(7), &json!(3), &json!(2))
    );
    let ids: Vec<&Value> = page["products"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| &product["id"])
        .collect();
    assert_eq!(ids, [4, 5, 6]);
}

#[dagz::test]
async fn a_page_behind_the_last_is_empty(app: TestApp) {
    app.product("P-1", 100, 0).await;
    let page = app.get("/products?page=9").await.expect(200);
    assert_eq!(
        page,
        json!({ "products": [], "total": 1, "page": 9, "pages": 1 })
    );
}

#[dagz::test]
async fn an_empty_catalogue_has_no_pages(app: TestApp) {
    assert_eq!(
        app.get("/products").await.expect(200),
        json!({ "products": [], "total": 0, "page": 1, "pages": 0 })
    );
}

#[dagz::test]
async fn products_are_found_by_the_beginning_of_their_name(app: TestApp) {
    app.post(
        "/products",
        json!({ "sku": "N-1", "name": "Dune", "category_id": 7 }),
    )
    .await
    .expect(201);
    app.post(
        "/products",
        json!({ "sku": "N-2", "name": "Emma", "category_id": 7 }),
    )
    .await
    .expect(201);
    let found = app.get("/products?q=du").await.expect(200);
    assert_eq!(found["total"], 1);
    assert_eq!(found["products"][0]["name"], "Dune");
}

#[dagz::test]
async fn a_percent_sign_is_no_wildcard(app: TestApp) {
    app.product("P-1", 100, 0).await;
    assert_eq!(app.get("/products?q=%25").await.expect(200)["total"], 0);
}

#[dagz::test]
async fn products_are_filtered_by_category(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.post(
        "/products",
        json!({ "sku": "N-1", "name": "Dune", "category_id": 7 }),
    )
    .await
    .expect(201);
    let found = app.get("/products?category=novels").await.expect(200);
    assert_eq!(found["products"][0]["sku"], "N-1");
    assert_eq!(found["total"], 1);
}

#[dagz::test]
async fn a_change_leaves_the_rest_alone(app: TestApp) {
    app.post("/products", atlas("ATLAS-1")).await.expect(201);
    let changed = app
        .patch("/products/1", json!({ "description": "All of it" }))
        .await
        .expect(200);
    assert_eq!(
        (&changed["name"], &changed["description"]),
        (&json!("World Atlas"), &json!("All of it"))
    );
}

#[dagz::test]
async fn a_status_must_be_one_of_three(app: TestApp) {
    app.post("/products", atlas("ATLAS-1")).await.expect(201);
    let error = app
        .patch("/products/1", json!({ "status": "sold" }))
        .await
        .error(422);
    assert_eq!(error, "`sold` is not a product status");
}

#[dagz::test]
async fn drafts_are_not_listed(app: TestApp) {
    app.post("/products", atlas("ATLAS-1")).await.expect(201);
    app.patch("/products/1", json!({ "status": "draft" }))
        .await
        .expect(200);
    assert_eq!(app.get("/products").await.expect(200)["total"], 0);
    assert_eq!(app.get("/products/1").await.expect(200)["status"], "draft");
}

#[dagz::test]
async fn an_archived_product_leaves_the_baskets(app: TestApp) {
    let product = app.product("P-1", 100, 5).await;
    let customer = app.customer("a@shop.example").await;
    app.put(
        &format!("/customers/{customer}/cart/{product}"),
        json!({ "quantity": 2 }),
    )
    .await
    .expect(204);
    app.delete("/products/1").await.expect(204);
    assert_eq!(
        app.get("/customers/1/cart").await.expect(200),
        json!({ "items": [], "total_cents": 0 })
    );
    app.delete("/products/1").await.error(404);
}

#[dagz::test]
async fn an_import_makes_all_products(app: TestApp) {
    let list = json!([atlas("ATLAS-1"), atlas("ATLAS-2"), atlas("ATLAS-3")]);
    assert_eq!(
        app.post("/products/import", list).await.expect(201),
        json!({ "ids": [1, 2, 3] })
    );
}

#[dagz::test]
async fn a_bad_line_undoes_the_import(app: TestApp) {
    let list = json!([atlas("ATLAS-1"), atlas("ATLAS-2"), atlas("ATLAS-1")]);
    app.post("/products/import", list).await.error(409);
    assert_eq!(app.value::<i64>("SELECT count(*) FROM products").await, 0);
}

#[dagz::test]
async fn categories_count_the_products_of_their_children(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.product("P-2", 100, 0).await;
    let categories = app.get("/categories").await.expect(200);
    assert_eq!(
        categories[0],
        json!({ "id": 1, "slug": "books", "parent_id": null, "products": 2 })
    );
    assert_eq!(categories[5]["products"], 2);
    assert_eq!(categories[6]["products"], 0);
}

#[dagz::test]
async fn the_next_category_is_number_eleven(app: TestApp) {
    let new = json!({ "name": "Comics & Manga", "parent_id": 1 });
    assert_eq!(
        app.post("/categories", new).await.expect(201),
        json!({ "id": 11, "slug": "comics-manga" })
    );
    assert_eq!(
        app.get("/categories/11/path").await.expect(200),
        json!(["books", "comics-manga"])
    );
}

#[dagz::test]
async fn a_category_of_the_seed_is_taken(app: TestApp) {
    let error = app
        .post("/categories", json!({ "name": "TOYS" }))
        .await
        .error(409);
    assert_eq!(error, "violates `categories_slug_key`");
}

#[dagz::test]
async fn deleted_categories_are_gone_in_this_test_only(app: TestApp) {
    app.sql("DELETE FROM categories WHERE parent_id IS NOT NULL; DELETE FROM categories WHERE slug <> 'books'").await;
    assert_eq!(
        app.get("/categories")
            .await
            .expect(200)
            .as_array()
            .unwrap()
            .len(),
        1
    );
    app.get("/categories/6/path").await.error(404);
}

#[dagz::test]
async fn a_brand_can_be_named_by_a_product(app: TestApp) {
    assert_eq!(
        app.post("/brands", json!({ "name": "Mercator" }))
            .await
            .expect(201)["id"],
        1
    );
    let product =
        json!({ "sku": "ATLAS-1", "name": "World Atlas", "category_id": 6, "brand_id": 1 });
    assert_eq!(
        app.post("/products", product).await.expect(201)["brand_id"],
        1
    );
    app.post("/brands", json!({ "name": "Mercator" }))
        .await
        .error(409);
}
