//! An application's settings for a cluster, taken apart: how it is reached, and in which keyspace.
//!
//! The main type is [`Source`], which `route.rs` makes of a builder or a URL and `server.rs` opens sessions by.

use std::{fmt, num::NonZeroUsize, time::Duration};

use dagz_core::{Endpoint, Result, driver::command_line};
use scylla::{
    client::{PoolSize, session::Session, session_builder::SessionBuilder},
    cluster::KnownNode,
};

use crate::error;

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

    /// What a person types to look into `keyspace`; asks for the password, if there is a user.
    pub(crate) fn client_command(&self, keyspace: &str) -> String {
        let first = self.shown.split(',').next().unwrap_or_default();
        let (host, port) = first.rsplit_once(':').unwrap_or((first, "9042"));
        let mut words = vec!["cqlsh", host.trim_matches(['[', ']']), port];
        if let Some(user) = &self.user {
            words.extend(["-u", user]);
        }
        words.extend(["-k", keyspace]);
        command_line(words)
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
