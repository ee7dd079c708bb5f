//! The keyed hash of a flow, and the places it leads to.
//!
//! All balancers of a cluster share the seed and therefore agree on every slot; who does not know the seed cannot
//! aim at one. One word is mixed with multiplications and shifts, which the kernel does in a few nanoseconds.
//! Words are taken as they stand in memory: balancers of one cluster have the same byte order.

use crate::abi::{ServiceKey, halves};

const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes every bit of `word` into every bit of the result; a bijection for each seed.
#[inline(always)]
const fn mix(seed: u64, word: u64) -> u64 {
    let word = word ^ seed;
    let word = (word ^ (word >> 32)).wrapping_mul(MULTIPLIER);
    let word = (word ^ (word >> 32)).wrapping_mul(MULTIPLIER);
    word ^ (word >> 32)
}

/// The hash of an IPv4 client; `port` in wire order.
#[inline(always)]
#[must_use]
pub const fn flow4(seed: u64, address: [u8; 4], port: [u8; 2]) -> u64 {
    mix(seed, u32::from_ne_bytes(address) as u64 | (u16::from_ne_bytes(port) as u64) << 32)
}

/// The hash of an IPv6 client; `port` in wire order.
#[inline(always)]
#[must_use]
pub const fn flow6(seed: u64, address: [u8; 16], port: [u8; 2]) -> u64 {
    let [high, low] = halves(address);
    let port = u16::from_ne_bytes(port) as u64;
    let first = (high ^ seed).wrapping_mul(SPREAD);
    let second = (low ^ port ^ first ^ (first >> 29)).wrapping_mul(MULTIPLIER);
    mix(seed, second ^ (second >> 32) ^ port << 48)
}

/// The hash of a flow of a wide service: `hash`, its client's, with whom it is to, for one client and port may have flows
/// to many VIPs and ports of such a service. The destination as two words (IPv4 as an IPv4-mapped address), `port` in
/// wire order.
#[inline(always)]
#[must_use]
pub const fn towards(hash: u64, destination: [u64; 2], port: [u8; 2]) -> u64 {
    let [high, low] = destination;
    mix(mix(hash, low), high ^ u16::from_ne_bytes(port) as u64)
}

/// The slot of a flow within a table of `size` slots: the upper half of the hash, by multiply-shift (Lemire 2019).
#[inline(always)]
#[must_use]
pub const fn slot(hash: u64, size: u32) -> u32 {
    scale(hash >> 32, size)
}

/// The two places where a service may stand in a service table of `size` entries. The first takes one multiplication,
/// for that is where most stand; the second is asked for rarely.
#[inline(always)]
#[must_use]
pub const fn service(key: ServiceKey, size: u32) -> [u32; 2] {
    let ServiceKey([first, second, third]) = key;
    // Of an IPv4 service, the second and the third word are 0.
    let folded = second.wrapping_mul(MULTIPLIER) ^ third.wrapping_mul(SPREAD | 1 << 40);
    let word = (first ^ folded ^ folded >> 32).wrapping_mul(SPREAD);
    let other = (word ^ (word >> 32)).wrapping_mul(MULTIPLIER);
    [scale(word >> 32, size), scale(other >> 32, size)]
}

#[inline(always)]
const fn scale(upper: u64, size: u32) -> u32 {
    ((upper * size as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_lie_within_the_table(hash: u64, size in 1u32.., key: [u64; 3]) {
            prop_assert!(slot(hash, size) < size);
            prop_assert!(service(ServiceKey(key), size).iter().all(|place| *place < size));
        }
    }

    /// Chi-squared over 256 slots: 255 degrees of freedom, below 360 with a probability of 0.99998.
    fn assert_spread(slots: impl Iterator<Item = u32>) {
        let mut count = [0f64; 256];
        let mut total = 0f64;
        for slot in slots {
            count[usize::try_from(slot).unwrap()] += 1.0;
            total += 1.0;
        }
        let expected = total / 256.0;
        let chi: f64 = count.iter().map(|n| (n - expected) * (n - expected) / expected).sum();
        assert!(chi < 360.0, "chi squared is {chi}");
    }

    #[test]
    fn neighbouring_clients_spread_evenly() {
        let ports = || (1024u16..65000).map(u16::to_be_bytes);
        assert_spread(ports().map(|port| slot(flow4(7, [10, 0, 0, 1], port), 256)));
        assert_spread(ports().map(|port| slot(flow6(7, [9; 16], port), 256)));
        assert_spread((0u32..65536).map(|a| slot(flow4(7, (0x0a00_0000 + a).to_be_bytes(), [1, 2]), 256)));
        let mut address = [0x20; 16];
        assert_spread((0u16..65535).map(|a| {
            address[14..].copy_from_slice(&a.to_be_bytes());
            slot(flow6(7, address, [1, 2]), 256)
        }));
    }

    #[test]
    fn flows_of_one_client_to_a_wide_service_spread_evenly() {
        let client = flow4(7, [10, 0, 0, 1], [1, 2]);
        let vip = |last: u16| {
            let [high, low] = last.to_be_bytes();
            halves(crate::encap::map_ipv4([203, 0, high, low]))
        };
        assert_spread((0u16..65535).map(|last| slot(towards(client, vip(last), [0, 80]), 256)));
        assert_spread((0u16..65535).map(|port| slot(towards(client, vip(1), port.to_be_bytes()), 256)));
    }
}
