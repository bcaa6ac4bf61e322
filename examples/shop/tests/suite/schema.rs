//! What the schema itself promises, asked in SQL; and tests that are hard on it.

use tokio_postgres::error::SqlState;

use crate::app::TestApp;

/// The SQLSTATE with which the database refuses `statement`.
async fn refusal(app: &TestApp, statement: &str) -> SqlState {
    app.connect()
        .await
        .batch_execute(statement)
        .await
        .unwrap_err()
        .code()
        .unwrap()
        .clone()
}

#[dagz::test]
async fn the_connection_is_this_tests_own(app: TestApp) {
    let scope = dagz::current().unwrap();
    let row = app
        .connect()
        .await
        .query_one(
            "SELECT current_database(), current_setting('application_name')",
            &[],
        )
        .await;
    let (database, name): (String, String) = row.map(|row| (row.get(0), row.get(1))).unwrap();
    assert_eq!(database, app.config.get_dbname().unwrap());
    if dagz::active() {
        assert!(
            database.ends_with(&format!("_{}", scope.worker())),
            "{database}"
        );
        assert!(name.starts_with(scope.tag()), "{name}");
    } else {
        assert!(name.contains("the_connection_is_this_tests_own"), "{name}");
    }
}

#[dagz::test]
async fn a_kept_connection_reads_the_same_database(app: TestApp, kept: dagz::postgres::Client) {
    app.product("P-1", 100, 0).await;
    let row = kept
        .query_one(
            "SELECT current_database(), (SELECT sku FROM products WHERE id = 1)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), app.config.get_dbname().unwrap());
    assert_eq!(row.get::<_, &str>(1), "P-1");
}

#[dagz::test]
async fn there_are_more_than_fifty_tables(app: TestApp) {
    let tables = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p')
                  AND relnamespace IN ('public'::regnamespace, 'reporting'::regnamespace)";
    assert!(app.value::<i64>(tables).await > 50);
}

#[dagz::test]
async fn identities_are_always_generated(app: TestApp) {
    let state = refusal(&app, "INSERT INTO brands (id, name) VALUES (7, 'Mercator')").await;
    assert_eq!(state, SqlState::GENERATED_ALWAYS);
}

#[dagz::test]
async fn an_explicit_role_does_not_move_the_sequence(app: TestApp) {
    app.sql("INSERT INTO roles (id, name) VALUES (100, 'auditor')")
        .await;
    assert_eq!(
        app.value::<i64>("INSERT INTO roles (name) VALUES ('courier') RETURNING id")
            .await,
        4
    );
}

#[dagz::test]
async fn a_rolled_back_insert_uses_an_id_up(app: TestApp) {
    app.sql("BEGIN; INSERT INTO brands (name) VALUES ('Mercator'); ROLLBACK")
        .await;
    assert_eq!(
        app.value::<i64>("INSERT INTO brands (name) VALUES ('Ortelius') RETURNING id")
            .await,
        2
    );
}

#[dagz::test]
async fn a_sequence_can_be_set_far_ahead(app: TestApp) {
    app.sql("SELECT setval(pg_get_serial_sequence('products', 'id'), 5000)")
        .await;
    assert_eq!(app.product("P-1", 100, 0).await, 5001);
}

#[dagz::test]
async fn a_sequence_can_be_set_to_the_start_again(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.sql(
        "DELETE FROM products; SELECT setval(pg_get_serial_sequence('products', 'id'), 1, false)",
    )
    .await;
    assert_eq!(app.product("P-1", 100, 0).await, 1);
}

#[dagz::test]
async fn truncation_restarts_the_identities(app: TestApp) {
    app.product("P-1", 100, 4).await;
    app.product("P-2", 100, 4).await;
    app.sql("TRUNCATE products RESTART IDENTITY CASCADE").await;
    assert_eq!(
        app.value::<i64>("SELECT count(*) FROM stock_levels").await,
        0
    );
    assert_eq!(app.product("P-3", 100, 0).await, 1);
}

#[dagz::test]
async fn generated_columns_are_not_written(app: TestApp) {
    let state = refusal(&app, "UPDATE tax_rates SET percent = 1 WHERE id = 1").await;
    assert_eq!(state, SqlState::GENERATED_ALWAYS);
}

#[dagz::test]
async fn an_unknown_status_is_no_status(app: TestApp) {
    let state = refusal(&app, "SELECT 'sold'::product_status").await;
    assert_eq!(state, SqlState::INVALID_TEXT_REPRESENTATION);
}

#[dagz::test]
async fn what_is_used_is_not_deleted(app: TestApp) {
    let state = refusal(
        &app,
        "DELETE FROM customer_tiers; DELETE FROM currencies; DELETE FROM countries",
    )
    .await;
    assert_eq!(state, SqlState::FOREIGN_KEY_VIOLATION);
    // One message of several statements is one transaction.
    assert_eq!(
        app.value::<i64>("SELECT count(*) FROM customer_tiers")
            .await,
        3
    );
}

#[dagz::test]
async fn positions_of_images_are_checked_at_the_end(app: TestApp) {
    app.product("P-1", 100, 0).await;
    let mut client = app.connect().await;
    let transaction = client.transaction().await.unwrap();
    let insert = "INSERT INTO product_images (product_id, url, position) SELECT 1, 'a.png', 1 FROM generate_series(1, 2)";
    assert_eq!(transaction.execute(insert, &[]).await.unwrap(), 2);
    assert_eq!(
        transaction.commit().await.unwrap_err().code(),
        Some(&SqlState::UNIQUE_VIOLATION)
    );
}

#[dagz::test]
async fn a_deleted_product_takes_its_belongings_along(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.sql(
        "INSERT INTO tags (name) VALUES ('old');
         INSERT INTO product_tags VALUES (1, 1);
         INSERT INTO product_translations VALUES (1, 'de', 'P');
         DELETE FROM products",
    )
    .await;
    let left =
        "SELECT (SELECT count(*) FROM product_tags) + (SELECT count(*) FROM product_translations)
                     + (SELECT count(*) FROM product_prices)";
    assert_eq!(app.value::<i64>(left).await, 0);
    assert_eq!(app.value::<i64>("SELECT count(*) FROM tags").await, 1);
}

#[dagz::test]
async fn the_balance_counts_each_payment_once(app: TestApp) {
    app.paid_order(1).await;
    app.sql(
        "INSERT INTO refunds (payment_id, amount_cents, reason) VALUES (1, 10, 'a'), (1, 20, 'b');
         INSERT INTO payments (order_id, method_id, amount_cents, idempotency_key) VALUES (1, 2, 5, 'extra')",
    )
    .await;
    let client = app.connect().await;
    let row = client
        .query_one(
            "SELECT paid_cents, refunded_cents FROM reporting.order_balance",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1195, 30));
}

#[dagz::test]
async fn a_shop_without_settings_cannot_price(app: TestApp) {
    app.sql("DELETE FROM settings").await;
    let product = app.product("P-1", 100, 1).await;
    let customer = app.customer("ada@shop.example").await;
    assert_eq!(
        app.order(customer, product, 1).await.error(500),
        "database error"
    );
}

#[dagz::test]
async fn a_catalogue_of_two_thousand(app: TestApp) {
    app.sql(
        "INSERT INTO products (sku, name, category_id)
         SELECT 'BULK-' || n, repeat('long ', 20) || n, 6 FROM generate_series(1, 2000) n",
    )
    .await;
    assert_eq!(
        app.get("/products?per_page=1000").await.expect(200)["pages"],
        20
    );
}

#[dagz::test]
async fn temporary_tables_are_a_sessions_own(app: TestApp) {
    let (first, second) = (app.connect().await, app.connect().await);
    first
        .batch_execute("CREATE TEMPORARY TABLE basket (id int)")
        .await
        .unwrap();
    assert!(second.batch_execute("SELECT * FROM basket").await.is_err());
}

#[dagz::test]
async fn a_fourth_tier_is_number_four(app: TestApp) {
    let insert = "INSERT INTO customer_tiers (name, discount_basis_points) VALUES ('platinum', 900) RETURNING id";
    assert_eq!(app.value::<i64>(insert).await, 4);
    app.customer("ada@shop.example").await;
    app.patch("/customers/1", serde_json::json!({ "tier": "platinum" }))
        .await
        .expect(204);
}
