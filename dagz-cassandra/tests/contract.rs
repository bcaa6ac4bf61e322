//! The contract of every driver, for Cassandra against a real server.
//!
//! `DAGZ_TEST_CASSANDRA_URL` names the server and a user who may do everything on it: `cargo xtask test -p
//! dagz-cassandra` sets it for a server of its own. The cases are `dagz-testkit`'s; what only Cassandra has is
//! tested beside this file.

use std::{env, net::TcpListener, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, ensure};
use dagz_cassandra::{
    Config,
    scylla::client::{PoolSize, session::Session, session_builder::SessionBuilder},
};
use dagz_core::Target;
use dagz_testkit::{Choice, Contract, Fault, FaultyAddress, Hook, Made, Prepare, SEED};

fn main() -> ExitCode {
    dagz_testkit::main(Cassandra)
}

struct Cassandra;

/// What a worker's keyspace holds before any test: one table, one row.
const TABLE: &str = "entry (key text PRIMARY KEY, value text)";

/// How a keyspace is made here.
const REPLICATION: &str = "{'class': 'SimpleStrategy', 'replication_factor': 1}";

/// How a password that is wrong looks, to be looked for in errors.
const WRONG: &str = "hunter2-and-more";

impl Contract for Cassandra {
    type Session = Arc<Session>;

    const DECLARATION: &'static str = include_str!("contract.toml");

    async fn server(&self) -> Result<()> {
        let remedy = "run `cargo xtask test -p dagz-cassandra`, or start a server by `cargo xtask services up cassandra` and set `DAGZ_TEST_CASSANDRA_URL` to it";
        server().with_context(|| format!("no Cassandra server is known: {remedy}"))?;
        plain()
            .await
            .with_context(|| format!("the Cassandra server does not answer: {remedy}"))?;
        Ok(())
    }

    fn address(&self, name: &str) -> String {
        server().map_or_else(|_| String::new(), |server| server.url(name))
    }

    fn configure(&self, address: &str, choice: &Choice) -> dagz_core::Result<()> {
        let mut config = Config::new(address)?
            .migrate_with("contract", |session| async move { fill(&session).await })
            .single_worker_disable(choice.single_worker_disable)
            .main_worker_bypass(choice.main_worker_bypass)
            .strict(choice.strict);
        config = match &choice.prepare {
            Prepare::None => config.prepare(dagz_cassandra::Prepare::None),
            Prepare::Empty => config.prepare(dagz_cassandra::Prepare::Truncate),
            Prepare::Baseline => config.prepare(dagz_cassandra::Prepare::Baseline),
            Prepare::Own(hook) => {
                let hook = hook.clone();
                config.prepare_with(move |target, _| prepare_by_hand(hook.clone(), target))
            }
        };
        if let Some(hook) = choice.worker_init.clone() {
            config = config
                .worker_init(move |target, session| init_by_hand(hook.clone(), target, session));
        }
        if let Some(unfiltered) = choice.unfiltered.clone() {
            config = config.reroute_if(move |name| name != unfiltered);
        }
        dagz_cassandra::configure(config)
    }

    async fn open(&self, address: &str) -> dagz_core::Result<Arc<Session>> {
        dagz_cassandra::session(address).await
    }

    async fn database(&self, session: &Arc<Session>) -> Result<String> {
        // What the server says: it qualifies what it does not find.
        let missing = "SELECT * FROM there_is_no_such_table";
        let error = session.query_unpaged(missing, ()).await.err();
        let told = error.context("there is a table of that name")?.to_string();
        if told.contains("No keyspace has been specified") {
            return Ok(String::new());
        }
        let used = session.get_keyspace().context("the session is in none")?;
        ensure!(
            told.contains("there_is_no_such_table"),
            "the server says: {told}"
        );
        Ok(used.to_string())
    }

    async fn put(&self, session: &Arc<Session>, key: &str, value: &str) -> Result<()> {
        let statement = "INSERT INTO entry (key, value) VALUES (?, ?)";
        session.query_unpaged(statement, (key, value)).await?;
        Ok(())
    }

    async fn entries(&self, session: &Arc<Session>) -> Result<Vec<(String, String)>> {
        let result = session
            .query_unpaged("SELECT key, value FROM entry", ())
            .await?
            .into_rows_result()?;
        let rows = result.rows::<(String, String)>()?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    async fn remove(&self, session: &Arc<Session>, key: &str) -> Result<()> {
        let before = self.entries(session).await?;
        ensure!(
            before.iter().any(|(found, _)| found == key),
            "no entry `{key}`"
        );
        let statement = "DELETE FROM entry WHERE key = ?";
        session.query_unpaged(statement, (key,)).await?;
        Ok(())
    }

    fn listens_at(&self) -> Result<(String, u16)> {
        let server = server()?;
        let (host, port) = server.at.rsplit_once(':').context("no port")?;
        Ok((host.to_owned(), port.parse()?))
    }

    fn address_through(&self, port: u16, name: &str) -> String {
        let relayed = |server: Server| server.at(format!("127.0.0.1:{port}")).url(name);
        server().map_or_else(|_| String::new(), relayed)
    }

    async fn create(&self, name: &str) -> Result<()> {
        let session = plain().await?;
        let statement = format!("CREATE KEYSPACE \"{name}\" WITH replication = {REPLICATION}");
        session.query_unpaged(statement, ()).await?;
        let statement = format!("CREATE TABLE \"{name}\".{TABLE}");
        session.query_unpaged(statement, ()).await?;
        Ok(())
    }

    async fn faulty(&self, fault: Fault, base: &str) -> Result<FaultyAddress> {
        let server = server()?;
        if fault == Fault::Unreachable {
            // A port that was free a moment ago.
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let server = server.user("app", WRONG).at(format!("127.0.0.1:{port}"));
            return Ok(FaultyAddress {
                address: server.url(base),
                secret: Some(WRONG.to_owned()),
                told: vec![format!("127.0.0.1:{port}"), "is it running?".to_owned()],
            });
        }
        let right = "a-password-like-any-other";
        let statement = format!("CREATE ROLE {base} WITH LOGIN = true AND PASSWORD = '{right}'");
        plain().await?.query_unpaged(statement, ()).await?;
        let (password, remedy) = match fault {
            Fault::MissingRights => (
                right,
                format!("GRANT ALL PERMISSIONS ON ALL KEYSPACES TO {base}"),
            ),
            _ => (WRONG, "check the user, the password".to_owned()),
        };
        Ok(FaultyAddress {
            address: server.user(base, password).url(base),
            secret: Some(password.to_owned()),
            told: vec![format!("`{base}`"), remedy],
        })
    }

    async fn clean(&self, made: &Made) -> Result<()> {
        let session = plain().await?;
        let result = session
            .query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces", ())
            .await?
            .into_rows_result()?;
        let names: Vec<_> = result.rows::<(String,)>()?.collect::<Result<_, _>>()?;
        for (name,) in names
            .iter()
            .filter(|(name,)| name.starts_with(&made.prefix))
        {
            session
                .query_unpaged(format!("DROP KEYSPACE \"{name}\""), ())
                .await?;
        }
        for base in &made.bases {
            session
                .query_unpaged(format!("DROP ROLE IF EXISTS {base}"), ())
                .await?;
        }
        // What the prefix does not find would stay for ever.
        let config = Config::new(&server()?.url("system"))?;
        let left = dagz_cassandra::databases(&config, &made.project).await?;
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
    Ok(dagz_cassandra::truncate(&target).await?)
}

/// The user's own way to make a keyspace, handed to dagz at the end.
async fn init_by_hand(hook: Hook, target: Target, session: Arc<Session>) -> Result<()> {
    hook.call(&target).await?;
    let name = target.name();
    let statement = format!("CREATE KEYSPACE \"{name}\" WITH replication = {REPLICATION}");
    session.query_unpaged(statement, ()).await?;
    session.use_keyspace(name, true).await?;
    fill(&session).await?;
    Ok(dagz_cassandra::adopt(&target).await?)
}

async fn fill(session: &Session) -> Result<()> {
    session
        .query_unpaged(format!("CREATE TABLE {TABLE}"), ())
        .await?;
    let statement = "INSERT INTO entry (key, value) VALUES (?, ?)";
    session.query_unpaged(statement, SEED).await?;
    Ok(())
}

/// The server as a user would reach it who has never heard of dagz.
struct Server {
    user: String,
    password: String,
    at: String,
}

impl Server {
    fn url(&self, keyspace: &str) -> String {
        let Self { user, password, at } = self;
        format!("cassandra://{user}:{password}@{at}/{keyspace}?case_sensitive=true")
    }

    fn user(mut self, user: &str, password: &str) -> Self {
        (self.user, self.password) = (user.to_owned(), password.to_owned());
        self
    }

    fn at(mut self, at: String) -> Self {
        self.at = at;
        self
    }
}

fn server() -> Result<Server> {
    let url =
        env::var("DAGZ_TEST_CASSANDRA_URL").context("`DAGZ_TEST_CASSANDRA_URL` is not set")?;
    let parts = || {
        let (login, at) = url.strip_prefix("cassandra://")?.split_once('@')?;
        let (user, password) = login.split_once(':')?;
        Some(Server {
            user: user.to_owned(),
            password: password.to_owned(),
            at: at.trim_end_matches('/').to_owned(),
        })
    };
    parts().context("`DAGZ_TEST_CASSANDRA_URL` is not `cassandra://user:password@host:port`")
}

async fn plain() -> Result<Session> {
    let Server { user, password, at } = server()?;
    let builder = SessionBuilder::new()
        .known_node(at)
        .user(user, password)
        .pool_size(PoolSize::PerHost(1.try_into()?))
        .fetch_schema_metadata(false);
    Ok(builder.build().await?)
}
