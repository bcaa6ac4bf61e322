//! How far a long step is: a bar on a terminal, a plain line now and then elsewhere. Always on standard error.

use std::io::{IsTerminal, stderr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars: steps that go on at once are drawn below each other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Prints a line to standard error, above whatever bars there are.
pub(crate) fn say(line: &str) {
    BARS.suspend(|| eprintln!("{line}"));
}

/// Without a terminal, lines come at least this far apart.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// The progress of one step.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    bar: Option<ProgressBar>,
    begun: Instant,
    last_line: Instant,
    done: u64,
    total: Option<u64>,
}

impl Progress {
    /// A step called `label`.
    pub(crate) fn new(label: impl Into<String>) -> Self {
        let label = label.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = BARS.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix} {elapsed} {wide_msg}"));
            bar.set_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            say(&format!("{label} …"));
        }
        Self {
            label,
            bar,
            begun: Instant::now(),
            last_line: Instant::now(),
            done: 0,
            total: None,
        }
    }

    /// How many parts there are, as soon as that is known.
    pub(crate) fn expect(&mut self, total: u64) {
        self.total = Some(total);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_style(style(
                "{spinner} {prefix} {elapsed} {bar:30} {pos}/{len} {wide_msg}",
            ));
        }
    }

    /// One more part is done; `what` is shown where there is room for it.
    pub(crate) fn advance(&mut self, what: &str) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(what.to_owned());
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            let of = self
                .total
                .map_or(String::new(), |total| format!("/{total}"));
            say(&format!(
                "{}: {}{of} after {:.0} s, {what}",
                self.label,
                self.done,
                self.begun.elapsed().as_secs_f64()
            ));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours; a wrong one shows as the default style, not as a failure of the step.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
