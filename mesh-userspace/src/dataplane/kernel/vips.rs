//! The trie of VIPs: addresses that are ours whatever the port. The entries are prefixes, most of one address.

use super::{DataplaneError, is_missing, load::VIPS};
use crate::dataplane::{host_address, wire_address};
use aya::maps::{LpmTrie, MapData, MapError, lpm_trie::Key};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// What stands at a VIP: that it is there says all.
const PRESENT: u32 = 1;

/// The trie in the kernel; IPv4 as IPv4-mapped addresses.
pub(super) struct Vips(LpmTrie<MapData, [u8; 16], u32>);

impl Vips {
    pub(super) const fn new(trie: LpmTrie<MapData, [u8; 16], u32>) -> Self {
        Self(trie)
    }

    pub(super) fn read(&self) -> Result<BTreeSet<IpNet>, DataplaneError> {
        self.0.keys().map(|key| Ok(vip(&key.map_err(failed("read"))?))).collect()
    }

    pub(super) fn add(&mut self, vip: IpNet) -> Result<(), DataplaneError> {
        self.0.insert(&key(vip), PRESENT, 0).map_err(failed("write"))
    }

    /// One that is not there is removed already.
    pub(super) fn remove(&mut self, vip: IpNet) -> Result<(), DataplaneError> {
        match self.0.remove(&key(vip)) {
            Err(error) if !is_missing(&error) => Err(failed("delete")(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn key(vip: IpNet) -> Key<[u8; 16]> {
    let unmapped = 128 - u32::from(vip.max_prefix_len());
    Key::new(unmapped + u32::from(vip.prefix_len()), wire_address(vip.network()))
}

fn vip(key: &Key<[u8; 16]>) -> IpNet {
    let address = host_address(key.data());
    let unmapped = if address.is_ipv4() { 96 } else { 0 };
    let length = u8::try_from(key.prefix_len().saturating_sub(unmapped)).unwrap_or(u8::MAX);
    IpNet::new(address, length).unwrap_or(address.into())
}

fn failed(action: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map: VIPS, action, source: source.into() }
}
