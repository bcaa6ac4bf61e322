//! What the program prints: a row per line, with what `cargo xtask bench` and whoever reads its files rely on.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_reset_is_a_row() {
    let output = Command::new(env!("CARGO_BIN_EXE_dagz-bench"))
        .args([
            "reset",
            "--backend",
            "postgres",
            "--size",
            "10",
            "--seconds",
            "0.2",
        ])
        .output()
        .expect("the program is built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is a row"))
        .collect();
    for dirty in [0, 3, 10] {
        let row = rows
            .iter()
            .find(|row| row["strategy"] == "dagz" && row["dirty"] == dirty);
        let row = row.unwrap_or_else(|| panic!("no row of dagz with {dirty} dirty in {text}"));
        assert_eq!(row["group"], "reset");
        assert_eq!(row["tables"], 10);
        assert!(
            row["backend"]
                .as_str()
                .is_some_and(|name| name.starts_with("postgres "))
        );
        let number = |key: &str| row[key].as_f64().unwrap_or_default();
        assert!(number("p95_us") >= number("median_us"), "{row}");
        let ratio = number("median_us") / number("floor_us");
        assert!(
            ratio > 0.0 && (number("ratio") / ratio - 1.0).abs() < 0.01,
            "{row}"
        );
    }
}

#[test]
fn a_server_that_is_not_there_is_one_clear_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_dagz-bench"))
        .args(["reset", "--backend", "redis", "--size", "10"])
        .env_remove("DAGZ_TEST_REDIS_URL")
        .output()
        .expect("the program is built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    let line = "error: `DAGZ_TEST_REDIS_URL` is not set; `cargo xtask bench` starts the servers and sets it";
    assert!(said.lines().any(|said| said.starts_with(line)), "{said}");
}
