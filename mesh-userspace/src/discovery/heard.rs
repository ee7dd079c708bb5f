//! What a registry says: instances, and entries that are none.

use std::net::IpAddr;

use super::{Instance, Snapshot};
use crate::config::is_host;

/// What a registry says: instances, and entries that are none.
#[derive(Debug, Default)]
pub(super) struct Heard {
    instances: Vec<Instance>,
    /// How many entries are none.
    others: usize,
    /// One of them, and why: the first by name, so that the same is said of the same.
    other: Option<(String, String)>,
}

impl Heard {
    /// Adds the instance that an entry is, or why it is none.
    pub(super) fn add(&mut self, entry: &str, heard: Result<Instance, String>) {
        match heard {
            Ok(instance) => self.instances.push(instance),
            Err(reason) => {
                self.others += 1;
                let new = (entry.to_owned(), reason);
                self.other = Some(match self.other.take() {
                    Some(old) => old.min(new),
                    None => new,
                });
            }
        }
    }

    /// As a source says it: who is there, and what is left out.
    pub(super) fn said(self) -> (Snapshot, Option<String>) {
        let left_out =
            self.other.map(|(entry, reason)| format!("{}, such as {entry:?}: {reason}", self.others));
        (self.instances.into_iter().collect(), left_out)
    }
}

/// An address as registries have it.
///
/// # Errors
/// It is none that packets can be sent to, in words.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_not_an_address| format!("{text:?} is not an IP address"))?;
    if is_host(address) {
        Ok(address)
    } else {
        Err(format!("{address} is not the address of one host that packets can be sent to"))
    }
}
