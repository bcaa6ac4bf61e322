//! The contract of every driver, for Postgres against a real server.
//!
//! `DATABASE_URL` names the server and a user who may do everything on it: `cargo xtask test -p
//! dagz-postgres` sets it for a server of its own. The cases are `dagz-testkit`'s; what only
//! Postgres has is tested beside this file.

use std::{env, net::TcpListener, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use dagz_core::Target;
use dagz_postgres::{Config, tokio_postgres};
use dagz_testkit::{Choice, Contract, Fault, FaultyAddress, Hook, Made, Prepare, SEED};
use tokio_postgres::{Client, NoTls, config::Host};

fn main() -> ExitCode {
    dagz_testkit::main(Postgres)
}

struct Postgres;

/// What a worker's database holds before any test: one table, one row.
const SCHEMA: &str = "CREATE TABLE entry (key text PRIMARY KEY, value text NOT NULL)";

/// How a password that is wrong looks, to be looked for in errors.
const WRONG: &str = "hunter2 'and\\more";

impl Contract for Postgres {
    type Session = Client;

    const DECLARATION: &'static str = include_str!("contract.toml");

    async fn server(&self) -> Result<()> {
        let remedy = "run `cargo xtask test -p dagz-postgres`, or start a server by `cargo xtask services up postgres` and set `DATABASE_URL` to it";
        let server = server().with_context(|| format!("no Postgres server is known: {remedy}"))?;
        let client = connected(&server)
            .await
            .with_context(|| format!("the Postgres server does not answer: {remedy}"))?;
        let row = client
            .query_one(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user",
                &[],
            )
            .await?;
        ensure!(
            row.get::<_, bool>(0),
            "the user of `DATABASE_URL` is no superuser, and the contract makes users: {remedy}"
        );
        Ok(())
    }

    fn address(&self, name: &str) -> String {
        server().map_or_else(|_| String::new(), |server| address(&server, name))
    }

    fn configure(&self, address: &str, choice: &Choice) -> dagz_core::Result<()> {
        let mut config = Config::new(address)?
            .migrate_with("contract", |config| async move {
                fill(&connected(&config).await?).await
            })
            .single_worker_disable(choice.single_worker_disable)
            .main_worker_bypass(choice.main_worker_bypass)
            .strict(choice.strict);
        config = match &choice.prepare {
            Prepare::None => config.prepare(dagz_postgres::Prepare::None),
            Prepare::Empty => config.prepare(dagz_postgres::Prepare::Truncate),
            Prepare::Baseline => config.prepare(dagz_postgres::Prepare::Baseline),
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
        dagz_postgres::configure(config)
    }

    async fn open(&self, address: &str) -> dagz_core::Result<Client> {
        let (client, connection) = dagz_postgres::connect(address, NoTls).await?;
        // Ends with the client, or with the runtime; either is how a test's session ends.
        tokio::spawn(connection);
        Ok(client)
    }

    async fn database(&self, session: &Client) -> Result<String> {
        let row = session.query_one("SELECT current_database()", &[]).await?;
        Ok(row.get(0))
    }

    async fn put(&self, session: &Client, key: &str, value: &str) -> Result<()> {
        let statement = "INSERT INTO entry VALUES ($1, $2) \
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        session.execute(statement, &[&key, &value]).await?;
        Ok(())
    }

    async fn entries(&self, session: &Client) -> Result<Vec<(String, String)>> {
        let rows = session.query("SELECT key, value FROM entry", &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn remove(&self, session: &Client, key: &str) -> Result<()> {
        let statement = "DELETE FROM entry WHERE key = $1";
        ensure!(
            session.execute(statement, &[&key]).await? == 1,
            "no entry `{key}`"
        );
        Ok(())
    }

    async fn put_uncommitted(&self, session: &Client, key: &str, value: &str) -> Result<()> {
        session.batch_execute("BEGIN").await?;
        self.put(session, key, value).await
    }

    async fn commit(&self, session: &Client) -> Result<()> {
        Ok(session.batch_execute("COMMIT").await?)
    }

    async fn lock(&self, session: &Client) -> Result<()> {
        let statement = "BEGIN; LOCK TABLE entry IN ACCESS EXCLUSIVE MODE";
        Ok(session.batch_execute(statement).await?)
    }

    fn listens_at(&self) -> Result<(String, u16)> {
        let server = server()?;
        match (server.get_hosts(), server.get_ports()) {
            ([Host::Tcp(host)], [port]) => Ok((host.clone(), *port)),
            ([Host::Tcp(host)], []) => Ok((host.clone(), 5432)),
            _ => bail!("`DATABASE_URL` must name one TCP host for this case"),
        }
    }

    fn address_through(&self, port: u16, name: &str) -> String {
        let relayed = |server| address_at(&server, "127.0.0.1", &port.to_string(), name);
        server().map_or_else(|_| String::new(), relayed)
    }

    async fn create(&self, name: &str) -> Result<()> {
        let server = server()?;
        execute(&server, &format!("CREATE DATABASE {}", quoted(name))).await?;
        let mut inside = server;
        inside.dbname(name);
        execute(&inside, SCHEMA).await
    }

    async fn faulty(&self, fault: Fault, base: &str) -> Result<FaultyAddress> {
        let mut server = server()?;
        if fault == Fault::Unreachable {
            // A port that was free a moment ago.
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let text = format!(
                "host=127.0.0.1 port={port} user=app password={}",
                value(WRONG)
            );
            return Ok(FaultyAddress {
                address: address(&text.parse()?, base),
                secret: Some(WRONG.to_owned()),
                told: vec![format!("127.0.0.1:{port}"), "is it running?".to_owned()],
            });
        }
        let role = format!("{base}_user");
        let right = "a password like any other";
        let statement = format!("CREATE ROLE {} LOGIN PASSWORD '{right}'", quoted(&role));
        execute(&server, &statement).await?;
        let (password, remedy) = match fault {
            Fault::MissingRights => (right, "CREATEDB"),
            _ => (WRONG, "check the user, the password"),
        };
        server.user(&role).password(password);
        Ok(FaultyAddress {
            address: address(&server, base),
            secret: Some(password.to_owned()),
            told: vec![format!("`{role}`"), remedy.to_owned()],
        })
    }

    async fn clean(&self, made: &Made) -> Result<()> {
        let server = server()?;
        let client = connected(&server).await?;
        let databases = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)";
        for row in client.query(databases, &[&made.prefix]).await? {
            let name = quoted(row.get(0));
            let statements = [
                format!("ALTER DATABASE {name} IS_TEMPLATE false"),
                format!("DROP DATABASE {name} WITH (FORCE)"),
            ];
            for statement in statements {
                client.batch_execute(&statement).await?;
            }
        }
        let roles = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)";
        for row in client.query(roles, &[&made.prefix]).await? {
            client
                .batch_execute(&format!("DROP ROLE {}", quoted(row.get(0))))
                .await?;
        }
        // What the prefix does not find would stay for ever.
        let config = Config::from_config(server);
        let left = dagz_postgres::databases(&config, &made.project).await?;
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
    Ok(dagz_postgres::truncate(&target).await?)
}

/// The user's own way to make a database, handed to dagz at the end.
async fn init_by_hand(hook: Hook, target: Target, at: tokio_postgres::Config) -> Result<()> {
    hook.call(&target).await?;
    execute(
        &server()?,
        &format!("CREATE DATABASE {}", quoted(target.name())),
    )
    .await?;
    fill(&connected(&at).await?).await?;
    Ok(dagz_postgres::adopt(&target).await?)
}

async fn fill(client: &Client) -> Result<()> {
    let (key, value) = SEED;
    client.batch_execute(SCHEMA).await?;
    let statement = "INSERT INTO entry VALUES ($1, $2)";
    client.execute(statement, &[&key, &value]).await?;
    Ok(())
}

/// The server as a user would reach it who has never heard of dagz.
fn server() -> Result<tokio_postgres::Config> {
    let url = env::var("DATABASE_URL").context("`DATABASE_URL` is not set")?;
    url.parse()
        .context("`DATABASE_URL` is not a Postgres connection string")
}

async fn connected(config: &tokio_postgres::Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn execute(config: &tokio_postgres::Config, statement: &str) -> Result<()> {
    Ok(connected(config).await?.batch_execute(statement).await?)
}

/// `server`, as key/value pairs: they hold any name.
fn address(server: &tokio_postgres::Config, name: &str) -> String {
    let hosts = server.get_hosts().iter().map(|host| match host {
        Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.to_string_lossy().into_owned(),
    });
    let ports = server.get_ports().iter().map(ToString::to_string);
    let (hosts, ports): (Vec<_>, Vec<_>) = (hosts.collect(), ports.collect());
    address_at(server, &hosts.join(","), &ports.join(","), name)
}

/// [`address`] with other hosts and ports than `server` has.
fn address_at(server: &tokio_postgres::Config, hosts: &str, ports: &str, name: &str) -> String {
    let mut pairs = vec![
        ("host", hosts.to_owned()),
        ("port", ports.to_owned()),
        ("dbname", name.to_owned()),
    ];
    if let Some(user) = server.get_user() {
        pairs.push(("user", user.to_owned()));
    }
    if let Some(password) = server.get_password() {
        pairs.push(("password", String::from_utf8_lossy(password).into_owned()));
    }
    let pairs = pairs.iter().filter(|(_, text)| !text.is_empty());
    let pairs: Vec<_> = pairs
        .map(|(key, text)| format!("{key}={}", value(text)))
        .collect();
    pairs.join(" ")
}

fn value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
