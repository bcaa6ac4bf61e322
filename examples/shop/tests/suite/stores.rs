//! The application's other stores, of this test's own: [`Stores`] is what a test asks for that works with the storefront's
//! cache or the bookkeepers' ledger.

use dagz::{FromScope, Scope};
use mysql_async::Opts;
use redis::{Client, ConnectionInfo};
use shop::ledger::Ledger;
use shop::storefront::Cache;

use crate::audit::StoreAudit;
use crate::support::{self, Shop};
use crate::today_stores;

/// A cache and a ledger in their start state: nothing cached, nothing posted, two accounts.
pub(crate) struct Stores {
    pub(crate) redis: Client,
    pub(crate) books: Opts,
    /// Counts foreign writes when the test is over, if the run is audited.
    _audit: Option<StoreAudit>,
}

impl FromScope<Shop> for Stores {
    async fn from_scope(scope: &Scope) -> dagz::Result<Self> {
        let redis: ConnectionInfo = support::rerouted_redis().await?;
        let books = support::rerouted_books().await?;
        today_stores::empty_unless_active(&redis, &books).await?;
        let redis = Client::open(redis).map_err(support::unusable("REDIS_URL"))?;
        Ok(Self {
            _audit: StoreAudit::of(&redis, scope.test()).await,
            redis,
            books,
        })
    }
}

impl Stores {
    /// A cache over connections of its own, as another instance of the service would have it.
    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.redis.clone())
    }

    /// The ledger, over connections of its own.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(self.books.clone())
    }
}
