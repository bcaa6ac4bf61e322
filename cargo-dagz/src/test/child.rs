//! The runner as a child process: in a process group of its own, heard line by line, and told of signals.
//!
//! The main types are [`Heard`], what it says, and [`Signals`], what the user says.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{Session, again::Pass};
use crate::exit::{Failure, Outcome};

/// How often to look at what is not heard: signals and the job's log.
const TICK: Duration = Duration::from_millis(100);

/// What comes from the runner.
pub(crate) enum Heard<'a> {
    /// A line of its standard output.
    Out(&'a str),
    /// A line of its standard error.
    Error(&'a str),
    /// Some time has passed.
    Tick,
}

/// What the user asked for by signals.
pub(crate) struct Signals {
    interrupts: Arc<AtomicUsize>,
    wants_workers: Arc<AtomicBool>,
}

impl Signals {
    /// Watches for Ctrl-C and its like, and for `SIGUSR1`.
    pub(crate) fn watch() -> Outcome<Self> {
        let signals = Self {
            interrupts: Arc::default(),
            wants_workers: Arc::default(),
        };
        let failed =
            |error: io::Error| Failure::environment(format!("cannot watch for Ctrl-C: {error}"));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A counter, since each of them is passed on.
            let interrupts = Arc::clone(&signals.interrupts);
            counted(signal, interrupts).map_err(failed)?;
        }
        #[cfg(unix)]
        signal_hook::flag::register(
            signal_hook::consts::SIGUSR1,
            Arc::clone(&signals.wants_workers),
        )
        .map_err(failed)?;
        Ok(signals)
    }

    /// Whether somebody wanted it to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupts.load(Ordering::SeqCst) > 0
    }

    /// Whether a line per worker was asked for since the last call.
    pub(crate) fn wants_workers(&self) -> bool {
        self.wants_workers.swap(false, Ordering::SeqCst)
    }
}

fn counted(signal: i32, counter: Arc<AtomicUsize>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal])?;
    // Ends with the process.
    thread::spawn(move || {
        for _ in signals.forever() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    Ok(())
}

impl Session<'_> {
    /// `cargo`, for a pass of this job.
    pub(super) fn cargo(&self, pass: &Pass) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.env("DAGZ_JOB", &self.name).stdin(Stdio::null());
        command.env_remove("DAGZ_AGAIN");
        if let Some(word) = pass.word() {
            command.env("DAGZ_AGAIN", word);
        }
        if self.arguments.keep_failed {
            // Only what the first try left: there is not room for all.
            command.env("DAGZ_KEEP_FAILED", pass.is_first().to_string());
        }
        if let Some(workers) = self.arguments.workers {
            command.env("DAGZ_WORKERS", workers.to_string());
        }
        command
    }

    /// Runs `command` to its end and tells `hear` what it says.
    ///
    /// The code is `None` where a signal ended it.
    pub(super) fn listen(
        &mut self,
        command: &mut Command,
        mut hear: impl FnMut(&mut Self, Heard<'_>),
    ) -> Outcome<Option<i32>> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(command)?;
        let (sender, receiver) = mpsc::channel();
        let out = child
            .stdout
            .take()
            .map(|pipe| read(pipe, true, sender.clone()));
        let error = child.stderr.take().map(|pipe| read(pipe, false, sender));
        let (mut passed_on, mut ticked) = (0, Instant::now());
        loop {
            match receiver.recv_timeout(TICK) {
                Ok((true, line)) => hear(self, Heard::Out(&line)),
                Ok((false, line)) => hear(self, Heard::Error(&line)),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // A test that left a process behind keeps the pipes open; the runner has said all it had.
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            let wanted = self.signals.interrupts.load(Ordering::SeqCst);
            while passed_on < wanted {
                interrupt(&child);
                passed_on += 1;
            }
            if ticked.elapsed() >= TICK {
                hear(self, Heard::Tick);
                ticked = Instant::now();
            }
        }
        let status = wait(&mut child, &self.signals, passed_on)?;
        for reader in [out, error].into_iter().flatten() {
            drop(reader.join());
        }
        Ok(status.code())
    }

    /// Runs `command` to its end, with its output as it is. The code is `None` where a signal ended it.
    pub(super) fn status(&mut self, command: &mut Command) -> Outcome<Option<i32>> {
        let mut child = start(command)?;
        Ok(wait(&mut child, &self.signals, 0)?.code())
    }
}

/// Waits for the end, and passes signals on meanwhile.
fn wait(child: &mut Child, signals: &Signals, mut passed_on: usize) -> Outcome<ExitStatus> {
    loop {
        let ended = child
            .try_wait()
            .map_err(|error| Failure::environment(format!("cannot wait for cargo: {error}")))?;
        if let Some(status) = ended {
            return Ok(status);
        }
        while passed_on < signals.interrupts.load(Ordering::SeqCst) {
            interrupt(child);
            passed_on += 1;
        }
        thread::sleep(TICK / 10);
    }
}

fn start(command: &mut Command) -> Outcome<Child> {
    // In a group of its own, so that it hears of Ctrl-C from here and once, wherever the signal was sent.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command
        .spawn()
        .map_err(|error| Failure::environment(format!("cannot run cargo: {error}")))
}

fn interrupt(child: &Child) {
    #[cfg(unix)]
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        // It may have ended just now, which is all that was wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::INT);
    }
    #[cfg(not(unix))]
    let _ = child;
}

fn read(
    pipe: impl Read + Send + 'static,
    is_out: bool,
    sender: mpsc::Sender<(bool, String)>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            let sent = sender.send((is_out, text.trim_end_matches(['\n', '\r']).to_owned()));
            if sent.is_err() {
                break;
            }
            line.clear();
        }
    })
}
