//! The contract of every driver, for RabbitMQ against a real broker.
//!
//! `DAGZ_TEST_AMQP_URL` and `DAGZ_TEST_AMQP_MANAGEMENT_URL` name the broker and a user who may do everything on
//! it: `cargo xtask test -p dagz-amqp` sets them for a broker of its own. The cases are `dagz-testkit`'s; an entry
//! is a queue of that name with one message. What only RabbitMQ has is tested beside this file.

#[expect(dead_code, reason = "the contract needs a part of it")]
#[path = "support/management.rs"]
mod management;

use std::{env, net::TcpListener, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use dagz_amqp::Config;
use dagz_core::{Error, ErrorKind, Target};
use dagz_testkit::{Choice, Contract, Fault, FaultyAddress, Hook, Made, Prepare};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
    uri::AMQPUri,
};
use management::part;
use serde_json::json;

fn main() -> ExitCode {
    dagz_testkit::main(RabbitMq)
}

struct RabbitMq;

/// A connection with a channel that confirms.
struct Session {
    connection: Connection,
    channel: Channel,
}

/// How a password that is wrong looks, to be looked for in errors.
const WRONG: &str = "hunter2-and-more";

impl Contract for RabbitMq {
    type Session = Session;

    const DECLARATION: &'static str = include_str!("contract.toml");

    async fn server(&self) -> Result<()> {
        let remedy = "run `cargo xtask test -p dagz-amqp`, or start a server by `cargo xtask services up rabbitmq` and set `DAGZ_TEST_AMQP_URL` and `DAGZ_TEST_AMQP_MANAGEMENT_URL` to it";
        let uri = uri().with_context(|| format!("no RabbitMQ is known: {remedy}"))?;
        Connection::connect_uri(uri, ConnectionProperties::default())
            .await
            .with_context(|| format!("RabbitMQ does not answer: {remedy}"))?;
        management::get("/api/overview")
            .map(drop)
            .with_context(|| format!("the management API does not answer: {remedy}"))
    }

    fn address(&self, name: &str) -> String {
        at(name, |_| {}).unwrap_or_default()
    }

    fn configure(&self, address: &str, choice: &Choice) -> dagz_core::Result<()> {
        let mut config = Config::new(address)?
            .single_worker_disable(choice.single_worker_disable)
            .main_worker_bypass(choice.main_worker_bypass)
            .strict(choice.strict);
        // The same user as in the address, which may be one with something wrong.
        let mut management = management::url().unwrap_or_default();
        if let Some((_, place)) = management.rsplit_once('@') {
            management = format!("http://{place}");
        }
        config = config.management(&management)?;
        if let Some(hook) = choice.worker_init.clone() {
            config = config.worker_init(move |target, _| declare(hook.clone(), target));
        }
        config = match &choice.prepare {
            Prepare::None => config.prepare(dagz_amqp::Prepare::None),
            Prepare::Empty | Prepare::Baseline => config.prepare(dagz_amqp::Prepare::Reset),
            Prepare::Own(hook) => {
                let hook = hook.clone();
                config.prepare_with(move |target, _| prepare_by_hand(hook.clone(), target))
            }
        };
        if let Some(unfiltered) = choice.unfiltered.clone() {
            config = config.reroute_if(move |vhost| vhost != unfiltered);
        }
        dagz_amqp::configure(config)
    }

    async fn open(&self, address: &str) -> dagz_core::Result<Session> {
        let connection = dagz_amqp::connect(address, ConnectionProperties::default()).await?;
        let opened = async {
            let channel = connection.create_channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            lapin::Result::Ok(channel)
        };
        let channel = opened
            .await
            .map_err(|error| Error::new(ErrorKind::Unreachable, "no channel").with_source(error))?;
        Ok(Session {
            connection,
            channel,
        })
    }

    /// The broker has answered for this vhost, or there were no connection.
    async fn database(&self, session: &Session) -> Result<String> {
        Ok(session.connection.status().vhost().to_string())
    }

    async fn put(&self, session: &Session, key: &str, value: &str) -> Result<()> {
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = &session.channel;
        channel
            .queue_declare(key.into(), durable, FieldTable::default())
            .await?;
        channel
            .queue_purge(key.into(), QueuePurgeOptions::default())
            .await?;
        let confirmed = channel
            .basic_publish(
                "".into(),
                key.into(),
                BasicPublishOptions::default(),
                value.as_bytes(),
                BasicProperties::default(),
            )
            .await?
            .await?;
        ensure!(confirmed.is_ack(), "the broker did not take `{key}`");
        Ok(())
    }

    async fn entries(&self, session: &Session) -> Result<Vec<(String, String)>> {
        let vhost = self.database(session).await?;
        let queues = management::get(&format!("/api/queues/{}", part(&vhost)))?;
        let names = queues.as_array().context("no list of queues")?.iter();
        let names = names.filter_map(|queue| queue["name"].as_str());
        let mut entries = Vec::new();
        for name in names.filter(|name| !name.starts_with("dagz.")) {
            // Another session may be looking at it just now.
            for _ in 0..20 {
                let got = session
                    .channel
                    .basic_get(name.into(), BasicGetOptions::default())
                    .await?;
                if let Some(got) = got {
                    let back = BasicNackOptions {
                        requeue: true,
                        ..BasicNackOptions::default()
                    };
                    got.acker.nack(back).await?;
                    let value = String::from_utf8(got.delivery.data)?;
                    entries.push((name.to_owned(), value));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(entries)
    }

    async fn remove(&self, session: &Session, key: &str) -> Result<()> {
        let deleted = session
            .channel
            .queue_delete(key.into(), QueueDeleteOptions::default())
            .await?;
        ensure!(deleted == 1, "no entry `{key}`");
        Ok(())
    }

    fn listens_at(&self) -> Result<(String, u16)> {
        let authority = uri()?.authority;
        Ok((authority.host, authority.port))
    }

    fn address_through(&self, port: u16, name: &str) -> String {
        let through = at(name, |uri| {
            "127.0.0.1".clone_into(&mut uri.authority.host);
            uri.authority.port = port;
        });
        through.unwrap_or_default()
    }

    async fn create(&self, name: &str) -> Result<()> {
        management::put(&format!("/api/vhosts/{}", part(name)), &json!({}))
    }

    async fn faulty(&self, fault: Fault, base: &str) -> Result<FaultyAddress> {
        if fault == Fault::Unreachable {
            // A port that was free a moment ago.
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            return Ok(FaultyAddress {
                address: self.address_through(port, base),
                secret: Some(uri()?.authority.userinfo.password),
                told: vec![format!("127.0.0.1:{port}"), "is it running?".to_owned()],
            });
        }
        let (user, right) = (user_of(base), "a-password-like-any-other");
        let body = json!({"password": right, "tags": "management"});
        management::put(&format!("/api/users/{}", part(&user)), &body)?;
        let (password, remedy) = match fault {
            Fault::MissingRights => (right, format!("rabbitmqctl set_user_tags {user} ")),
            Fault::WrongPassword => (WRONG, "check the user, the password".to_owned()),
            Fault::Unreachable => bail!("done above"),
        };
        let address = at(base, |uri| {
            user.clone_into(&mut uri.authority.userinfo.username);
            password.clone_into(&mut uri.authority.userinfo.password);
        })?;
        Ok(FaultyAddress {
            address,
            secret: Some(password.to_owned()),
            told: vec![format!("`{user}`"), remedy],
        })
    }

    async fn clean(&self, made: &Made) -> Result<()> {
        let config = Config::from_uri(uri()?).management(&management::url()?)?;
        for database in dagz_amqp::databases(&config, &made.project).await? {
            dagz_amqp::remove(&database).await?;
        }
        for base in &made.bases {
            management::delete(&format!("/api/users/{}", part(&user_of(base))))?;
        }
        // Those that the case made itself, and those that were never finished.
        let vhosts = management::get("/api/vhosts")?;
        let vhosts = vhosts.as_array().map(Vec::as_slice).unwrap_or_default();
        for name in vhosts.iter().filter_map(|vhost| vhost["name"].as_str()) {
            if name.starts_with(&made.prefix) {
                management::delete(&format!("/api/vhosts/{}", part(name)))?;
            }
        }
        Ok(())
    }
}

/// A user of the case that has the base vhost `base`.
fn user_of(base: &str) -> String {
    format!("{base}_user")
}

/// The user's own preparation: dagz's, with something before it.
async fn prepare_by_hand(hook: Hook, target: Target) -> Result<()> {
    hook.call(&target).await?;
    Ok(dagz_amqp::reset(&target).await?)
}

/// What declares a worker's topology: what the case wants, and nothing else.
async fn declare(hook: Hook, target: Target) -> Result<()> {
    Ok(hook.call(&target).await?)
}

/// The broker as a user would reach it who has never heard of dagz.
fn uri() -> Result<AMQPUri> {
    let url = env::var("DAGZ_TEST_AMQP_URL").context("`DAGZ_TEST_AMQP_URL` is not set")?;
    url.parse().map_err(anyhow::Error::msg)
}

/// The URL of the vhost `name` on the broker, changed by `change`.
fn at(name: &str, change: impl FnOnce(&mut AMQPUri)) -> Result<String> {
    let mut uri = uri()?;
    name.clone_into(&mut uri.vhost);
    change(&mut uri);
    Ok(uri.to_string())
}
