//! A cluster as this crate reaches it: how sessions are opened, kept, and asked.
//!
//! [`Source`] is an application's settings without the keyspace. A [`Kept`] session is opened once per process,
//! cluster, user and keyspace, and lives on dagz's control runtime. [`ask`] and its like send dagz's own
//! statements, by a profile of their own: nothing of a session's settings has a say in them.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::Duration,
};

use dagz_core::{Endpoint, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::{
    client::{
        PoolSize,
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
        session_builder::SessionBuilder,
    },
    cluster::KnownNode,
    deserialize::row::DeserializeRow,
    policies::{
        load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
        retry::FallthroughRetryPolicy,
    },
    response::query_result::QueryResult,
    statement::{Consistency, SerialConsistency, unprepared::Statement},
};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    cql,
    error::{self, Native},
};

/// The longest name of a keyspace.
pub(crate) const NAME_LIMIT: usize = 48;

/// How long one of dagz's reads and writes may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long what the server is slow at may take: `TRUNCATE`, which waits for a flush, and changes of the schema.
pub(crate) const SLOW: Duration = Duration::from_secs(90);

/// How long a kept session may take to show that it is alive.
const ALIVE: Duration = Duration::from_secs(3);

/// How often is asked whether all nodes have a changed schema.
const AGREEMENT_POLL: Duration = Duration::from_millis(20);

/// How a cluster is reached, and in which keyspace.
#[derive(Clone)]
pub(crate) struct Source {
    /// Without a keyspace.
    builder: SessionBuilder,
    keyspace: String,
    shown: String,
    user: Option<String>,
}

impl Source {
    pub(crate) fn from_builder(mut builder: SessionBuilder) -> Self {
        let is_spelled = builder.config.keyspace_case_sensitive;
        let keyspace = builder.config.used_keyspace.take().unwrap_or_default();
        let nodes: Vec<_> = builder
            .config
            .known_nodes
            .iter()
            .map(|node| match node {
                KnownNode::Hostname(name) => with_port(name),
                KnownNode::Address(address) => address.to_string(),
                // Of a later scylla; shown as it shows itself.
                other => format!("{other:?}"),
            })
            .collect();
        Self {
            keyspace: if is_spelled {
                keyspace
            } else {
                keyspace.to_lowercase()
            },
            shown: nodes.join(","),
            user: None,
            builder,
        }
    }

    pub(crate) fn with_user(mut self, user: Option<String>) -> Self {
        self.user = user;
        self
    }

    /// The keyspace, as the server spells it; empty where there is none.
    pub(crate) fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// The contact points.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.shown.clone())
    }

    /// The same cluster and user, another keyspace.
    pub(crate) fn in_keyspace(&self, keyspace: &str) -> Self {
        Self {
            keyspace: keyspace.to_owned(),
            ..self.clone()
        }
    }

    /// The application's settings, for this keyspace.
    pub(crate) fn builder(&self) -> SessionBuilder {
        let mut builder = self.builder.clone();
        if !self.keyspace.is_empty() {
            builder.config.used_keyspace = Some(self.keyspace.clone());
            builder.config.keyspace_case_sensitive = true;
        }
        builder
    }

    /// A session in no keyspace, opened at little cost: one connection, and nothing of the schema.
    pub(crate) async fn open(&self, fetch_schema: bool) -> Result<Session> {
        let builder = self
            .builder
            .clone()
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .schema_agreement_interval(AGREEMENT_POLL)
            .fetch_schema_metadata(fetch_schema)
            .refresh_metadata_on_auto_schema_agreement(fetch_schema);
        let builder = if fetch_schema && !self.keyspace.is_empty() {
            builder.keyspaces_to_fetch([self.keyspace.clone()])
        } else {
            builder
        };
        builder
            .build()
            .await
            .map_err(|error| error::connecting(self, error))
    }

    /// A session for changes of the schema, which waits for no agreement by itself.
    pub(crate) async fn open_for_schema(&self) -> Result<Session> {
        let quiet = Self {
            builder: self.builder.clone().auto_await_schema_agreement(false),
            ..self.clone()
        };
        quiet.open(false).await
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Source")
            .field("server", &self.shown)
            .field("keyspace", &self.keyspace)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn with_port(name: &str) -> String {
    let has_port = name.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port {
        name.to_owned()
    } else {
        format!("{name}:9042")
    }
}

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

    /// The cluster, by its name and its node's number, shown by its contact points.
    pub(crate) async fn identity(&self, session: &Session) -> Result<&Endpoint, Native> {
        self.identity
            .get_or_try_init(|| async {
                let query = "SELECT cluster_name, host_id FROM system.local WHERE key = 'local'";
                let found: Vec<(String, scylla::value::CqlValue)> =
                    rows(ask(session, query).await?)?;
                let (name, node) = found
                    .into_iter()
                    .next()
                    .ok_or_else(|| Native::unexpected("the server does not say who it is"))?;
                Ok(Endpoint::new(format!("{name} {node}")).shown_as(self.source.shown()))
            })
            .await
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
                        dagz_core::ErrorKind::WorkerInit,
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
    let found: Vec<(scylla::value::CqlValue, scylla::value::CqlTimestamp)> =
        rows(ask(session, query).await?)?;
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
