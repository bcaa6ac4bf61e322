//! Stock: receipts, transfers, counts, and the journal of moves.

use serde_json::{Value, json};

use crate::app::TestApp;

fn receipt(warehouse: i64, quantity: i32) -> Value {
    json!({ "warehouse_id": warehouse, "product_id": 1, "quantity": quantity })
}

fn transfer(from: i64, to: i64, quantity: i32) -> Value {
    json!({ "product_id": 1, "from": from, "to": to, "quantity": quantity })
}

#[dagz::test]
async fn receipts_add_up(app: TestApp) {
    app.product("P-1", 100, 0).await;
    assert_eq!(
        app.post("/stock/receipts", receipt(1, 4)).await.expect(201)["on_hand"],
        4
    );
    assert_eq!(
        app.post("/stock/receipts", receipt(1, 3)).await.expect(201)["on_hand"],
        7
    );
}

#[dagz::test]
async fn a_receipt_of_nothing_is_refused(app: TestApp) {
    app.product("P-1", 100, 0).await;
    assert_eq!(
        app.post("/stock/receipts", receipt(1, 0)).await.error(422),
        "`quantity` must be at least 1"
    );
}

#[dagz::test]
async fn a_warehouse_that_does_not_exist_takes_nothing_in(app: TestApp) {
    app.product("P-1", 100, 0).await;
    let error = app.post("/stock/receipts", receipt(3, 1)).await.error(422);
    assert_eq!(error, "violates `stock_levels_warehouse_id_fkey`");
}

#[dagz::test]
async fn a_third_warehouse_is_number_three(app: TestApp) {
    app.product("P-1", 100, 0).await;
    assert_eq!(
        app.post("/warehouses", json!({ "code": "NORTH", "name": "North" }))
            .await
            .expect(201)["id"],
        3
    );
    app.post("/stock/receipts", receipt(3, 1)).await.expect(201);
    let warehouses = app.get("/warehouses").await.expect(200);
    assert_eq!(
        warehouses[2],
        json!({ "id": 3, "code": "NORTH", "on_hand": 1 })
    );
}

#[dagz::test]
async fn the_main_warehouse_exists_already(app: TestApp) {
    let error = app
        .post("/warehouses", json!({ "code": "MAIN", "name": "Other" }))
        .await
        .error(409);
    assert_eq!(error, "violates `warehouses_code_key`");
}

#[dagz::test]
async fn a_warehouse_of_the_seed_can_be_renamed(app: TestApp) {
    app.sql("UPDATE warehouses SET code = 'CELLAR' WHERE code = 'ANNEX'")
        .await;
    assert_eq!(
        app.get("/warehouses").await.expect(200)[1]["code"],
        "CELLAR"
    );
}

#[dagz::test]
async fn bins_are_unique_within_their_warehouse(app: TestApp) {
    let bin = json!({ "code": "A-1" });
    assert_eq!(
        app.post("/warehouses/1/bins", bin.clone())
            .await
            .expect(201)["id"],
        1
    );
    assert_eq!(
        app.post("/warehouses/2/bins", bin.clone())
            .await
            .expect(201)["id"],
        2
    );
    app.post("/warehouses/1/bins", bin).await.error(409);
}

#[dagz::test]
async fn stock_is_summed_over_the_warehouses(app: TestApp) {
    app.product("P-1", 100, 2).await;
    app.post("/stock/receipts", receipt(2, 5)).await.expect(201);
    let level = app.get("/stock/1").await.expect(200);
    assert_eq!(
        level,
        json!({ "on_hand": 7, "reserved": 0, "available": 7, "warehouses": 2 })
    );
}

#[dagz::test]
async fn what_never_lay_anywhere_has_no_stock(app: TestApp) {
    app.product("P-1", 100, 0).await;
    assert_eq!(app.get("/stock/1").await.error(404), "stock not found");
}

#[dagz::test]
async fn a_transfer_moves_and_is_noted_twice(app: TestApp) {
    app.product("P-1", 100, 10).await;
    app.post("/stock/transfers", transfer(1, 2, 4))
        .await
        .expect(204);
    let moves = app.get("/stock/1/movements").await.expect(200);
    let expected = json!([
        { "id": 1, "kind": "transfer", "warehouse_id": 1, "quantity": -4 },
        { "id": 2, "kind": "transfer", "warehouse_id": 2, "quantity": 4 },
    ]);
    assert_eq!(moves, expected);
    assert_eq!(app.get("/stock/1").await.expect(200)["on_hand"], 10);
}

#[dagz::test]
async fn reserved_stock_is_not_transferred(app: TestApp) {
    let product = app.product("P-1", 100, 10).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 7).await.expect(201);
    let error = app
        .post("/stock/transfers", transfer(1, 2, 4))
        .await
        .error(409);
    assert_eq!(error, "not enough free stock in the warehouse");
    app.post("/stock/transfers", transfer(1, 2, 3))
        .await
        .expect(204);
}

#[dagz::test]
async fn a_transfer_goes_somewhere_else(app: TestApp) {
    app.product("P-1", 100, 10).await;
    app.post("/stock/transfers", transfer(1, 1, 4))
        .await
        .error(422);
    app.post("/stock/transfers", transfer(1, 2, -4))
        .await
        .error(422);
}

#[dagz::test]
async fn a_count_corrects_the_books(app: TestApp) {
    app.product("P-1", 100, 10).await;
    let count = json!({ "warehouse_id": 1, "product_id": 1, "counted": 8 });
    assert_eq!(
        app.post("/stock/counts", count.clone()).await.expect(200)["difference"],
        -2
    );
    assert_eq!(
        app.post("/stock/counts", count).await.expect(200)["difference"],
        0
    );
    let moves = app.get("/stock/1/movements").await.expect(200);
    assert_eq!(
        moves,
        json!([{ "id": 1, "kind": "count", "warehouse_id": 1, "quantity": -2 }])
    );
}

#[dagz::test]
async fn a_count_below_what_is_reserved_breaks_the_check(app: TestApp) {
    let product = app.product("P-1", 100, 10).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 7).await.expect(201);
    let count = json!({ "warehouse_id": 1, "product_id": 1, "counted": 6 });
    let error = app.post("/stock/counts", count).await.error(422);
    assert_eq!(error, "violates `stock_levels_reserved_is_on_hand`");
    assert_eq!(app.get("/stock/1").await.expect(200)["on_hand"], 10);
}

#[dagz::test]
async fn low_stock_is_what_the_setting_says(app: TestApp) {
    app.product("FEW", 100, 5).await;
    app.product("MANY", 100, 6).await;
    assert_eq!(
        app.get("/stock/low").await.expect(200),
        json!([{ "sku": "FEW", "available": 5 }])
    );
    app.sql("UPDATE settings SET value = '2' WHERE key = 'stock.low'")
        .await;
    assert_eq!(app.get("/stock/low").await.expect(200), json!([]));
}

#[dagz::test]
async fn the_question_beats_the_setting(app: TestApp) {
    app.product("FEW", 100, 5).await;
    app.product("MANY", 100, 6).await;
    let low = app.get("/stock/low?threshold=6").await.expect(200);
    assert_eq!(
        low,
        json!([{ "sku": "FEW", "available": 5 }, { "sku": "MANY", "available": 6 }])
    );
}

#[dagz::test]
async fn moves_lie_in_the_partition_of_their_kind(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.post("/stock/receipts", receipt(1, 4)).await.expect(201);
    app.post("/stock/transfers", transfer(1, 2, 1))
        .await
        .expect(204);
    let counts = "SELECT (SELECT count(*) FROM stock_movements_in) * 10 + (SELECT count(*) FROM stock_movements_other)";
    assert_eq!(app.value::<i64>(counts).await, 12);
}
