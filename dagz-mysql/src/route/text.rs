//! Reads connection URLs, and edits them in place: another database, and every other byte as the
//! user wrote it.
//!
//! [`parse`] takes what mysql_async takes; [`parse_any`] takes the URLs of other libraries, too,
//! whose parameters it does not know, and [`edited`] edits those. Used by `reroute_url`.

use dagz_core::{Error, ErrorKind, Result};
use mysql_async::{Opts, OptsBuilder, UrlError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything that has, or may have, a meaning in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A connection URL as mysql_async understands it.
pub(crate) fn parse(url: &str) -> Result<Opts> {
    Opts::from_url(url).map_err(|error| unusable(&why(url, &error)))
}

/// Why `url` cannot be used, in words that cannot repeat a password of it.
fn why(url: &str, error: &UrlError) -> String {
    if let Some(complaint) = foreign_scheme(url, &["mysql"]) {
        return complaint;
    }
    match error {
        UrlError::UnknownParameter { param } if is_word(param) => {
            format!("unknown parameter `{param}`")
        }
        UrlError::InvalidParamValue { param, .. } if is_word(param) => {
            format!("the value of `{param}` means nothing")
        }
        UrlError::FeatureRequired { feature, param } if is_word(param) => {
            format!("parameter `{param}` needs the feature `{feature}` of mysql_async")
        }
        UrlError::InvalidPoolConstraints { min, max } => {
            format!("`pool_min` is {min} and `pool_max` is {max}")
        }
        _ => "it is no URL such as `mysql://user@localhost/name`".to_owned(),
    }
}

/// In a mistyped URL anything may end up where a parameter's name is expected, so only what looks
/// like one is repeated.
fn is_word(name: &str) -> bool {
    name.len() <= 32
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c == '_' || c == '-')
}

fn foreign_scheme(url: &str, known: &[&str]) -> Option<String> {
    let (scheme, _) = url.split_once(':')?;
    let is_scheme = !scheme.is_empty()
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (is_scheme && !known.contains(&scheme))
        .then(|| format!("scheme `{scheme}` is not `{}`", known.join("` or `")))
}

fn unusable(why: &str) -> Error {
    Error::new(
        ErrorKind::Settings,
        format!("the MySQL connection URL cannot be used: {why}"),
    )
}

/// The parts of a URL, as they are written.
struct Parts<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    /// `?…` and `#…`
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, after) = url.split_once("://")?;
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        let end = after.find(['?', '#']).unwrap_or(after.len());
        let (path, rest) = after.split_at(end);
        Some(Self {
            scheme,
            authority,
            path,
            rest,
        })
    }

    fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.rest.split('#').next().unwrap_or_default();
        query
            .trim_start_matches('?')
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            // In a query, unlike in a path, a plus sign is a blank.
            .map(|(key, value)| (decoded(key), decoded(&value.replace('+', " "))))
    }
}

/// Where a URL of any library leads, as far as dagz has to know.
pub(super) fn parse_any(url: &str) -> Result<Opts> {
    if let Some(complaint) = foreign_scheme(url, &["mysql", "mariadb"]) {
        return Err(unusable(&complaint));
    }
    let no_url = || unusable("it is no URL such as `mysql://user@localhost/name`");
    let parts = Parts::of(url).ok_or_else(no_url)?;
    let (credentials, address) = match parts.authority.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, parts.authority),
    };
    // The brackets of an IPv6 address hold colons of their own.
    let (host, port) = match address
        .rfind(':')
        .filter(|at| !address[*at..].contains(']'))
    {
        Some(at) => (&address[..at], Some(&address[at + 1..])),
        None => (address, None),
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse().map_err(|_| no_url())?,
        None => 3306,
    };
    let mut builder = OptsBuilder::default().tcp_port(port);
    if !host.is_empty() {
        builder = builder.ip_or_hostname(decoded(host));
    }
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        builder = builder
            .user(Some(decoded(user)).filter(|user| !user.is_empty()))
            .pass(password.map(decoded));
    }
    let name = decoded(parts.path.trim_start_matches('/'));
    builder = builder.db_name(Some(name).filter(|name| !name.is_empty()));
    let socket = parts
        .parameters()
        .find(|(key, _)| key == "socket" || key == "unix_socket");
    if let Some((_, socket)) = socket {
        builder = builder.socket(Some(socket));
    }
    Ok(builder.into())
}

/// `url`, which [`parse_any`] takes, for database `name`.
pub(super) fn edited(url: &str, name: &str) -> String {
    let Some(Parts {
        scheme,
        authority,
        rest,
        ..
    }) = Parts::of(url)
    else {
        return url.to_owned();
    };
    let name = utf8_percent_encode(name, ENCODED);
    format!("{scheme}://{authority}/{name}{rest}")
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_database_changes() {
        for (url, expected) in [
            ("mysql://u:p%40@h:1/shop", "mysql://u:p%40@h:1/shop_jw03"),
            ("mysql://h/shop", "mysql://h/shop_jw03"),
            (
                "mariadb://u:p@h/shop?ssl-mode=disabled&charset=utf8mb4#f",
                "mariadb://u:p@h/shop_jw03?ssl-mode=disabled&charset=utf8mb4#f",
            ),
            (
                "mysql://u@localhost/shop?unix_socket=/run/m.sock",
                "mysql://u@localhost/shop_jw03?unix_socket=/run/m.sock",
            ),
        ] {
            assert_eq!(edited(url, "shop_jw03"), expected);
        }
    }

    #[test]
    fn other_libraries_forms_are_understood() {
        let opts = parse_any("mariadb://u%40:p%3A@h:7/a%20b?unix_socket=/run/m+x.sock").unwrap();
        assert_eq!(opts.user(), Some("u@"));
        assert_eq!(opts.pass(), Some("p:"));
        assert_eq!(opts.db_name(), Some("a b"));
        assert_eq!(opts.socket(), Some("/run/m x.sock"));
        for url in ["postgres://h/a", "h/a", "", "mysql:a", "mysql://h:port/a"] {
            let error = parse_any(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings, "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in "[^\0]{1,80}") {
            let name = format!("{name}_jw03");
            let url = edited("mysql://u:p@h:1/shop?a=b", &name);
            let (any, native) = (parse_any(&url)?, Opts::from_url(&url.replace("?a=b", ""))?);
            prop_assert_eq!(any.db_name(), Some(&*name));
            prop_assert_eq!(native.db_name(), Some(&*name));
        }
    }
}
