//! The management API as a test's own eyes: a request per connection, and no code of the driver's.

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::Url;

/// Where it is, with a user who may do everything.
pub(crate) fn url() -> Result<String> {
    env::var("DAGZ_TEST_AMQP_MANAGEMENT_URL")
        .context("`DAGZ_TEST_AMQP_MANAGEMENT_URL` is not set: start a server by `cargo xtask services up rabbitmq`")
}

/// `name` as a part of a path.
pub(crate) fn part(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// What is at `path`.
pub(crate) fn get(path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&request("GET", path, None)?)?)
}

/// Makes what is at `path`.
pub(crate) fn put(path: &str, body: &Value) -> Result<()> {
    request("PUT", path, Some(body)).map(drop)
}

/// Adds to what is at `path`.
pub(crate) fn post(path: &str, body: &Value) -> Result<String> {
    request("POST", path, Some(body))
}

/// Removes what is at `path`, whether or not it is there.
pub(crate) fn delete(path: &str) -> Result<()> {
    match request("DELETE", path, None) {
        Err(error) if !error.to_string().contains(" 404 ") => Err(error),
        _ => Ok(()),
    }
}

fn request(method: &str, path: &str, body: Option<&Value>) -> Result<String> {
    let url = Url::parse(&url()?)?;
    let (host, port) = (
        url.host_str().unwrap_or_default(),
        url.port().unwrap_or(15_672),
    );
    let credentials = format!("{}:{}", url.username(), url.password().unwrap_or_default());
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect((host, port))?;
    // Of 1.0, so that the answer ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nhost: {host}\r\nauthorization: Basic {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        STANDARD.encode(credentials),
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, text) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.lines().next().unwrap_or_default();
    if status
        .split(' ')
        .nth(1)
        .is_none_or(|code| !code.starts_with('2'))
    {
        bail!("{method} {path}: {status} {text}");
    }
    Ok(text.to_owned())
}
