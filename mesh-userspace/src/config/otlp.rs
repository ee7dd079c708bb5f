//! `[otlp]`: the collector that traces and logs are sent to.

use std::path::PathBuf;

use super::Access;

/// `[otlp]`: how the collector is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Where it is: one endpoint.
    pub access: Access,
    /// The file that holds the token which it asks for; `None`: it asks for none.
    pub token_file: Option<PathBuf>,
    /// Whether events are sent beside traces.
    pub logs: bool,
}
