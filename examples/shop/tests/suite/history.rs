//! The visitors' history of this test's own: [`History`] is what a test asks for that works with views.
//!
//! Without dagz all tests have one keyspace, whose table is truncated before each, if this suite has made it.

use std::sync::Arc;

use dagz::cassandra::scylla::client::session::Session;
use dagz::cassandra::scylla::client::session_builder::SessionBuilder;
use dagz::{Error, ErrorKind, FromScope, Scope};
use shop::views::{VIEWS_CQL, Views};

use crate::support::{self, Shop};

/// By which a keyspace is known to be this suite's.
const MARK: &str = "made_by_the_tests_of_dagz_example_shop";

/// A history in which nobody has looked at anything.
pub(crate) struct History {
    pub(crate) views: Views,
}

impl FromScope<Shop> for History {
    async fn from_scope(_: &Scope) -> dagz::Result<Self> {
        let url = support::history()?;
        let session = if dagz::active() {
            dagz::cassandra::session(&url).await?
        } else {
            emptied(&url).await?
        };
        Ok(Self {
            views: Views::new(session),
        })
    }
}

/// The table of a worker's keyspace.
pub(crate) async fn migrate(session: Arc<Session>) -> Result<(), BoxError> {
    session.query_unpaged(VIEWS_CQL, ()).await?;
    Ok(())
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What people do without dagz: one keyspace for all.
async fn emptied(url: &str) -> dagz::Result<Arc<Session>> {
    let failed = |error: BoxError| {
        Error::new(ErrorKind::Prepare, "emptying the history failed").with_source(error)
    };
    let (keyspace, builder) = settings(url)?;
    let (session, is_ours) = empty(&keyspace, builder).await.map_err(failed)?;
    if is_ours {
        return Ok(Arc::new(session));
    }
    let message = format!(
        "refusing to empty keyspace `{keyspace}`: these tests did not make it; name another one in `CASSANDRA_URL`"
    );
    Err(Error::new(ErrorKind::Refused, message))
}

/// A session in the keyspace, and whether that was ours to empty.
async fn empty(keyspace: &str, builder: SessionBuilder) -> Result<(Session, bool), BoxError> {
    let session = builder.build().await?;
    let known = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let known = session.query_unpaged(known, (keyspace,)).await?;
    if known.into_rows_result()?.rows_num() == 0 {
        let made = format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        );
        session.query_unpaged(made, ()).await?;
        let mark = format!("CREATE TABLE IF NOT EXISTS {keyspace}.{MARK} (id int PRIMARY KEY)");
        session.query_unpaged(mark, ()).await?;
    }
    session.use_keyspace(keyspace, false).await?;
    let marked =
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let marked = session.query_unpaged(marked, (keyspace, MARK)).await?;
    let is_ours = marked.into_rows_result()?.rows_num() == 1;
    if is_ours {
        session.query_unpaged(VIEWS_CQL, ()).await?;
        session.query_unpaged("TRUNCATE views", ()).await?;
    }
    Ok((session, is_ours))
}

/// The keyspace of a `cassandra://user:password@host:port/keyspace`, and a builder for the rest of it.
fn settings(url: &str) -> dagz::Result<(String, SessionBuilder)> {
    let parts = || {
        let (account, place) = url.strip_prefix("cassandra://")?.split_once('@')?;
        let (user, password) = account.split_once(':')?;
        let (host, keyspace) = place.split_once('/')?;
        let builder = SessionBuilder::new().known_node(host).user(user, password);
        Some((keyspace.to_owned(), builder))
    };
    parts().ok_or_else(|| Error::new(ErrorKind::Settings, "`CASSANDRA_URL` is not usable"))
}
