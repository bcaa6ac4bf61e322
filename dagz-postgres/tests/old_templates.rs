//! Old templates, and what killed runs have left of some: what is made again, what goes, and what stays.

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dagz_core::DbConfig as _;
use support::{Site, at_site, config, connect, counted, made_for, rows};

#[test]
fn changed_migrations_make_databases_anew_and_old_templates_go() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("1.sql");
    fs::write(&file, "CREATE TABLE v0 (id integer)").unwrap();
    at_site(
        "changed_migrations",
        |config| config.migrations(directory.path()),
        async |site: &Site| {
            for version in 0..5 {
                fs::write(&file, format!("CREATE TABLE v{version} (id integer)")).unwrap();
                site.init().await;
                site.driver.release(&site.target).await;
                let tables = "SELECT relname FROM pg_class WHERE relname ~ '^v[0-9]$'";
                let client = site.connect().await;
                assert_eq!(rows(&client, tables).await, [format!("v{version}")]);
            }
            let templates = made_for(&format!("{}_dagz_", site.base)).await;
            assert_eq!(templates.len(), 3, "{templates:?}");
        },
    );
}

#[test]
fn what_a_killed_run_left_is_made_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    at_site("half_made", counted(&calls), async |site: &Site| {
        site.init().await;
        site.driver.release(&site.target).await;
        let admin = connect(&config("postgres")).await;
        let made = made_for(&site.base).await;
        let template = made.iter().find(|name| name.contains("_dagz_")).unwrap();
        // Killed between creating and stamping: a comment there is not, but the birth mark.
        for name in [template.as_str(), site.target.name()] {
            let mark = birth_mark(site.target.project(), name);
            for statement in [
                format!("COMMENT ON DATABASE \"{name}\" IS NULL"),
                format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT {mark}"),
            ] {
                admin.batch_execute(&statement).await.unwrap();
            }
        }
        let inside = site.connect().await;
        inside.batch_execute("DROP TABLE item").await.unwrap();
        drop(inside);

        site.driver.worker_init(&site.target).await.unwrap();
        assert_eq!(
            calls.load(Ordering::SeqCst),
            2,
            "the template is made again"
        );
        site.prepare().await;
        assert_eq!(
            rows(&site.connect().await, "SELECT id FROM item").await,
            ["1"]
        );
    });
}

#[test]
fn what_is_left_of_other_templates_goes_unless_it_is_being_made() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("1.sql");
    fs::write(&file, "CREATE TABLE item (id integer)").unwrap();
    at_site(
        "left_of_others",
        |config| config.migrations(directory.path()),
        async |site: &Site| {
            let admin = connect(&config("postgres")).await;
            let named = |digits: &str| format!("{}_dagz_{digits}", site.base);
            let other = format!("my{}", named("00000003"));
            let mark = |name: &str| birth_mark(site.target.project(), name);
            let ruins = [named("00000001"), named("00000002"), other.clone()];
            for (name, limit) in [
                (&ruins[0], mark(&ruins[0])),
                (&ruins[1], mark(&ruins[1])),
                // Of another base, and of nobody.
                (&other, mark(&other)),
                (&named("00000004"), 1_000_000_007),
            ] {
                let drop_it = format!("DROP DATABASE IF EXISTS \"{name}\"");
                admin.batch_execute(&drop_it).await.unwrap();
                let create = format!("CREATE DATABASE \"{name}\" CONNECTION LIMIT {limit}");
                admin.batch_execute(&create).await.unwrap();
            }
            let lock = "SELECT pg_advisory_lock($1)";
            admin.execute(lock, &[&lock_key(&ruins[1])]).await.unwrap();

            site.init().await;
            let left = made_for(&site.base).await;
            assert!(!left.contains(&ruins[0]), "{left:?}");
            for stays in [&ruins[1], &named("00000004")] {
                assert!(left.contains(stays), "{stays} is not in {left:?}");
            }
            assert_eq!(made_for(&other).await, std::slice::from_ref(&other));
            for name in [&ruins[1], &other, &named("00000004")] {
                let drop_it = format!("DROP DATABASE \"{name}\"");
                admin.batch_execute(&drop_it).await.unwrap();
            }
        },
    );
}

/// The key of the lock on making a database, as earlier and later versions must agree.
fn lock_key(name: &str) -> i64 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("dagz database\n{name}"));
    i64::from_be_bytes(hash[..8].try_into().unwrap())
}

/// As `provision/stamp.rs` says: this pins the format, which later versions must recognise.
fn birth_mark(project: &str, name: &str) -> u32 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("dagz birth mark\n{project}\n{name}"));
    1_000_000_000 + u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % 1_000_000_000
}
