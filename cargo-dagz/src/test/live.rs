//! How far the run is: a bar on a terminal, a line now and then where there is none, a line per worker on demand.
//!
//! What workers do is read off the job's log as it grows. The main type is [`Live`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use dagz_core::{
    Worker,
    history::{Entry, Job, Log},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::screen::{self, say};

/// What the user wants to see.
pub(crate) struct Showing {
    pub(crate) has_workers: bool,
    pub(crate) every: Duration,
}

/// What a worker does, as the log tells.
#[derive(Debug)]
struct Doing {
    /// Its test, since when, and the tag that ends it.
    test: Option<(String, SystemTime, Option<String>)>,
    /// The last that happened in it.
    state: String,
    done: usize,
}

impl Doing {
    /// `running orders::places_one for 3.2 s (route), 12 done`.
    fn shown(&self) -> String {
        let done = self.done;
        match &self.test {
            Some((test, since, _)) => {
                let since = SystemTime::now().duration_since(*since).unwrap_or_default();
                let since = screen::duration(since);
                format!("{test} for {since} ({}), {done} done", self.state)
            }
            None => format!("idle, {done} done"),
        }
    }
}

struct Bars {
    all: MultiProgress,
    main: ProgressBar,
    workers: BTreeMap<Worker, ProgressBar>,
}

/// Shows how far a pass is.
pub(crate) struct Live {
    showing: Showing,
    bars: Option<Bars>,
    total: Option<usize>,
    /// What the runner told of, if it tells of single tests.
    told: Option<usize>,
    failed: usize,
    log: Option<Log>,
    workers: BTreeMap<Worker, Doing>,
    reported: Instant,
    begun: SystemTime,
}

impl Live {
    pub(crate) fn new(showing: Showing) -> Self {
        let bars = console::user_attended_stderr().then(|| {
            let all = MultiProgress::new();
            let main = all.add(ProgressBar::new_spinner());
            main.enable_steady_tick(Duration::from_millis(200));
            Bars {
                all,
                main,
                workers: BTreeMap::new(),
            }
        });
        Self {
            showing,
            bars,
            total: None,
            told: None,
            failed: 0,
            log: None,
            workers: BTreeMap::new(),
            reported: Instant::now(),
            begun: SystemTime::now(),
        }
    }

    /// Says how many tests there are to be.
    pub(crate) fn expect(&mut self, total: Option<usize>) {
        let (Some(total), Some(bars)) = (total, &self.bars) else {
            self.total = total.or(self.total);
            return;
        };
        self.total = Some(total);
        bars.main.set_length(total as u64);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {elapsed}");
        if let Ok(style) = style {
            bars.main.set_style(style);
        }
    }

    /// A test has ended.
    pub(crate) fn ended(&mut self, passed: bool) {
        self.told = Some(self.told.unwrap_or(0) + 1);
        self.failed += usize::from(!passed);
        if let Some(bars) = &self.bars {
            bars.main.inc(1);
            if self.failed > 0 {
                bars.main.set_message(format!("{} failed", self.failed));
            }
        }
    }

    /// Shows a line on standard error.
    pub(crate) fn pass_on(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Shows a line on standard output.
    pub(crate) fn pass_on_output(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    }

    /// Looks what workers do, and shows what is due.
    pub(crate) fn tick(&mut self, job: Option<&Job>, wants_workers: bool) {
        if self.log.is_none() {
            self.log = job.map(Job::log);
        }
        // What cannot be read now is read the next time.
        let entries = self.log.as_mut().and_then(|log| log.read().ok());
        for entry in entries.unwrap_or_default() {
            // Of this pass only; the log has those before it, too.
            if entry.at() >= self.begun {
                self.learn(&entry);
            }
        }
        if self.bars.is_some() && self.showing.has_workers {
            self.show_workers();
        }
        let is_due = self.bars.is_none() && self.reported.elapsed() >= self.showing.every;
        if is_due || wants_workers {
            self.reported = Instant::now();
            self.report();
        }
    }

    fn learn(&mut self, entry: &Entry) {
        let Some(worker) = entry.worker() else { return };
        let doing = self.workers.entry(worker).or_insert(Doing {
            test: None,
            state: String::new(),
            done: 0,
        });
        if entry.kind == "lease" {
            let test = entry.test.clone().unwrap_or_default();
            doing.test = Some((test, entry.at(), entry.tag.clone()));
        }
        doing.state.clone_from(&entry.kind);
        let is_own = matches!(&doing.test, Some((.., tag)) if *tag == entry.tag);
        if entry.outcome.is_some() && is_own {
            doing.test = None;
            doing.done += 1;
            if let (None, Some(bars)) = (self.told, &self.bars) {
                bars.main.inc(1);
            }
        }
    }

    fn show_workers(&mut self) {
        let Some(bars) = &mut self.bars else { return };
        for (worker, doing) in &self.workers {
            let bar = bars.workers.entry(*worker).or_insert_with(|| {
                let bar = bars.all.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("  {msg}") {
                    bar.set_style(style);
                }
                bar
            });
            bar.set_message(format!("{worker} {}", doing.shown()));
        }
    }

    /// A line for the whole, and one for each worker.
    fn report(&self) {
        let of_log: usize = self.workers.values().map(|doing| doing.done).sum();
        let done = self.told.unwrap_or(of_log);
        let left = match self.total {
            Some(total) => format!("{} left", total.saturating_sub(done)),
            None => "an unknown number left".to_owned(),
        };
        self.pass_on(&format!(
            "dagz: {done} done, {} failed, {left}",
            self.failed
        ));
        for (worker, doing) in &self.workers {
            self.pass_on(&format!("dagz:   {worker} {}", doing.shown()));
        }
    }

    /// Takes bars away.
    pub(crate) fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.main.finish_and_clear();
            for bar in bars.workers.values() {
                bar.finish_and_clear();
            }
        }
    }
}
