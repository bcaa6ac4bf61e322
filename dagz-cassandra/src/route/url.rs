//! URLs of Cassandra, which have no standard: `cassandra://user:password@host:port,host/keyspace?case_sensitive=true`.
//!
//! No message repeats a part of the text, which may be a password.

use dagz_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use scylla::client::session_builder::SessionBuilder;

use crate::source::Source;

const SCHEMES: [&str; 3] = ["cassandra", "scylla", "scylladb"];
const CASE: &str = "case_sensitive";

/// Reads a URL.
pub(crate) fn parse(text: &str) -> Result<Source> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| refused("it is no URL"))?;
    if !SCHEMES.contains(&scheme) {
        return Err(refused(&format!(
            "its scheme `{scheme}` is not `cassandra`"
        )));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, keyspace) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    let mut is_spelled = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            (CASE, "true") => is_spelled = true,
            (CASE, "false") => is_spelled = false,
            (CASE, _) => return Err(refused("`case_sensitive` is neither `true` nor `false`")),
            (key, _) => return Err(refused(&format!("unknown parameter `{key}`"))),
        }
    }
    let mut builder = SessionBuilder::new();
    for host in hosts.split(',') {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (host, None),
        };
        if name.is_empty() {
            return Err(refused("it names no host"));
        }
        let port: u16 = match port {
            Some(port) => port
                .parse()
                .map_err(|_| refused("the port is not a number"))?,
            None => 9_042,
        };
        builder = builder.known_node(format!("{name}:{port}"));
    }
    let mut user = None;
    if let Some(login) = login {
        let (name, password) = login.split_once(':').unwrap_or((login, ""));
        let name = decoded(name)?;
        builder = builder.user(name.clone(), decoded(password)?);
        user = Some(name);
    }
    let keyspace = decoded(keyspace)?;
    if !keyspace.is_empty() {
        builder = builder.use_keyspace(keyspace, is_spelled);
    }
    Ok(Source::from_builder(builder).with_user(user))
}

/// `text`, which can be parsed, with another keyspace, spelled as the server spells it.
pub(super) fn edited(text: &str, keyspace: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (before, query) = match text.find('?') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let authority = before[start..]
        .find('/')
        .map_or(before, |at| &before[..start + at]);
    let mut query: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    let needs_case = keyspace
        .chars()
        .any(|character| character.is_ascii_uppercase());
    query.retain(|pair| !pair.starts_with(CASE));
    if needs_case {
        query.push("case_sensitive=true");
    }
    let mark = if query.is_empty() { "" } else { "?" };
    // A keyspace's name has no character that is to be encoded.
    format!("{authority}/{keyspace}{mark}{}", query.join("&"))
}

fn decoded(text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| refused("it is not UTF-8"))
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorKind::Settings,
        format!(
            "the Cassandra URL cannot be used: {why}; it looks like `cassandra://user:password@host:9042/keyspace`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        for (text, endpoint, keyspace, user) in [
            ("cassandra://h", "h:9042", "", None),
            ("cassandra://h/", "h:9042", "", None),
            ("cassandra://h:1/Shop", "h:1", "shop", None),
            (
                "scylla://u:p%40@h:1,g/shop",
                "h:1,g:9042",
                "shop",
                Some("u"),
            ),
            (
                "cassandra://u@h/Shop?case_sensitive=true",
                "h:9042",
                "Shop",
                Some("u"),
            ),
            ("cassandra://[::1]:7/s", "[::1]:7", "s", None),
            ("cassandra://[::1]/s", "[::1]:9042", "s", None),
        ] {
            let source = parse(text).unwrap();
            assert_eq!(source.shown(), endpoint, "{text}");
            assert_eq!(source.keyspace(), keyspace, "{text}");
            assert_eq!(source.user(), user, "{text}");
        }
    }

    #[test]
    fn only_the_keyspace_is_edited() {
        for (text, name, expected) in [
            (
                "cassandra://u:p%40@h:1,g/shop",
                "shop_jw03",
                "cassandra://u:p%40@h:1,g/shop_jw03",
            ),
            ("cassandra://h", "shop_jw03", "cassandra://h/shop_jw03"),
            (
                "cassandra://h/Shop?case_sensitive=true",
                "Shop_jw03",
                "cassandra://h/Shop_jw03?case_sensitive=true",
            ),
            (
                "cassandra://h/shop?case_sensitive=true",
                "shop_jw03",
                "cassandra://h/shop_jw03",
            ),
        ] {
            let edited = edited(text, name);
            assert_eq!(edited, expected);
            assert_eq!(parse(&edited).unwrap().keyspace(), name);
        }
    }
}
