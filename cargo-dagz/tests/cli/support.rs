//! What the tests share: a workspace of its own for each, a run of the fixture in it, a run of the command.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The fixture's executable.
static FIXTURE: LazyLock<PathBuf> = LazyLock::new(|| built("fixture"));

/// The executable of the suite that ails.
static AILING: LazyLock<PathBuf> = LazyLock::new(|| built("ailing"));

/// The executable of a suite of this package; what it depends on was built with this very test.
fn built(suite: &str) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--offline", "--quiet", "--no-run"])
        .args(["--message-format", "json", "--test", suite])
        .args(["--package", "cargo-dagz"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let executable = stdout.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == suite;
        let path = message["executable"].as_str().filter(|_| is_it)?;
        Some(PathBuf::from(path))
    });
    executable.expect("cargo names what it built")
}

/// The address of a server of `cargo xtask services`.
pub(crate) fn server(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| {
        panic!("`{variable}` is not set: start the servers by `cargo xtask services up`")
    })
}

/// What a command ended with.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// Standard output as a whole, where `stdout` is a part of it.
    pub(crate) all: String,
    pub(crate) stderr: String,
}

/// A workspace of its own, with its own project, jobs and databases.
pub(crate) struct Site {
    folder: TempDir,
    name: &'static str,
    index: u32,
    variables: Vec<(&'static str, String)>,
}

impl Site {
    /// One for the test `name`, which has twelve Redis indices of its own: no other has its `number`.
    pub(crate) fn new(name: &'static str, number: u32) -> Self {
        // The blocks that the tests of `dagz-redis` take end before.
        Self::at(name, 1_001 + 12 * number)
    }

    /// One whose last worker is the last that the Redis server has room for: the books are behind it.
    pub(crate) fn at_the_end(name: &'static str) -> Self {
        Self::at(name, 2_046)
    }

    fn at(name: &'static str, index: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\n");
        write("Cargo.lock", "");
        write(".git/HEAD", "ref: refs/heads/try\n");
        write(".git/refs/heads/try", &"0123456789".repeat(4));
        let site = Self {
            folder,
            name,
            index,
            variables: Vec::new(),
        };
        // What an earlier run left that was killed.
        site.dagz(&["clean"]);
        site
    }

    /// The first Redis index that is its own.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The same workspace, with other variables for the suite and the command.
    #[must_use]
    pub(crate) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }

    /// The same workspace, whose command knows RabbitMQ and Cassandra, too.
    #[must_use]
    pub(crate) fn with_brokers(self) -> Self {
        let site = self
            .with("DAGZ_AMQP_URL", server("DAGZ_TEST_AMQP_URL"))
            .with(
                "DAGZ_AMQP_MANAGEMENT_URL",
                server("DAGZ_TEST_AMQP_MANAGEMENT_URL"),
            )
            .with("DAGZ_CASSANDRA_URL", server("DAGZ_TEST_CASSANDRA_URL"));
        site.dagz(&["clean"]);
        site
    }

    /// A file in the workspace, whether it is there or not.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The base name of the suite's databases.
    pub(crate) fn base(&self) -> String {
        format!("cli_{}", self.name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars() {
            // The worker, the job and the settings of this very test are not the suite's.
            let is_ours = ["DAGZ", "NEXTEST", "RUST_TEST_THREADS", "CARGO_MANIFEST_DIR"]
                .iter()
                .any(|own| name.starts_with(own));
            // Nor are the servers of whoever runs it.
            let is_usual = name.ends_with("_URL") && name != "DATABASE_URL";
            if is_ours || is_usual {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("RUST_BACKTRACE", "0")
            .env("DAGZ_PROJECT", format!("cli-{}", self.name))
            .env("DAGZ_TEST_MYSQL_URL", server("DAGZ_TEST_MYSQL_URL"))
            .env("DAGZ_TEST_REDIS_URL", server("DAGZ_TEST_REDIS_URL"))
            .env("DAGZ_TEST_AMQP_URL", server("DAGZ_TEST_AMQP_URL"))
            .env(
                "DAGZ_TEST_AMQP_MANAGEMENT_URL",
                server("DAGZ_TEST_AMQP_MANAGEMENT_URL"),
            )
            .env("DAGZ_TEST_CASSANDRA_URL", server("DAGZ_TEST_CASSANDRA_URL"))
            .env("DAGZ_POSTGRES_URL", server("DATABASE_URL"))
            .env("DAGZ_MYSQL_URL", server("DAGZ_TEST_MYSQL_URL"))
            .env("DAGZ_REDIS_URL", server("DAGZ_TEST_REDIS_URL"))
            .env("DAGZ_WORKERS", "1")
            .env("FIXTURE_FOLDER", self.folder.path())
            .env("FIXTURE_BASE", self.base())
            .env("FIXTURE_INDEX", self.index.to_string());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Starts the suite with these words for libtest, one test after the other.
    pub(crate) fn start(&self, words: &[&str]) -> Child {
        self.start_of(&FIXTURE, words)
    }

    /// The same, of the suite that ails.
    pub(crate) fn start_ailing(&self, words: &[&str]) -> Child {
        self.start_of(&AILING, words)
    }

    /// Runs the suite that ails to its end.
    pub(crate) fn ailing(&self, words: &[&str]) -> Option<i32> {
        self.start_ailing(words).wait().unwrap().code()
    }

    fn start_of(&self, program: &Path, words: &[&str]) -> Child {
        let program = program.to_str().expect("a path of ours is text");
        let mut command = self.command(program);
        command.args(["--test-threads", "1"]).args(words);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs the suite to its end.
    pub(crate) fn suite(&self, words: &[&str]) -> Option<i32> {
        self.start(words).wait().unwrap().code()
    }

    /// Runs the command to its end.
    pub(crate) fn dagz(&self, words: &[&str]) -> Ended {
        let mut command = self.command(env!("CARGO_BIN_EXE_cargo-dagz"));
        let output = command.arg("dagz").args(words).output().unwrap();
        Ended {
            code: output.status.code(),
            stdout: self.steady(&output.stdout),
            all: String::new(),
            stderr: self.steady(&output.stderr),
        }
    }

    /// Runs the command in this very package, whose suite is the fixture, with the jobs and the project of the
    /// site; gives what it says itself, without what the runner does.
    pub(crate) fn dagz_here(&self, words: &[&str]) -> Ended {
        let output = self.here(words).output().unwrap();
        let stdout = self.steady(&output.stdout);
        let own = stdout.lines().filter(|line| line.starts_with("dagz: "));
        Ended {
            code: output.status.code(),
            stdout: own.collect::<Vec<_>>().join("\n"),
            all: stdout.clone(),
            stderr: self.steady(&output.stderr),
        }
    }

    /// The command in this very package, not started yet.
    pub(crate) fn here(&self, words: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_cargo-dagz"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("DAGZ_STATE_DIR", self.path("target/dagz"))
            .env("CARGO_NET_OFFLINE", "true")
            .args(words);
        command
    }

    /// Runs cargo in the workspace, whose dependencies are the ones of this one.
    pub(crate) fn cargo(&self, words: &[&str]) -> Ended {
        self.built_here(
            &env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()),
            words,
        )
    }

    /// Runs the command where the workspace itself is to be built, with the dependencies of this one.
    pub(crate) fn dagz_built(&self, words: &[&str]) -> Ended {
        self.built_here(env!("CARGO_BIN_EXE_cargo-dagz"), words)
    }

    fn built_here(&self, program: &str, words: &[&str]) -> Ended {
        let target = PathBuf::from(env!("CARGO_BIN_EXE_cargo-dagz"));
        let target = target.ancestors().nth(2).expect("a target folder");
        let output = self
            .command(program)
            .args(words)
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TARGET_DIR", target)
            .output()
            .unwrap();
        Ended {
            code: output.status.code(),
            stdout: self.steady(&output.stdout),
            all: String::new(),
            stderr: self.steady(&output.stderr),
        }
    }

    /// Writes a file in the workspace.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Starts the command, with its output to be read.
    pub(crate) fn start_dagz(&self, words: &[&str]) -> Child {
        let mut command = self.command(env!("CARGO_BIN_EXE_cargo-dagz"));
        command.args(words).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the command until `is_enough` of its output.
    #[track_caller]
    pub(crate) fn dagz_until(&self, words: &[&str], is_enough: impl Fn(&Ended) -> bool) -> Ended {
        let begun = Instant::now();
        loop {
            let ended = self.dagz(words);
            if is_enough(&ended) {
                return ended;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{}{}",
                ended.stdout,
                ended.stderr
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Takes out what differs from machine to machine.
    fn steady(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let folder = self.folder.path().to_str().expect("a path of ours is text");
        text.replace(folder, "[workspace]")
            .replace(&self.index.to_string(), "[index]")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.dagz(&["clean"]);
    }
}

/// Runs a statement on the Postgres server.
pub(crate) fn sql(statement: &str) -> Result<(), String> {
    use dagz_postgres::tokio_postgres::NoTls;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = server("DATABASE_URL");
        let (client, connection) = dagz_postgres::tokio_postgres::connect(&url, NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let done = client.batch_execute(statement).await;
        done.map_err(|error| error.to_string())
    })
}

/// Compares `text` with a snapshot, without what differs from run to run.
macro_rules! assert_shown {
    ($text:expr, @$snapshot:literal) => {
        insta::with_settings!({filters => crate::support::FILTERS.to_vec()}, {
            insta::assert_snapshot!($text, @$snapshot);
        });
    };
}
pub(crate) use assert_shown;

/// Times, durations, hashes, ports, and with them the widths of columns.
pub(crate) const FILTERS: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ?", "[time]"),
    (r"\d\d:\d\d:\d\d\.\d{3}", "[clock]"),
    (r"\d+(\.\d)? m?s\b", "[took]"),
    (r"_(dagz|jw)_[0-9a-f]{8}\b", "_${1}_[hash]"),
    (r"127\.0\.0\.1:\d+", "[server]"),
    (r" \(\d+\) panicked", " panicked"),
    (r" {2,}", "  "),
    (r#""(\w*seconds)": [0-9.]+"#, r#""$1": "[took]""#),
];
