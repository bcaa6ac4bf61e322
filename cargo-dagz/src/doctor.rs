//! `cargo dagz doctor`: looks whether tests will find what they need, and what ailed the last job.
//!
//! `doctor/machine.rs` looks at settings, state directory and runner, `doctor/symptoms.rs` at the events of the
//! last job; what concerns a server, its driver's `doctor` looks at. The main type is [`Row`].

mod machine;
mod symptoms;

use clap::Args;
use dagz_core::{
    ErrorKind, Settings,
    driver::{Checkup, Finding, State},
};
use serde::Serialize;
use tokio::runtime::Builder;

use crate::{
    database::{self, Database},
    exit::{ENVIRONMENT, Failure, OK, Outcome},
    place,
    screen::{self, Table, Tone},
    service::{self, Kind, Service},
};

/// Words after `cargo dagz doctor`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How many connections a test has to a server at most, its pools' and dagz's own.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Print JSON: a list of objects.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    /// `settings`, `machine`, `runner`, a driver's word, or `j12`, the last job.
    about: String,
    what: String,
    /// `good`, `odd` or `bad`.
    state: &'static str,
    found: String,
    remedy: Option<String>,
}

impl Row {
    fn good(about: &str, what: &str, found: impl Into<String>) -> Self {
        Self {
            about: about.to_owned(),
            what: what.to_owned(),
            state: "good",
            found: found.into(),
            remedy: None,
        }
    }

    fn odd(about: &str, what: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: "odd",
            remedy: Some(remedy.into()),
            ..Self::good(about, what, found)
        }
    }

    fn bad(about: &str, what: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: "bad",
            ..Self::odd(about, what, found, remedy)
        }
    }

    fn of(kind: Kind, finding: &Finding) -> Self {
        Self {
            state: match finding.state {
                State::Good => "good",
                State::Odd => "odd",
                State::Bad => "bad",
            },
            remedy: finding.remedy.clone(),
            ..Self::good(kind.word(), finding.what, &finding.found)
        }
    }

    fn tone(&self) -> Tone {
        match self.state {
            "good" => Tone::Plain,
            "odd" => Tone::Odd,
            _ => Tone::Bad,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let settings = place::settings()?;
    let services = service::configured(&settings)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment(format!("cannot start a runtime: {error}")))?;
    let mut rows = machine::look(&settings);
    for service in &services {
        rows.extend(runtime.block_on(serve(arguments, &settings, service))?);
    }
    if services.is_empty() {
        let found = "no server is known, so none was looked at";
        rows.push(Row::odd("servers", "addresses", found, service::HOW));
    }
    rows.extend(symptoms::look(&settings).unwrap_or_else(|error| {
        let remedy = "make it readable, or remove the folder while no test runs";
        vec![Row::bad(
            "jobs",
            "record",
            error.report().to_string(),
            remedy,
        )]
    }));
    report(arguments, &rows);
    Ok(match rows.iter().any(|row| row.state == "bad") {
        true => ENVIRONMENT,
        false => OK,
    })
}

async fn serve(arguments: &Arguments, settings: &Settings, service: &Service) -> Outcome<Vec<Row>> {
    let kind = service.kind;
    let address = format!("{}, by {}", service.shown(), service.origin());
    let mut rows = vec![Row::good(kind.word(), "address", address)];
    let workers = settings.workers().saturating_mul(settings.node_total());
    let mut checkup = Checkup::new(settings.project(), workers, arguments.connections);
    match kind {
        Kind::Postgres => {
            let config = dagz_postgres::Config::new(service.url())?;
            dagz_postgres::doctor(&config, &mut checkup).await;
        }
        Kind::Mysql => {
            let config = dagz_mysql::Config::new(service.url())?;
            dagz_mysql::doctor(&config, &mut checkup).await;
        }
        Kind::Redis => {
            let config = dagz_redis::Config::new(service.url())?;
            dagz_redis::doctor(&config, &mut checkup).await;
        }
        Kind::Amqp => dagz_amqp::doctor(&database::amqp(service)?, &mut checkup).await,
        Kind::Cassandra => {
            let config = dagz_cassandra::Config::of_cluster(service.url())?;
            dagz_cassandra::doctor(&config, &mut checkup).await;
        }
    }
    let findings = checkup.findings();
    rows.extend(findings.iter().map(|finding| Row::of(kind, finding)));
    let is_asked = findings
        .iter()
        .any(|finding| finding.what == "version" && finding.state == State::Good);
    if is_asked {
        match Database::list(service, settings.project()).await {
            Ok(found) => rows.push(leftovers(kind, &found)),
            // What is configured wrongly is for whoever calls.
            Err(error) if error.kind() == ErrorKind::Settings => return Err(error.into()),
            Err(error) => rows.push(Row::bad(
                kind.word(),
                "leftovers",
                "cannot be listed",
                error.report().to_string(),
            )),
        }
    }
    Ok(rows)
}

fn leftovers(kind: Kind, found: &[Database]) -> Row {
    let templates = found.iter().filter(|database| database.is_template());
    let workers = found.iter().filter(|database| database.worker().is_some());
    let (templates, workers) = (templates.count(), workers.count());
    let half = found.len() - templates - workers;
    let told = format!("{workers} of workers, {templates} templates, {half} half made");
    match half {
        0 => Row::good(kind.word(), "leftovers", told),
        _ => Row::odd(
            kind.word(),
            "leftovers",
            told,
            "a run was killed while it made them, or makes them now: `cargo dagz clean`",
        ),
    }
}

fn report(arguments: &Arguments, rows: &[Row]) {
    if arguments.json {
        screen::print_json(&rows);
        return;
    }
    let mut table = Table::new(&["about", "what", "state", "found", "remedy"]);
    for row in rows {
        table.row(
            row.tone(),
            vec![
                row.about.clone(),
                row.what.clone(),
                row.state.to_owned(),
                row.found.clone(),
                row.remedy.clone().unwrap_or_default(),
            ],
        );
    }
    table.print();
}
