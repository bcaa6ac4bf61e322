//! What the macros refuse, and in which words: each file of `ui/` fails to compile as its `.stderr`
//! says.
//!
//! After a wanted change, `TRYBUILD=overwrite cargo test -p dagz --test ui` writes them anew.

#[test]
fn refusals() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    // The compiler writes `Result` with its path where a crate in the tree has another one, so these read as in
    // `cargo xtask ci`, with every driver.
    if cfg!(all(feature = "amqp", feature = "cassandra")) {
        cases.compile_fail("tests/ui/with_all/*.rs");
    }
}
