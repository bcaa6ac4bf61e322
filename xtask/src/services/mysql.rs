//! The private MariaDB, and the MySQL that the matrix runs beside it.
//!
//! Both are [`MySql`]: they differ in how their first data is made, and in a few settings.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;

use super::archive::{self, Package};
use super::compose::Container;
use super::packages::{self, Wanted};
use super::{Home, Place, Programs, Service, Settings};
use crate::wait;

const SUPERUSER: &str = "dagz";

/// Given on the command line at each start. Nothing here changes what a statement means.
const SETTINGS: &[&str] = &[
    "innodb-flush-log-at-trx-commit=0",
    "innodb-doublewrite=OFF",
    "skip-log-bin",
    "innodb-buffer-pool-size=256M",
    // Workers × connections of a pool, over several runs at once.
    "max-connections=300",
    // Tables × connections, or each statement opens its table anew.
    "table-open-cache=8000",
    // In one part: a session's tables are all in the same.
    "table-open-cache-instances=1",
    "table-definition-cache=4000",
    "open-files-limit=20000",
    NAMELESS,
];

/// Not every machine knows its own name.
const NAMELESS: &str = "skip-name-resolve";

/// The machine's MariaDB.
pub(crate) const MARIADB: MySql = MySql {
    kind: "mariadb",
    given_by: "DAGZ_TEST_MYSQL_URL",
    program: "mariadbd",
    archive: None,
    settings: SETTINGS,
};

/// The same, as it is where nobody set anything: durable.
pub(crate) const MARIADB_AS_DELIVERED: MySql = MySql {
    kind: "mariadb-default",
    given_by: "DAGZ_BENCH_MARIADB_DEFAULT_URL",
    settings: &[NAMELESS],
    ..MARIADB
};

/// The newest MySQL that Debian has.
pub(crate) const MYSQL: MySql = MySql {
    kind: "mysql",
    given_by: "DAGZ_MATRIX_MYSQL_URL",
    program: "mysqld",
    archive: Some(Package {
        name: "mysql-server-core",
        before: None,
    }),
    settings: SETTINGS,
};

/// The same, as it is where nobody set anything: durable, and with a binary log.
pub(crate) const MYSQL_AS_DELIVERED: MySql = MySql {
    kind: "mysql-default",
    given_by: "DAGZ_BENCH_MYSQL_DEFAULT_URL",
    settings: &[NAMELESS],
    ..MYSQL
};

/// The kinds of server `mariadb` and `mysql`.
#[derive(Debug)]
pub(crate) struct MySql {
    kind: &'static str,
    given_by: &'static str,
    program: &'static str,
    archive: Option<Package>,
    settings: &'static [&'static str],
}

impl Service for MySql {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn driver(&self) -> &'static str {
        "dagz-mysql"
    }

    fn is_unlike_the_usual(&self) -> bool {
        self.program == MYSQL.program
    }

    fn variables(&self) -> &'static [&'static str] {
        &["DAGZ_TEST_MYSQL_URL", "MYSQL_URL"]
    }

    fn given_by(&self) -> &'static str {
        self.given_by
    }

    fn program(&self) -> &'static str {
        self.program
    }

    fn users(&self) -> &'static [&'static str] {
        &["mysql"]
    }

    fn programs(&self, place: &Place) -> Result<Programs> {
        let Some(package) = &self.archive else {
            return find_or_install();
        };
        let root = archive::with(place, self, package)?;
        let mut command = Command::new("chroot");
        command.arg(&root.0).arg("/usr/sbin/mysqld");
        Ok(Programs {
            folder: "/usr/sbin".into(),
            version: version_of(&mut command)?,
            root: Some(root),
        })
    }

    fn make(&self, home: &Home, programs: &Programs) -> Result<()> {
        let data = home.inside(&home.data());
        let mut command = if self.archive.is_some() {
            let mut command = home.command(&programs.program(self.program));
            command.args(["--no-defaults", "--initialize-insecure"]);
            command
        } else {
            let program = packages::find("mariadb-install-db").context(
                "there is a `mariadbd` and no `mariadb-install-db`; install the rest of MariaDB's server",
            )?;
            let mut command = home.command(&program);
            command.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
            command.args(["--skip-test-db", "--skip-name-resolve"]);
            // Not every machine knows its own name.
            command.arg("--force");
            command
        };
        home.run(command.arg(format!("--datadir={}", data.display())))
    }

    fn command(&self, home: &Home, programs: &Programs) -> Result<Command> {
        // At each start, and so written that it may be: nobody but this user gets in, and by its password only.
        let password = &home.settings.password;
        let statements = [
            format!("CREATE USER IF NOT EXISTS '{SUPERUSER}'@'%' IDENTIFIED BY '{password}'"),
            format!("ALTER USER '{SUPERUSER}'@'%' IDENTIFIED BY '{password}'"),
            format!("GRANT ALL PRIVILEGES ON *.* TO '{SUPERUSER}'@'%' WITH GRANT OPTION"),
            "DROP USER IF EXISTS ''@'localhost'".to_owned(),
            format!("ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}'"),
        ];
        let first = home.write("first.sql", &format!("{};\n", statements.join(";\n")))?;
        let mut command = home.command(&programs.program(self.program));
        command.arg("--no-defaults");
        let mut path_option = |name: &str, path: &Path| {
            command.arg(format!("--{name}={}", home.inside(path).display()));
        };
        path_option("datadir", &home.data());
        path_option("init-file", &first);
        command.arg("--bind-address=127.0.0.1");
        command.arg(format!("--port={}", home.settings.port("main")));
        // Relative to the data: a socket's path must be short, and a checkout's may be long.
        command.args(["--socket=server.sock", "--pid-file=server.pid"]);
        if self.archive.is_some() {
            // Neither the second protocol's port, nor a folder for files that nobody made.
            command.args(["--mysqlx=OFF", "--secure-file-priv=NULL"]);
        }
        for setting in self.settings {
            command.arg(format!("--{setting}"));
        }
        Ok(command)
    }

    fn url(&self, settings: &Settings) -> String {
        format!(
            "mysql://{SUPERUSER}:{}@127.0.0.1:{}/mysql",
            settings.password,
            settings.port("main")
        )
    }

    fn ask(&self, url: &str) -> Result<String> {
        wait::on(async {
            let options =
                mysql_async::Opts::from_url(url).context("the address is not one of MySQL")?;
            let mut connection = mysql_async::Conn::new(options)
                .await
                .context("failed to connect")?;
            let version: Option<String> = connection
                .query_first("SELECT VERSION()")
                .await
                .context("failed to ask for the version")?;
            connection
                .disconnect()
                .await
                .context("failed to disconnect")?;
            let version = version.context("the server does not tell its version")?;
            // `10.11.19-MariaDB-0+deb12u1`, `9.7.4-2`: the packager's part is of no use here.
            Ok(version.split('-').next().unwrap_or_default().to_owned())
        })
    }

    fn container(&self) -> Container {
        let mut command = vec![self.program.to_owned()];
        command.extend(self.settings.iter().map(|setting| format!("--{setting}")));
        let (image, variable) = match self.archive {
            None => ("mariadb:10.11", "MARIADB_ROOT_PASSWORD"),
            Some(_) => ("mysql:9", "MYSQL_ROOT_PASSWORD"),
        };
        Container {
            image,
            command,
            environment: vec![(variable, Container::PASSWORD.to_owned())],
            memory: &["/var/lib/mysql"],
            ports: &[("main", 3306)],
            check: match self.archive {
                None => &["healthcheck.sh", "--connect", "--innodb_initialized"],
                Some(_) => &["mysqladmin", "ping", "-h", "127.0.0.1"],
            },
            files: Vec::new(),
        }
    }
}

fn find_or_install() -> Result<Programs> {
    let find = || packages::find("mariadbd");
    if find().is_none() {
        let wanted = Wanted {
            kind: "mariadb",
            // The programs alone, without a service.
            packages: &["mariadb-server-core", "mariadb-client-core"],
            units: &[],
            remedy: "install it (`apt-get install mariadb-server-core`, `brew install mariadb`), or set `DAGZ_TEST_MYSQL_URL` to a server of yours",
        };
        packages::install(&wanted, "no `mariadbd` found")?;
    }
    let program =
        find().context("the package was installed, but there is no `mariadbd` on `PATH`")?;
    Ok(Programs {
        version: version_of(&mut Command::new(&program))?,
        folder: program.parent().unwrap_or(Path::new("/")).to_path_buf(),
        root: None,
    })
}

/// 10.11 of what the server program prints when it is asked for its version.
fn version_of(program: &mut Command) -> Result<String> {
    let output = program
        .args(["--no-defaults", "--version"])
        .output()
        .context("failed to run the server's program")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match series_in(&text) {
        Some(series) => Ok(series),
        None => bail!("no version in what the server's program says: {text}"),
    }
}

/// `10.11` of `mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)`.
fn series_in(text: &str) -> Option<String> {
    let (_, version) = text.split_once("Ver ")?;
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits(major) && all_digits(minor)).then(|| format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_is_read_from_what_the_program_prints() {
        for (text, series) in [
            (
                "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu",
                Some("10.11"),
            ),
            (
                "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))",
                Some("9.7"),
            ),
            ("something else", None),
        ] {
            assert_eq!(series_in(text).as_deref(), series);
        }
    }
}
