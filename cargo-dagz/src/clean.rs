//! `cargo dagz clean`: drops what dagz made for this project and no live run owns.
//!
//! What is dropped carries the stamp of this project, which the driver reads once more before it drops anything.
//! Meanwhile no job of the state directory starts ([`Quiet`]); what jobs that run may use is kept.

use clap::Args;
use dagz_core::{
    ErrorKind, Settings,
    history::{Job, Kept, Quiet},
};
use serde::Serialize;
use tokio::runtime::Builder;

use crate::{
    database::Database,
    exit::{ENVIRONMENT, Failure, OK, Outcome},
    place,
    screen::{self, Table, Tone, say},
    service,
};

/// Words after `cargo dagz clean`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Drop nothing, and tell what would be dropped.
    #[arg(long)]
    dry_run: bool,
    /// Leave the records of jobs.
    #[arg(long)]
    keep_jobs: bool,
    /// Print JSON: a list of objects.
    #[arg(long)]
    json: bool,
}

/// What became of something that dagz made, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    /// The driver's word, or `job`.
    kind: &'static str,
    name: String,
    what: String,
    base: Option<String>,
    /// In UTC.
    made: Option<String>,
    /// `dropped`, `would be dropped`, `kept` or `failed`.
    state: &'static str,
    /// Why it was kept, or could not be dropped.
    why: Option<String>,
}

impl Row {
    fn ends(mut self, verdict: Verdict) -> Self {
        (self.state, self.why) = match verdict {
            Verdict::Dropped => ("dropped", None),
            Verdict::WouldDrop => ("would be dropped", None),
            Verdict::Kept(why) => ("kept", Some(why)),
            Verdict::Failed(why) => ("failed", Some(why)),
        };
        self
    }

    fn tone(&self) -> Tone {
        match self.state {
            "kept" => Tone::Odd,
            "failed" => Tone::Bad,
            _ => Tone::Plain,
        }
    }
}

enum Verdict {
    Dropped,
    WouldDrop,
    Kept(String),
    Failed(String),
}

impl Row {
    fn of(database: &Database) -> Self {
        let what = match database.worker() {
            Some(worker) => format!("worker {worker}"),
            None if database.is_template() => "template".to_owned(),
            None => "half made".to_owned(),
        };
        Self {
            kind: database.kind().word(),
            name: database.name().to_owned(),
            what,
            base: database.base().map(str::to_owned),
            made: database.made().map(screen::rfc3339),
            state: "kept",
            why: None,
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
    let mut quiet = Quiet::begin(&settings)?;
    let mut rows = Vec::new();
    let mut is_all_done = true;
    for service in &services {
        let listed = runtime.block_on(Database::list(service, settings.project()));
        let databases = match listed {
            Ok(databases) => databases,
            // What is configured wrongly is for whoever calls; the others are looked at all the same.
            Err(error) if error.kind() == ErrorKind::Settings => return Err(error.into()),
            Err(error) => {
                is_all_done = false;
                eprintln!(
                    "error: {} at {} ({}): {}",
                    service.kind.word(),
                    service.shown(),
                    service.origin(),
                    error.report()
                );
                continue;
            }
        };
        if !arguments.dry_run && !databases.is_empty() {
            quiet.forget_inits()?;
        }
        for database in databases {
            let verdict = runtime.block_on(drop_one(arguments, &settings, &quiet, &database))?;
            rows.push(Row::of(&database).ends(verdict));
        }
    }
    // Who knows no server has dropped nothing.
    if !arguments.dry_run && is_all_done && !services.is_empty() {
        give_back(&settings, &quiet, &rows)?;
    }
    if !arguments.keep_jobs {
        // By the number of the newest the next one's is chosen, and its log is what is looked for.
        let mut ended: Vec<Job> = quiet.ended().cloned().collect();
        ended.retain(|job| !is_newest(job, &quiet));
        for job in &ended {
            let verdict = match arguments.dry_run {
                true => Verdict::WouldDrop,
                false if quiet.remove(job)? => Verdict::Dropped,
                false => Verdict::Kept("it is the newest".to_owned()),
            };
            let row = Row {
                kind: "job",
                name: job.id().to_owned(),
                what: "record".to_owned(),
                base: None,
                made: Some(screen::rfc3339(job.started())),
                state: "kept",
                why: None,
            };
            rows.push(row.ends(verdict));
        }
    }
    is_all_done &= rows.iter().all(|row| row.state != "failed");
    report(arguments, &rows);
    if services.is_empty() {
        eprintln!(
            "note: no server is known, so none was looked at; {}",
            service::HOW
        );
    }
    Ok(if is_all_done { OK } else { ENVIRONMENT })
}

/// Lets tests take the workers again that were kept as a failed test left them, if nothing of that is there any
/// more.
fn give_back(settings: &Settings, quiet: &Quiet, rows: &[Row]) -> Outcome<()> {
    for kept in Kept::all(settings)? {
        let worker = kept.worker();
        let what = format!("worker {worker}");
        let is_left = rows
            .iter()
            .any(|row| row.what == what && row.state != "dropped");
        let is_used = quiet.running().iter().any(|job| job.has(worker));
        if !is_left
            && !is_used
            && let Some(held) = quiet.hold(worker)?
        {
            quiet.give_back(worker, &held)?;
        }
    }
    Ok(())
}

fn is_newest(job: &Job, quiet: &Quiet) -> bool {
    let number = |job: &Job| job.id().trim_start_matches('j').parse::<u64>().unwrap_or(0);
    let all = quiet.ended().chain(quiet.running());
    all.map(number).max() == Some(number(job))
}

async fn drop_one(
    arguments: &Arguments,
    settings: &Settings,
    quiet: &Quiet,
    database: &Database,
) -> Outcome<Verdict> {
    let worker = database.worker();
    // A job that runs may make its workers' databases from any template, at any time.
    let uses = |job: &&Job| {
        job.project() == settings.project() && worker.is_none_or(|worker| job.has(worker))
    };
    if let Some(job) = quiet.running().iter().find(uses) {
        return Ok(Verdict::Kept(format!("job {} runs", job.id())));
    }
    let _hold = match worker {
        None => None,
        Some(worker) => match quiet.hold(worker)? {
            None => return Ok(Verdict::Kept(format!("{worker} is leased"))),
            hold => hold,
        },
    };
    if arguments.dry_run {
        return Ok(Verdict::WouldDrop);
    }
    Ok(match database.remove().await {
        Ok(()) => Verdict::Dropped,
        // A run of another checkout or machine, of which the server alone knows.
        Err(error) if error.kind() == ErrorKind::InUse => Verdict::Kept(error.to_string()),
        Err(error) => Verdict::Failed(error.report().to_string()),
    })
}

fn report(arguments: &Arguments, rows: &[Row]) {
    if arguments.json {
        screen::print_json(&rows);
        return;
    }
    if rows.is_empty() {
        say!("nothing to clean");
        return;
    }
    let mut table = Table::new(&["kind", "name", "what", "of", "made", "state"]);
    for row in rows {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let state = match &row.why {
            Some(why) => format!("{}: {why}", row.state),
            None => row.state.to_owned(),
        };
        table.row(
            row.tone(),
            vec![
                row.kind.to_owned(),
                row.name.clone(),
                row.what.clone(),
                or_dash(&row.base),
                or_dash(&row.made),
                state,
            ],
        );
    }
    table.print();
}
