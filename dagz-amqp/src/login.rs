//! The broker users as which tests log in: one per test, so that all its connections can be ended at once.
//!
//! A broker tells who is connected only seconds later, but ends at once whatever a user has open. So the
//! credentials in a rerouted address are those of a [`Login`] that is made for one test: when it has ended, the
//! user is deleted, nobody can come back as it, and then its connections are closed. Its password follows from
//! its name and a secret of the configuration, and so needs no place where child processes would find it.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use dagz_core::{ErrorKind, Result, name};
use hmac::{Hmac, KeyInit, Mac};
use lapin::uri::AMQPUri;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{management::part, server::Server, topology::OWN};

/// The most of a vhost's name that its users' names repeat, in bytes.
const SHOWN: usize = 80;

/// A broker user of dagz's.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    password: String,
}

/// Shows who it is, without the password.
impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// A user that never was before, for `vhost`.
    fn new(server: &Server, vhost: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.map_or(0, |elapsed| elapsed.as_nanos());
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Containers have process numbers in common, and clocks, but not the seed of this.
        let random = RandomState::new().hash_one((process::id(), time, count));
        Self::known(server, format!("{}{random:016x}", prefix(vhost)))
    }

    /// The user of this name, which dagz has made.
    fn known(server: &Server, user: String) -> Self {
        let secret = server.management().address().password.as_bytes();
        // A key of any length will do.
        let mut mac = Hmac::<Sha256>::new_from_slice(secret)
            .unwrap_or_else(|_| Hmac::new(&Default::default()));
        mac.update(b"dagz-amqp\0");
        mac.update(user.as_bytes());
        let digest = mac.finalize().into_bytes();
        Self {
            user,
            password: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// `uri`, for this user.
    pub(crate) fn applied_to(&self, uri: &mut AMQPUri) {
        self.user.clone_into(&mut uri.authority.userinfo.username);
        self.password
            .clone_into(&mut uri.authority.userinfo.password);
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

/// How the names of all users for `vhost` begin, and no other's.
fn prefix(vhost: &str) -> String {
    let shown: String = vhost
        .char_indices()
        .take_while(|(at, _)| *at < SHOWN)
        .map(|(_, character)| character)
        .collect();
    if shown == vhost {
        format!("{OWN}{shown}.")
    } else {
        format!("{OWN}{shown}.{}.", name::short_hash(vhost))
    }
}

/// What a user may do in a vhost.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    permissions: Value,
    topics: Vec<Value>,
}

impl Rights {
    /// Those that the configured user has in the vhost `base`; all, where it has none there.
    pub(crate) async fn of(server: &Server, base: &str) -> Result<Self> {
        let user = &server.uri().authority.userinfo.username;
        let (base, name) = (part(base), part(user));
        let doing = format!("tell what user `{user}` may do");
        let failed =
            |trouble: crate::management::Trouble| trouble.into_error(ErrorKind::WorkerInit, &doing);
        let management = server.management();
        let permissions = format!("/api/permissions/{base}/{name}");
        let topics = format!("/api/topic-permissions/{base}/{name}");
        let told =
            futures_util::future::try_join(management.get(&permissions), management.get(&topics));
        let (permissions, topics) = told.await.map_err(failed)?;
        let kept = |value: &Value, keys: &[&str]| -> Value {
            let pairs = keys
                .iter()
                .map(|key| ((*key).to_owned(), value[*key].clone()));
            Value::Object(pairs.collect())
        };
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        Ok(Self {
            permissions: permissions
                .map_or(all, |told| kept(&told, &["configure", "write", "read"])),
            topics: match topics {
                Some(Value::Array(topics)) => topics
                    .iter()
                    .map(|topic| kept(topic, &["exchange", "write", "read"]))
                    .collect(),
                _ => Vec::new(),
            },
        })
    }
}

/// Makes a user for `vhost`, who may do there what `rights` say.
pub(crate) async fn create(server: &Server, vhost: &str, rights: &Rights) -> Result<Login> {
    let login = Login::new(server, vhost);
    let doing = format!("make a user for vhost `{vhost}`");
    let failed =
        |trouble: crate::management::Trouble| trouble.into_error(ErrorKind::Prepare, &doing);
    let management = server.management();
    let (user, place) = (part(&login.user), part(vhost));
    let body = json!({"password": login.password, "tags": ""});
    let path = format!("/api/users/{user}");
    management.put(&path, body).await.map_err(failed)?;
    let given = async {
        let right = format!("/api/permissions/{place}/{user}");
        management.put(&right, rights.permissions.clone()).await?;
        let right = format!("/api/topic-permissions/{place}/{user}");
        for topic in &rights.topics {
            management.put(&right, topic.clone()).await?;
        }
        Ok(())
    };
    match given.await {
        Ok(()) => Ok(login),
        Err(trouble) => {
            // Nobody would find it there, and nobody remove it.
            drop(management.delete(&path).await);
            Err(failed(trouble))
        }
    }
}

/// Deletes the user, then ends what it has open: in this order, so that it cannot come back. When this
/// returns, the broker has done with everything that came over its connections. Who is `blind` to `users` deletes none,
/// and to `connections` ends none: the broker ends those of a deleted user, too, but a moment later.
pub(crate) async fn remove(server: &Server, user: &str, blind: Option<&str>) -> Result<()> {
    let management = server.management();
    let user = part(user);
    let deleted = format!("/api/users/{user}");
    let ended = format!("/api/connections/username/{user}");
    let paths = match blind {
        Some("users") => vec![ended],
        Some("connections") => vec![deleted],
        _ => vec![deleted, ended],
    };
    for path in paths {
        management.delete(&path).await.map_err(|trouble| {
            trouble.into_error(
                ErrorKind::Prepare,
                "end the connections that an earlier test left",
            )
        })?;
    }
    Ok(())
}

/// The names of dagz's users for `vhost`.
pub(crate) async fn all(server: &Server, vhost: &str) -> Result<Vec<String>> {
    let path = format!("/api/vhosts/{}/permissions", part(vhost));
    let doing = format!("list the users of vhost `{vhost}`");
    let told = server.management().get(&path).await;
    let told = told.map_err(|trouble| trouble.into_error(ErrorKind::Prepare, &doing))?;
    let told = told
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let names = told.filter_map(|entry| entry["user"].as_str());
    Ok(names
        .filter(|name| name.starts_with(OWN))
        .map(str::to_owned)
        .collect())
}

/// Deletes all of dagz's users for `vhost`, also those that were never given rights in it.
pub(crate) async fn remove_all(server: &Server, vhost: &str) -> Result<()> {
    let told = server.management().get("/api/users").await;
    let told = told.map_err(|trouble| {
        let doing = format!("list the users of vhost `{vhost}`");
        trouble.into_error(ErrorKind::WorkerInit, &doing)
    })?;
    let prefix = prefix(vhost);
    let told = told
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let names = told.filter_map(|user| user["name"].as_str());
    for user in names.filter(|name| {
        let rest = name.strip_prefix(&prefix);
        rest.is_some_and(|rest| rest.len() == 16 && !rest.contains('.'))
    }) {
        remove(server, user, None).await?;
    }
    Ok(())
}

/// The one as which the test that has `vhost` now logs in: for a child process of it, and for a test that
/// prepares by itself. Made, where there is none.
pub(crate) async fn found(server: &Server, vhost: &str, rights: &Rights) -> Result<Login> {
    // Whoever relied on nobody's having been here is to look again.
    let mark = format!(
        "/api/queues/{}/{}/contents",
        part(vhost),
        part(crate::reset::MARK)
    );
    let purged = server.management().delete(&mark).await;
    purged.map_err(|trouble| {
        let doing = format!("take vhost `{vhost}`");
        trouble.into_error(ErrorKind::Prepare, &doing)
    })?;
    match all(server, vhost).await?.into_iter().next() {
        Some(user) => Ok(Login::known(server, user)),
        None => create(server, vhost, rights).await,
    }
}
