//! Payments, refunds, invoices.

use serde_json::{Value, json};

use crate::app::TestApp;

/// Order 1 by customer 1, of which 2380 cents are due.
async fn due(app: &TestApp) {
    let product = app.product("P-1", 1000, 9).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 2).await.expect(201);
}

fn payment(method: &str, cents: i64, key: &str) -> Value {
    json!({ "method": method, "amount_cents": cents, "idempotency_key": key })
}

fn refund(cents: i64) -> Value {
    json!({ "amount_cents": cents, "reason": "broken" })
}

#[dagz::test]
async fn a_full_payment_settles_the_order(app: TestApp) {
    due(&app).await;
    assert_eq!(
        app.pay(1, 2380).await.expect(201),
        json!({ "id": 1, "settled": true })
    );
    assert_eq!(app.get("/orders/1").await.expect(200)["status"], "paid");
}

#[dagz::test]
async fn two_halves_settle_the_order(app: TestApp) {
    due(&app).await;
    assert_eq!(app.pay(1, 1380).await.expect(201)["settled"], false);
    assert_eq!(app.get("/orders/1").await.expect(200)["due_cents"], 1000);
    assert_eq!(
        app.pay(1, 1000).await.expect(201),
        json!({ "id": 2, "settled": true })
    );
}

#[dagz::test]
async fn no_more_is_paid_than_is_due(app: TestApp) {
    due(&app).await;
    assert_eq!(app.pay(1, 2381).await.error(422), "only 2380 cents are due");
    assert_eq!(app.get("/orders/1/payments").await.expect(200), json!([]));
}

#[dagz::test]
async fn a_payment_of_nothing_breaks_the_check(app: TestApp) {
    due(&app).await;
    assert_eq!(
        app.pay(1, 0).await.error(422),
        "violates `payments_amount_cents_check`"
    );
}

#[dagz::test]
async fn the_same_key_is_the_same_payment(app: TestApp) {
    due(&app).await;
    let first = app
        .post("/orders/1/payments", payment("card", 1000, "k"))
        .await
        .expect(201);
    let again = app
        .post("/orders/1/payments", payment("card", 1000, "k"))
        .await
        .expect(200);
    assert_eq!(first["id"], again["id"]);
    assert_eq!(app.get("/orders/1").await.expect(200)["paid_cents"], 1000);
}

#[dagz::test]
async fn a_key_belongs_to_one_order(app: TestApp) {
    due(&app).await;
    app.order(1, 1, 1).await.expect(201);
    app.post("/orders/1/payments", payment("card", 1000, "k"))
        .await
        .expect(201);
    let error = app
        .post("/orders/2/payments", payment("card", 1000, "k"))
        .await
        .error(409);
    assert_eq!(error, "the idempotency key belongs to another order");
}

#[dagz::test]
async fn cheques_are_not_accepted(app: TestApp) {
    due(&app).await;
    let error = app
        .post("/orders/1/payments", payment("cheque", 2380, "k"))
        .await
        .error(422);
    assert_eq!(error, "payment method `cheque` is not accepted");
}

#[dagz::test]
async fn cheques_can_be_accepted_again(app: TestApp) {
    app.sql("UPDATE payment_methods SET enabled = true WHERE code = 'cheque'")
        .await;
    due(&app).await;
    app.post("/orders/1/payments", payment("cheque", 2380, "k"))
        .await
        .expect(201);
    let payments = app.get("/orders/1/payments").await.expect(200);
    assert_eq!(
        payments,
        json!([{ "id": 1, "method": "cheque", "amount_cents": 2380 }])
    );
}

#[dagz::test]
async fn a_settled_order_takes_no_more(app: TestApp) {
    due(&app).await;
    app.pay(1, 2380).await.expect(201);
    let error = app
        .post("/orders/1/payments", payment("card", 1, "more"))
        .await
        .error(409);
    assert_eq!(error, "an order that is paid cannot be paid");
}

#[dagz::test]
async fn the_first_invoice_has_the_first_number(app: TestApp) {
    due(&app).await;
    app.get("/orders/1/invoice").await.error(404);
    app.pay(1, 2380).await.expect(201);
    let invoice = app.get("/orders/1/invoice").await.expect(200);
    assert_eq!(
        invoice,
        json!({ "number": "INV-000001", "total_cents": 2380 })
    );
}

#[dagz::test]
async fn invoices_are_numbered_by_payment_not_by_order(app: TestApp) {
    due(&app).await;
    app.order(1, 1, 1).await.expect(201);
    app.pay(2, 1190).await.expect(201);
    app.pay(1, 2380).await.expect(201);
    assert_eq!(
        app.get("/orders/1/invoice").await.expect(200)["number"],
        "INV-000002"
    );
}

#[dagz::test]
async fn a_refund_in_parts_completes(app: TestApp) {
    due(&app).await;
    app.pay(1, 2380).await.expect(201);
    assert_eq!(
        app.post("/payments/1/refunds", refund(380))
            .await
            .expect(201),
        json!({ "id": 1, "complete": false })
    );
    assert_eq!(
        app.post("/payments/1/refunds", refund(2000))
            .await
            .expect(201),
        json!({ "id": 2, "complete": true })
    );
    let order = app.get("/orders/1").await.expect(200);
    assert_eq!(
        (&order["status"], &order["refunded_cents"]),
        (&json!("refunded"), &json!(2380))
    );
}

#[dagz::test]
async fn a_refund_of_an_unsent_order_frees_its_stock(app: TestApp) {
    app.paid_order(4).await;
    assert_eq!(app.get("/stock/1").await.expect(200)["reserved"], 4);
    app.post("/payments/1/refunds", refund(4760))
        .await
        .expect(201);
    assert_eq!(app.get("/stock/1").await.expect(200)["available"], 4);
}

#[dagz::test]
async fn no_more_is_refunded_than_was_paid(app: TestApp) {
    due(&app).await;
    app.pay(1, 2380).await.expect(201);
    app.post("/payments/1/refunds", refund(2000))
        .await
        .expect(201);
    assert_eq!(
        app.post("/payments/1/refunds", refund(381))
            .await
            .error(422),
        "only 380 cents can be refunded"
    );
}

#[dagz::test]
async fn an_unknown_payment_is_not_refunded(app: TestApp) {
    assert_eq!(
        app.post("/payments/1/refunds", refund(1)).await.error(404),
        "payment not found"
    );
}
