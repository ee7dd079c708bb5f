//! From what somebody wants to watch to what the kernel compares.

use crate::{
    agent::{command::CommandError, state::Agent},
    dataplane::wire_address,
};
use ipnet::IpNet;
use mesh_common::{abi::halves, notes::Filter, outcome::Outcome};
use std::net::IpAddr;

/// Which packets somebody wants to watch: those that are all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// For the service of this name.
    pub service: Option<String>,
    /// From a client in this prefix.
    pub client: Option<IpNet>,
    /// To a backend with this address.
    pub backend: Option<IpAddr>,
    /// With one of these outcomes; none: any.
    pub outcomes: Vec<Outcome>,
    /// TCP segments with all of these flags (RFC 9293 §3.1).
    pub flags: u8,
    /// One of so many, by chance; 0 and 1: all.
    pub sample: u32,
}

impl Agent {
    pub(super) fn filter(&self, wanted: &Wanted) -> Result<Filter, CommandError> {
        let mut filter = wanted.filter();
        if let Some(name) = &wanted.service {
            let entry = self.entry(self.find_service(name)?.key()).ok_or_else(|| {
                CommandError::failed(format!("service {name:?} is not in the kernel's tables"))
                    .advise("meshlb status says why")
            })?;
            filter.service = entry.id;
        }
        wanted.backend.map(|address| self.services_with(address)).transpose()?;
        Ok(filter)
    }
}

impl Wanted {
    /// All of it but the service, whose id is to be looked up.
    fn filter(&self) -> Filter {
        let any = Filter::default();
        let (client, client_mask) = self.client.map_or((any.client, any.client_mask), prefix);
        let bits = self.outcomes.iter().map(|outcome| 1 << outcome.index());
        Filter {
            outcomes: if self.outcomes.is_empty() {
                any.outcomes
            } else {
                bits.fold(0, |all, bit: u64| all | bit)
            },
            client,
            client_mask,
            backend: self.backend.map_or(any.backend, |address| halves(wire_address(address))),
            chance: u32::MAX / self.sample.max(1),
            flags: self.flags.into(),
            ..any
        }
    }
}

/// A prefix as words, and its mask; IPv4 as IPv4-mapped addresses.
fn prefix(net: IpNet) -> ([u64; 2], [u64; 2]) {
    let length = match net {
        IpNet::V4(net) => u32::from(net.prefix_len()) + 96,
        IpNet::V6(net) => u32::from(net.prefix_len()),
    };
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0).to_be_bytes();
    (halves(wire_address(net.network())), halves(mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_common::{
        abi::{Journey, ServiceEntry},
        flow::Signs,
        notes::{Notes, step},
    };

    fn noted(client: &str, flags: u8) -> Notes {
        let client = halves(wire_address(client.parse().unwrap()));
        let service = ServiceEntry { id: 7, ..ServiceEntry::default() };
        let journey = Journey { client, service, signs: Signs::tcp(flags), ..Journey::default() };
        let steps = step::BEGUN | step::READ | step::SERVICE;
        Notes { journey, steps, outcome: Outcome::Redirected.index(), ..Notes::default() }
    }

    fn wants(wanted: &Wanted, notes: &Notes) -> bool {
        wanted.filter().wants(notes, Some(halves(wire_address([10, 0, 0, 1].into()))))
    }

    #[test]
    fn without_wishes_every_packet_is_wanted() {
        assert!(
            wants(&Wanted::default(), &noted("192.0.2.7", 2)) && wants(&Wanted::default(), &Notes::default())
        );
        assert_eq!(Wanted::default().filter(), Filter::default());
    }

    #[test]
    fn clients_are_compared_by_their_prefixes() {
        for (net, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "192.0.2.7", "2001:db8::7"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("2001:db8::7/128", "2001:db8::7", "2001:db8::8"),
        ] {
            let wanted = Wanted { client: Some(net.parse().unwrap()), ..Wanted::default() };
            assert!(wants(&wanted, &noted(inside, 2)), "{net} {inside}");
            assert!(!wants(&wanted, &noted(outside, 2)), "{net} {outside}");
            // What was noted of another packet before does not count.
            assert!(!wants(&wanted, &Notes { steps: step::BEGUN, ..noted(inside, 2) }));
        }
    }

    #[test]
    fn outcomes_flags_backends_and_services_are_compared() {
        let notes = noted("192.0.2.7", 0x12);
        let outcome = |of| Wanted { outcomes: vec![of, Outcome::NoBackend], ..Wanted::default() };
        assert!(wants(&outcome(Outcome::Redirected), &notes) && !wants(&outcome(Outcome::TooBig), &notes));
        let flags = |flags| Wanted { flags, ..Wanted::default() };
        assert!(wants(&flags(0x02), &notes) && wants(&flags(0x12), &notes) && !wants(&flags(0x03), &notes));
        let backend = |last| Wanted { backend: Some([10, 0, 0, last].into()), ..Wanted::default() };
        assert!(wants(&backend(1), &notes) && !wants(&backend(2), &notes));
        assert!(!backend(1).filter().wants(&notes, None));
        let service = |id| Filter { service: id, ..Filter::default() };
        assert!(service(7).wants(&notes, None) && !service(8).wants(&notes, None));
    }

    #[test]
    fn a_sample_of_a_hundred_is_a_hundredth() {
        let chance = |sample| Wanted { sample, ..Wanted::default() }.filter().chance;
        assert_eq!([0, 1, 2].map(chance), [u32::MAX, u32::MAX, u32::MAX / 2]);
        assert!((42_949_600..42_949_700).contains(&chance(100)));
    }
}
