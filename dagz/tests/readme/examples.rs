//! The examples of the READMEs, as `../readme.rs` writes them; it builds this target, too.

include!(env!(
    "DAGZ_README_EXAMPLES",
    "it is set by `cargo test -p dagz --features postgres --test readme`"
));
