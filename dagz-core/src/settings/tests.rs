//! Settings from all their sources.

use std::{collections::BTreeMap, fs, time::Duration};

use super::{
    FILE, Origin, Section, Settings,
    read::{File, Reader, parse_bool, parse_duration, parse_number, parse_project, unreadable},
};
use crate::{ErrorKind, Result};

fn refused(result: Result<Settings>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    error.to_string()
}

#[test]
fn code_wins_and_says_so() {
    let settings = Settings::builder()
        .workers(7)
        .project("mine")
        .load()
        .unwrap();
    assert_eq!(settings.workers(), 7);
    assert_eq!(settings.project(), "mine");
    let origins: BTreeMap<_, _> = settings.origins().collect();
    assert_eq!(origins["workers"], &Origin::Code);
}

#[test]
fn zero_workers_is_off() {
    assert!(!Settings::builder().workers(0).load().unwrap().active());
    assert!(
        !Settings::builder()
            .off(true)
            .workers(2)
            .load()
            .unwrap()
            .active()
    );
    assert!(
        Settings::builder()
            .off(false)
            .workers(2)
            .load()
            .unwrap()
            .active()
    );
}

#[test]
fn an_unknown_key_and_a_bad_value_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, "worker = 4").unwrap();
    let error = File::read(&path).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("unknown key `worker`"),
        "{error}"
    );

    let mut reader = Reader {
        file: File {
            path: FILE.into(),
            values: [("workers".to_owned(), "many".to_owned())].into(),
            sections: BTreeMap::new(),
        },
        origins: BTreeMap::new(),
    };
    let error = reader
        .value("workers", "DAGZ_NOT_SET", None, parse_number)
        .unwrap_err();
    insta::assert_snapshot!(error, @"`workers` in `dagz.toml` is `many`, but must be a whole number from 0 to 10000");
    let error = reader
        .value("lease_timeout", "PATH", None, parse_duration)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("but must be a duration such as `30s` or `2m`")
    );
    let value = reader
        .value("workers", "DAGZ_NOT_SET", Some(3), parse_number)
        .unwrap();
    assert_eq!(value, Some(3), "code comes before the file");
}

#[test]
fn a_file_gives_numbers_texts_and_durations() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, "workers = 4\nlease_timeout = \"90s\"\nstrict = true").unwrap();
    let mut reader = Reader {
        file: File::read(&path).unwrap(),
        origins: BTreeMap::new(),
    };
    let none = "DAGZ_NOT_SET";
    assert_eq!(
        reader.value("workers", none, None, parse_number).unwrap(),
        Some(4)
    );
    assert_eq!(
        reader
            .value("lease_timeout", none, None, parse_duration)
            .unwrap(),
        Some(Duration::from_secs(90))
    );
    assert_eq!(
        reader.value("strict", none, None, parse_bool).unwrap(),
        Some(true)
    );
    assert_eq!(reader.origins["strict"], Origin::File(path));
}

#[test]
fn a_project_name_must_fit_a_stamp() {
    assert!(parse_project("shop-1.2_x").is_ok());
    assert!(parse_project("").is_err());
    assert!(parse_project("it's").is_err());
    let error = refused(Settings::builder().load().and_then(|_| {
        Err(unreadable(
            "DAGZ_PROJECT",
            "it's",
            parse_project("it's").unwrap_err(),
        ))
    }));
    assert!(error.starts_with("`DAGZ_PROJECT` is `it's`, but must be 1 to 64"));
}

#[test]
fn a_section_is_kept_for_its_driver() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let text =
        "workers = 4\n[redis]\nurl = \"redis://:hunter2@localhost\"\nbases = [0, 3]\n[other]";
    fs::write(&path, text).unwrap();
    let file = File::read(&path).unwrap();
    let redis = &file.sections["redis"];
    assert_eq!(redis.value("bases"), Some("0,3"));
    assert_eq!(redis.keys().collect::<Vec<_>>(), ["bases", "url"]);
    assert_eq!(format!("{redis:?}"), r#"{"bases", "url"}"#, "no password");
    assert_eq!(file.sections["other"], Section::default());

    fs::write(&path, "[redis]\nurl = 1.5").unwrap();
    let error = File::read(&path).map(|_| ()).unwrap_err().to_string();
    let error = error.replace(&path.display().to_string(), "PATH");
    insta::assert_snapshot!(error, @"`redis.url` in `PATH` must be a string, a number, a boolean or a list of these");
}
