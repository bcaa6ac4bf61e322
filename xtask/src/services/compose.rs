//! `compose.yaml`, for those who have Docker: the same servers with the same settings, written from the services.
//!
//! [`text`] is the file's whole text; `cargo xtask tidy` compares it with what is committed.

use super::Service;

/// How a server is run in a container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) image: &'static str,
    /// Empty: the image's own.
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Folders in memory: what the server keeps is of no use to anybody.
    pub(crate) memory: &'static [&'static str],
    /// Names and numbers; the first is where clients go.
    pub(crate) ports: &'static [(&'static str, u16)],
    /// The command that tells whether the server answers.
    pub(crate) check: &'static [&'static str],
    /// Files of the container.
    pub(crate) files: Vec<(&'static str, String)>,
}

impl Container {
    /// The password of each container's first user. They listen on loopback only.
    pub(crate) const PASSWORD: &'static str = "dagz";
}

const HEADER: &str = "\
# The servers that the tests use, for those who have Docker; `cargo xtask services up` needs none.
# Written by `cargo xtask tidy --fix` from xtask/src/services: do not edit.
#
#   docker compose up --detach --wait                     the five kinds, and one that tests crash
#   docker compose --profile matrix up --detach --wait    with their second versions
#   docker compose port redis 6379                        where one listens
#
# Users and passwords: `dagz` and `dagz`; of MariaDB and MySQL `root` and `dagz`, of Redis and Valkey no name and `dagz`, of
# Cassandra its own first user.
#
# Compose 2.23 or newer, for files that are written right here.
";

/// The whole file for `services`, and for `matrix`, which start only when asked for.
pub(crate) fn text(services: &[&'static dyn Service], matrix: &[&'static dyn Service]) -> String {
    let mut text = format!("{HEADER}\nname: dagz\n\nservices:\n");
    let mut configs = String::new();
    let all = services.iter().map(|service| (service, false));
    for (service, is_extra) in all.chain(matrix.iter().map(|service| (service, true))) {
        let (kind, container) = (service.kind(), service.container());
        text.push_str(&format!("  {kind}:\n    image: {}\n", container.image));
        if is_extra {
            text.push_str("    profiles: [matrix]\n");
        }
        if !container.command.is_empty() {
            text.push_str("    command:\n");
            for word in &container.command {
                text.push_str(&format!("      - {}\n", quoted(word)));
            }
        }
        if !container.environment.is_empty() {
            text.push_str("    environment:\n");
            for (name, value) in &container.environment {
                text.push_str(&format!("      {name}: {}\n", quoted(value)));
            }
        }
        text.push_str("    ports:\n");
        for (_, port) in container.ports {
            // Any free one, on loopback.
            text.push_str(&format!(
                "      - {}\n",
                quoted(&format!("127.0.0.1::{port}"))
            ));
        }
        text.push_str("    tmpfs:\n");
        for folder in container.memory {
            text.push_str(&format!("      - {folder}\n"));
        }
        if !container.files.is_empty() {
            text.push_str("    configs:\n");
        }
        for (number, (path, content)) in container.files.iter().enumerate() {
            let name = format!("{kind}-{number}");
            text.push_str(&format!("      - source: {name}\n        target: {path}\n"));
            configs.push_str(&format!("  {name}:\n    content: |\n"));
            for line in content.lines() {
                configs.push_str(&format!("      {line}\n"));
            }
        }
        let words: Vec<_> = container.check.iter().map(|word| quoted(word)).collect();
        text.push_str(&format!(
            "    healthcheck:\n      test: [\"CMD\", {}]\n      interval: 2s\n      retries: 60\n",
            words.join(", ")
        ));
    }
    if !configs.is_empty() {
        text.push_str(&format!("\nconfigs:\n{configs}"));
    }
    text
}

/// `word` in YAML's double quotes, with what Compose would replace left alone.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", word.replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::super::{all, matrix};
    use super::*;

    #[test]
    fn each_kind_has_its_container_and_its_settings() {
        let text = text(all(), matrix());
        for service in all().iter().chain(matrix()) {
            assert!(
                text.contains(&format!("\n  {}:\n", service.kind())),
                "{text}"
            );
        }
        for setting in [
            "fsync=off",
            "innodb-doublewrite=OFF",
            "\"2048\"",
            "disk_free_limit",
        ] {
            assert!(text.contains(setting), "no {setting} in {text}");
        }
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(quoted(r#"a "b" $c\"#), r#""a \"b\" $$c\\""#);
    }
}
