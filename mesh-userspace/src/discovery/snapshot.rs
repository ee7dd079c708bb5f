//! What a source says at one time.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::Standing;

/// Somebody who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// Its address.
    pub address: IpAddr,
    /// The port that it is registered with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its share of new flows, if the source has an opinion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Instances of a higher number stand by while one of a lower number takes new flows.
    #[serde(default)]
    pub priority: u16,
    /// What the source says of it.
    #[serde(default)]
    pub standing: Standing,
}

impl Instance {
    /// An instance of which nothing else is known.
    #[must_use]
    pub const fn new(address: IpAddr, port: Option<u16>) -> Self {
        Self { address, port, weight: None, priority: 0, standing: Standing::Ready }
    }
}

/// Everybody who is there, in the order of their addresses; nobody twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Snapshot(Vec<Instance>);

impl Snapshot {
    /// Everybody, in the order of their addresses.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.0
    }
}

impl FromIterator<Instance> for Snapshot {
    fn from_iter<T: IntoIterator<Item = Instance>>(instances: T) -> Self {
        let mut instances: Vec<Instance> = instances.into_iter().collect();
        instances.sort_unstable();
        instances.dedup();
        Self(instances)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from_iter)
    }
}
