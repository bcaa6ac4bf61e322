//! The contract of every driver, for MariaDB or MySQL against a real server.
//!
//! `DAGZ_TEST_MYSQL_URL` names the server and a user who may do everything on it: `cargo xtask test
//! -p dagz-mysql` sets it for a server of its own. The cases are `dagz-testkit`'s; what only these
//! servers have is tested beside this file.

use std::{env, net::TcpListener, process::ExitCode};

use anyhow::{Context, Result, ensure};
use dagz_core::Target;
use dagz_mysql::{
    Config,
    mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable as _},
};
use dagz_testkit::{Choice, Contract, Fault, FaultyAddress, Hook, Made, Prepare, SEED};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Mutex;

fn main() -> ExitCode {
    dagz_testkit::main(Mysql)
}

struct Mysql;

/// What a worker's database holds before any test: one table, one row.
const SCHEMA: &str = "CREATE TABLE entry (`key` VARCHAR(100) PRIMARY KEY, value VARCHAR(255) NOT NULL) CHARACTER SET utf8mb4";

/// How a password that is wrong looks, to be looked for in errors.
const WRONG: &str = "hunter2 'and\\more";

impl Contract for Mysql {
    /// mysql_async's connections are used by one at a time.
    type Session = Mutex<Conn>;

    const DECLARATION: &'static str = include_str!("contract.toml");

    async fn server(&self) -> Result<()> {
        let remedy = "run `cargo xtask test -p dagz-mysql`, or start a server by `cargo xtask services up mariadb` and set `DAGZ_TEST_MYSQL_URL` to it";
        let server = server().with_context(|| format!("no MySQL server is known: {remedy}"))?;
        let mut conn = Conn::new(server)
            .await
            .with_context(|| format!("the MySQL server does not answer: {remedy}"))?;
        let grants: Vec<String> = conn.query("SHOW GRANTS").await?;
        ensure!(
            grants.iter().any(|grant| grant.contains("CREATE USER")
                || grant.starts_with("GRANT ALL PRIVILEGES ON *.*")),
            "the user of `DAGZ_TEST_MYSQL_URL` may not make users, and the contract does: {remedy}"
        );
        Ok(())
    }

    fn address(&self, name: &str) -> String {
        server().map_or_else(|_| String::new(), |server| address(&server, name))
    }

    fn configure(&self, address: &str, choice: &Choice) -> dagz_core::Result<()> {
        let mut config = Config::new(address)?
            .migrate_with("contract", |opts| async move {
                let mut conn = Conn::new(opts).await?;
                fill(&mut conn).await
            })
            .single_worker_disable(choice.single_worker_disable)
            .main_worker_bypass(choice.main_worker_bypass)
            .strict(choice.strict);
        config = match &choice.prepare {
            Prepare::None => config.prepare(dagz_mysql::Prepare::None),
            Prepare::Empty => config.prepare(dagz_mysql::Prepare::Truncate),
            Prepare::Baseline => config.prepare(dagz_mysql::Prepare::Baseline),
            Prepare::Own(hook) => {
                let hook = hook.clone();
                config.prepare_with(move |target, _| prepare_by_hand(hook.clone(), target))
            }
        };
        if let Some(hook) = choice.worker_init.clone() {
            config = config.worker_init(move |target, at| init_by_hand(hook.clone(), target, at));
        }
        if let Some(unfiltered) = choice.unfiltered.clone() {
            config = config.reroute_if(move |name| name != unfiltered);
        }
        dagz_mysql::configure(config)
    }

    async fn open(&self, address: &str) -> dagz_core::Result<Mutex<Conn>> {
        dagz_mysql::connect(address).await.map(Mutex::new)
    }

    async fn database(&self, session: &Mutex<Conn>) -> Result<String> {
        let name: Option<String> = session
            .lock()
            .await
            .query_first("SELECT DATABASE()")
            .await?;
        name.context("the session is in no database")
    }

    async fn put(&self, session: &Mutex<Conn>, key: &str, value: &str) -> Result<()> {
        let statement = "REPLACE INTO entry VALUES (?, ?)";
        let mut conn = session.lock().await;
        Ok(conn.exec_drop(statement, (key, value)).await?)
    }

    async fn entries(&self, session: &Mutex<Conn>) -> Result<Vec<(String, String)>> {
        let mut conn = session.lock().await;
        Ok(conn.query("SELECT `key`, value FROM entry").await?)
    }

    async fn remove(&self, session: &Mutex<Conn>, key: &str) -> Result<()> {
        let mut conn = session.lock().await;
        conn.exec_drop("DELETE FROM entry WHERE `key` = ?", (key,))
            .await?;
        ensure!(conn.affected_rows() == 1, "no entry `{key}`");
        Ok(())
    }

    async fn put_uncommitted(&self, session: &Mutex<Conn>, key: &str, value: &str) -> Result<()> {
        session.lock().await.query_drop("BEGIN").await?;
        self.put(session, key, value).await
    }

    async fn commit(&self, session: &Mutex<Conn>) -> Result<()> {
        Ok(session.lock().await.query_drop("COMMIT").await?)
    }

    async fn lock(&self, session: &Mutex<Conn>) -> Result<()> {
        let statement = "LOCK TABLES entry WRITE";
        Ok(session.lock().await.query_drop(statement).await?)
    }

    fn listens_at(&self) -> Result<(String, u16)> {
        let server = server()?;
        ensure!(
            server.socket().is_none(),
            "`DAGZ_TEST_MYSQL_URL` must name a TCP host for this case"
        );
        Ok((server.ip_or_hostname().to_owned(), server.tcp_port()))
    }

    fn address_through(&self, port: u16, name: &str) -> String {
        let relayed = |server| address_at(&server, "127.0.0.1", port, name);
        server().map_or_else(|_| String::new(), relayed)
    }

    async fn create(&self, name: &str) -> Result<()> {
        let server = server()?;
        execute(&server, &format!("CREATE DATABASE {}", quoted(name))).await?;
        let inside = OptsBuilder::from_opts(server).db_name(Some(name));
        execute(&inside.into(), SCHEMA).await
    }

    async fn faulty(&self, fault: Fault, base: &str) -> Result<FaultyAddress> {
        let server = server()?;
        if fault == Fault::Unreachable {
            // A port that was free a moment ago.
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let server = OptsBuilder::from_opts(server)
                .user(Some("app"))
                .pass(Some(WRONG));
            return Ok(FaultyAddress {
                address: address_at(&server.into(), "127.0.0.1", port, base),
                secret: Some(WRONG.to_owned()),
                told: vec![format!("127.0.0.1:{port}"), "is it running?".to_owned()],
            });
        }
        // Users' names are not longer than 32 characters.
        let user = user(base);
        let right = "a password like any other";
        execute(
            &server,
            &format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{right}'"),
        )
        .await?;
        let (password, remedy) = match fault {
            Fault::MissingRights => (
                right,
                format!(
                    r"GRANT ALL PRIVILEGES ON `{}\_jw%`.* TO '{user}'@'%'",
                    base.replace('_', r"\_")
                ),
            ),
            _ => (WRONG, "check the user, the password".to_owned()),
        };
        let server = OptsBuilder::from_opts(server)
            .user(Some(&user))
            .pass(Some(password));
        Ok(FaultyAddress {
            address: address(&server.into(), base),
            secret: Some(password.to_owned()),
            told: vec![format!("`{user}`"), remedy],
        })
    }

    async fn clean(&self, made: &Made) -> Result<()> {
        let server = server()?;
        let mut conn = Conn::new(server.clone()).await?;
        let databases: Vec<String> = conn.query("SHOW DATABASES").await?;
        for name in databases
            .iter()
            .filter(|name| name.starts_with(&made.prefix))
        {
            conn.query_drop(format!("DROP DATABASE {}", quoted(name)))
                .await?;
        }
        for base in &made.bases {
            conn.query_drop(format!("DROP USER IF EXISTS '{}'@'%'", user(base)))
                .await?;
        }
        // What the prefix does not find would stay for ever.
        let config = Config::from_opts(server);
        let left = dagz_mysql::databases(&config, &made.project).await?;
        ensure!(
            left.is_empty(),
            "these have other names than expected: {left:?}"
        );
        Ok(())
    }
}

/// The user's own preparation: dagz's, with something before it.
async fn prepare_by_hand(hook: Hook, target: Target) -> Result<()> {
    hook.call(&target).await?;
    Ok(dagz_mysql::truncate(&target).await?)
}

/// The user's own way to make a database, handed to dagz at the end.
async fn init_by_hand(hook: Hook, target: Target, at: Opts) -> Result<()> {
    hook.call(&target).await?;
    execute(
        &server()?,
        &format!("CREATE DATABASE {}", quoted(target.name())),
    )
    .await?;
    fill(&mut Conn::new(at).await?).await?;
    Ok(dagz_mysql::adopt(&target).await?)
}

async fn fill(conn: &mut Conn) -> Result<()> {
    conn.query_drop(SCHEMA).await?;
    conn.exec_drop("INSERT INTO entry VALUES (?, ?)", SEED)
        .await?;
    Ok(())
}

/// The server as a user would reach it who has never heard of dagz, and no database of it.
fn server() -> Result<Opts> {
    let url = env::var("DAGZ_TEST_MYSQL_URL").context("`DAGZ_TEST_MYSQL_URL` is not set")?;
    let opts = Opts::from_url(&url).context("`DAGZ_TEST_MYSQL_URL` is not a MySQL URL")?;
    Ok(OptsBuilder::from_opts(opts)
        .db_name::<String>(None)
        // A case has a relay in front of the server, which a socket would go around.
        .prefer_socket(false)
        .into())
}

async fn execute(server: &Opts, statement: &str) -> Result<()> {
    Ok(Conn::new(server.clone())
        .await?
        .query_drop(statement)
        .await?)
}

fn address(server: &Opts, name: &str) -> String {
    address_at(server, server.ip_or_hostname(), server.tcp_port(), name)
}

/// [`address`] with another host and port than `server` has.
fn address_at(server: &Opts, host: &str, port: u16, name: &str) -> String {
    format!(
        "mysql://{}:{}@{host}:{port}/{}?prefer_socket=false",
        encoded(server.user().unwrap_or_default()),
        encoded(server.pass().unwrap_or_default()),
        encoded(name)
    )
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The user that a case makes, called after what differs between the names of two cases.
fn user(base: &str) -> String {
    base[base.len().saturating_sub(32)..].to_owned()
}
