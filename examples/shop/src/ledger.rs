//! The books, kept in a MySQL database of the bookkeepers' own: payments are handed on to it from the outbox.
//!
//! The main type is [`Ledger`]. Postgres and MySQL cannot commit together; so a payment may be handed on twice, and its
//! event's number sees to it that it is posted once.

use deadpool_postgres::Pool;
use mysql_async::prelude::Queryable;
use mysql_async::{Opts, TxOpts};

use crate::error::Error;

/// The statements that make the ledger's tables, by `;`.
pub const LEDGER_SQL: &str = include_str!("../ledger/0001_ledger.sql");

/// Where money comes in.
const BANK: &str = "1200";
/// What it is for.
const SALES: &str = "8400";

/// The books.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: mysql_async::Pool,
}

impl Ledger {
    /// The ledger in the database of `options`; connects when it is used.
    pub fn new(options: Opts) -> Self {
        Self {
            pool: mysql_async::Pool::new(options),
        }
    }

    /// Posts the payments of the shop at `shop` that are not in the books yet, and returns how many there were.
    ///
    /// # Errors
    /// When either database refuses; what was posted until then stays.
    pub async fn post(&self, shop: &Pool) -> Result<u64, Error> {
        let mut books = self.pool.get_conn().await?;
        let last: Option<i64> = books
            .query_first("SELECT coalesce(max(event_id), 0) FROM postings")
            .await?;
        let paid = shop
            .get()
            .await?
            .query(
                "SELECT e.id, o.id, o.total_cents FROM outbox e JOIN orders o ON o.id = (e.payload->>'order_id')::bigint
                 WHERE e.topic = 'order.paid' AND e.id > $1 ORDER BY e.id",
                &[&last.unwrap_or_default()],
            )
            .await?;
        let mut posted = 0;
        for row in paid {
            let (event, order, cents): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
            let mut transaction = books.start_transaction(TxOpts::default()).await?;
            transaction
                .exec_drop(
                    "INSERT IGNORE INTO postings (event_id, order_id) VALUES (?, ?)",
                    (event, order),
                )
                .await?;
            if transaction.affected_rows() == 0 {
                // Another instance was faster.
                transaction.rollback().await?;
                continue;
            }
            let posting = transaction.last_insert_id();
            transaction
                .exec_batch(
                    "INSERT INTO entries (posting_id, account, cents) VALUES (?, ?, ?)",
                    [(posting, BANK, cents), (posting, SALES, -cents)],
                )
                .await?;
            transaction.commit().await?;
            posted += 1;
        }
        Ok(posted)
    }

    /// What lies on an account, in cents; nothing on one that has no entries.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn balance(&self, account: &str) -> Result<i64, Error> {
        let mut books = self.pool.get_conn().await?;
        let cents: Option<i64> = books
            .exec_first(
                "SELECT CAST(coalesce(sum(cents), 0) AS SIGNED) FROM entries WHERE account = ?",
                (account,),
            )
            .await?;
        Ok(cents.unwrap_or_default())
    }

    /// Closes its connections.
    ///
    /// # Errors
    /// When one cannot be closed in order.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.pool.disconnect().await?)
    }
}
