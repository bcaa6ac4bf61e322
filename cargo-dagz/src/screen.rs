//! How things are shown: tables, colours where there is a terminal, times and durations.
//!
//! The main type is [`Table`].

use std::{
    fmt,
    io::{ErrorKind, Write, stdout},
    process,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use comfy_table::{ContentArrangement, presets::NOTHING};
use console::Style;
use serde::Serialize;

use crate::exit;

/// Prints a line, like `println!`.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::screen::say_line(format_args!($($words)*))
    };
}
pub(crate) use say;

/// Prints `line`, see [`say!`].
///
/// Whoever reads the output, such as `head`, may have seen enough: that is the end, and no bug.
pub(crate) fn say_line(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(stdout().lock(), "{line}") {
        if error.kind() != ErrorKind::BrokenPipe {
            eprintln!("error: cannot write to standard output: {error}");
            process::exit(exit::ENVIRONMENT.into());
        }
        process::exit(exit::OK.into());
    }
}

/// How a row strikes the eye, on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As any other text.
    #[default]
    Plain,
    /// Nothing to look at.
    Good,
    /// To be looked at.
    Odd,
    /// Wrong.
    Bad,
}

impl Tone {
    /// `text`, coloured where standard output is a terminal that can.
    pub(crate) fn paint(self, text: &str) -> String {
        let style = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => Style::new().green(),
            Self::Odd => Style::new().yellow(),
            Self::Bad => Style::new().red(),
        };
        style.apply_to(text).to_string()
    }
}

/// A table whose rows have a tone each.
pub(crate) struct Table {
    table: comfy_table::Table,
    tones: Vec<Tone>,
}

impl Table {
    /// One without rows.
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_preset(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(header.to_vec());
        Self {
            table,
            tones: Vec::new(),
        }
    }

    /// Adds a row; a cell is one line.
    pub(crate) fn row(&mut self, tone: Tone, cells: Vec<String>) {
        let cells = cells.into_iter().map(|cell| cell.replace('\n', " "));
        self.table.add_row(cells);
        self.tones.push(tone);
    }

    /// Prints it, a line per row.
    pub(crate) fn print(&self) {
        let bold = Style::new().bold();
        for (position, line) in self.table.lines().enumerate() {
            let line = line.trim_end().strip_prefix(' ').unwrap_or_default();
            match position.checked_sub(1) {
                None => say!("{}", bold.apply_to(line)),
                Some(row) => {
                    let tone = self.tones.get(row).copied().unwrap_or_default();
                    say!("{}", tone.paint(line));
                }
            }
        }
    }
}

/// Prints `value` as JSON.
pub(crate) fn print_json(value: &impl Serialize) {
    // A value of our own types has no maps with odd keys, which is all that could fail.
    say!(
        "{}",
        serde_json::to_string_pretty(value).unwrap_or_default()
    );
}

/// `2026-11-24 19:30:12`, in UTC.
pub(crate) fn moment(at: SystemTime) -> String {
    rfc3339(at).replace('T', " ").replace('Z', "")
}

/// `19:30:12.345`, in UTC.
pub(crate) fn clock(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_millis(at.max(UNIX_EPOCH)).to_string();
    let time = text.split_once('T').map_or("", |(_, time)| time);
    time.trim_end_matches('Z').to_owned()
}

/// `2026-11-24T19:30:12Z`.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    // A record that claims a time before the epoch, or after the year 9999, is somebody's mistake.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(at.clamp(UNIX_EPOCH, last)).to_string()
}

/// `0.4 ms`, `82 ms`, `7.3 s`, `3 min 5 s`.
pub(crate) fn duration(took: Duration) -> String {
    let micros = took.as_micros();
    let seconds = took.as_secs_f64();
    match micros {
        0..10_000 => format!("{:.1} ms", seconds * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", seconds * 1e3),
        1_000_000..60_000_000 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_or_three_digits() {
        let shown = [420, 9_999, 82_400, 7_310_000, 185_000_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(shown, ["0.4 ms", "10.0 ms", "82 ms", "7.3 s", "3 min 5 s"]);
    }

    #[test]
    fn times_of_a_broken_record_are_shown_too() {
        assert_eq!(moment(UNIX_EPOCH), "1970-01-01 00:00:00");
        let never = UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX) << 10);
        assert_eq!(moment(never), "9999-12-31 23:59:59");
        assert_eq!(
            clock(UNIX_EPOCH + Duration::from_millis(61_005)),
            "00:01:01.005"
        );
    }
}
