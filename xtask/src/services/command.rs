//! `cargo xtask services up|down|status`: the words of the command, and what it prints.
//!
//! Standard output is for machines (`eval "$(cargo xtask services up)"`, `status --json`), standard error for
//! people. The work is done in [`super`].

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::status::{self, ENVIRONMENT_FILE};
use super::{Place, Service, Up, all, at_once, down, known, matrix, up_to_stay};
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
    /// Programs that are missing are installed from the distribution; for Cassandra, from Maven's registry. A server
    /// that the environment names already (`DATABASE_URL`, `DAGZ_TEST_REDIS_URL`, …) is used as it is. What runs is
    /// left running. The same variables are written to `target/services/environment`.
    Up {
        /// Kinds of server; where none is named, the usual five and `postgres-faults`, which tests crash.
        kinds: Vec<String>,
        /// Second versions, too: real MySQL, Valkey, the newest Postgres and RabbitMQ. Needs root.
        #[arg(long)]
        matrix: bool,
    },
    /// Stop the servers that `up` started; never any other.
    Down {
        /// Kinds of server; all where none is named.
        kinds: Vec<String>,
    },
    /// List the servers, and whether each answers a real query just now; an error if one does not.
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
        Action::Up { kinds, matrix } => up(&place, &chosen_for_up(kinds, *matrix)?),
        Action::Down { kinds } => {
            let services = if kinds.is_empty() {
                known().collect()
            } else {
                chosen(kinds)?
            };
            let stopped = at_once(&services, "stopping servers", |service| {
                down(service, &place)
            });
            // Also after a failure: it tells what still runs.
            status::write_environment(&place)?;
            for (service, stopped) in services.iter().zip(stopped?) {
                if stopped {
                    eprintln!("{}: stopped", service.kind());
                } else if !kinds.is_empty() {
                    eprintln!("{}: was not up", service.kind());
                }
            }
            Ok(())
        }
        Action::Status { json } => {
            let lines = status::status(&place);
            if *json {
                println!("{}", serde_json::to_string_pretty(&lines)?);
            } else if lines.is_empty() {
                println!("no server is up; `cargo xtask services up` starts them");
            } else {
                println!("{}", status::table(&lines));
            }
            let silent = lines.iter().filter(|line| !line.answered);
            let silent: Vec<_> = silent.map(|line| line.kind).collect();
            if !silent.is_empty() {
                bail!(
                    "no answer from {}; `cargo xtask services up` starts what is missing",
                    silent.join(", ")
                );
            }
            Ok(())
        }
    }
}

fn up(place: &Place, services: &[&'static dyn Service]) -> Result<()> {
    let outcome = up_to_stay(services, place);
    // Also after a failure: the others are up.
    status::write_environment(place)?;
    let ups = outcome?;
    for (service, up) in services.iter().zip(&ups) {
        let kind = service.kind();
        match up {
            Up::Given(_) => eprintln!("{kind}: the environment names one; used as it is"),
            Up::Found(running) => eprintln!(
                "{kind}: already up, port {}, pid {}",
                running.port, running.pid
            ),
            Up::Fresh(_) => {}
        }
        for (name, value) in status::exports(*service, up) {
            print!("{}", status::export_line(&name, &value));
        }
    }
    eprintln!("\n{}", status::table(&status::status(place)));
    eprintln!(
        "the same as variables of a shell: `{}`",
        place.join(ENVIRONMENT_FILE).display()
    );
    Ok(())
}

fn chosen_for_up(kinds: &[String], with_matrix: bool) -> Result<Vec<&'static dyn Service>> {
    let mut services = if kinds.is_empty() {
        all().to_vec()
    } else {
        chosen(kinds)?
    };
    if with_matrix {
        let more = matrix()
            .iter()
            .filter(|service| !kinds.iter().any(|kind| kind == service.kind()));
        services.extend(more);
    }
    Ok(services)
}

fn chosen(kinds: &[String]) -> Result<Vec<&'static dyn Service>> {
    let mut services = Vec::new();
    for kind in kinds {
        match known().find(|service| service.kind() == kind) {
            Some(service) => services.push(service),
            None => {
                let known: Vec<_> = known().map(|service| service.kind()).collect();
                bail!("no server of kind `{kind}`; there are {}", known.join(", "));
            }
        }
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(services: &[&'static dyn Service]) -> Vec<&'static str> {
        services.iter().map(|service| service.kind()).collect()
    }

    #[test]
    fn an_unknown_kind_is_an_error_that_lists_the_known() {
        let Err(error) = chosen(&["oracle".to_owned()]) else {
            panic!("`oracle` was accepted");
        };
        assert!(
            error.to_string().contains("there are postgres, mariadb"),
            "{error}"
        );
    }

    #[test]
    fn the_usual_ones_where_none_is_named() {
        let usual = chosen_for_up(&[], false).unwrap();
        assert_eq!(
            kinds(&usual),
            [
                "postgres",
                "mariadb",
                "redis",
                "rabbitmq",
                "cassandra",
                "postgres-faults"
            ]
        );
        let valkey = ["valkey".to_owned()];
        assert_eq!(kinds(&chosen_for_up(&valkey, false).unwrap()), ["valkey"]);
        let more = chosen_for_up(&valkey, true).unwrap();
        assert_eq!(more.len(), matrix().len());
        assert_eq!(
            chosen_for_up(&[], true).unwrap().len(),
            all().len() + matrix().len()
        );
    }
}
