//! Every form in which a connection is written ends in the worker's own database.

mod support;

use std::sync::Once;

use dagz_core::Scope;
use dagz_mysql::{
    Config, RerouteExt, configure, connect,
    mysql_async::{Conn, Opts, OptsBuilder},
    reroute_url, reroute_url_blocking,
};
use support::{base, opts, rows, run};

fn in_scope(test: &str, body: impl AsyncFnOnce(&Scope)) {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        let config = Config::from_opts(opts(&base("routing")))
            .migrate_with("1", |_| async { Ok::<_, dagz_core::Error>(()) })
            .reroute_if(|name| !name.contains("unfiltered"));
        configure(config).unwrap();
    });
    let guard = Scope::builder(test).enter().unwrap();
    run(body(guard.scope()));
}

/// `url()` for `base` in every way to write it.
fn forms(base: &str) -> Vec<String> {
    let opts = opts("any");
    let encode = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02x}")).collect() };
    let (user, password) = (
        encode(opts.user().unwrap()),
        encode(opts.pass().unwrap_or_default()),
    );
    let (host, port) = (opts.ip_or_hostname(), opts.tcp_port());
    vec![
        format!("mysql://{user}:{password}@{host}:{port}/{base}"),
        format!("mysql://{user}:{password}@{host}:{port}/{}", encode(base)),
        format!(
            "mysql://{user}:{password}@{host}:{port}/{base}?prefer_socket=false&tcp_nodelay=true"
        ),
        // Another address of the same server.
        format!("mysql://{user}:{password}@localhost:{port}/{base}?prefer_socket=false"),
    ]
}

const SESSION: &str = "SELECT DATABASE()";

#[test]
fn every_form_is_rerouted() {
    in_scope("routing::forms", async |scope| {
        let base = base("routing");
        let expected = format!("{base}_{}", scope.worker());
        for form in forms(&base) {
            let mut conn = connect(&form)
                .await
                .unwrap_or_else(|error| panic!("{}", error.report()));
            assert_eq!(rows(&mut conn, SESSION).await, [&*expected], "{form}");

            let url = reroute_url(&form).await.unwrap();
            assert_eq!(reroute_url_blocking(&form).unwrap(), url);
            let mut conn = Conn::from_url(&url).await.unwrap();
            assert_eq!(rows(&mut conn, SESSION).await, [&*expected], "{url}");

            let parsed = Opts::from_url(&form).unwrap();
            let rerouted = parsed.reroute().await.unwrap();
            assert_eq!(parsed.reroute_blocking().unwrap(), rerouted);
            assert_eq!(rerouted.db_name(), Some(&*expected));
            // Twice is as good as once.
            assert_eq!(rerouted.reroute().await.unwrap(), rerouted);
            let builder = OptsBuilder::from_opts(parsed).reroute_blocking().unwrap();
            assert_eq!(Opts::from(builder), rerouted);
        }
    });
}

#[test]
fn urls_of_other_libraries_keep_their_parameters() {
    in_scope("routing::others", async |scope| {
        let server = opts("any");
        let at = format!("{}:{}", server.ip_or_hostname(), server.tcp_port());
        let credentials = format!("{}:{}", server.user().unwrap(), server.pass().unwrap());
        let base = base("routing");
        for scheme in ["mysql", "mariadb"] {
            let url = |name: &str| {
                format!("{scheme}://{credentials}@{at}/{name}?ssl-mode=DISABLED&charset=utf8mb4")
            };
            let expected = url(&format!("{base}_{}", scope.worker()));
            assert_eq!(reroute_url(&url(&base)).await.unwrap(), expected);
        }
    });
}

#[test]
fn what_names_no_database_or_none_to_be_rerouted_passes() {
    in_scope("routing::unchanged", async |_| {
        for name in [
            "",
            "mysql",
            "sys",
            "INFORMATION_SCHEMA",
            "performance_schema",
            "unfiltered_one",
        ] {
            let opts = opts(name);
            assert_eq!(opts.reroute().await.unwrap(), opts, "{name}");
            let url = format!("mysql://u@h/{name}?ssl-mode=disabled");
            assert_eq!(reroute_url(&url).await.unwrap(), url);
        }
        let url = "mysql://u@h";
        assert_eq!(reroute_url(url).await.unwrap(), url);
    });
}

#[test]
fn a_session_says_whose_it_is_unless_the_user_does() {
    in_scope("routing::names", async |scope| {
        let name = |opts: &Opts| {
            opts.connect_attributes()
                .and_then(|all| all.get("program_name").cloned())
        };
        let rerouted = opts(&base("routing")).reroute().await.unwrap();
        assert_eq!(
            name(&rerouted),
            Some(format!("{} routing::names", scope.tag()))
        );
        let own = OptsBuilder::from_opts(opts(&base("routing")))
            .connect_attribute("program_name", "shop");
        let rerouted = Opts::from(own).reroute().await.unwrap();
        assert_eq!(name(&rerouted).as_deref(), Some("shop"));
    });
    let long = format!("routing::{}", "ü".repeat(160));
    in_scope(&long, async |scope| {
        let rerouted = opts(&base("routing")).reroute().await.unwrap();
        let name = &rerouted.connect_attributes().unwrap()["program_name"];
        assert!(
            name.len() <= 128 && name.starts_with(scope.tag()) && name.ends_with('ü'),
            "{name}"
        );
    });
}
