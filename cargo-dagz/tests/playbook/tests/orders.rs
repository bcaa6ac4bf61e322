//! Orders, one test after the other, since they share a database.

use tokio_postgres::{Client, NoTls};

async fn database() -> Client {
    let url = std::env::var("DATABASE_URL").unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let migrations = include_str!("../migrations/1_orders.sql");
    let sql = format!("DROP SCHEMA public CASCADE; CREATE SCHEMA public; {migrations}");
    client.batch_execute(&sql).await.unwrap();
    client
}

#[tokio::test]
async fn the_first_order_is_number_one() {
    let db = database().await;
    assert_eq!(shop::place(&db, "tea").await.unwrap(), 1);
}

#[tokio::test]
async fn orders_are_listed_by_name() {
    let db = database().await;
    for item in ["tea", "coffee"] {
        shop::place(&db, item).await.unwrap();
    }
    assert_eq!(shop::list(&db).await.unwrap(), ["coffee", "tea"]);
}

#[tokio::test]
async fn nothing_is_ordered_at_first() {
    let db = database().await;
    assert!(shop::list(&db).await.unwrap().is_empty());
}
