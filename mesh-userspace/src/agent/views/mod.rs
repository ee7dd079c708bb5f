//! What the faces show, taken from what the agent knows.

mod backends;
mod composition;
mod discovery;
mod services;
mod status;

const VERSION: &str = env!("CARGO_PKG_VERSION");
