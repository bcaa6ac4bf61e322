//! Several connections at once: races for the last piece, row locks, advisory locks, notifications.

use std::future::poll_fn;
use std::time::Duration;

use serde_json::json;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, IsolationLevel, NoTls};

use crate::app::TestApp;

/// Long enough for a request that does not wait to be done.
const MOMENT: Duration = Duration::from_millis(40);

/// A lock's number that several tests use: advisory locks are a database's own.
const LOCK: i64 = 42;

#[dagz::test]
async fn the_last_piece_is_sold_once(app: TestApp) {
    let product = app.product("P-1", 1000, 1).await;
    let (ada, bob) = (
        app.customer("ada@shop.example").await,
        app.customer("bob@shop.example").await,
    );
    let (first, second) = tokio::join!(app.order(ada, product, 1), app.order(bob, product, 1));
    let mut outcomes = [first.status, second.status];
    outcomes.sort_unstable();
    assert_eq!(outcomes, [201, 409]);
    assert_eq!(app.get("/stock/1").await.expect(200)["reserved"], 1);
}

#[dagz::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_want_three(app: TestApp) {
    let product = app.product("P-1", 1000, 3).await;
    let customer = app.customer("ada@shop.example").await;
    let address = app.serve().await;
    let lines = json!([{ "product_id": product, "quantity": 1 }]);
    let order = json!({ "customer_id": customer, "shipping_method": "pickup", "lines": lines });
    let requests: Vec<_> = (0..10)
        .map(|_| {
            tokio::spawn(crate::app::over_tcp(
                address,
                "POST",
                "/orders",
                Some(order.clone()),
            ))
        })
        .collect();
    let mut sold = 0;
    for request in requests {
        sold += u32::from(request.await.unwrap().status == 201);
    }
    assert_eq!(sold, 3);
    assert_eq!(app.value::<i64>("SELECT count(*) FROM orders").await, 3);
}

#[dagz::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_in_opposite_order_do_not_deadlock(app: TestApp) {
    app.customer("ada@shop.example").await;
    app.product("P-1", 100, 20).await;
    app.product("P-2", 100, 20).await;
    let address = app.serve().await;
    let order = |first: i64, second: i64| {
        let lines = json!([{ "product_id": first, "quantity": 1 }, { "product_id": second, "quantity": 1 }]);
        json!({ "customer_id": 1, "shipping_method": "pickup", "lines": lines })
    };
    let requests: Vec<_> = (0..8)
        .map(|turn| {
            let order = if turn % 2 == 0 {
                order(1, 2)
            } else {
                order(2, 1)
            };
            tokio::spawn(crate::app::over_tcp(
                address,
                "POST",
                "/orders",
                Some(order),
            ))
        })
        .collect();
    for request in requests {
        request.await.unwrap().expect(201);
    }
}

#[dagz::test]
async fn an_order_waits_for_who_holds_the_stock(app: TestApp) {
    let product = app.product("P-1", 1000, 1).await;
    let customer = app.customer("ada@shop.example").await;
    let mut holder = app.connect().await;
    let held = holder.transaction().await.unwrap();
    held.execute(
        "SELECT 1 FROM stock_levels WHERE product_id = 1 FOR UPDATE",
        &[],
    )
    .await
    .unwrap();
    let mut order = Box::pin(app.order(customer, product, 1));
    assert!(
        tokio::time::timeout(MOMENT, &mut order).await.is_err(),
        "it should wait"
    );
    held.execute(
        "UPDATE stock_levels SET on_hand = 0 WHERE product_id = 1",
        &[],
    )
    .await
    .unwrap();
    held.commit().await.unwrap();
    assert_eq!(order.await.error(409), "not enough stock of product 1");
}

#[dagz::test]
async fn who_does_not_wait_is_told(app: TestApp) {
    app.product("P-1", 1000, 1).await;
    let (mut holder, other) = (app.connect().await, app.connect().await);
    let held = holder.transaction().await.unwrap();
    held.execute("SELECT 1 FROM products WHERE id = 1 FOR UPDATE", &[])
        .await
        .unwrap();
    let error = other
        .execute("SELECT 1 FROM products WHERE id = 1 FOR UPDATE NOWAIT", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
}

#[dagz::test]
async fn a_request_that_waits_too_long_can_be_repeated(app: TestApp) {
    let product = app.product("P-1", 1000, 1).await;
    let customer = app.customer("ada@shop.example").await;
    let mut impatient = app.config.clone();
    impatient.options("-c lock_timeout=30ms");
    let impatient = TestApp::again(impatient);
    let mut holder = app.connect().await;
    let held = holder.transaction().await.unwrap();
    held.execute(
        "SELECT 1 FROM stock_levels WHERE product_id = 1 FOR UPDATE",
        &[],
    )
    .await
    .unwrap();
    impatient.order(customer, product, 1).await.error(503);
    held.rollback().await.unwrap();
    impatient.order(customer, product, 1).await.expect(201);
}

#[dagz::test]
async fn a_full_pool_makes_requests_wait(app: TestApp) {
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(app.pool.get().await.unwrap());
    }
    let mut request = Box::pin(app.get("/health"));
    assert!(
        tokio::time::timeout(MOMENT, &mut request).await.is_err(),
        "it should wait"
    );
    held.pop();
    request.await.expect(200);
}

#[dagz::test]
async fn an_advisory_lock_has_one_holder(app: TestApp) {
    let (first, second) = (app.connect().await, app.connect().await);
    first
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await
        .unwrap();
    tokio::time::sleep(MOMENT).await;
    let got = second
        .query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])
        .await
        .unwrap();
    assert!(!got.get::<_, bool>(0));
    first
        .execute("SELECT pg_advisory_unlock($1)", &[&LOCK])
        .await
        .unwrap();
    let got = second
        .query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])
        .await
        .unwrap();
    assert!(got.get::<_, bool>(0));
}

#[dagz::test]
async fn an_advisory_lock_ends_with_its_transaction(app: TestApp) {
    let (mut first, second) = (app.connect().await, app.connect().await);
    let transaction = first.transaction().await.unwrap();
    let got = transaction
        .query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK])
        .await
        .unwrap();
    assert!(got.get::<_, bool>(0), "nobody else uses this database");
    tokio::time::sleep(MOMENT).await;
    transaction.commit().await.unwrap();
    let got = second
        .query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])
        .await
        .unwrap();
    assert!(got.get::<_, bool>(0));
}

#[dagz::test]
async fn one_payment_though_asked_twice_at_once(app: TestApp) {
    let product = app.product("P-1", 1000, 1).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 1).await.expect(201);
    let (first, second) = tokio::join!(app.pay(1, 1190), app.pay(1, 1190));
    let mut outcomes = [first.status, second.status];
    outcomes.sort_unstable();
    assert_eq!(outcomes, [200, 201]);
    assert_eq!(app.get("/orders/1").await.expect(200)["paid_cents"], 1190);
}

#[dagz::test]
async fn cancelling_and_paying_exclude_each_other(app: TestApp) {
    let product = app.product("P-1", 1000, 1).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 1).await.expect(201);
    let (cancelled, paid) = tokio::join!(app.post("/orders/1/cancel", json!({})), app.pay(1, 1190));
    match app.get("/orders/1").await.expect(200)["status"]
        .as_str()
        .unwrap()
    {
        "cancelled" => assert_eq!((cancelled.status, paid.status), (204, 409)),
        "paid" => assert_eq!((cancelled.status, paid.status), (409, 201)),
        other => panic!("neither: {other}"),
    }
}

#[dagz::test]
async fn the_last_use_of_a_coupon_is_one(app: TestApp) {
    app.product("P-1", 1000, 2).await;
    app.customer("ada@shop.example").await;
    app.post(
        "/coupons",
        json!({ "code": "TEN", "percent": 10, "uses": 1 }),
    )
    .await
    .expect(201);
    let lines = json!([{ "product_id": 1, "quantity": 1 }]);
    let order =
        json!({ "customer_id": 1, "shipping_method": "pickup", "coupon": "TEN", "lines": lines });
    let (first, second) = tokio::join!(
        app.post("/orders", order.clone()),
        app.post("/orders", order)
    );
    assert_eq!(first.status + second.status, 201 + 409);
    assert_eq!(
        app.value::<i64>("SELECT count(*) FROM coupon_redemptions")
            .await,
        1
    );
    assert_eq!(app.get("/stock/1").await.expect(200)["reserved"], 1);
}

#[dagz::test]
async fn opposite_transfers_both_arrive(app: TestApp) {
    app.product("P-1", 100, 10).await;
    app.post(
        "/stock/receipts",
        json!({ "warehouse_id": 2, "product_id": 1, "quantity": 10 }),
    )
    .await
    .expect(201);
    let transfer =
        |from: i64, to: i64| json!({ "product_id": 1, "from": from, "to": to, "quantity": 3 });
    let (there, back) = tokio::join!(
        app.post("/stock/transfers", transfer(1, 2)),
        app.post("/stock/transfers", transfer(2, 1))
    );
    there.expect(204);
    back.expect(204);
    let level = "SELECT string_agg(on_hand::text, ',' ORDER BY warehouse_id) FROM stock_levels";
    assert_eq!(app.value::<String>(level).await, "10,10");
}

#[dagz::test]
async fn what_is_not_committed_is_not_seen(app: TestApp) {
    let mut writer = app.connect().await;
    let transaction = writer.transaction().await.unwrap();
    transaction
        .execute("INSERT INTO brands (name) VALUES ('Mercator')", &[])
        .await
        .unwrap();
    assert_eq!(app.value::<i64>("SELECT count(*) FROM brands").await, 0);
    transaction.commit().await.unwrap();
    assert_eq!(app.value::<i64>("SELECT count(*) FROM brands").await, 1);
}

#[dagz::test]
async fn serializable_transactions_cannot_both_be_right(app: TestApp) {
    app.product("P-1", 100, 1).await;
    let (mut first, mut second) = (app.connect().await, app.connect().await);
    let serializable = IsolationLevel::Serializable;
    let one = first
        .build_transaction()
        .isolation_level(serializable)
        .start()
        .await
        .unwrap();
    let two = second
        .build_transaction()
        .isolation_level(serializable)
        .start()
        .await
        .unwrap();
    for transaction in [&one, &two] {
        transaction
            .query(
                "SELECT sum(on_hand) FROM stock_levels WHERE product_id = 1",
                &[],
            )
            .await
            .unwrap();
    }
    let update = "UPDATE stock_levels SET on_hand = on_hand + 1 WHERE product_id = 1";
    one.execute(update, &[]).await.unwrap();
    one.commit().await.unwrap();
    let error = two.execute(update, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
}

#[dagz::test]
async fn notifications_are_this_tests_own(app: TestApp) {
    let (listener, mut connection) = app.config.connect(NoTls).await.unwrap();
    let heard = tokio::spawn(async move {
        loop {
            match poll_fn(|context| connection.poll_message(context))
                .await
                .unwrap()
                .unwrap()
            {
                AsyncMessage::Notification(notification) => {
                    return notification.payload().to_owned();
                }
                _ => continue,
            }
        }
    });
    listener.batch_execute("LISTEN orders").await.unwrap();
    let own = app.config.get_application_name().unwrap().to_owned();
    app.connect()
        .await
        .execute("SELECT pg_notify('orders', $1)", &[&own])
        .await
        .unwrap();
    assert_eq!(heard.await.unwrap(), own);
}

#[dagz::test]
async fn goods_that_two_receive_come_in_once(app: TestApp) {
    app.product("P-1", 100, 0).await;
    app.sql(
        "INSERT INTO suppliers (name, country_code) VALUES ('Mercator', 'BE');
         INSERT INTO purchase_orders (supplier_id, warehouse_id) VALUES (1, 1);
         INSERT INTO purchase_order_lines VALUES (1, 1, 8, 50)",
    )
    .await;
    let receive = || app.post("/purchase-orders/1/receive", json!({}));
    let (first, second) = tokio::join!(receive(), receive());
    assert_eq!(first.status + second.status, 200 + 409);
    assert_eq!(app.get("/stock/1").await.expect(200)["on_hand"], 8);
}
