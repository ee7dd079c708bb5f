//! The documents say what the code does: links lead somewhere, tables match the lists they explain, examples are valid,
//! commands run.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's helpers fail by panicking, too"
)]

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/lived.rs"]
mod lived;
#[path = "docs/markdown.rs"]
mod markdown;
#[path = "docs/tables.rs"]
mod tables;
