//! Every form in which a connection is written ends in the worker's own database.

mod support;

use std::sync::Once;

use dagz_core::Scope;
use dagz_postgres::{Config, RerouteExt, configure, connect, reroute_url, reroute_url_blocking};
use support::{base, config, rows, run};
use tokio_postgres::NoTls;

fn in_scope(test: &str, body: impl AsyncFnOnce(&Scope)) {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::from_config(config(&base("routing")))
            .migrate_with("1", |_| async { Ok::<_, dagz_core::Error>(()) })
            .reroute_if(|name| !name.contains("unfiltered"));
        configure(config).unwrap();
    });
    let guard = Scope::builder(test).enter().unwrap();
    run(body(guard.scope()));
}

/// `url()` for `base` in every way to write it.
fn forms(base: &str) -> Vec<String> {
    let config = config("any");
    let (user, password) = (
        config.get_user().unwrap(),
        String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned(),
    );
    let server = support::endpoint().id().to_owned();
    let (host, port) = server.rsplit_once(':').unwrap();
    let encoded: String = password
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    let host_in_url = host.replace('/', "%2F");
    vec![
        format!("postgres://{user}:{encoded}@{host_in_url}:{port}/{base}"),
        format!("postgresql://{user}:{encoded}@{host_in_url}:{port}/elsewhere?dbname={base}"),
        format!("postgres:///{base}?user={user}&password={encoded}&host={host}&port={port}"),
        format!(
            "postgres://{user}:{encoded}@nowhere.invalid:1,{host_in_url}:{port}/{base}?connect_timeout=2"
        ),
        format!("host='{host}' port={port} user='{user}' password='{quoted}' dbname={base}"),
        format!(
            "dbname='' host='{host}' port={port} user='{user}' password='{quoted}' dbname='{base}'"
        ),
    ]
}

#[test]
fn every_form_is_rerouted() {
    in_scope("routing::forms", async |scope| {
        let base = base("routing");
        let expected = format!("{base}_{}", scope.worker());
        for form in forms(&base) {
            let (client, connection) = connect(&form, NoTls)
                .await
                .unwrap_or_else(|error| panic!("{form}: {}", error.report()));
            tokio::spawn(connection);
            let session = "SELECT current_database(), current_setting('application_name')";
            let name = format!("{expected} {} routing::forms", scope.tag());
            assert_eq!(rows(&client, session).await, [name], "{form}");

            let url = reroute_url(&form).await.unwrap();
            assert_eq!(reroute_url_blocking(&form).unwrap(), url);
            let parsed: tokio_postgres::Config = form.parse().unwrap();
            let config = parsed.reroute().await.unwrap();
            assert_eq!(parsed.reroute_blocking().unwrap(), config);
            assert_eq!(
                url.parse::<tokio_postgres::Config>().unwrap(),
                config,
                "{url}"
            );
            assert_eq!(config.get_dbname(), Some(expected.as_str()));
            // Twice is as good as once.
            assert_eq!(config.reroute().await.unwrap(), config);
        }
    });
}

#[test]
fn an_absent_database_is_the_user_s() {
    let server = support::endpoint().id().to_owned();
    let (host, port) = server.rsplit_once(':').unwrap();
    in_scope("routing::absent", async |scope| {
        for form in [
            format!("host='{host}' port={port} user=shopper"),
            format!("host='{host}' port={port} user=shopper dbname=''"),
        ] {
            let rerouted = reroute_url(&form).await.unwrap();
            let config: tokio_postgres::Config = rerouted.parse().unwrap();
            let expected = format!("shopper_{}", scope.worker());
            assert_eq!(config.get_dbname(), Some(expected.as_str()), "{form}");
        }
    });
    let project = dagz_core::Settings::current().unwrap().project();
    run(support::clean("shopper", project));
}

#[test]
fn a_name_that_the_user_gave_a_session_stays() {
    in_scope("routing::names", async |_| {
        let mut config = config(&base("routing"));
        config.application_name("shop");
        let rerouted = config.reroute().await.unwrap();
        assert_eq!(rerouted.get_application_name(), Some("shop"));
    });
    let long = format!("routing::{}", "ü".repeat(60));
    in_scope(&long, async |scope| {
        let rerouted = config(&base("routing")).reroute().await.unwrap();
        let name = rerouted.get_application_name().unwrap();
        assert!(
            name.len() <= 63 && name.starts_with(scope.tag()) && name.ends_with('ü'),
            "{name}"
        );
    });
}

#[test]
fn what_is_filtered_or_a_system_database_passes() {
    in_scope("routing::unchanged", async |_| {
        for name in ["postgres", "template1", "unfiltered_one"] {
            let config = config(name);
            assert_eq!(config.reroute().await.unwrap(), config);
            let url = format!("postgres://u@h/{name}?sslmode=disable");
            assert_eq!(reroute_url(&url).await.unwrap(), url);
        }
    });
}
