//! The policies of all guarded services, as they stand in one half of the kernel's map.

use super::{
    Guard,
    compile::{Boundaries, boundaries},
};
use mesh_common::{
    abi::{PolicyLayout, halves},
    policy::{MOST_BOUNDARIES, Part, Policy},
};
use std::collections::BTreeMap;

/// Most prefixes that `limits.prefixes` may allow for.
pub const LARGEST: u32 = MOST_BOUNDARIES / 2;

/// Elements of an index that each boundary takes at most: as many as the next power of two, and one more.
const INDEX_PER_BOUNDARY: u32 = 3;

/// Most bits of an index.
const MOST_BITS: u8 = 20;

/// The room that this many prefixes need: each begins and ends.
#[must_use]
pub const fn layout_for(prefixes: u32, policies: u32) -> PolicyLayout {
    let boundaries = prefixes.saturating_mul(2);
    PolicyLayout { policies, boundaries, index: boundaries.saturating_mul(INDEX_PER_BOUNDARY) }
}

/// Where a service's policy stands, counted from 1.
#[must_use]
pub const fn place(service: u32, half: u32, layout: PolicyLayout) -> u32 {
    half * layout.policies + service + 1
}

/// Which half a place is in.
#[must_use]
pub const fn half_of(place: u32, layout: PolicyLayout) -> u32 {
    if place > layout.policies { 1 } else { 0 }
}

/// One half of the map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The policies, by the ids of services.
    pub policies: BTreeMap<u32, Policy>,
    /// All boundaries.
    pub boundaries: Vec<[u64; 2]>,
    /// All indexes.
    pub index: Vec<u32>,
}

impl Image {
    /// The image of these guards, by the ids of services, for a half of the map.
    #[must_use]
    pub fn new(guards: &BTreeMap<u32, Guard>, half: u32, layout: PolicyLayout) -> Self {
        let mut image = Self::default();
        let (boundaries_at, index_at) = (half * layout.boundaries, half * layout.index);
        for (id, guard) in guards {
            let [v4, v6] = boundaries(guard).map(|part| image.part(&part, boundaries_at, index_at));
            image.policies.insert(*id, Policy { v4, v6 });
        }
        image
    }

    /// What to say where it does not fit the room that so many prefixes have.
    #[must_use]
    pub fn excess(&self, layout: PolicyLayout, prefixes: u32) -> Option<String> {
        let fits = |there: usize, room: u32| u32::try_from(there).is_ok_and(|there| there <= room);
        let all = fits(self.boundaries.len(), layout.boundaries) && fits(self.index.len(), layout.index);
        (!all).then(|| {
            let needed = self.boundaries.len().div_ceil(2);
            format!(
                "guards have more than {prefixes} prefixes, about {needed}, and stay as they were before: raise limits.prefixes"
            )
        })
    }

    fn part(&mut self, boundaries: &Boundaries, boundaries_at: u32, index_at: u32) -> Part {
        let denies = u8::from(boundaries.denies);
        let (Some(first), Some(last)) = (boundaries.at.first(), boundaries.at.last()) else {
            return Part { denies, ..Part::default() };
        };
        let count = length(boundaries.at.len());
        let shared = u8::try_from((first ^ last).leading_zeros()).unwrap_or(u8::MAX).min(127);
        let bits = u8::try_from(count.next_power_of_two().ilog2()).unwrap_or(MOST_BITS);
        let part = Part {
            first: words(*first),
            last: words(*last),
            boundaries_at: boundaries_at + length(self.boundaries.len()),
            count,
            index_at: index_at + length(self.index.len()),
            shared,
            bits: bits.clamp(1, MOST_BITS.min(128 - shared)),
            denies,
            reserved: 0,
        };
        let mut below = 0;
        for cell in 0..1 << part.bits {
            let is_below = |at: &&u128| part.cell(words(**at)) < cell;
            below += boundaries.at.iter().skip(below).take_while(is_below).count();
            self.index.push(length(below));
        }
        self.index.push(count);
        self.boundaries.extend(boundaries.at.iter().map(|at| words(*at)));
        part
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// An address as the kernel compares it.
fn words(address: u128) -> [u64; 2] {
    halves(address.to_be_bytes()).map(u64::from_be)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Admittance, Rules};
    use crate::guard::number;
    use ipnet::IpNet;
    use proptest::{collection::btree_map, prelude::*};
    use std::{net::IpAddr, sync::Arc};

    /// What the kernel would say.
    fn denies(image: &Image, half: u32, layout: PolicyLayout, service: u32, client: IpAddr) -> bool {
        let policy = &image.policies[&service];
        let part = if client.is_ipv4() { &policy.v4 } else { &policy.v6 };
        let boundary = |at: u32| image.boundaries.get((at - half * layout.boundaries) as usize).copied();
        let index = |at: u32| image.index.get((at - half * layout.index) as usize).copied();
        part.denies(words(number(client)), boundary, index).unwrap()
    }

    fn beside(address: IpAddr, by: i8) -> IpAddr {
        match address {
            IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().wrapping_add_signed(by.into()).into()),
            IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().wrapping_add_signed(by.into()).into()),
        }
    }

    fn admittance() -> impl Strategy<Value = Admittance> {
        prop_oneof![Just(Admittance::Allow), Just(Admittance::Deny)]
    }

    /// Prefixes close to each other, so that many lie in each other.
    fn prefix() -> impl Strategy<Value = IpNet> {
        let v4 = (0..=32_u8, 0..4_u32, any::<u16>()).prop_map(|(length, high, low)| {
            let address = 10 << 24 | high << 20 | u32::from(low);
            IpNet::new(std::net::Ipv4Addr::from(address).into(), length).unwrap().trunc()
        });
        let v6 = (0..=128_u8, 0..4_u128, any::<u16>()).prop_map(|(length, high, low)| {
            let address = 0x2001_0db8 << 96 | high << 64 | u128::from(low);
            IpNet::new(std::net::Ipv6Addr::from(address).into(), length).unwrap().trunc()
        });
        prop_oneof![v4, v6]
    }

    fn guard() -> impl Strategy<Value = Guard> {
        let prefixes = || btree_map(prefix(), admittance(), 0..40);
        (admittance(), prefixes(), prefixes()).prop_map(|(others, prefixes, ordered)| Guard {
            configured: Arc::new(Rules { others, prefixes }),
            ordered,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_image_says_what_the_longest_prefix_says(guards in btree_map(0..5_u32, guard(), 1..4), half in 0..2_u32) {
            let layout = layout_for(400, 5);
            let image = Image::new(&guards, half, layout);
            prop_assert_eq!(image.excess(layout, 400), None);
            for (id, guard) in &guards {
                let ends = guards.values().flat_map(Guard::prefixes).flat_map(|(net, _)| {
                    [-1_i8, 0, 1].into_iter().flat_map(move |by| [beside(net.network(), by), beside(net.broadcast(), by)])
                });
                for client in ends {
                    let (access, net) = guard.verdict(client);
                    let denied = denies(&image, half, layout, *id, client);
                    prop_assert_eq!(denied, access == Admittance::Deny, "{} {:?}", client, net);
                }
            }
        }
    }

    #[test]
    fn a_hundred_thousand_prefixes_fit_where_there_is_room_for_them() {
        let prefixes = (0..100_000_u32).map(|number| {
            let address = std::net::Ipv4Addr::from(number.wrapping_mul(2_654_435_761) & !0xff);
            (IpNet::new(address.into(), 24).unwrap(), Admittance::Deny)
        });
        let rules = Rules { prefixes: prefixes.collect(), ..Rules::default() };
        let count = length(rules.prefixes.len());
        let guards = BTreeMap::from([(0, Guard { configured: Arc::new(rules), ..Guard::default() })]);
        let layout = layout_for(count, 1);
        assert_eq!(Image::new(&guards, 1, layout).excess(layout, count), None);
        let less = layout_for(count / 4, 1);
        let excess = Image::new(&guards, 1, less).excess(less, 25_000).unwrap();
        assert!(excess.starts_with("guards have more than 25000 prefixes, about "), "{excess}");
    }
}
