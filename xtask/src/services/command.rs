//! `cargo xtask services up|down|status`: the words of the command, and what it prints.
//!
//! Standard output is for machines (`eval "$(cargo xtask services up)"`, `status --json`), standard error for
//! people. The work is done in [`super`].

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use super::{Place, Service, Status, Up, all, down, status, up_to_stay};
use crate::workspace;

/// Words after `cargo xtask services`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Start private servers and print the environment by which tests find them.
    ///
    /// A server that the environment names already (`DATABASE_URL`) is used as it is. What runs is left running.
    Up {
        /// Kinds of server; all where none is named.
        kinds: Vec<String>,
    },
    /// Stop the servers that `up` started; never any other.
    Down {
        /// Kinds of server; all where none is named.
        kinds: Vec<String>,
    },
    /// List the servers, and whether each answers a real query just now.
    Status {
        /// Print a JSON list.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let place = Place::of(&workspace::root()?)?;
    match &arguments.action {
        Action::Up { kinds } => {
            for service in chosen(kinds)? {
                let up = up_to_stay(service, &place)?;
                let kind = service.kind();
                match &up {
                    Up::Given(_) => eprintln!("{kind}: the environment names one; used as it is"),
                    Up::Found(running) => {
                        eprintln!(
                            "{kind}: already up, port {}, pid {}",
                            running.port, running.pid
                        );
                    }
                    Up::Fresh(_) => {}
                }
                for variable in service.variables() {
                    println!("export {variable}={}", quoted(up.url()));
                }
            }
        }
        Action::Down { kinds } => {
            for service in chosen(kinds)? {
                let stopped = down(service, &place)?;
                let what = if stopped { "stopped" } else { "was not up" };
                eprintln!("{}: {what}", service.kind());
            }
        }
        Action::Status { json } => {
            let lines = status(&place);
            if *json {
                println!("{}", serde_json::to_string_pretty(&lines)?);
            } else if lines.is_empty() {
                println!("no server is up; `cargo xtask services up` starts them");
            } else {
                println!("{}", table(&lines));
            }
        }
    }
    Ok(())
}

fn chosen(kinds: &[String]) -> Result<Vec<&'static dyn Service>> {
    if kinds.is_empty() {
        return Ok(all().to_vec());
    }
    let mut services = Vec::new();
    for kind in kinds {
        match all().iter().find(|service| service.kind() == kind) {
            Some(service) => services.push(*service),
            None => {
                let known: Vec<_> = all().iter().map(|service| service.kind()).collect();
                bail!("no server of kind `{kind}`; there are {}", known.join(", "));
            }
        }
    }
    Ok(services)
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

fn table(lines: &[Status]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "server", "version", "port", "pid", "answered", "start-up", "source",
    ]);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for line in lines {
        table.add_row([
            line.kind.to_owned(),
            or_dash(line.version.clone()),
            or_dash(line.port.map(|port| port.to_string())),
            or_dash(line.pid.map(|pid| pid.to_string())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_an_error_that_lists_the_known() {
        let Err(error) = chosen(&["oracle".to_owned()]) else {
            panic!("`oracle` was accepted");
        };
        assert!(error.to_string().contains("there are postgres"), "{error}");
    }

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
}
