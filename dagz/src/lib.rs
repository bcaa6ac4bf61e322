//! The facade of dagz: `#[dagz::test]`, the words of `dagz_core`, and a module per driver.
