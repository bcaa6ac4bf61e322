//! Serves the shop.
fn main() {}
