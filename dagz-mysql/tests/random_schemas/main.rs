//! Random schemas, and random workloads over several connections, compared by full dump.
//!
//! Statements of the connections interleave; they lock each other out, fail, roll back, change the schema, and some of the
//! connections are left with a transaction open or tables locked, which they commit once the next test has begun; or with
//! one prepared. Where `random.rs` has one schema with everything in it, this has many small ones (`schema.rs`), half of
//! them behind a write gate. What is done is in `statement.rs`; `needed.rs` has a mutant for each detection.
//! `DAGZ_TEST_CASES` is the number of schemas, eight by default; each gets eight workloads.

mod needed;
mod schema;
mod statement;
#[path = "../support/mod.rs"]
mod support;

use std::{cell::Cell, time::Duration};

use dagz_core::DbConfig as _;
use dagz_mysql::{
    Identity, Prepare,
    mysql_async::{Conn, prelude::Queryable as _},
};
use dagz_testkit::random::{
    CONNECTIONS, Counterexample, Interleaved, Search, cases, counterexample, interleaved, runner,
};
use proptest::{collection::vec, prelude::*, strategy::ValueTree as _};
use schema::{Table, schema, table};
use statement::{MANY, Mix, statement};
use support::{
    Site, at_site, base, connect,
    definitions::definitions,
    dump, is_mariadb, opts,
    prepared::{end_prepared, prepared, roll_all_back},
    run, state, within,
};

/// How long a statement may wait for another connection before it is ended.
const PATIENCE: Duration = Duration::from_millis(20);

/// Much longer than any workload and its reset take, however busy the machine is.
const ROUND: Duration = Duration::from_secs(60);

/// What is configured, and done.
#[derive(Clone, Copy, Debug)]
struct Set {
    prepare: Prepare,
    identity: Identity,
    is_gated: bool,
    mix: Mix,
    blind: Option<&'static str>,
}

/// The mix of statements that finds the most.
const MIX: Mix = Mix {
    changes: 1,
    prepares: 1,
    only: "",
};

/// How long one may that changes the schema, which writes files, and should not be ended while it does, or that writes
/// many rows.
const LONGER: Duration = Duration::from_millis(300);

/// Does `statement`, which fails where the schema, or another connection, forbids it.
async fn attempt(conn: &mut Conn, admin: &mut Conn, statement: &str) {
    let end = format!("KILL QUERY {}", conn.id());
    let patience = match ["ALTER", "CREATE", "DROP", "RENAME", MANY]
        .iter()
        .any(|word| statement.contains(word))
    {
        true => LONGER,
        false => PATIENCE,
    };
    let mut running = std::pin::pin!(conn.query_drop(statement));
    while tokio::time::timeout(patience, &mut running).await.is_err() {
        // It may have ended by itself.
        drop(admin.query_drop(&end).await);
    }
}

/// The state after a workload, a reset, and what those who are still there then commit.
async fn round(site: &Site, workload: &Interleaved, identity: Identity) -> Vec<String> {
    let mut admin = connect(&opts("")).await;
    let name = |number: usize| format!("{} {number}", site.target.name());
    let mut conns = Vec::new();
    for _ in 0..CONNECTIONS {
        conns.push(site.connect().await);
    }
    for (number, statement) in &workload.statements {
        let statement = statement.replace("{xa}", &name(*number));
        attempt(&mut conns[*number], &mut admin, &statement).await;
    }
    let mut stays = Vec::new();
    for (conn, stays_on) in conns.into_iter().zip(workload.stays) {
        match stays_on {
            true => stays.push(Some(conn)),
            false => {
                drop(conn.disconnect().await);
                stays.push(None);
            }
        }
    }
    site.driver.release(&site.target).await;
    if let Some(late) = &workload.late {
        tokio::time::sleep(PATIENCE / 2).await;
        for (number, statement) in late {
            // Nobody new gets into a database that is held.
            if let Some(conn) = &mut stays[*number] {
                let statement = statement.replace("{xa}", &name(*number));
                attempt(conn, &mut admin, &statement).await;
            }
        }
    }
    if let Err(error) = site.driver.prepare(&site.target).await {
        // Whose it is nobody can tell, so it is told how to end it.
        let report = error.report().to_string();
        let left = prepared(&mut admin, site.target.name()).await;
        assert!(
            !left.is_empty() && report.contains("`XA RECOVER`"),
            "{report}"
        );
        for name in left {
            assert!(end_prepared(&mut admin, "ROLLBACK", &name).await, "{name}");
        }
        site.prepare().await;
    }
    for (number, conn) in stays.iter_mut().enumerate() {
        let Some(conn) = conn else { continue };
        for statement in ["COMMIT", &format!("XA COMMIT '{}'", name(number))] {
            attempt(conn, &mut admin, statement).await;
        }
    }
    for name in prepared(&mut admin, site.target.name()).await {
        assert!(end_prepared(&mut admin, "COMMIT", &name).await, "{name}");
    }
    let after = whole(site, identity).await;
    drop(stays);
    after
}

/// All that is compared.
async fn whole(site: &Site, identity: Identity) -> Vec<String> {
    let mut conn = site.connect().await;
    // Otherwise counters go on.
    let mut state = match identity == Identity::Restore {
        true => state(&mut conn).await.1,
        false => definitions(&mut conn).await,
    };
    state.push(dump(&mut conn).await);
    state
}

/// Tells a workload in a database of these tables after which that is another one, if there is such among so many.
fn at_random(
    (test, tag): (&str, u32),
    tables: &[Table],
    search: Search,
    set: Set,
) -> Option<Counterexample> {
    let text = schema(tables, set.prepare, run(is_mariadb()));
    let tag = &format!("{test} {tag} {}", text.len());
    let failed = Cell::new(None);
    run(roll_all_back(&base(test)));
    at_site(
        test,
        move |config| {
            let config = config
                .prepare(set.prepare)
                .identity(set.identity)
                .hold(Duration::from_millis(100))
                .leak_patience(PATIENCE)
                .write_gate(set.is_gated)
                .migrate_with(tag, move |opts| {
                    let text = text.clone();
                    async move { connect(&opts).await.query_drop(text).await }
                });
            match set.blind {
                Some(detection) => config.blind_to(detection),
                None => config,
            }
        },
        async |site: &Site| {
            site.init().await;
            let start = whole(site, set.identity).await;
            let workloads = interleaved(|| statement(set.mix));
            let found = counterexample(tag, search, &workloads, async |workload| {
                let after = within(ROUND, round(site, &workload, set.identity)).await;
                prop_assert_eq!(&after, &start);
                Ok(())
            });
            failed.set(found);
        },
    );
    failed.into_inner()
}

#[test]
fn any_schema_is_brought_back() {
    let mut runner = runner("any_schema");
    // MySQL keeps the locks of what is prepared, so that each time it takes seconds until that is told.
    let is_slow = !run(is_mariadb());
    for case in 0..cases(8) {
        let tables = vec(table(), 1..6).new_tree(&mut runner).unwrap().current();
        let set = Set {
            prepare: match case % 3 {
                2 => Prepare::Truncate,
                _ => Prepare::Baseline,
            },
            identity: match case % 4 {
                3 => Identity::Keep,
                _ => Identity::Restore,
            },
            is_gated: case % 2 == 0,
            mix: Mix {
                prepares: u32::from(!is_slow || case % 8 == 0),
                ..MIX
            },
            blind: None,
        };
        let eight = Search::Unexpected(8);
        if let Some(error) = at_random(("random_schemas", case), &tables, eight, set) {
            panic!("{error}\n{set:?}\n{tables:#?}");
        }
    }
}
