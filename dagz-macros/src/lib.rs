//! The attribute macros of dagz: `#[dagz::test]` and `#[dagz::setup]`, in the stages parse, validate, expand.
