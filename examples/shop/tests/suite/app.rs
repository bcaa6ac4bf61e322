//! What tests do with the application: [`TestApp`] is it, with its database; [`Reply`] is what it answers.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use deadpool_postgres::Pool;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::{Client, Config};
use tower::ServiceExt;

use crate::audit::Audit;
use crate::stores::Stores;
use crate::today;

/// The application over a database of this test's own.
pub(crate) struct TestApp {
    pub(crate) pool: Pool,
    pub(crate) config: Config,
    router: Router,
    /// Counts foreign writes when the test is over, if the run is audited.
    _audit: Option<Audit>,
}

impl TestApp {
    /// The application over the database of `config`.
    pub(crate) fn over(config: Config, test: &str) -> Self {
        let pool = shop::pool(config.clone());
        Self {
            router: shop::router(pool.clone()),
            _audit: Audit::of(&config, test),
            pool,
            config,
        }
    }

    /// The application once more over the same database, connected with `config`, and not audited twice.
    pub(crate) fn again(config: Config) -> Self {
        let pool = shop::pool(config.clone());
        Self {
            router: shop::router(pool.clone()),
            _audit: None,
            pool,
            config,
        }
    }

    /// The same, with the storefront over a cache of this test's own.
    pub(crate) fn with_storefront(mut self, stores: &Stores) -> Self {
        self.router = shop::router_with_storefront(self.pool.clone(), stores.cache());
        self
    }

    /// A connection beside the application's pool.
    pub(crate) async fn connect(&self) -> Client {
        today::connect(&self.config).await.unwrap()
    }

    /// The one value of the one row that `query` returns.
    pub(crate) async fn value<T>(&self, query: &str) -> T
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        self.pool
            .get()
            .await
            .unwrap()
            .query_one(query, &[])
            .await
            .unwrap()
            .get(0)
    }

    /// Runs statements through the pool.
    pub(crate) async fn sql(&self, statements: &str) {
        self.pool
            .get()
            .await
            .unwrap()
            .batch_execute(statements)
            .await
            .unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path, None, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.request(Method::POST, path, Some(body), None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.request(Method::PUT, path, Some(body), None).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.request(Method::PATCH, path, Some(body), None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.request(Method::DELETE, path, None, None).await
    }

    /// One request, with a bearer token if one is given.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        token: Option<&str>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let response = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Reply {
            status,
            body: parse(&bytes),
        }
    }

    /// Serves on a port of its own, on the test's runtime.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// A product of the category `atlases` that costs `cents` euro cents, `stock` of which lie in the main warehouse.
    pub(crate) async fn product(&self, sku: &str, cents: i64, stock: i32) -> i64 {
        let client = self.pool.get().await.unwrap();
        let row = client
            .query_one(
                "WITH product AS (
                     INSERT INTO products (sku, name, category_id) VALUES ($1, initcap($1), 6) RETURNING id
                 ), price AS (
                     INSERT INTO product_prices (product_id, currency, amount_cents) SELECT id, 'EUR', $2 FROM product
                 ), stock AS (
                     INSERT INTO stock_levels (warehouse_id, product_id, on_hand)
                     SELECT 1, id, $3::int FROM product WHERE $3::int > 0
                 )
                 SELECT id FROM product",
                &[&sku, &cents, &stock],
            )
            .await
            .unwrap();
        row.get(0)
    }

    /// A customer in Germany, called as the address is.
    pub(crate) async fn customer(&self, email: &str) -> i64 {
        let client = self.pool.get().await.unwrap();
        let insert =
            "INSERT INTO customers (email, name, country_code) VALUES ($1, $1, 'DE') RETURNING id";
        client.query_one(insert, &[&email]).await.unwrap().get(0)
    }

    /// Orders `quantity` of one product, to be fetched from the shop.
    pub(crate) async fn order(&self, customer: i64, product: i64, quantity: i32) -> Reply {
        let lines = json!([{ "product_id": product, "quantity": quantity }]);
        let order = json!({ "customer_id": customer, "shipping_method": "pickup", "lines": lines });
        self.post("/orders", order).await
    }

    /// Pays by card; the key is made of the order and the amount.
    pub(crate) async fn pay(&self, order: i64, cents: i64) -> Reply {
        let key = format!("{order}-{cents}");
        let payment = json!({ "method": "card", "amount_cents": cents, "idempotency_key": key });
        self.post(&format!("/orders/{order}/payments"), payment)
            .await
    }

    /// An order of `quantity` of product 1 by customer 1 that is paid; both are made, with enough stock.
    pub(crate) async fn paid_order(&self, quantity: i32) -> i64 {
        let product = self.product("ATLAS-1", 1000, quantity).await;
        let customer = self.customer("buyer@shop.example").await;
        let order = self.order(customer, product, quantity).await.expect(201);
        let id = order["id"].as_i64().unwrap();
        self.pay(id, order["total_cents"].as_i64().unwrap())
            .await
            .expect(201);
        id
    }

    /// The same order, sent.
    pub(crate) async fn shipped_order(&self, quantity: i32) -> i64 {
        let id = self.paid_order(quantity).await;
        self.post(&format!("/orders/{id}/ship"), json!({ "tracking": "T-1" }))
            .await
            .expect(201);
        id
    }

    /// Asks for `path` until `done` says so, for what a background task does.
    pub(crate) async fn until(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let body = self.get(path).await.expect(200);
            if done(&body) {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("`{path}` did not become what was awaited within 5 s");
    }
}

/// What the application answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    /// The body, if the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The text of an error, if the status is this one.
    #[track_caller]
    pub(crate) fn error(self, status: u16) -> String {
        let body = self.expect(status);
        body["error"]
            .as_str()
            .unwrap_or_else(|| panic!("not the application's error: {body}"))
            .to_owned()
    }
}

/// JSON, plain text for what axum itself refuses, null for no body.
fn parse(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

/// One HTTP request over a real connection; `body` is sent as JSON.
pub(crate) async fn over_tcp(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Reply {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply {
        status,
        body: parse(body.as_bytes()),
    }
}
