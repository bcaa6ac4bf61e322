//! What is known of the servers: [`status`], a line each, and [`environment`], by which tests find them.

use anyhow::Result;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use super::{Place, Service, Up, answer, given, identity, is_alive, known};

/// One line of `services status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) kind: &'static str,
    pub(super) version: Option<String>,
    pub(super) port: Option<u16>,
    /// Of our own servers only.
    pub(super) pid: Option<u32>,
    /// In bytes, of all its processes; of our own servers only.
    pub(super) memory: Option<u64>,
    /// Whether it answered a real query just now.
    pub(super) answered: bool,
    /// Of our own servers only.
    pub(super) startup_seconds: Option<f64>,
    /// `private`, or the name of the variable that names the user's own.
    pub(super) source: &'static str,
}

/// Every server that is known of: the given ones, and those started here.
pub(super) fn status(place: &Place) -> Vec<Status> {
    let mut lines = Vec::new();
    for service in known() {
        if let Some(url) = given(service, place) {
            let answer = answer(service, &url).ok();
            lines.push(Status {
                kind: service.kind(),
                answered: answer.is_some(),
                version: answer,
                port: port_in(&url),
                pid: None,
                memory: None,
                startup_seconds: None,
                source: service.given_by(),
            });
        }
        if let Some(running) = place.running(service.kind()) {
            let is_alive = is_alive(service, &running);
            lines.push(Status {
                kind: service.kind(),
                answered: is_alive && answer(service, &running.url).is_ok(),
                version: Some(running.version),
                port: Some(running.port),
                pid: Some(running.pid),
                memory: is_alive.then(|| identity::memory(running.pid)).flatten(),
                startup_seconds: Some(running.startup_seconds),
                source: "private",
            });
        }
    }
    lines
}

/// The number after the host of a URL, if it names one.
fn port_in(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (_, port) = rest[..end].rsplit_once(':')?;
    port.parse().ok()
}

/// For people.
pub(super) fn table(lines: &[Status]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "server", "version", "port", "pid", "memory", "answered", "start-up", "source",
    ]);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for line in lines {
        table.add_row([
            line.kind.to_owned(),
            or_dash(line.version.clone()),
            or_dash(line.port.map(|port| port.to_string())),
            or_dash(line.pid.map(|pid| pid.to_string())),
            or_dash(line.memory.map(|bytes| format!("{} MiB", bytes >> 20))),
            if line.answered { "yes" } else { "NO" }.to_owned(),
            or_dash(
                line.startup_seconds
                    .map(|seconds| format!("{seconds:.2} s")),
            ),
            line.source.to_owned(),
        ]);
    }
    table
}

/// Where the connection settings are written, beside the servers' other files.
pub(super) const ENVIRONMENT_FILE: &str = "environment";

/// The variables by which tests find the private servers that were started to stay, also for those of the matrix.
pub(super) fn environment(place: &Place) -> Vec<(String, String)> {
    let running = known().filter_map(|service| {
        let running = place.running(service.kind())?;
        is_alive(service, &running).then_some((service, Up::Found(running)))
    });
    running
        .flat_map(|(service, up)| exports(service, &up))
        .collect()
}

/// What to export for one server. Those of the matrix go by their own variable: the driver's is taken by the usual
/// version.
pub(super) fn exports(service: &dyn Service, up: &Up) -> Vec<(String, String)> {
    if service.variables().contains(&service.given_by()) {
        up.environment(service)
    } else {
        vec![(service.given_by().to_owned(), up.url().to_owned())]
    }
}

/// Writes [`environment`] to its file, as lines that a shell can read.
pub(super) fn write_environment(place: &Place) -> Result<()> {
    let lines: String = environment(place)
        .into_iter()
        .map(|(name, value)| export_line(&name, &value))
        .collect();
    place.write_text(ENVIRONMENT_FILE, &lines)
}

/// A variable for a shell, with the line's end.
pub(super) fn export_line(name: &str, value: &str) -> String {
    format!("export {name}={}\n", quoted(value))
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b":/@._-%+,=".contains(&byte);
    if text.bytes().all(harmless) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_one_word_of_a_shell() {
        assert_eq!(
            quoted("postgres://a:b@127.0.0.1:1/c"),
            "postgres://a:b@127.0.0.1:1/c"
        );
        assert_eq!(
            quoted("host=/tmp dbname='a'"),
            r"'host=/tmp dbname='\''a'\'''"
        );
        assert_eq!(quoted("postgres://h/d?a=1&b=2"), "'postgres://h/d?a=1&b=2'");
    }

    #[test]
    fn the_port_stands_after_the_host() {
        assert_eq!(port_in("redis://:secret@127.0.0.1:6400/0"), Some(6400));
        assert_eq!(port_in("amqp://a:b@h:1?x=y:2"), Some(1));
        assert_eq!(port_in("postgres://a:b@h/c"), None);
        assert_eq!(port_in("host=h port=1"), None);
    }

    #[test]
    fn no_two_services_go_by_one_name() {
        let mut names: Vec<_> = known().map(|service| service.given_by()).collect();
        let mut kinds: Vec<_> = known().map(|service| service.kind()).collect();
        for list in [&mut names, &mut kinds] {
            let count = list.len();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), count, "{list:?}");
        }
    }
}
