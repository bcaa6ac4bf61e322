//! Edits a connection string in place: another database, an application name where there is
//! none, and every other byte as the user wrote it.
//!
//! Follows the parser of tokio-postgres, not the URL standard: it decides what a string means.
//! Used by `reroute_url`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything that has, or may have, a meaning in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// `text`, which `config` was parsed from, for database `name`.
///
/// `None` where the result does not mean that: tokio-postgres passes over the rest of a string in
/// which it finds no key, and what was appended would be passed over with it.
pub(super) fn edited(
    text: &str,
    config: &tokio_postgres::Config,
    name: &str,
    application_name: &str,
) -> Option<String> {
    let edited = edited_text(text, config, name, application_name);
    let expected = super::edited(config, name, application_name);
    (edited.parse().ok() == Some(expected)).then_some(edited)
}

fn edited_text(
    text: &str,
    config: &tokio_postgres::Config,
    name: &str,
    application_name: &str,
) -> String {
    let application_name = config
        .get_application_name()
        .is_none()
        .then_some(application_name);
    for scheme in ["postgres://", "postgresql://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return format!("{scheme}{}", edited_url(rest, name, application_name));
        }
    }
    edited_pairs(text, name, application_name)
}

fn edited_url(rest: &str, name: &str, application_name: Option<&str>) -> String {
    let authority = rest.find('@').map_or(0, |at| at + 1);
    let path = rest[authority..]
        .find(['/', '?'])
        .map_or(rest.len(), |length| authority + length);
    let query = rest[path..].find('?').map(|length| path + length);

    let mut parameters: Vec<String> = query
        .map(|query| parameters(&rest[query + 1..]))
        .unwrap_or_default()
        .into_iter()
        .filter(|parameter| !is_for(parameter, "dbname"))
        .map(str::to_owned)
        .collect();
    if let Some(application_name) = application_name {
        parameters.push(format!("application_name={}", encoded(application_name)));
    }

    let mut url = format!("{}/{}", &rest[..path], encoded(name));
    if !parameters.is_empty() {
        url.push('?');
        url.push_str(&parameters.join("&"));
    }
    url
}

/// The `key=value` parts of a query, cut where tokio-postgres cuts: a key ends at `=`, whatever
/// stands before it.
fn parameters(mut query: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while let Some(equals) = query.find('=') {
        let end = query[equals..]
            .find('&')
            .map_or(query.len(), |length| equals + length);
        parts.push(&query[..end]);
        query = query.get(end + 1..).unwrap_or_default();
    }
    parts
}

fn is_for(parameter: &str, key: &str) -> bool {
    parameter
        .split_once('=')
        .is_some_and(|(name, _)| percent_decode_str(name).decode_utf8_lossy() == key)
}

fn edited_pairs(text: &str, name: &str, application_name: Option<&str>) -> String {
    // A lone backslash at the end stands for nothing, but would swallow the space that follows.
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    let mut pairs = text[..text.len() - backslashes % 2].to_owned();
    // Of a key given twice, the last one counts.
    for (key, value) in [
        ("dbname", Some(name)),
        ("application_name", application_name),
    ] {
        if let Some(value) = value {
            if !pairs.is_empty() {
                pairs.push(' ');
            }
            pairs.push_str(&format!(
                "{key}='{}'",
                value.replace('\\', "\\\\").replace('\'', "\\'")
            ));
        }
    }
    pairs
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn only_the_database_and_the_application_name_change() {
        for (text, expected) in [
            (
                "postgres://u:p%40@h:1/shop",
                "postgres://u:p%40@h:1/shop_jw03?application_name=t",
            ),
            ("postgres://h", "postgres://h/shop_jw03?application_name=t"),
            (
                "postgres://h?connect_timeout=3",
                "postgres://h/shop_jw03?connect_timeout=3&application_name=t",
            ),
            (
                "postgresql://a,b:2/x?dbname=shop&application_name=mine&sslmode=disable",
                "postgresql://a,b:2/shop_jw03?application_name=mine&sslmode=disable",
            ),
            (
                "postgres://h/x?dbn%61me=shop",
                "postgres://h/shop_jw03?application_name=t",
            ),
            (
                "host=h dbname=shop",
                "host=h dbname=shop dbname='shop_jw03' application_name='t'",
            ),
            (
                "host=h application_name=''",
                "host=h application_name='' dbname='shop_jw03'",
            ),
        ] {
            let config = text.parse().unwrap();
            let edited = edited(text, &config, "shop_jw03", "t");
            assert_eq!(edited.as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_string_that_is_not_read_to_its_end_is_not_edited() {
        let text = "user=ada \u{a0}=x dbname=shop";
        let config: tokio_postgres::Config = text.parse().unwrap();
        assert_eq!(config.get_dbname(), None, "what follows is passed over");
        assert_eq!(edited(text, &config, "shop_jw03", "t"), None);
    }

    /// Percent-encoded now and then where it need not be, and always where it must.
    fn url_part() -> impl Strategy<Value = String> {
        vec((any::<char>(), any::<bool>()), 0..6).prop_map(|characters| {
            characters
                .into_iter()
                .map(|(character, plain)| {
                    if plain && (character.is_ascii_alphanumeric() || character == '_') {
                        character.to_string()
                    } else {
                        utf8_percent_encode(&character.to_string(), NON_ALPHANUMERIC).to_string()
                    }
                })
                .collect()
        })
    }

    fn pair_value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>().prop_map(|value| {
                format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
            }),
            "[a-z0-9\\\\]{1,6}",
        ]
    }

    fn url() -> impl Strategy<Value = String> {
        let parameter = prop_oneof![
            url_part().prop_map(|value| format!("dbname={value}")),
            url_part().prop_map(|value| format!("application_name={value}")),
            url_part().prop_map(|value| format!("options={value}")),
            url_part().prop_map(|value| format!("host={value}")),
            Just("dbn%61me=encoded".to_owned()),
            Just("connect_timeout=5".to_owned()),
            Just("sslmode=disable".to_owned()),
        ];
        (
            prop_oneof![Just("postgres://"), Just("postgresql://")],
            proptest::option::of((url_part(), proptest::option::of(url_part()))),
            vec((url_part(), proptest::option::of(1_u16..)), 0..3),
            proptest::option::of(url_part()),
            vec(parameter, 0..4),
            any::<bool>(),
        )
            .prop_map(|(scheme, user, hosts, path, parameters, trailing)| {
                let mut url = scheme.to_owned();
                if let Some((user, password)) = user {
                    url += &user;
                    if let Some(password) = password {
                        url += &format!(":{password}");
                    }
                    url += "@";
                }
                let hosts: Vec<_> = hosts
                    .into_iter()
                    .map(|(host, port)| match port {
                        Some(port) => format!("{host}:{port}"),
                        None => host,
                    })
                    .collect();
                url += &hosts.join(",");
                if let Some(path) = path {
                    url += &format!("/{path}");
                }
                if !parameters.is_empty() {
                    url += &format!("?{}", parameters.join("&"));
                    if trailing {
                        url += "&";
                    }
                }
                url
            })
    }

    fn pairs() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            Just("user"),
            Just("password"),
            Just("dbname"),
            Just("options"),
            Just("application_name"),
            Just("host"),
        ];
        (vec((key, pair_value(), " {1,2}"), 0..5), any::<bool>()).prop_map(|(pairs, trim)| {
            let text: String = pairs
                .into_iter()
                .map(|(key, value, space)| format!("{key}={value}{space}"))
                .collect();
            if trim {
                text.trim_end().to_owned()
            } else {
                text
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Editing the text and editing the parsed settings are the same thing.
        #[test]
        fn text_and_settings_agree(
            text in prop_oneof![url(), pairs()],
            name in "\\PC{1,20}",
            application_name in "\\PC{1,20}",
        ) {
            // The generators make a few strings that tokio-postgres rejects, such as a lone
            // quote after a backslash: those never reach the editing.
            let Ok(config) = text.parse::<tokio_postgres::Config>() else {
                return Ok(());
            };
            let expected = super::super::edited(&config, &name, &application_name);
            match edited(&text, &config, &name, &application_name) {
                Some(edited) => prop_assert_eq!(edited.parse().ok(), Some(expected)),
                // It must be the text that keeps anything appended from being read.
                None => {
                    let longer: tokio_postgres::Config = format!("{text} user='x'")
                        .parse()
                        .unwrap_or_else(|_| config.clone());
                    prop_assert_eq!(longer, config, "{} could have been edited", text);
                }
            }
        }
    }
}
