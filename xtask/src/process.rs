//! Running commands: their lines as they come, and a Ctrl-C that reaches them and still lets xtask tidy up.
//!
//! Children get a process group of their own. A signal to xtask is passed on to these groups, so that neither
//! cargo nor the test binaries below it go on writing to a server that is being stopped; xtask itself survives
//! the first signal, sees its children end, and stops the servers it started.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static SIGNALS: AtomicUsize = AtomicUsize::new(0);
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Which of a child's two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Passes interrupts on to the running children; the second one kills them, the third ends xtask at once.
pub(crate) fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("failed to watch signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let earlier = SIGNALS.fetch_add(1, Ordering::SeqCst);
                let passed_on = match (earlier, signal) {
                    (0, SIGINT) => Signal::INT,
                    (0, _) => Signal::TERM,
                    (1, _) => Signal::KILL,
                    _ => std::process::exit(130),
                };
                for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    // A group that is already gone is what was wanted.
                    let _gone = kill_process_group(*group, passed_on);
                }
            }
        })
        .context("failed to start a thread")?;
    Ok(())
}

/// Whether the user asked to stop.
pub(crate) fn interrupted() -> bool {
    SIGNALS.load(Ordering::SeqCst) > 0
}

/// An error once the user asked to stop; for loops that wait.
pub(crate) fn check_interrupted() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Runs `command` to its end, giving each line of both its streams to `each`, without the line's end.
pub(crate) fn run_lines(
    command: &mut Command,
    each: impl FnMut(Stream, &str),
) -> Result<ExitStatus> {
    run_watched(command, Duration::MAX, each)
}

/// [`run_lines`] for what should be heard of: once it was silent for `silence`, it is ended, which is an error.
pub(crate) fn run_watched(
    command: &mut Command,
    silence: Duration,
    mut each: impl FnMut(Stream, &str),
) -> Result<ExitStatus> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Child::spawn(command)?;
    let (sender, lines) = mpsc::channel();
    let out = child.0.stdout.take().map(|pipe| {
        let sender = sender.clone();
        thread::spawn(move || send_lines(pipe, Stream::Out, &sender))
    });
    let err = child
        .0
        .stderr
        .take()
        .map(|pipe| thread::spawn(move || send_lines(pipe, Stream::Err, &sender)));
    let is_silent = loop {
        match lines.recv_timeout(silence) {
            Ok((stream, line)) => each(stream, &line),
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if is_silent && let Some(group) = group_of(&child.0) {
        // Its end is waited for below.
        let _gone = kill_process_group(group, Signal::KILL);
    }
    for reader in [out, err].into_iter().flatten() {
        if reader.join().is_err() {
            bail!("a reader of the child's output panicked");
        }
    }
    let status = child.wait()?;
    ensure!(
        !is_silent,
        "`{}` was not heard of for {} s, and was ended: its last lines tell where it hangs",
        command.get_program().to_string_lossy(),
        silence.as_secs_f64()
    );
    Ok(status)
}

/// Runs `command` to its end, with the streams it was given (by default xtask's own).
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    Child::spawn(command)?.wait()
}

/// `text` without terminal colours.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            // `ESC [ … letter`
            for inner in rest.by_ref() {
                if inner.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(character);
        }
    }
    plain
}

/// A child whose process group hears of signals while it runs.
struct Child(std::process::Child);

impl Child {
    fn spawn(command: &mut Command) -> Result<Self> {
        check_interrupted()?;
        command.stdin(Stdio::null()).process_group(0);
        let child = command.spawn().with_context(|| {
            format!(
                "failed to run `{}`",
                command.get_program().to_string_lossy()
            )
        })?;
        if let Some(pid) = group_of(&child) {
            GROUPS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(pid);
        }
        Ok(Self(child))
    }

    fn wait(mut self) -> Result<ExitStatus> {
        let status = self.0.wait().context("failed to wait for a child");
        // After this nothing may signal the group: its number is free for others.
        if let Some(pid) = group_of(&self.0) {
            GROUPS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|other| *other != pid);
        }
        check_interrupted()?;
        status
    }
}

fn group_of(child: &std::process::Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn send_lines(pipe: impl Read, stream: Stream, sender: &mpsc::Sender<(Stream, String)>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\n', '\r']);
                if sender.send((stream, text.to_owned())).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_streams_arrive() {
        let mut lines = Vec::new();
        let status = run_lines(
            Command::new("sh").args(["-c", "echo one; echo two >&2; printf three; exit 3"]),
            |stream, line| lines.push((stream, line.to_owned())),
        )
        .unwrap();
        assert_eq!(status.code(), Some(3));
        let of = |wanted: Stream| -> Vec<&str> {
            let lines = lines.iter().filter(|(stream, _)| *stream == wanted);
            lines.map(|(_, line)| line.as_str()).collect()
        };
        assert_eq!(of(Stream::Out), ["one", "three"]);
        assert_eq!(of(Stream::Err), ["two"]);
    }

    #[test]
    fn who_falls_silent_is_ended_with_its_children() {
        let mut lines = Vec::new();
        let error = run_watched(
            Command::new("sh").args(["-c", "echo one; sleep 600 & sleep 600"]),
            Duration::from_millis(500),
            |_, line| lines.push(line.to_owned()),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh` was not heard of for 0.5 s, and was ended: its last lines tell where it hangs"
        );
        assert_eq!(lines, ["one"]);
    }

    #[test]
    fn colours_are_removed() {
        assert_eq!(plain("\u{1b}[32;1mok\u{1b}[0m."), "ok.");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "failed to run `no-such-program`");
    }
}
