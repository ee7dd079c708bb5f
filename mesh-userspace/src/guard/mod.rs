//! Whom services serve: prefixes of clients' addresses, and what the kernel makes of them.
//!
//! The longest prefix that a client is in decides; who is in none is served, unless the guard says otherwise.

mod compile;
mod image;

pub use image::{Image, LARGEST, half_of, layout_for, place};

use crate::config::{Admittance, Rules};
use ipnet::IpNet;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// The guard of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// As it is configured.
    pub configured: Arc<Rules>,
    /// What is ordered beside that, or instead.
    pub ordered: BTreeMap<IpNet, Admittance>,
}

impl Guard {
    /// The verdict on a client, and the prefix that decides; none: it is in no prefix.
    #[must_use]
    pub fn verdict(&self, client: IpAddr) -> (Admittance, Option<IpNet>) {
        let longest = |prefixes: &BTreeMap<IpNet, Admittance>| {
            let lengths = (0..=IpNet::from(client).max_prefix_len()).rev();
            let mut nets = lengths.filter_map(|length| Some(IpNet::new(client, length).ok()?.trunc()));
            nets.find_map(|net| prefixes.get(&net).map(|access| (net, *access)))
        };
        let configured = longest(&self.configured.prefixes);
        // Of equal length, what is ordered decides.
        let ordered = longest(&self.ordered)
            .filter(|(net, _)| configured.is_none_or(|(other, _)| net.prefix_len() >= other.prefix_len()));
        match ordered.or(configured) {
            Some((net, access)) => (access, Some(net)),
            None => (self.configured.others, None),
        }
    }

    /// All prefixes, in order; of one that is configured and ordered, what is ordered.
    fn prefixes(&self) -> impl Iterator<Item = (IpNet, Admittance)> {
        let Self { configured, ordered } = self;
        let configured = configured.prefixes.iter().filter(|(net, _)| !ordered.contains_key(net));
        configured.chain(ordered).map(|(net, access)| (*net, *access))
    }
}

/// An address as the kernel compares it: IPv4 as an IPv4-mapped address.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => Ipv6Addr::to_bits(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn guard(others: Admittance, prefixes: &[(&str, Admittance)]) -> Guard {
        let prefixes = prefixes.iter().map(|(net, access)| (net.parse().unwrap(), *access)).collect();
        Guard { configured: Arc::new(Rules { others, prefixes }), ordered: BTreeMap::new() }
    }

    #[test]
    fn the_longest_prefix_decides_and_of_equals_what_is_ordered() {
        use Admittance::{Allow, Deny};
        let mut guard = guard(
            Allow,
            &[("10.0.0.0/8", Deny), ("10.1.0.0/16", Allow), ("2001:db8::/32", Deny), ("192.0.2.7/32", Deny)],
        );
        let verdict = |guard: &Guard, client: &str| {
            let (access, net) = guard.verdict(client.parse().unwrap());
            (access, net.map(|net| net.to_string()))
        };
        let by = |net: &str| Some(net.to_owned());
        assert_eq!(verdict(&guard, "10.2.3.4"), (Deny, by("10.0.0.0/8")));
        assert_eq!(verdict(&guard, "10.1.3.4"), (Allow, by("10.1.0.0/16")));
        assert_eq!(verdict(&guard, "192.0.2.8"), (Allow, None));
        assert_eq!(verdict(&guard, "2001:db8::1"), (Deny, by("2001:db8::/32")));
        guard.ordered.insert("10.1.0.0/16".parse().unwrap(), Deny);
        guard.ordered.insert("192.0.2.0/24".parse().unwrap(), Allow);
        assert_eq!(verdict(&guard, "10.1.3.4"), (Deny, by("10.1.0.0/16")));
        assert_eq!(verdict(&guard, "192.0.2.7"), (Deny, by("192.0.2.7/32")));
        assert_eq!(guard.prefixes().count(), 5);
    }
}
