//! The trie of VIPs: addresses that are ours whatever the port. The entries are prefixes, of one address each.

use super::{DataplaneError, is_missing, load::VIPS};
use crate::dataplane::{host_address, wire_address};
use aya::maps::{LpmTrie, MapData, MapError, lpm_trie::Key};
use mesh_common::abi::WHOLE_ADDRESS;
use std::{collections::BTreeSet, net::IpAddr};

/// What stands at a VIP: that it is there says all.
const PRESENT: u32 = 1;

/// The trie in the kernel; IPv4 as IPv4-mapped addresses.
pub(super) struct Vips(LpmTrie<MapData, [u8; 16], u32>);

impl Vips {
    pub(super) const fn new(trie: LpmTrie<MapData, [u8; 16], u32>) -> Self {
        Self(trie)
    }

    pub(super) fn read(&self) -> Result<BTreeSet<IpAddr>, DataplaneError> {
        let keys = self.0.keys().map(|key| Ok(host_address(key.map_err(failed("read"))?.data())));
        keys.collect()
    }

    pub(super) fn add(&mut self, vip: IpAddr) -> Result<(), DataplaneError> {
        self.0.insert(&key(vip), PRESENT, 0).map_err(failed("write"))
    }

    /// One that is not there is removed already.
    pub(super) fn remove(&mut self, vip: IpAddr) -> Result<(), DataplaneError> {
        match self.0.remove(&key(vip)) {
            Err(error) if !is_missing(&error) => Err(failed("delete")(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

const fn key(vip: IpAddr) -> Key<[u8; 16]> {
    Key::new(WHOLE_ADDRESS, wire_address(vip))
}

fn failed(action: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map: VIPS, action, source: source.into() }
}
