//! From records to instances. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::SRV;

use crate::discovery::Instance;

/// Of addresses, of which nothing else is known.
pub(super) fn of_addresses(addresses: Vec<IpAddr>) -> Vec<Instance> {
    addresses.into_iter().map(|address| Instance::new(address, None)).collect()
}

/// The hosts that offer something. A service that is not offered at all has one host, the root (RFC 2782).
pub(super) fn hosts(offers: &[SRV]) -> impl Iterator<Item = Name> {
    offers.iter().map(|offer| &offer.target).filter(|host| !host.is_root()).cloned()
}

/// Of hosts that offer a service, at all of their addresses.
pub(super) fn of_offers(offers: &[SRV], addresses: impl Fn(&Name) -> Vec<IpAddr>) -> Vec<Instance> {
    let weighed: BTreeSet<u16> =
        offers.iter().filter(|offer| offer.weight > 0).map(|offer| offer.priority).collect();
    let instances = |offer: &SRV| {
        let weight = weighed.contains(&offer.priority).then_some(offer.weight.max(1));
        let (port, priority) = (Some(offer.port), offer.priority);
        let of = move |address| Instance { weight, priority, ..Instance::new(address, port) };
        addresses(&offer.target).into_iter().map(of).collect::<Vec<_>>()
    };
    offers.iter().flat_map(instances).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(written: &str) -> Name {
        Name::from_ascii(written).unwrap()
    }

    fn offer(priority: u16, weight: u16, host: &str) -> SRV {
        SRV::new(priority, weight, 8080, name(host))
    }

    /// Two addresses for each host, by its first letter.
    fn addresses(host: &Name) -> Vec<IpAddr> {
        let letter = host.to_ascii().bytes().next().unwrap_or_default();
        vec![[10, 0, 0, letter].into(), [10, 0, 1, letter].into()]
    }

    fn weights(offers: &[SRV]) -> Vec<(u16, Option<u16>)> {
        let instances = of_offers(offers, addresses);
        instances.iter().map(|it| (it.priority, it.weight)).collect()
    }

    #[test]
    fn every_address_of_a_host_has_what_it_offers() {
        let found = of_offers(&[offer(1, 7, "a.example.")], addresses);
        let expected = |third| Instance {
            weight: Some(7),
            priority: 1,
            ..Instance::new([10, 0, third, b'a'].into(), Some(8080))
        };
        assert_eq!(found, [expected(0), expected(1)]);
    }

    #[test]
    fn a_weight_of_0_is_the_smallest_among_others_and_none_alone() {
        let few = [offer(0, 0, "a."), offer(0, 5, "b."), offer(9, 0, "c.")];
        assert_eq!(
            weights(&few),
            [(0, Some(1)), (0, Some(1)), (0, Some(5)), (0, Some(5)), (9, None), (9, None)]
        );
    }

    #[test]
    fn a_service_that_is_not_offered_has_no_host() {
        assert_eq!(hosts(&[offer(0, 0, ".")]).count(), 0);
        assert_eq!(hosts(&[offer(0, 0, "."), offer(0, 0, "a.")]).collect::<Vec<_>>(), [name("a.")]);
    }
}
