//! Over real sockets: the service on a port of its own, with hand-written requests.

use serde_json::json;

use crate::app::{TestApp, over_tcp};

#[dagz::test]
async fn the_service_is_healthy(app: TestApp) {
    let address = app.serve().await;
    assert_eq!(
        over_tcp(address, "GET", "/health", None).await.expect(200),
        json!({ "status": "ok" })
    );
}

#[dagz::test]
async fn what_is_posted_over_a_socket_is_in_the_database(app: TestApp) {
    let address = app.serve().await;
    let product = json!({ "sku": "ATLAS-1", "name": "World Atlas", "category_id": 6 });
    assert_eq!(
        over_tcp(address, "POST", "/products", Some(product))
            .await
            .expect(201)["id"],
        1
    );
    assert_eq!(
        app.value::<String>("SELECT sku FROM products WHERE id = 1")
            .await,
        "ATLAS-1"
    );
}

#[dagz::test]
async fn a_path_that_is_not_there_is_not_found(app: TestApp) {
    let address = app.serve().await;
    over_tcp(address, "GET", "/nowhere", None).await.expect(404);
    over_tcp(address, "DELETE", "/orders", None)
        .await
        .expect(405);
}

#[dagz::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_customers_register_at_once(app: TestApp) {
    let address = app.serve().await;
    let requests: Vec<_> = (1..=8)
        .map(|number| {
            let customer =
                json!({ "email": format!("c{number}@shop.example"), "name": "C", "country": "FR" });
            tokio::spawn(
                async move { over_tcp(address, "POST", "/customers", Some(customer)).await },
            )
        })
        .collect();
    let mut ids = Vec::new();
    for request in requests {
        ids.push(request.await.unwrap().expect(201)["id"].as_i64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=8).collect::<Vec<_>>());
}

#[dagz::test]
async fn two_instances_share_the_database(app: TestApp) {
    let (first, second) = (
        app.serve().await,
        TestApp::again(app.config.clone()).serve().await,
    );
    let brand = json!({ "name": "Mercator" });
    over_tcp(first, "POST", "/brands", Some(brand.clone()))
        .await
        .expect(201);
    over_tcp(second, "POST", "/brands", Some(brand))
        .await
        .expect(409);
}

#[dagz::test]
async fn numbers_in_paths_must_be_numbers(app: TestApp) {
    let address = app.serve().await;
    over_tcp(address, "GET", "/products/one", None)
        .await
        .expect(400);
}
