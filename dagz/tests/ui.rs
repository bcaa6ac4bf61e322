//! What the macros refuse, and in which words: each file of `ui/` fails to compile as its `.stderr`
//! says.
//!
//! After a wanted change, `TRYBUILD=overwrite cargo test -p dagz --test ui` writes them anew.

#[test]
fn refusals() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
