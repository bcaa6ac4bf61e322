//! RabbitMQ's management API, by which people empty a broker today: one kept connection, a request at a time.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dagz_core::runtime;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

/// `name` as a part of a path.
pub(super) fn part(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// A connection to it.
pub(super) struct Management {
    url: Url,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// How many requests the connection has seen: the broker closes one after a thousand.
    sent: usize,
}

impl Management {
    /// The API at `url`, with a user who may do everything.
    pub(super) fn new(url: &str) -> Result<Self> {
        Ok(Self {
            url: url.parse()?,
            sender: None,
            sent: 0,
        })
    }

    /// What is at `path`.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value> {
        let text = self.ask(Method::GET, path, None).await?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Makes what is at `path`.
    pub(super) async fn put(&mut self, path: &str, body: &Value) -> Result<()> {
        self.ask(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// Adds to what is at `path`.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<()> {
        self.ask(Method::POST, path, Some(body)).await.map(drop)
    }

    /// Removes what is at `path`.
    pub(super) async fn delete(&mut self, path: &str) -> Result<()> {
        self.ask(Method::DELETE, path, None).await.map(drop)
    }

    async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes> {
        let (host, port) = (
            self.url
                .host_str()
                .context("the management URL names no host")?,
            self.url.port().unwrap_or(15_672),
        );
        if self.sent >= 900 || self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            runtime::spawn(connection);
            (self.sender, self.sent) = (Some(sender), 0);
        }
        self.sent += 1;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let login = STANDARD.encode(format!("{}:{}", decoded(user), decoded(password)));
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header("host", host)
            .header("authorization", format!("Basic {login}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let sender = self.sender.as_mut().context("there is a connection")?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "{method} {path}: {status} {}",
            String::from_utf8_lossy(&text)
        );
        Ok(text)
    }
}
