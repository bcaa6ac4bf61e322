//! Edits the database in the text of a URL, and leaves every other character of it as it is written.
//!
//! The redis crate has already understood the URL; what is left is to find its path, or for a socket its
//! `db=`. Used by [`reroute_url`](crate::reroute_url).

use dagz_core::{Error, ErrorKind, Result};
use redis::{ConnectionAddr, ConnectionInfo};

/// The URL `url`, which the redis crate understands, for the database `index`.
pub(super) fn edited(url: &str, index: i64) -> String {
    let (url, fragment) = split(url, '#');
    let (url, query) = split(url, '?');
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    if scheme.to_ascii_lowercase().ends_with("unix") {
        return format!("{url}?{}{fragment}", with_db(&query, index));
    }
    // A path begins at the first slash after the user, whose password may hold none unescaped.
    let authority = rest.split('/').next().unwrap_or(rest);
    format!("{scheme}://{authority}/{index}{query}{fragment}")
}

/// The URL of a private server's database.
pub(super) fn written(info: &ConnectionInfo) -> Result<String> {
    let settings = info.redis_settings();
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        let told = "a private server listens on no TCP port";
        return Err(Error::new(ErrorKind::Internal, told));
    };
    // dagz chose the password: there is nothing to escape in it.
    let password = settings.password().unwrap_or_default();
    Ok(format!(
        "redis://:{password}@{host}:{port}/{}",
        settings.db()
    ))
}

/// What comes before the first `mark`, and what comes from there on.
fn split(text: &str, mark: char) -> (&str, String) {
    match text.find(mark) {
        Some(at) => (&text[..at], text[at..].to_owned()),
        None => (text, String::new()),
    }
}

/// The query, without its question mark, with `db` set once.
fn with_db(query: &str, index: i64) -> String {
    let mut pairs: Vec<String> = query
        .trim_start_matches('?')
        .split('&')
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("db"))
        .map(str::to_owned)
        .collect();
    pairs.push(format!("db={index}"));
    pairs.join("&")
}

/// Why the redis crate does not take `url`, where its scheme is why.
pub(super) fn unusable(url: &str) -> Option<Error> {
    let (scheme, _) = url.split_once("://")?;
    let is_word = !scheme.is_empty()
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '+');
    let why = match scheme {
        "rediss" | "valkeys" if cfg!(not(feature = "tls")) => format!(
            "`{scheme}://` needs the feature `tls` of `dagz-redis`, or one of the redis crate's for TLS"
        ),
        "redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix" | "valkey+unix" => {
            return None;
        }
        "redis-sentinel" | "redis+sentinel" => {
            "it is one of Sentinel: ask that for the master, and reroute the `ConnectionInfo` of its answer".to_owned()
        }
        scheme if is_word && scheme.contains("cluster") => {
            "it is one of a cluster, which has no databases to give to workers".to_owned()
        }
        scheme if is_word => format!("scheme `{scheme}` is neither `redis`, `rediss`, `valkey`, `valkeys` nor `unix`"),
        _ => return None,
    };
    Some(Error::new(
        ErrorKind::Settings,
        format!("the Redis address cannot be used: {why}"),
    ))
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn only_the_index_changes() {
        for (url, expected) in [
            ("redis://h", "redis://h/17"),
            ("redis://h/", "redis://h/17"),
            ("redis://h:7000/3", "redis://h:7000/17"),
            ("redis://h/3/", "redis://h/17"),
            ("redis://h?protocol=3", "redis://h/17?protocol=3"),
            (
                "redis://u:p%2Fq@h/3?protocol=resp3",
                "redis://u:p%2Fq@h/17?protocol=resp3",
            ),
            ("rediss://h/3#insecure", "rediss://h/17#insecure"),
            ("rediss://h/#insecure", "rediss://h/17#insecure"),
            ("valkeys://h/3", "valkeys://h/17"),
            ("redis://[::1]:7000/3", "redis://[::1]:7000/17"),
            ("unix:///run/r.sock", "unix:///run/r.sock?db=17"),
            ("unix:///run/r.sock?db=3", "unix:///run/r.sock?db=17"),
            (
                "unix:///run/r.sock?db=3&pass=a%26b",
                "unix:///run/r.sock?pass=a%26b&db=17",
            ),
            (
                "valkey+unix:///run/r.sock?user=u&db=3",
                "valkey+unix:///run/r.sock?user=u&db=17",
            ),
        ] {
            assert_eq!(edited(url, 17), expected, "{url}");
            if cfg!(feature = "tls") || !expected.contains("s://") {
                let info = expected.into_connection_info().unwrap();
                assert_eq!(info.redis_settings().db(), 17, "{url}");
            }
        }
    }

    #[test]
    fn bad_addresses_are_named_without_their_password() {
        for (url, expected) in [
            ("postgres://u:hunter2@h/3", "scheme `postgres` is neither"),
            ("redis-sentinel://u:hunter2@h/3", "Sentinel"),
            (
                "redis+cluster://u:hunter2@h/3",
                "a cluster, which has no databases",
            ),
            ("redis://u:hunter2@h/shop", "invalid database number"),
            (
                "redis://u:hunter2@h/3?protocol=9",
                "invalid protocol version",
            ),
            ("u:hunter2@h", "did not parse"),
            ("redis://", "the Redis address cannot be used"),
        ] {
            let error = crate::route::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings, "{url}");
            let report = format!("{} {error:?}", error.report());
            assert!(report.contains(expected), "{url}: {report}");
            assert!(!report.contains("hunter2"), "{report}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_its_feature_says_so() {
        let error = crate::route::parse("valkeys://h/3").unwrap_err();
        assert!(error.to_string().contains("the feature `tls`"), "{error}");
    }
}
