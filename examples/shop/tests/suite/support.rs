//! Where dagz comes in, and all of it: [`databases`] says once how databases are made and reset, and [`TestApp`] is what
//! a test asks for as its argument.
//!
//! What a test does with the application is in `app.rs`; what people do without dagz is in `today.rs`.

use dagz::postgres::{Prepare, RerouteExt};
use dagz::{Error, ErrorKind, FromScope, Scope};
use tokio_postgres::Config;

use crate::app::TestApp;
use crate::{audit, today};

#[dagz::setup]
fn databases() -> dagz::Result<()> {
    let config = dagz::postgres::Config::from_config(configured()?)
        .migrations(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
        .prepare(Prepare::Baseline);
    dagz::postgres::configure(if audit::is_wanted() {
        config.migrate_with(audit::VERSION, audit::install_into)
    } else {
        config
    })
}

/// Tells dagz that the implementation for [`TestApp`] is of this crate.
pub(crate) struct Shop;

impl FromScope<Shop> for TestApp {
    async fn from_scope(scope: &Scope) -> dagz::Result<Self> {
        let config = configured()?.reroute().await?;
        Ok(Self::over(
            today::unless_active(config, scope.test()).await?,
            scope.test(),
        ))
    }
}

/// The database of this thread's test, for code that is not async.
pub(crate) fn rerouted_blocking() -> dagz::Result<Config> {
    configured()?.reroute_blocking()
}

/// What the application would be configured with: `DATABASE_URL`, and `shop` where that names no database of its own.
fn configured() -> dagz::Result<Config> {
    let url = std::env::var("DATABASE_URL").map_err(|_| {
        let message = "`DATABASE_URL` is not set: run `cargo xtask test -p shop`, \
                       or start a server by `cargo xtask services up postgres` and set what it prints";
        Error::new(ErrorKind::Settings, message)
    })?;
    let mut config: Config = url.parse().map_err(|error| {
        Error::new(ErrorKind::Settings, "`DATABASE_URL` is not usable").with_source(error)
    })?;
    if config.get_dbname().is_none_or(|name| name == "postgres") {
        config.dbname("shop");
    }
    Ok(config)
}
