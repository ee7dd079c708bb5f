//! From prefixes to boundaries: addresses at which the verdict changes.

use super::{Guard, number};
use crate::config::Admittance;
use ipnet::IpNet;
use std::{iter, net::Ipv4Addr};

/// Boundaries of one family, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Boundaries {
    /// Whether addresses below the first are denied.
    pub(super) denies: bool,
    /// Where the verdict changes.
    pub(super) at: Vec<u128>,
}

/// The boundaries of IPv4 and of IPv6 clients.
pub(super) fn boundaries(guard: &Guard) -> [Boundaries; 2] {
    [true, false].map(|v4| {
        let of_family = |(net, _): &(IpNet, Admittance)| net.addr().is_ipv4() == v4;
        let mut nets: Vec<_> = guard.prefixes().filter(of_family).map(span).collect();
        // From the left, and what holds others before those.
        nets.sort_unstable_by_key(|net| (net.first, net.last.wrapping_neg()));
        let end = if v4 { number(Ipv4Addr::BROADCAST.into()) } else { u128::MAX };
        sweep(&nets, guard.configured.others == Admittance::Deny, end)
    })
}

/// The addresses of a prefix.
#[derive(Clone, Copy)]
struct Span {
    first: u128,
    last: u128,
    denies: bool,
}

fn span((net, access): (IpNet, Admittance)) -> Span {
    Span { first: number(net.network()), last: number(net.broadcast()), denies: access == Admittance::Deny }
}

/// Goes through spans from the left; each ends where the one that it lies in goes on. `end` is the family's last address.
fn sweep(spans: &[Span], others: bool, end: u128) -> Boundaries {
    let mut line = Line { denies: others, found: Boundaries { denies: others, at: Vec::new() } };
    let mut open: Vec<Span> = Vec::new();
    for next in spans.iter().map(Some).chain(iter::once(None)) {
        while let Some(inner) = open.pop_if(|inner| next.is_none_or(|next| inner.last < next.first)) {
            let outer = open.last().map_or(others, |outer| outer.denies);
            if inner.last < end {
                line.turn(inner.last + 1, outer);
            }
        }
        if let Some(next) = next {
            line.turn(next.first, next.denies);
            open.push(*next);
        }
    }
    line.found
}

/// The verdict on the way from the left to the right.
struct Line {
    denies: bool,
    found: Boundaries,
}

impl Line {
    fn turn(&mut self, at: u128, denies: bool) {
        if self.denies == denies {
            return;
        }
        self.denies = denies;
        // Whoever turns twice at one address has not turned.
        if self.found.at.pop_if(|last| *last == at).is_none() {
            self.found.at.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::tests::guard;
    use Admittance::{Allow, Deny};

    fn of(others: Admittance, prefixes: &[(&str, Admittance)]) -> [Boundaries; 2] {
        boundaries(&guard(others, prefixes))
    }

    fn at(address: &str) -> u128 {
        number(address.parse().unwrap())
    }

    #[test]
    fn the_verdict_changes_where_prefixes_begin_and_end() {
        let [v4, v6] = of(Allow, &[("10.0.0.0/8", Deny), ("10.1.0.0/16", Allow), ("2001:db8::/32", Deny)]);
        let expected = ["10.0.0.0", "10.1.0.0", "10.2.0.0", "11.0.0.0"].map(at).to_vec();
        assert_eq!(v4, Boundaries { denies: false, at: expected });
        assert_eq!(v6, Boundaries { denies: false, at: ["2001:db8::", "2001:db9::"].map(at).to_vec() });
    }

    #[test]
    fn what_says_the_same_as_what_it_lies_in_or_beside_is_no_boundary() {
        let [v4, v6] = of(Deny, &[("10.0.0.0/9", Allow), ("10.128.0.0/9", Allow), ("10.3.0.0/16", Allow)]);
        assert_eq!(v4, Boundaries { denies: true, at: ["10.0.0.0", "11.0.0.0"].map(at).to_vec() });
        assert_eq!(v6, Boundaries { denies: true, at: vec![] });
        let [v4, _] = of(Allow, &[("10.0.0.0/24", Deny), ("10.0.0.0/32", Allow), ("10.0.0.255/32", Allow)]);
        assert_eq!(v4.at, ["10.0.0.1", "10.0.0.255"].map(at));
    }

    #[test]
    fn a_family_as_a_whole_has_no_end() {
        let [v4, v6] =
            of(Allow, &[("0.0.0.0/0", Deny), ("255.0.0.0/8", Allow), ("::/0", Deny), ("ffff::/16", Deny)]);
        assert_eq!(v4.at, ["0.0.0.0", "255.0.0.0"].map(at));
        assert_eq!(v6, Boundaries { denies: false, at: vec![0] });
    }
}
