//! What killed runs have left of templates goes with the next template that is made, and nothing else does.

mod support;

use dagz_mysql::mysql_async::{Conn, prelude::Queryable as _};
use sha2::{Digest as _, Sha256};
use support::{Site, at_site, connect, execute, opts, rows};

/// Makes the database `name` as one that is not complete, for `base`.
async fn leave_ruin(admin: &mut Conn, project: &str, (name, base, role): (&str, &str, &str)) {
    let stamp = format!(
        r#"{{"dagz":1,"project":"{project}","job":"","worker":0,"base":"{base}","name":"{name}","role":"{role}","ready":false,"made":1}}"#
    );
    let statements = format!(
        "DROP DATABASE IF EXISTS `{name}`; CREATE DATABASE `{name}`; \
         CREATE TABLE `{name}`.dagz_stamp (id TINYINT PRIMARY KEY, stamp LONGTEXT, start LONGTEXT); \
         INSERT INTO `{name}`.dagz_stamp VALUES (1, '{stamp}', '')"
    );
    execute(admin, &statements).await;
}

/// The name of the lock on making a database, as earlier and later versions must agree.
fn lock_on(name: &str) -> String {
    let hash = Sha256::digest(format!("make\n{name}"));
    let digits: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("dagz make {digits}")
}

#[test]
fn what_is_left_of_other_templates_goes_unless_it_is_being_made() {
    at_site(
        "left_of_others",
        |config| {
            config.migrate_with("1", |opts| async move {
                let mut conn = connect(&opts).await;
                conn.query_drop("CREATE TABLE item (id INT)").await
            })
        },
        async |site: &Site| {
            let (mut admin, project) = (connect(&opts("")).await, site.target.project());
            let base = &*site.base;
            let named = |digits: &str| format!("{base}_jw_{digits}");
            let (left, busy) = (named("00000001"), named("00000002"));
            let staying = [
                (named("00000003"), base, "rows"),
                (named("00000004"), "another", "template"),
                (busy.clone(), base, "template"),
            ];
            leave_ruin(&mut admin, project, (&left, base, "template")).await;
            for (name, base, role) in &staying {
                leave_ruin(&mut admin, project, (name, base, role)).await;
            }
            let foreign = named("00000005");
            leave_ruin(&mut admin, "somebody", (&foreign, base, "template")).await;
            let unmarked = named("00000006");
            let anew =
                format!("DROP DATABASE IF EXISTS `{unmarked}`; CREATE DATABASE `{unmarked}`");
            execute(&mut admin, &anew).await;
            let lock = format!("DO GET_LOCK('{}', 0)", lock_on(&busy));
            execute(&mut admin, &lock).await;

            site.init().await;
            let all = rows(&mut admin, "SHOW DATABASES").await;
            assert!(!all.contains(&left), "{all:?}");
            let staying = staying.iter().map(|(name, ..)| name);
            for name in staying.chain([&foreign, &unmarked]) {
                assert!(all.contains(name), "{name} is not in {all:?}");
                execute(&mut admin, &format!("DROP DATABASE `{name}`")).await;
            }
        },
    );
}
