//! The private RabbitMQ, with its management plugin, and the newest one that the matrix runs beside it.
//!
//! It is an Erlang node, and nodes find each other by `epmd`, a daemon that is usually shared by a whole machine and
//! outlives who started it. Here each server has one of its own, on a port of its own, which ends with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::uri::{AMQPAuthority, AMQPUri};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use super::archive::{self, Package};
use super::compose::Container;
use super::packages::{self, Wanted};
use super::{ANSWER_LIMIT, Home, Place, Programs, Service, Settings};
use crate::wait;

const USER: &str = "dagz";
const PLUGINS: &str = "[rabbitmq_management].\n";
/// Lines of its configuration file.
const SETTINGS: &[&str] = &[
    "disk_free_limit.absolute = 50MB",
    "log.console.level = warning",
    "vm_memory_high_watermark.absolute = 1GB",
    // The other ways read `/proc`, which is not there in an archive's root.
    "vm_memory_calculation_strategy = allocated",
];
/// Schedulers that spin while they wait would take a small machine's cores from the tests.
const ERLANG: &str = "+sbwt none +sbwtdcpu none +sbwtdio none";

/// The machine's.
pub(crate) const RABBITMQ: RabbitMq = RabbitMq {
    kind: "rabbitmq",
    given_by: "DAGZ_TEST_AMQP_URL",
    archive: None,
};

/// The newest that Debian has.
pub(crate) const NEWEST: RabbitMq = RabbitMq {
    kind: "rabbitmq-newest",
    given_by: "DAGZ_MATRIX_RABBITMQ_NEWEST_URL",
    archive: Some(Package {
        name: "rabbitmq-server",
        before: None,
    }),
};

/// The kind of server `rabbitmq`, and its newest version.
#[derive(Debug)]
pub(crate) struct RabbitMq {
    kind: &'static str,
    given_by: &'static str,
    archive: Option<Package>,
}

impl Service for RabbitMq {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn driver(&self) -> &'static str {
        "dagz-amqp"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["DAGZ_TEST_AMQP_URL", "AMQP_URL"]
    }

    fn given_by(&self) -> &'static str {
        self.given_by
    }

    fn program(&self) -> &'static str {
        "beam.smp"
    }

    fn companions(&self) -> &'static [&'static str] {
        &["epmd"]
    }

    fn users(&self) -> &'static [&'static str] {
        &["rabbitmq"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["amqp", "management", "distribution", "epmd"]
    }

    fn programs(&self, place: &Place) -> Result<Programs> {
        match &self.archive {
            None => find_or_install(),
            Some(package) => {
                let root = archive::with(place, self, package)?;
                let (inside, version) = newest_below(&root.0, Path::new("/usr/lib/rabbitmq/lib"))
                    .context("no RabbitMQ in the archive's folder")?;
                Ok(Programs {
                    folder: inside,
                    version,
                    root: Some(root),
                })
            }
        }
    }

    fn command(&self, home: &Home, programs: &Programs) -> Result<Command> {
        let port = |name: &str| home.settings.port(name);
        let mut text: String = SETTINGS.iter().flat_map(|line| [line, "\n"]).collect();
        text.push_str(&format!(
            "listeners.tcp.local = 127.0.0.1:{}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
             default_user = {USER}\ndefault_pass = {}\nlog.console = true\nlog.file = false\n",
            port("amqp"),
            port("management"),
            home.settings.password
        ));
        let file = home.write("rabbitmq.conf", &text)?;
        let plugins = home.write("enabled_plugins", PLUGINS)?;
        // What nodes know each other by: known to nobody, as no other node is wanted.
        let cookie = home.path().join(".erlang.cookie");
        if !cookie.exists() {
            home.write(".erlang.cookie", &home.settings.password)?;
        }
        start_epmd(home, port("epmd"))?;
        let mut command = home.command(&programs.program("rabbitmq-server"));
        command
            .env("HOME", home.inside(home.path()))
            .env("RABBITMQ_NODENAME", "dagz@localhost")
            .env("RABBITMQ_CONFIG_FILE", home.inside(&file))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.inside(&plugins))
            .env("RABBITMQ_MNESIA_BASE", home.inside(&home.data()))
            .env("RABBITMQ_LOG_BASE", home.inside(&home.data()))
            // The machine's own settings are not for us.
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_DIST_PORT", port("distribution").to_string())
            .env("ERL_EPMD_PORT", port("epmd").to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("{ERLANG} -kernel inet_dist_use_interface {{127,0,0,1}}"),
            );
        Ok(command)
    }

    fn url(&self, settings: &Settings) -> String {
        format!(
            "amqp://{USER}:{}@127.0.0.1:{}/%2f",
            settings.password,
            settings.port("amqp")
        )
    }

    fn more(&self, settings: &Settings) -> BTreeMap<String, String> {
        let management = format!(
            "http://{USER}:{}@127.0.0.1:{}",
            settings.password,
            settings.port("management")
        );
        [("DAGZ_TEST_AMQP_MANAGEMENT_URL".to_owned(), management)].into()
    }

    /// A message there and back, as a queue only for this connection.
    fn ask(&self, url: &str) -> Result<String> {
        wait::on(async {
            let properties =
                ConnectionProperties::default().with_connection_name("cargo xtask services".into());
            let connection = Connection::connect(url, properties)
                .await
                .context("failed to connect")?;
            let channel = connection.create_channel().await.context("no channel")?;
            let exclusive = QueueDeclareOptions {
                exclusive: true,
                ..QueueDeclareOptions::default()
            };
            let queue = channel
                .queue_declare("".into(), exclusive, Default::default())
                .await
                .context("failed to declare a queue")?;
            let name = queue.name().clone();
            channel
                .basic_publish(
                    "".into(),
                    name.clone(),
                    BasicPublishOptions::default(),
                    b"there and back",
                    BasicProperties::default(),
                )
                .await
                .context("failed to publish")?;
            let begun = Instant::now();
            loop {
                let without_ack = BasicGetOptions { no_ack: true };
                let message = channel.basic_get(name.clone(), without_ack).await;
                if message.context("failed to get a message")?.is_some() {
                    break;
                }
                ensure!(begun.elapsed() < ANSWER_LIMIT, "the message did not arrive");
            }
            connection
                .close(200, "asked".into())
                .await
                .context("failed to disconnect")?;
            Ok(())
        })?;
        greeted_version(url)
    }

    /// The management plugin starts to listen somewhat later than the broker.
    fn initialise(&self, home: &Home) -> Result<()> {
        let address = (Ipv4Addr::LOCALHOST, home.settings.port("management"));
        TcpStream::connect(address).context("the management plugin does not listen")?;
        Ok(())
    }

    fn container(&self) -> Container {
        let text: String = SETTINGS.iter().flat_map(|line| [line, "\n"]).collect();
        Container {
            image: match self.archive {
                None => "rabbitmq:3.13-management",
                Some(_) => "rabbitmq:4-management",
            },
            command: Vec::new(),
            environment: vec![
                ("RABBITMQ_DEFAULT_USER", USER.to_owned()),
                ("RABBITMQ_DEFAULT_PASS", Container::PASSWORD.to_owned()),
                ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG.to_owned()),
            ],
            memory: &["/var/lib/rabbitmq"],
            ports: &[("main", 5672), ("management", 15672)],
            check: &["rabbitmq-diagnostics", "-q", "check_port_listener", "5672"],
            files: vec![("/etc/rabbitmq/conf.d/20-dagz.conf", text)],
        }
    }
}

/// Starts the daemon by which the node is found, and waits until it listens.
fn start_epmd(home: &Home, port: u16) -> Result<()> {
    let mut command = home.command(Path::new("epmd"));
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to run `epmd`")?;
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let status = child.try_wait().context("failed to look at `epmd`")?;
        ensure!(status.is_none(), "`epmd` ended by itself");
        ensure!(begun.elapsed() < ANSWER_LIMIT, "`epmd` does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What the server says first, before anybody logs in, holds its version; the client library keeps it for itself.
fn greeted_version(url: &str) -> Result<String> {
    let address: AMQPUri = url
        .parse()
        .map_err(|error| anyhow!("the address is not one of AMQP: {error}"))?;
    let AMQPAuthority { host, port, .. } = address.authority;
    let mut stream = TcpStream::connect((host.as_str(), port)).context("failed to connect")?;
    stream
        .set_read_timeout(Some(ANSWER_LIMIT))
        .and_then(|()| stream.write_all(b"AMQP\x00\x00\x09\x01"))
        .context("failed to greet the server")?;
    let mut greeting = vec![0; 4096];
    let mut length = 0;
    loop {
        if let Some(version) = version_in(&greeting[..length]) {
            return Ok(version);
        }
        let read = stream.read(&mut greeting[length..]);
        match read.context("the server does not greet")? {
            0 => bail!("the server does not tell its version"),
            read => length += read,
        }
    }
}

/// The entry `version` of the table of properties in the server's first frame, once it has arrived whole.
fn version_in(greeting: &[u8]) -> Option<String> {
    // A short string of 7 bytes, then an `S` and a long one.
    let name = b"\x07versionS";
    let at = greeting
        .windows(name.len())
        .position(|window| window == name)?;
    let (length, text) = greeting[at + name.len()..].split_first_chunk()?;
    let text = text.get(..u32::from_be_bytes(*length) as usize)?;
    String::from_utf8(text.to_vec()).ok()
}

fn find_or_install() -> Result<Programs> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let wanted = Wanted {
        kind: "rabbitmq",
        packages: &["rabbitmq-server"],
        units: &["rabbitmq-server.service", "epmd.service", "epmd.socket"],
        remedy: "install it (`apt-get install rabbitmq-server`, `brew install rabbitmq`), or set `DAGZ_TEST_AMQP_URL` and `DAGZ_TEST_AMQP_MANAGEMENT_URL` to a server of yours",
    };
    packages::install(&wanted, "no `rabbitmq-server` found")?;
    find().context("the package was installed, but its programs are not where they are expected")
}

/// The scripts as RabbitMQ ships them. What distributions put on `PATH` insists on being called by root or `rabbitmq`.
fn find() -> Option<Programs> {
    let places = [
        "/usr/lib/rabbitmq/lib",
        "/opt/homebrew/Cellar/rabbitmq",
        "/usr/local/Cellar/rabbitmq",
    ];
    let mut found = places
        .iter()
        .filter_map(|place| newest_below(Path::new("/"), Path::new(place)));
    let (folder, version) = found.next()?;
    Some(Programs {
        folder,
        version,
        root: None,
    })
}

/// `/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin` and `3.10.8`, the newest there is.
fn newest_below(root: &Path, folder: &Path) -> Option<(PathBuf, String)> {
    let below = root.join(folder.strip_prefix("/").unwrap_or(folder));
    let mut found = Vec::new();
    for entry in fs::read_dir(below).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let version = name.rsplit('-').next().unwrap_or(&name).to_owned();
        let numbers: Vec<u32> = version
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        if entry.path().join("sbin/rabbitmq-server").is_file() && !numbers.is_empty() {
            found.push((numbers, folder.join(name).join("sbin"), version));
        }
    }
    found.sort();
    let (_, folder, version) = found.pop()?;
    Some((folder, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_greeting() {
        let greeting =
            b"\x01\x00\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\xce";
        assert_eq!(version_in(greeting).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(&greeting[..greeting.len() - 3]), None);
        assert_eq!(version_in(b""), None);
    }

    #[test]
    fn the_newest_version_by_number() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("lib");
        for version in ["3.9.13", "3.10.8"] {
            let sbin = lib.join(format!("rabbitmq_server-{version}/sbin"));
            fs::create_dir_all(&sbin).unwrap();
            fs::write(sbin.join("rabbitmq-server"), "").unwrap();
        }
        fs::create_dir_all(lib.join("rabbitmq_server-4.0.0/plugins")).unwrap();
        let (folder, version) = newest_below(root.path(), Path::new("/lib")).unwrap();
        assert_eq!(version, "3.10.8");
        assert_eq!(folder, Path::new("/lib/rabbitmq_server-3.10.8/sbin"));
    }
}
