//! The private Redis, and the Valkey that the matrix runs beside it: nothing of theirs is written to a disk.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{self, Package};
use super::compose::Container;
use super::packages::{self, Wanted};
use super::{ANSWER_LIMIT, Home, Place, Programs, Service, Settings};

/// Lines of its configuration file.
const SETTINGS: &[(&str, &str)] = &[
    ("appendonly", "no"),
    // A database for each worker and each of an application's; the default of 16 is soon used up.
    ("databases", "2048"),
    ("maxclients", "1000"),
    ("save", "\"\""),
];

/// The machine's.
pub(crate) const REDIS: Redis = Redis {
    kind: "redis",
    given_by: "DAGZ_TEST_REDIS_URL",
    program: "redis-server",
    archive: None,
};

/// The other one, which speaks the same.
pub(crate) const VALKEY: Redis = Redis {
    kind: "valkey",
    given_by: "DAGZ_MATRIX_VALKEY_URL",
    program: "valkey-server",
    archive: Some(Package {
        name: "valkey-server",
        before: None,
    }),
};

/// The kinds of server `redis` and `valkey`.
#[derive(Debug)]
pub(crate) struct Redis {
    kind: &'static str,
    given_by: &'static str,
    program: &'static str,
    archive: Option<Package>,
}

impl Service for Redis {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn driver(&self) -> &'static str {
        "dagz-redis"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["DAGZ_TEST_REDIS_URL", "REDIS_URL"]
    }

    fn given_by(&self) -> &'static str {
        self.given_by
    }

    fn program(&self) -> &'static str {
        self.program
    }

    fn users(&self) -> &'static [&'static str] {
        &["redis"]
    }

    fn programs(&self, place: &Place) -> Result<Programs> {
        let Some(package) = &self.archive else {
            return find_or_install();
        };
        Ok(Programs {
            folder: "/usr/bin".into(),
            version: String::new(),
            root: Some(archive::with(place, self, package)?),
        })
    }

    fn command(&self, home: &Home, programs: &Programs) -> Result<Command> {
        let mut text = String::new();
        for (name, value) in SETTINGS {
            text.push_str(&format!("{name} {value}\n"));
        }
        text.push_str(&format!(
            "bind 127.0.0.1\nport {}\nrequirepass {}\ndir \"{}\"\n",
            home.settings.port("main"),
            home.settings.password,
            home.inside(&home.data()).display()
        ));
        // In a file, since everybody may read the words of a command.
        let file = home.write("redis.conf", &text)?;
        let mut command = home.command(&programs.program(self.program));
        command.arg(home.inside(&file));
        Ok(command)
    }

    fn url(&self, settings: &Settings) -> String {
        format!(
            "redis://:{}@127.0.0.1:{}/0",
            settings.password,
            settings.port("main")
        )
    }

    fn ask(&self, url: &str) -> Result<String> {
        let client = redis::Client::open(url).context("the address is not one of Redis")?;
        let mut connection = client
            .get_connection_with_timeout(ANSWER_LIMIT)
            .context("failed to connect")?;
        let text: String = redis::cmd("INFO")
            .arg("server")
            .query(&mut connection)
            .context("failed to ask for the version")?;
        version_in(&text).context("the server does not tell its version")
    }

    fn container(&self) -> Container {
        let mut command = vec![self.program.to_owned()];
        for (name, value) in SETTINGS {
            command.extend([format!("--{name}"), value.trim_matches('"').to_owned()]);
        }
        command.extend(["--requirepass".to_owned(), Container::PASSWORD.to_owned()]);
        Container {
            image: match self.archive {
                None => "redis:7",
                Some(_) => "valkey/valkey:9",
            },
            command,
            environment: Vec::new(),
            memory: &["/data"],
            ports: &[("main", 6379)],
            check: match self.archive {
                None => &["redis-cli", "-a", Container::PASSWORD, "ping"],
                Some(_) => &["valkey-cli", "-a", Container::PASSWORD, "ping"],
            },
            files: Vec::new(),
        }
    }
}

fn find_or_install() -> Result<Programs> {
    let find = || packages::find("redis-server");
    if find().is_none() {
        let wanted = Wanted {
            kind: "redis",
            packages: &["redis-server"],
            units: &["redis-server.service"],
            remedy: "install it (`apt-get install redis-server`, `brew install redis`), or set `DAGZ_TEST_REDIS_URL` to a server of yours",
        };
        packages::install(&wanted, "no `redis-server` found")?;
    }
    let program =
        find().context("the package was installed, but there is no `redis-server` on `PATH`")?;
    Ok(Programs {
        folder: program.parent().unwrap_or(Path::new("/")).to_path_buf(),
        // Its data is empty at each start, whichever version starts.
        version: String::new(),
        root: None,
    })
}

/// `valkey_version` where there is one: Valkey tells a `redis_version` for old clients' sake, too.
fn version_in(information: &str) -> Option<String> {
    let value = |name: &str| {
        let mut lines = information.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let version = value("valkey_version").or_else(|| value("redis_version"))?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valkeys_own_version_counts() {
        let redis = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(version_in(redis).as_deref(), Some("7.0.15"));
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n";
        assert_eq!(version_in(valkey).as_deref(), Some("9.1.2"));
        assert_eq!(version_in("# Server\r\n"), None);
    }
}
