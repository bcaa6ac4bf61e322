//! The back office of a web shop.
