//! The storefront: pages from the cache, and what visitors look at most.

use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::stores::Stores;

/// Looks at a product once; where the page came from, and how often it had been seen then.
async fn look(app: &TestApp, id: i64) -> (Value, f64) {
    let page = app
        .get(&format!("/storefront/products/{id}"))
        .await
        .expect(200);
    (page["from"].clone(), page["views"].as_f64().unwrap())
}

#[dagz::test]
async fn a_page_is_read_once(app: TestApp, stores: Stores) {
    let app = app.with_storefront(&stores);
    let id = app.product("GLOBE-1", 4900, 1).await;
    assert_eq!(look(&app, id).await, (json!("database"), 1.0));
    assert_eq!(look(&app, id).await, (json!("cache"), 2.0));
}

#[dagz::test]
async fn two_instances_share_the_cache(app: TestApp, stores: Stores) {
    let first = app.with_storefront(&stores);
    let second = TestApp::again(first.config.clone()).with_storefront(&stores);
    let id = first.product("GLOBE-1", 4900, 1).await;
    assert_eq!(look(&first, id).await, (json!("database"), 1.0));
    assert_eq!(look(&second, id).await, (json!("cache"), 2.0));
}

#[dagz::test]
async fn a_refresh_forgets_the_page(app: TestApp, stores: Stores) {
    let app = app.with_storefront(&stores);
    let id = app.product("GLOBE-1", 4900, 1).await;
    look(&app, id).await;
    app.sql(&format!(
        "UPDATE products SET name = 'The globe' WHERE id = {id}"
    ))
    .await;
    let path = format!("/storefront/products/{id}");
    assert_eq!(
        app.get(&path).await.expect(200)["product"]["name"],
        "Globe-1"
    );
    app.post(&format!("{path}/refresh"), json!({}))
        .await
        .expect(204);
    assert_eq!(
        app.get(&path).await.expect(200)["product"]["name"],
        "The globe"
    );
}

#[dagz::test]
async fn a_page_does_not_live_for_ever(app: TestApp, stores: Stores) {
    let app = app.with_storefront(&stores);
    let id = app.product("GLOBE-1", 4900, 1).await;
    look(&app, id).await;
    let mut redis = stores
        .redis
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let seconds: i64 = redis.ttl(format!("page:{id}")).await.unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[dagz::test]
async fn nothing_is_popular_at_first(app: TestApp, stores: Stores) {
    let app = app.with_storefront(&stores);
    assert_eq!(app.get("/storefront/popular").await.expect(200), json!([]));
}

#[dagz::test]
async fn the_most_seen_comes_first(app: TestApp, stores: Stores) {
    let app = app.with_storefront(&stores);
    let mut ids = Vec::new();
    for (number, views) in [(1, 2), (2, 5), (3, 1)] {
        let id = app.product(&format!("MAP-{number}"), 900, 1).await;
        for _ in 0..views {
            look(&app, id).await;
        }
        ids.push(id);
    }
    assert_eq!(
        app.get("/storefront/popular").await.expect(200),
        json!([
            { "id": ids[1], "views": 5.0 },
            { "id": ids[0], "views": 2.0 },
            { "id": ids[2], "views": 1.0 },
        ])
    );
}

#[dagz::test]
async fn what_there_is_not_has_no_views(app: TestApp, stores: Stores) {
    let app = app.with_storefront(&stores);
    app.get("/storefront/products/4711").await.error(404);
    assert_eq!(app.get("/storefront/popular").await.expect(200), json!([]));
}

#[dagz::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_of_many_visitors_are_all_counted(app: TestApp, stores: Stores) {
    let app = app.with_storefront(&stores);
    let id = app.product("GLOBE-1", 4900, 1).await;
    let address = app.serve().await;
    let visitors = (0..8).map(|_| {
        tokio::spawn(async move {
            let path = format!("/storefront/products/{id}");
            crate::app::over_tcp(address, "GET", &path, None)
                .await
                .expect(200);
        })
    });
    for visitor in visitors.collect::<Vec<_>>() {
        visitor.await.unwrap();
    }
    assert_eq!(
        app.get("/storefront/popular").await.expect(200),
        json!([{ "id": id, "views": 8.0 }])
    );
}
