//! The attribute macros of dagz, `#[dagz::test]` and `#[dagz::setup]`, in three stages.
//!
//! `parse.rs` reads the function and the options as they are written, `valid.rs` decides what they
//! mean and rejects what cannot work, with an error at the very word that is wrong, and `expand.rs`
//! writes the code. Nothing here knows what a worker is: the code that is written calls
//! `dagz_core::__private`, which does.
//!
//! Users reach the macros, and their documentation, through the facade crate `dagz`.

mod expand;
mod option;
mod parse;
mod problem;
#[cfg(test)]
mod tests;
mod valid;

use proc_macro::TokenStream;

/// Runs a test in a scope of its own, on a worker of its own.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(options.into(), item.into()).into()
}

/// Registers a function to run once per process, before the first test's body.
#[proc_macro_attribute]
pub fn setup(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::setup(options.into(), item.into()).into()
}
