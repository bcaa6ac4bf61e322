//! Who looked at what, kept in Cassandra: the storefront shows visitors what they saw last.
//!
//! The main type is [`Views`]. A view goes away by itself when it is of no interest any more.

use std::sync::Arc;

use scylla::client::session::Session;

use crate::error::Error;

/// The statement that makes the table, where there is none.
pub const VIEWS_CQL: &str = "CREATE TABLE IF NOT EXISTS views (visitor text, at timeuuid, product bigint, PRIMARY KEY (visitor, at)) \
    WITH CLUSTERING ORDER BY (at DESC) AND default_time_to_live = 2592000";

/// The views of all visitors.
#[derive(Debug, Clone)]
pub struct Views {
    session: Arc<Session>,
}

impl Views {
    /// The views in the keyspace of `session`.
    pub fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    /// Notes that `visitor` looks at `product` now.
    ///
    /// # Errors
    /// When Cassandra refuses.
    pub async fn saw(&self, visitor: &str, product: i64) -> Result<(), Error> {
        let statement = "INSERT INTO views (visitor, at, product) VALUES (?, now(), ?)";
        let noted = self
            .session
            .query_unpaged(statement, (visitor, product))
            .await;
        noted.map(drop).map_err(Error::views)
    }

    /// The last `count` products that `visitor` looked at, the last one first.
    ///
    /// # Errors
    /// When Cassandra refuses.
    pub async fn last(&self, visitor: &str, count: i32) -> Result<Vec<i64>, Error> {
        let statement = "SELECT product FROM views WHERE visitor = ? LIMIT ?";
        let seen = self
            .session
            .query_unpaged(statement, (visitor, count))
            .await;
        let seen = seen.map_err(Error::views)?.into_rows_result();
        seen.map_err(Error::views)?
            .rows::<(i64,)>()
            .map_err(Error::views)?
            .map(|row| row.map(|(product,)| product).map_err(Error::views))
            .collect()
    }

    /// Forgets `visitor`, as the law wants.
    ///
    /// # Errors
    /// When Cassandra refuses.
    pub async fn forget(&self, visitor: &str) -> Result<(), Error> {
        let statement = "DELETE FROM views WHERE visitor = ?";
        let forgotten = self.session.query_unpaged(statement, (visitor,)).await;
        forgotten.map(drop).map_err(Error::views)
    }

    /// How many views there are, of whomever.
    ///
    /// # Errors
    /// When Cassandra refuses.
    pub async fn count(&self) -> Result<i64, Error> {
        let counted = self
            .session
            .query_unpaged("SELECT count(*) FROM views", ())
            .await;
        let counted = counted.map_err(Error::views)?.into_rows_result();
        let counted = counted.map_err(Error::views)?.single_row::<(i64,)>();
        counted.map(|(count,)| count).map_err(Error::views)
    }
}
