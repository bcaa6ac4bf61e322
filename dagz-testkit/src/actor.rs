//! Starting, stopping and hearing the processes that play a case.
//!
//! `configure` is once per process, and so are dagz's settings; so a case re-executes its own
//! binary, with an environment of its own, and names the role by a variable. An [`Actor`] is about
//! to be started, a [`Running`] one has been. It answers with one line of JSON.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stage::PATIENCE;

/// The variable that makes the contract's binary an actor.
const VARIABLE: &str = "DAGZ_CONTRACT";

/// What an actor is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// What it plays; `cases/` says.
    pub(crate) role: String,
    /// The case's directory.
    pub(crate) stage: PathBuf,
    /// How the names of the case begin.
    pub(crate) prefix: String,
    /// What the role needs to know besides.
    pub(crate) arguments: Value,
}

impl Call {
    /// What this process was told, if it is an actor.
    pub(crate) fn of_this_process() -> Option<Result<Self>> {
        let text = env::var(VARIABLE).ok()?;
        Some(serde_json::from_str(&text).with_context(|| format!("`{VARIABLE}` is unreadable")))
    }

    /// A command by which this binary plays another role of the same case, with the environment of
    /// this process.
    pub(crate) fn command(&self, role: &str) -> Result<Command> {
        let call = Self {
            role: role.to_owned(),
            ..self.clone()
        };
        let mut command = Command::new(env::current_exe()?);
        command.env(VARIABLE, serde_json::to_string(&call)?);
        Ok(command)
    }
}

/// A process that is about to play a role.
#[derive(Debug)]
pub(crate) struct Actor {
    call: Call,
    number: usize,
    variables: Vec<(String, String)>,
}

impl Actor {
    pub(crate) fn new(
        role: &str,
        number: usize,
        stage: &Path,
        prefix: &str,
        project: &str,
    ) -> Self {
        let actor = Self {
            call: Call {
                role: role.to_owned(),
                stage: stage.to_owned(),
                prefix: prefix.to_owned(),
                arguments: Value::Null,
            },
            number,
            variables: Vec::new(),
        };
        actor
            .set("DAGZ", "on")
            .set("DAGZ_JOB", "run")
            .set("DAGZ_LEASE_TIMEOUT", "30s")
            .set("DAGZ_NODE_INDEX", "0")
            .set("DAGZ_NODE_TOTAL", "1")
            .set("DAGZ_PROJECT", project)
            .set("DAGZ_STATE_DIR", &stage.join("state").to_string_lossy())
            .set("DAGZ_WORKERS", "2")
    }

    /// Sets a variable of the environment.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Tells the role what it needs to know besides.
    pub(crate) fn with(mut self, arguments: Value) -> Self {
        self.call.arguments = arguments;
        self
    }

    /// Starts the process.
    pub(crate) fn start(self) -> Result<Running> {
        let Self {
            call,
            number,
            variables,
        } = self;
        let mut command = call.command(&call.role)?;
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            // What the runner of this suite, itself under dagz or nextest, was told is not for the case.
            let foreign = ["DAGZ", "NEXTEST", "CARGO_MANIFEST"];
            let ours = name == VARIABLE || name.starts_with("DAGZ_TEST_");
            if foreign.iter().any(|start| name.starts_with(start)) && !ours {
                command.env_remove(&*name);
            }
        }
        let output = call.stage.join(format!("actor-{number}.out"));
        let complaints = call.stage.join(format!("actor-{number}.err"));
        let child = command
            .envs(variables)
            .current_dir(&call.stage)
            .stdin(std::process::Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&complaints)?)
            .spawn()
            .with_context(|| format!("starting the actor `{}` failed", call.role))?;
        Ok(Running {
            role: call.role,
            child,
            output,
            complaints,
        })
    }

    /// Plays the role and tells its answer.
    pub(crate) fn run(self) -> Result<Value> {
        self.start()?.finish()
    }
}

/// A process that plays a role; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    role: String,
    child: Child,
    output: PathBuf,
    complaints: PathBuf,
}

impl Running {
    /// Waits for the end, and tells the role's answer.
    pub(crate) fn finish(mut self) -> Result<Value> {
        let status = self.ended()?;
        let output = fs::read_to_string(&self.output).unwrap_or_default();
        let answer = output.lines().last().unwrap_or_default();
        match serde_json::from_str::<Result<Value, String>>(answer) {
            Ok(Ok(answer)) if status.success() => Ok(answer),
            Ok(Err(failure)) => bail!("{failure}{}", self.shown_complaints()),
            _ => bail!(
                "the actor `{}` ended with {status} and no answer{}",
                self.role,
                self.shown_complaints()
            ),
        }
    }

    /// Waits for the end, and tells the role's answer and what went to standard error.
    pub(crate) fn finish_heard(self) -> Result<(Value, String)> {
        let complaints = self.complaints.clone();
        let answer = self.finish()?;
        Ok((answer, fs::read_to_string(complaints)?))
    }

    /// Ends the process by a signal that it cannot see.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill()?;
                bail!(
                    "the actor `{}` still ran after {:?}{}",
                    self.role,
                    2 * PATIENCE,
                    self.shown_complaints()
                );
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn shown_complaints(&self) -> String {
        let text = fs::read_to_string(&self.complaints).unwrap_or_default();
        match text.trim() {
            "" => String::new(),
            text => format!("\nstandard error of the actor `{}`:\n{text}", self.role),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended, and then there is nothing to kill.
        drop(self.kill());
    }
}
