//! The service: brings the database of `DATABASE_URL` up to date, then serves on `LISTEN` (`127.0.0.1:8080`); the
//! storefront too, where `REDIS_URL` names a cache for it.

use std::env;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

use shop::outbox::Dispatcher;
use shop::storefront::Cache;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("DATABASE_URL")
        .map_err(|_| "`DATABASE_URL` is not set, e.g. `postgres://localhost/shop`")?;
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let pool = shop::pool(url.parse()?);
    let client = pool.get().await?;
    let migrated = shop::migrate(&client).await?;
    drop(client);
    let dispatcher = Dispatcher::start(pool.clone(), Duration::from_millis(500));
    let listener = TcpListener::bind(&listen).await?;
    writeln!(
        std::io::stderr(),
        "{migrated} migrations run, listening on {}",
        listener.local_addr()?
    )?;
    let router = match env::var("REDIS_URL") {
        Ok(url) => shop::router_with_storefront(pool, Cache::new(redis::Client::open(url)?)),
        Err(_) => shop::router(pool),
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(async {
            // Without the signal handler there is no graceful end, only the abrupt one.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    dispatcher.stop().await?;
    Ok(())
}
