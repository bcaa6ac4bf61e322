//! The ledger: payments are handed on from the outbox to the books, once each.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use crate::app::TestApp;
use crate::stores::Stores;

async fn connect(stores: &Stores) -> Conn {
    Conn::new(stores.books.clone()).await.unwrap()
}

#[dagz::test]
async fn a_payment_is_posted_to_both_accounts(app: TestApp, stores: Stores) {
    app.paid_order(2).await;
    let ledger = stores.ledger();
    assert_eq!(ledger.post(&app.pool).await.unwrap(), 1);
    assert_eq!(ledger.balance("1200").await.unwrap(), 2380);
    assert_eq!(ledger.balance("8400").await.unwrap(), -2380);
    ledger.close().await.unwrap();
}

#[dagz::test]
async fn postings_are_numbered_from_one(app: TestApp, stores: Stores) {
    app.paid_order(1).await;
    let ledger = stores.ledger();
    ledger.post(&app.pool).await.unwrap();
    ledger.close().await.unwrap();
    let mut books = connect(&stores).await;
    let ids: Vec<i64> = books.query("SELECT id FROM postings").await.unwrap();
    assert_eq!(ids, [1]);
    let ids: Vec<i64> = books
        .query("SELECT id FROM entries ORDER BY id")
        .await
        .unwrap();
    assert_eq!(ids, [1, 2]);
    books.disconnect().await.unwrap();
}

#[dagz::test]
async fn a_payment_is_posted_once(app: TestApp, stores: Stores) {
    app.paid_order(1).await;
    let ledger = stores.ledger();
    assert_eq!(ledger.post(&app.pool).await.unwrap(), 1);
    assert_eq!(ledger.post(&app.pool).await.unwrap(), 0);
    assert_eq!(ledger.balance("1200").await.unwrap(), 1190);
    ledger.close().await.unwrap();
}

#[dagz::test]
async fn two_instances_post_each_payment_once(app: TestApp, stores: Stores) {
    for number in 1..=3 {
        let product = app.product(&format!("MAP-{number}"), 500, 1).await;
        let customer = app.customer(&format!("buyer{number}@shop.example")).await;
        let order = app.order(customer, product, 1).await.expect(201);
        let (id, cents) = (order["id"].as_i64(), order["total_cents"].as_i64());
        app.pay(id.unwrap(), cents.unwrap()).await.expect(201);
    }
    let (first, second) = (stores.ledger(), stores.ledger());
    let (one, two) = tokio::join!(first.post(&app.pool), second.post(&app.pool));
    assert_eq!(one.unwrap() + two.unwrap(), 3);
    assert_eq!(first.balance("1200").await.unwrap(), 1785);
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[dagz::test]
async fn an_order_that_is_not_paid_is_not_posted(app: TestApp, stores: Stores) {
    let product = app.product("ATLAS-1", 1000, 1).await;
    let customer = app.customer("ada@shop.example").await;
    app.order(customer, product, 1).await.expect(201);
    let ledger = stores.ledger();
    assert_eq!(ledger.post(&app.pool).await.unwrap(), 0);
    assert_eq!(ledger.balance("1200").await.unwrap(), 0);
    ledger.close().await.unwrap();
}

/// The accounts as they were seeded, after which they are spoilt: whichever of the two comes second sees whether that was
/// undone.
async fn seeded_accounts_then(stores: &Stores, spoil: &str) {
    let mut books = connect(stores).await;
    let rows: Vec<Row> = books
        .query("SELECT code, name FROM accounts ORDER BY code")
        .await
        .unwrap();
    let accounts: Vec<(String, String)> = rows.into_iter().map(mysql_async::from_row).collect();
    let seeded = [("1200", "Bank"), ("8400", "Sales")];
    assert_eq!(
        accounts,
        seeded.map(|(code, name)| (code.to_owned(), name.to_owned()))
    );
    books.query_drop(spoil).await.unwrap();
    books.disconnect().await.unwrap();
}

#[dagz::test]
async fn accounts_may_be_renamed(stores: Stores) {
    seeded_accounts_then(
        &stores,
        "UPDATE accounts SET name = 'Cash' WHERE code = '1200'",
    )
    .await;
}

#[dagz::test]
async fn accounts_may_be_closed(stores: Stores) {
    seeded_accounts_then(&stores, "DELETE FROM accounts WHERE code = '8400'").await;
}
