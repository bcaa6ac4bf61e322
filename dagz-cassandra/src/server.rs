//! A cluster as this crate reaches it: how sessions are opened, kept, and asked.
//!
//! A [`Kept`] session, opened by a [`Source`] (`source.rs`), is opened once per process,
//! cluster, user and keyspace, and lives on dagz's control runtime. [`ask`] and its like send dagz's own
//! statements, by a profile of their own: nothing of a session's settings has a say in them.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use dagz_core::{Endpoint, ErrorKind, Result, driver, event};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
    },
    deserialize::row::DeserializeRow,
    policies::{
        load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
        retry::FallthroughRetryPolicy,
    },
    response::query_result::QueryResult,
    statement::{Consistency, SerialConsistency, unprepared::Statement},
    value::{CqlTimestamp, CqlValue},
};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    cql,
    driver::NAME,
    error::{self, Native},
    source::Source,
};

/// The longest name of a keyspace.
pub(crate) const NAME_LIMIT: usize = 48;

/// How long one of dagz's reads and writes may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long what the server is slow at may take: `TRUNCATE`, which waits for a flush, and changes of the schema.
pub(crate) const SLOW: Duration = Duration::from_secs(90);

/// How long a kept session may take to show that it is alive.
const ALIVE: Duration = Duration::from_secs(3);

/// A cluster, and what is known of it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) source: Source,
    identity: OnceCell<Endpoint>,
}

impl Server {
    pub(crate) fn new(source: &Source) -> Self {
        Self {
            source: source.clone(),
            identity: OnceCell::new(),
        }
    }

    async fn ask_identity(&self) -> Result<Endpoint> {
        let session = self.source.open(false).await?;
        let query = "SELECT cluster_name, host_id FROM system.local WHERE key = 'local'";
        let found = ask(&session, query).await.and_then(rows);
        let found: Result<Vec<(String, CqlValue)>, Native> = found;
        match found.map(|rows| rows.into_iter().next()) {
            Ok(Some((name, node))) => {
                Ok(Endpoint::new(format!("{name} {node}")).shown_as(self.source.shown()))
            }
            Ok(None) => Err(self.nameless(Native::unexpected("no row of its own"))),
            Err(error) => Err(self.nameless(error)),
        }
    }

    fn nameless(&self, error: Native) -> dagz_core::Error {
        let message = format!(
            "Cassandra at `{}` does not say who it is",
            self.source.shown()
        );
        let user = self.source.user();
        error::statement(ErrorKind::Unreachable, message, "", user, error)
    }
}

impl driver::Server for Server {
    /// The cluster, by its name and its node's number, shown by its contact points.
    async fn identity(&self) -> Result<&Endpoint> {
        self.identity.get_or_try_init(|| self.ask_identity()).await
    }
}

/// A session of this process for one keyspace, on the control runtime.
#[derive(Debug)]
pub(crate) struct Kept {
    source: Source,
    fetch_schema: bool,
    session: Mutex<Option<Arc<Session>>>,
}

impl Kept {
    pub(crate) fn new(source: Source, fetch_schema: bool) -> Self {
        Self {
            source,
            fetch_schema,
            session: Mutex::default(),
        }
    }

    /// The session, opened now if there is none. Whether it still lives, whoever uses it will see.
    pub(crate) async fn get(&self) -> Result<Arc<Session>> {
        let mut kept = self.session.lock().await;
        if let Some(session) = &*kept {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.source.open(self.fetch_schema).await?);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Forgets a session that reaches nobody any more.
    pub(crate) async fn forget(&self, dead: &Arc<Session>) {
        let mut kept = self.session.lock().await;
        if kept
            .as_ref()
            .is_some_and(|session| Arc::ptr_eq(session, dead))
        {
            *kept = None;
        }
    }

    /// The session, alive and in its keyspace, whatever a test did to it.
    pub(crate) async fn ready(&self) -> Result<Arc<Session>> {
        let mut is_second = false;
        loop {
            let session = self.get().await?;
            match tokio::time::timeout(ALIVE, self.settle(&session)).await {
                Ok(Ok(())) => return Ok(session),
                Ok(Err(error)) if !error.is_lost() || is_second => {
                    return Err(error::statement(
                        ErrorKind::WorkerInit,
                        format!(
                            "keyspace `{}` cannot be used at `{}`",
                            self.source.keyspace(),
                            self.source.shown()
                        ),
                        self.source.keyspace(),
                        self.source.user(),
                        error,
                    ));
                }
                _ => self.forget(&session).await,
            }
            is_second = true;
        }
    }

    async fn settle(&self, session: &Session) -> Result<(), Native> {
        let keyspace = self.source.keyspace();
        if !keyspace.is_empty() && !is_in(session, keyspace) {
            // A session that has just been opened may not be in any yet.
            if let Some(other) = session.get_keyspace() {
                let told = format!(
                    "the session of keyspace `{keyspace}` is in `{other}`, as an earlier test's `USE` left it; it is moved back"
                );
                event::warn(Some(NAME), &told);
            }
            session.use_keyspace(keyspace, true).await?;
            return Ok(());
        }
        ask(session, "SELECT key FROM system.local WHERE key = 'local'")
            .await
            .map(drop)
    }
}

/// Whether a session uses `keyspace`.
pub(crate) fn is_in(session: &Session, keyspace: &str) -> bool {
    session
        .get_keyspace()
        .is_some_and(|used| used.as_str() == keyspace)
}

/// How dagz's own statements are executed.
pub(crate) fn profile() -> ExecutionProfileHandle {
    static PROFILE: OnceLock<ExecutionProfileHandle> = OnceLock::new();
    PROFILE
        .get_or_init(|| {
            ExecutionProfile::builder()
                .consistency(Consistency::Quorum)
                .serial_consistency(Some(SerialConsistency::Serial))
                .request_timeout(Some(PATIENCE))
                // What may have been done must not be done twice behind our back.
                .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
                .build()
                .into_handle()
        })
        .clone()
}

/// A profile that has all statements executed by one and the same node, which knows its own changes of
/// the schema before the others agree.
pub(crate) fn pinned(session: &Session) -> ExecutionProfileHandle {
    let state = session.get_cluster_state();
    match state.get_nodes_info() {
        [first, _, ..] => {
            let node = NodeIdentifier::Node(Arc::clone(first));
            profile()
                .pointee_to_builder()
                .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(node, None))
                .build()
                .into_handle()
        }
        _ => profile(),
    }
}

/// Whether the cluster has one node only.
pub(crate) fn is_single(session: &Session) -> bool {
    session.get_cluster_state().get_nodes_info().len() < 2
}

/// One of dagz's statements.
pub(crate) fn statement(text: impl Into<String>, patience: Duration) -> Statement {
    let mut statement = Statement::new(text);
    statement.set_execution_profile_handle(Some(profile()));
    statement.set_request_timeout(Some(patience));
    statement
}

/// Executes one of dagz's statements that are quick.
pub(crate) async fn ask(session: &Session, text: impl Into<String>) -> Result<QueryResult, Native> {
    Ok(session.query_unpaged(statement(text, PATIENCE), ()).await?)
}

/// Executes a statement that the server is slow at.
pub(crate) async fn ask_slowly(
    session: &Session,
    text: impl Into<String>,
    profile: &ExecutionProfileHandle,
) -> Result<QueryResult, Native> {
    let mut statement = statement(text, SLOW);
    statement.set_execution_profile_handle(Some(profile.clone()));
    Ok(session.query_unpaged(statement, ()).await?)
}

/// The rows of an answer.
pub(crate) fn rows<T>(result: QueryResult) -> Result<Vec<T>, Native>
where
    T: for<'f, 'm> DeserializeRow<'f, 'm>,
{
    let rows = result.into_rows_result().map_err(Native::unexpected)?;
    let rows = rows.rows::<T>().map_err(Native::unexpected)?;
    rows.collect::<Result<_, _>>().map_err(Native::unexpected)
}

/// What the server says of itself at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Changes with every change of any schema.
    pub(crate) schema_version: String,
    /// Its clock, in milliseconds since the epoch.
    pub(crate) millis: i64,
    /// When its answer came.
    pub(crate) at: std::time::Instant,
}

/// Asks for the version of the schema and for the clock.
pub(crate) async fn moment(session: &Session) -> Result<Moment, Native> {
    let query = "SELECT schema_version, toTimestamp(now()) FROM system.local WHERE key = 'local'";
    let found: Vec<(CqlValue, CqlTimestamp)> = rows(ask(session, query).await?)?;
    let at = std::time::Instant::now();
    let (version, clock) = found
        .into_iter()
        .next()
        .ok_or_else(|| Native::unexpected("the server does not say which schema it has"))?;
    Ok(Moment {
        schema_version: version.to_string(),
        millis: clock.0,
        at,
    })
}

/// Waits for all of `futures`, of which at most `limit` are on their way at a time; stops at the first failure.
///
/// They come in a `Vec`: the compiler cannot see that a stream which makes them as it goes may move between
/// threads.
pub(crate) async fn all<T, F>(limit: usize, futures: Vec<F>) -> Result<Vec<T>, Native>
where
    F: Future<Output = Result<T, Native>>,
{
    stream::iter(futures)
        .buffer_unordered(limit)
        .try_collect()
        .await
}

/// The statement that empties a table.
pub(crate) fn truncating(keyspace: &str, table: &str) -> String {
    format!("TRUNCATE TABLE {}", cql::qualified(keyspace, table))
}
