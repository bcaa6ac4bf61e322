//! Transactions that were prepared by `XA PREPARE`, and whose session is gone.
//!
//! They hold their locks until somebody commits them, or rolls them back. MySQL keeps those on tables, too, which
//! `reset/sessions.rs` finds as it finds any. MariaDB gives these back with the session, and what is left on rows keeps only
//! those out who lock a table in a transaction. So that is done there by [`Keeper::check_prepared`], where the server has
//! such transactions. Whose they are nobody can tell, so none is ended here.

use std::time::Duration;

use dagz_core::{Error, ErrorKind, driver::Failure};
use mysql_async::{Conn, Row, prelude::Queryable as _};

use super::{failed, failure, keeper::Keeper, sessions::Watch};
use crate::{error, server::Flavour, sql};

/// How often it is looked, and how long after one another: who reads for a moment is not meant.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// What to do about one, for people.
pub(crate) const REMEDY: &str =
    "`XA RECOVER` lists such transactions, and `XA ROLLBACK` with its name ends one";

impl Keeper {
    /// An error where a prepared transaction without a session holds locks in `database`.
    pub(super) async fn check_prepared(&mut self, database: &str) -> Result<(), Failure> {
        if self.facts.flavour == Flavour::MySql || self.blind == Some("prepared") {
            return Ok(());
        }
        let tables = self.start.tables.iter();
        let tables: Vec<_> = tables.map(|table| sql::identifier(&table.name)).collect();
        let watch = Watch::new(&self.facts, database, &tables);
        for _ in 0..LOOKS {
            match are_held(&mut self.conn, &watch).await {
                Ok(false) => return Ok(()),
                Ok(true) => tokio::time::sleep(PAUSE).await,
                // What is not there any more is found by looking; and who may not ask cannot know.
                Err(error) if error::is_shape_changed(&error) || error::is_denied(&error) => {
                    return Ok(());
                }
                Err(error) => return Err(failure(error, |error| failed(database, error))),
            }
        }
        Err(Failure::Final(Error::new(
            ErrorKind::InUse,
            format!(
                "cannot reset database `{database}`: a transaction that was prepared, and whose session is gone, holds locks in it; {REMEDY}"
            ),
        )))
    }
}

/// Whether there are locks, on rows, of nobody who has the tables locked.
async fn are_held(conn: &mut Conn, watch: &Watch) -> Result<bool, mysql_async::Error> {
    let prepared: Vec<Row> = conn.query("XA RECOVER").await?;
    if prepared.is_empty() {
        return Ok(false);
    }
    conn.query_drop("SET SESSION autocommit = 0").await?;
    let are_free = watch.is_free(conn).await;
    conn.query_drop("SET SESSION autocommit = 1").await?;
    Ok(!are_free? && watch.is_free(conn).await?)
}
