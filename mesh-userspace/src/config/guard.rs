//! `[service.guard]`: whom a service serves.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::choice::choices;

choices! {
    /// What becomes of a client.
    #[derive(Default)]
    Admittance {
        /// It is served.
        #[default]
        Allow = "allow",
        /// Its packets are dropped.
        Deny = "deny",
    }
}

/// `[service.guard]`: who is served, and who is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Clients that are in none of the prefixes.
    pub others: Admittance,
    /// Clients in these prefixes, of which the longest decides; no bit is set behind any.
    pub prefixes: BTreeMap<IpNet, Admittance>,
}
