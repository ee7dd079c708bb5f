//! Headers as bytes, for who puts packets together outside of the kernel: the probes that take a service's own way.

use super::{
    Inner, LENGTH_GENEVE_IPV4, LENGTH_GENEVE_IPV6, Outer4, Outer6, geneve4, geneve6, ipv4, ipv6, suffix, udp,
};
use crate::abi::{BackendEntry, ServiceKey, forward, protocol};

/// Bytes of the longest headers: Ethernet, IPv6, UDP, Geneve in front of IPv6.
const LONGEST: usize = 14 + 40 + 8 + LENGTH_GENEVE_IPV6 as usize;

/// What stands in front of a packet on its way to a backend.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Headers {
    /// What is put in front of `inner`, of which `hash` is the flow's and `destination` whom it is for; `None` if there is
    /// no such way. The same that the kernel program writes.
    #[must_use]
    pub fn new(backend: &BackendEntry, inner: Inner, destination: ServiceKey, hash: u64) -> Option<Self> {
        let mut headers = Self { bytes: [0; LONGEST], length: 0 };
        let suffix = suffix(backend, hash);
        match backend.forward {
            forward::L2 => headers.ethernet(backend, inner.protocol),
            forward::IPV4 | forward::SPREAD_IPV4 => headers.outer4(ipv4(backend, inner, suffix)),
            forward::IPV6 | forward::SPREAD_IPV6 => headers.outer6(ipv6(backend, inner, hash, suffix)),
            forward::GUE_IPV4 | forward::GUE_IPV6 => headers.udp(backend, inner.in_udp(0), hash),
            forward::GENEVE_IPV4 | forward::GENEVE_IPV6 if inner.protocol == protocol::IPIP => {
                headers.udp(backend, inner.in_udp(LENGTH_GENEVE_IPV4), hash);
                let geneve = geneve4(destination);
                headers.words(&{ geneve.0 });
                headers.push(&{ geneve.1 }.to_ne_bytes());
            }
            forward::GENEVE_IPV4 | forward::GENEVE_IPV6 => {
                headers.udp(backend, inner.in_udp(LENGTH_GENEVE_IPV6), hash);
                headers.words(&{ geneve6(destination).0 });
            }
            _ => return None,
        }
        Some(headers)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.push(&word.to_ne_bytes()));
    }

    fn ethernet(&mut self, backend: &BackendEntry, family: u8) {
        let kind = if family == protocol::IPIP { super::ETHERTYPE_IPV4 } else { super::ETHERTYPE_IPV6 };
        self.push(&backend.destination_mac);
        self.push(&backend.source_mac);
        self.push(&kind.to_ne_bytes());
    }

    fn udp(&mut self, backend: &BackendEntry, inner: Inner, hash: u64) {
        let suffix = suffix(backend, hash);
        if matches!(backend.forward, forward::GUE_IPV4 | forward::GENEVE_IPV4) {
            self.outer4(ipv4(backend, inner, suffix));
        } else {
            self.outer6(ipv6(backend, inner, hash, suffix));
        }
        self.words(&[udp(backend.port, inner.length, hash)]);
    }

    fn outer4(&mut self, outer: Outer4) {
        let Outer4 { macs, macs_end, first, middle, checksum, source, destination } = outer;
        self.words(&[macs]);
        self.push(&macs_end.to_ne_bytes());
        self.push(&first.to_ne_bytes());
        self.words(&[middle]);
        self.push(&checksum.to_ne_bytes());
        self.push(&source.to_ne_bytes());
        self.push(&destination.to_ne_bytes());
    }

    fn outer6(&mut self, outer: Outer6) {
        let Outer6 { macs, macs_end, kind, first, source, destination } = outer;
        self.words(&[macs]);
        self.push(&macs_end.to_ne_bytes());
        self.push(&kind.to_ne_bytes());
        self.words(&[first]);
        self.words(&source);
        self.words(&destination);
    }
}
