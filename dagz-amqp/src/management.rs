//! RabbitMQ's management API, as far as dagz speaks it: [`Management`] sends requests on kept connections.
//!
//! It is a small client of our own over hyper: the one of RabbitMQ's makers builds C whatever its features.
//! What fails is a [`Trouble`], which says what to do; `server.rs` and the others say what was tried.
//! `management/address.rs` has where it is.

mod address;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dagz_core::{Error, ErrorKind, Result, driver::command_line};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

pub(crate) use self::address::Address;

/// How long one request may take: making a vhost on a busy server takes a second at times.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is waited between attempts where the server fails at its own part, as RabbitMQ 4 does where a vhost or a
/// user goes away while it makes a list. All that is asked here may be asked twice.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
];

type Sender = SendRequest<Full<Bytes>>;

/// The management API of one server.
pub(crate) struct Management {
    address: Address,
    authorization: String,
    /// Connections on which nobody waits.
    idle: Mutex<Vec<Sender>>,
}

impl fmt::Debug for Management {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(formatter)
    }
}

impl Management {
    /// The API at `address`, to which nothing is sent yet.
    pub(crate) fn new(address: Address) -> Self {
        let credentials = format!("{}:{}", address.user, address.password);
        Self {
            authorization: format!("Basic {}", STANDARD.encode(credentials)),
            address,
            idle: Mutex::default(),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// What a person types to look into `vhost`; the password is to be added.
    pub(crate) fn client_command(&self, vhost: &str) -> String {
        let (host, port) = self.address.place();
        let (port, user) = (port.to_string(), self.address.user.as_str());
        command_line([
            "rabbitmqadmin",
            "-H",
            host,
            "-P",
            &port,
            "-u",
            user,
            "-V",
            vhost,
            "list",
            "queues",
        ])
    }

    /// Asks for what is at `path`; `None` where there is nothing.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, Trouble> {
        match self.send(Method::GET, path, None).await {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|_| self.trouble(What::NotRabbitMq)),
            Err(trouble) if trouble.is_absent() => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Makes what is at `path`, or changes it.
    pub(crate) async fn put(&self, path: &str, body: Value) -> Result<(), Trouble> {
        self.send(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// Adds to what is at `path`.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<(), Trouble> {
        self.send(Method::POST, path, Some(body)).await.map(drop)
    }

    /// Removes what is at `path`, whether or not it is there.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Trouble> {
        match self.send(Method::DELETE, path, None).await {
            Err(trouble) if !trouble.is_absent() => Err(trouble),
            _ => Ok(()),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Bytes, Trouble> {
        let repeated = async {
            for pause in PAUSES {
                let answer = self.exchange(method.clone(), path, body.clone()).await;
                match answer {
                    Err(trouble) if trouble.is_broken() => tokio::time::sleep(pause).await,
                    answer => return answer,
                }
            }
            self.exchange(method, path, body).await
        };
        let answered = tokio::time::timeout(PATIENCE, repeated).await;
        answered.unwrap_or_else(|_| Err(self.trouble(What::Silent)))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Bytes, Trouble> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        loop {
            let kept = self.idle().pop();
            let is_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header(header::HOST, self.address.shown())
                .header(header::AUTHORIZATION, &self.authorization)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|_| self.trouble(What::NotRabbitMq))?;
            let answer = async {
                sender.ready().await?;
                let (head, body) = sender.send_request(request).await?.into_parts();
                Ok::<_, hyper::Error>((head, body.collect().await?.to_bytes()))
            };
            let (head, text) = match answer.await {
                Ok(answer) => answer,
                // The server closes after 1,000 requests, and what is asked here may be asked twice.
                Err(_) if is_kept => continue,
                Err(error) => return Err(self.trouble(What::Lost(error))),
            };
            let closes = head
                .headers
                .get(header::CONNECTION)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
            if !closes {
                self.idle().push(sender);
            }
            return match head.status {
                status if status.is_success() => Ok(text),
                status => Err(self.trouble(What::Refused(status, reason(&text)))),
            };
        }
    }

    async fn connect(&self) -> Result<Sender, Trouble> {
        let place = self.address.place();
        let stream = TcpStream::connect(place)
            .await
            .map_err(|error| self.trouble(What::Away(error)))?;
        // Requests are one packet, and nothing is gained by waiting for a second one.
        drop(stream.set_nodelay(true));
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.trouble(What::Lost(error)))?;
        // Its errors reach whoever waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, what: What) -> Trouble {
        Trouble {
            shown: self.address.shown(),
            user: self.address.user.clone(),
            what,
        }
    }
}

/// `name` as a part of a path.
pub(crate) fn part(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// What the server says of why, if it says anything.
fn reason(text: &[u8]) -> String {
    let told: Option<Value> = serde_json::from_slice(text).ok();
    let reason = told.as_ref().and_then(|told| told.get("reason")?.as_str());
    reason.unwrap_or_default().to_owned()
}

/// Whether the server knows the user and misses a right, rather than not letting it in at all.
fn is_right(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    reason.contains("user") && !reason.contains("login")
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) struct Trouble {
    shown: String,
    user: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Away(std::io::Error),
    Lost(hyper::Error),
    Silent,
    NotRabbitMq,
    Refused(StatusCode, String),
}

impl Trouble {
    /// Whether what was asked for does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        match &self.what {
            What::Refused(status, reason) => {
                *status == StatusCode::NOT_FOUND || reason.ends_with("not_found")
            }
            _ => false,
        }
    }

    /// Whether the server failed at its own part.
    fn is_broken(&self) -> bool {
        matches!(
            self.what,
            What::Refused(StatusCode::INTERNAL_SERVER_ERROR, _)
        )
    }

    /// Whether it was asked for something that cannot be.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(
            self.what,
            What::Refused(StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND, _)
        )
    }

    /// The error for it: `doing` completes "failed to …", `otherwise` is its kind where nothing says more.
    pub(crate) fn into_error(self, otherwise: ErrorKind, doing: &str) -> Error {
        let Self { shown, user, what } = self;
        match what {
            What::Away(error) => Error::new(
                ErrorKind::Unreachable,
                format!(
                    "cannot {doing}: RabbitMQ's management API does not answer at `{shown}`: is the server running? enable it by `rabbitmq-plugins enable rabbitmq_management`, or tell where it is by `Config::management`"
                ),
            )
            .with_source(error),
            What::Lost(error) => Error::new(
                ErrorKind::Unreachable,
                format!("cannot {doing}: the management API at `{shown}` broke off"),
            )
            .with_source(error),
            What::Silent => Error::new(
                ErrorKind::Unreachable,
                format!("cannot {doing}: the management API at `{shown}` did not answer within {PATIENCE:?}"),
            ),
            What::NotRabbitMq => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "cannot {doing}: what answers at `{shown}` is not RabbitMQ's management API: check `Config::management`"
                ),
            ),
            What::Refused(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, reason) => {
                let remedy = if is_right(&reason) {
                    format!(
                        "it lacks a right, and dagz makes vhosts and users: `rabbitmqctl set_user_tags {user} administrator`, or give another user by `Config::management`"
                    )
                } else {
                    "check the user, the password, and whether it may log in from here".to_owned()
                };
                Error::new(
                    ErrorKind::AccessDenied,
                    format!("cannot {doing}: the management API at `{shown}` refuses user `{user}`: {remedy}"),
                )
            }
            What::Refused(StatusCode::NOT_FOUND, reason) if reason.is_empty() => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "cannot {doing}: what answers at `{shown}` is not RabbitMQ's management API: check `Config::management`"
                ),
            ),
            What::Refused(status, reason) => Error::new(
                otherwise,
                format!("cannot {doing}: RabbitMQ at `{shown}` says {} `{reason}`", status.as_u16()),
            ),
        }
    }
}
