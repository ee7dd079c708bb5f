//! Refusing a TCP segment: the reset that answers it (RFC 9293 §3.10.7.1, state CLOSED).
//!
//! Packets are arrays of 32-bit words as they stand in memory, from the IP header on.

use crate::{abi::protocol, checksum, icmp::HOPS};

/// Words of a TCP header without options.
const HEADER: usize = 5;
/// Words of the whole IPv4 packet.
pub const RESET4: usize = 5 + HEADER;
/// Words of the whole IPv6 packet.
pub const RESET6: usize = 10 + HEADER;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A TCP segment, as far as its refusal depends on it; numbers in the byte order of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source and destination port, as they stand in the packet.
    pub ports: [u16; 2],
    /// The number of its first byte.
    pub sequence: u32,
    /// What it acknowledges, if it does.
    pub acknowledged: u32,
    /// The byte that holds FIN, SYN, RST, PSH, ACK.
    pub flags: u8,
    /// Bytes of its payload.
    pub payload: u32,
}

impl Segment {
    /// The reset's header without its checksum; `None`: a reset is answered by none.
    #[inline(always)]
    #[must_use]
    pub const fn refused(&self) -> Option<[u32; HEADER]> {
        if self.flags & RST != 0 {
            return None;
        }
        let (sequence, acknowledged, flags) = if self.flags & ACK != 0 {
            (self.acknowledged, 0, RST)
        } else {
            let more = (self.flags & SYN != 0) as u32 + (self.flags & FIN != 0) as u32;
            (0, self.sequence.wrapping_add(self.payload).wrapping_add(more), RST | ACK)
        };
        let [source, destination] = self.ports;
        let ports = destination as u32 | (source as u32) << 16;
        // Without options; the window is 0.
        let offset_flags = u32::from_ne_bytes([0x50, flags, 0, 0]);
        Some([ports, sequence.to_be(), acknowledged.to_be(), offset_flags, 0])
    }
}

/// The packet that refuses a segment from `client`, of IPv4, that was for `vip`; addresses as they stand in the packet.
#[inline(always)]
#[must_use]
pub fn reset4(client: u32, vip: u32, [a, b, c, d, _]: [u32; HEADER]) -> [u32; RESET4] {
    const LENGTH: u8 = 40;
    let first = u32::from_ne_bytes([0x45, 0, 0, LENGTH]);
    let unfragmented = u32::from_ne_bytes([0, 0, 0x40, 0]);
    let hops = |sum: [u8; 2]| u32::from_ne_bytes([HOPS, protocol::TCP, sum[0], sum[1]]);
    let header = checksum::add_words(0, &[first, unfragmented, hops([0; 2]), vip, client]);
    let pseudo = [vip, client, u32::from_ne_bytes([0, protocol::TCP, 0, LENGTH - 20])];
    let segment = checksum::add_words(checksum::add_words(0, &pseudo), &[a, b, c, d]);
    let [header, segment] = [header, segment].map(checksum::finish);
    [first, unfragmented, hops(header.to_ne_bytes()), vip, client, a, b, c, d, segment as u32]
}

/// As [`reset4`], of IPv6.
#[inline(always)]
#[must_use]
pub fn reset6(client: [u32; 4], vip: [u32; 4], [a, b, c, d, _]: [u32; HEADER]) -> [u32; RESET6] {
    const LENGTH: u8 = 20;
    let first = u32::from_ne_bytes([0x60, 0, 0, 0]);
    let second = u32::from_ne_bytes([0, LENGTH, protocol::TCP, HOPS]);
    // The pseudo-header (RFC 8200 §8.1): both addresses, length, next header.
    let pseudo = [u32::from(LENGTH).to_be(), u32::from(protocol::TCP).to_be()];
    let addresses = checksum::add_words(checksum::add_words(0, &client), &vip);
    let sum = checksum::add_words(checksum::add_words(addresses, &pseudo), &[a, b, c, d]);
    let ([e, f, g, h], [i, j, k, l]) = (vip, client);
    let sum = checksum::finish(sum) as u32;
    [first, second, e, f, g, h, i, j, k, l, a, b, c, d, sum]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TcpHeader, TransportSlice};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn segment(flags: u8, payload: u32) -> Segment {
        let ports = [50_000_u16.to_be(), 80_u16.to_be()];
        Segment { ports, sequence: u32::MAX, acknowledged: 77, flags, payload }
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn tcp(packet: &SlicedPacket<'_>) -> TcpHeader {
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP") };
        assert_eq!(tcp.payload(), &[0; 0]);
        tcp.to_header()
    }

    #[test]
    fn a_segment_that_acknowledges_is_refused_with_what_it_acknowledges() {
        for flags in [ACK, ACK | SYN, ACK | FIN] {
            let sent = bytes(&reset4(1, 2, segment(flags, 9).refused().unwrap()));
            let header = tcp(&SlicedPacket::from_ip(&sent).unwrap());
            assert_eq!((header.sequence_number, header.acknowledgment_number), (77, 0));
            assert_eq!((header.rst, header.ack, header.syn, header.fin), (true, false, false, false));
            assert_eq!((header.source_port, header.destination_port), (80, 50_000));
        }
    }

    #[test]
    fn another_is_acknowledged_with_all_that_it_carries() {
        for (flags, payload, expected) in
            [(SYN, 0, 0), (SYN, 5, 5), (FIN, 1, 1), (SYN | FIN, 0, 1), (0, 3, 2)]
        {
            let sent = bytes(&reset6([1; 4], [2; 4], segment(flags, payload).refused().unwrap()));
            let header = tcp(&SlicedPacket::from_ip(&sent).unwrap());
            assert_eq!((header.sequence_number, header.acknowledgment_number), (0, expected), "{flags}");
            assert_eq!((header.rst, header.ack), (true, true));
        }
    }

    #[test]
    fn a_reset_is_not_refused() {
        for flags in [RST, RST | ACK, RST | SYN] {
            assert_eq!(segment(flags, 0).refused(), None);
        }
    }

    proptest! {
        #[test]
        fn resets_are_valid(client: u32, vip: u32, sequence: u32, acknowledged: u32, flags in 0u8..4) {
            let segment = Segment { sequence, acknowledged, ..segment(flags, 0) };
            let sent = bytes(&reset4(client, vip, segment.refused().unwrap()));
            let packet = SlicedPacket::from_ip(&sent).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
            let header = ip.header().to_header();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!((header.source, header.destination), (vip.to_ne_bytes(), client.to_ne_bytes()));
            let reset = tcp(&packet);
            prop_assert_eq!(Ok(reset.checksum), reset.calc_checksum_ipv4(&header, &[]));
        }

        #[test]
        fn resets_of_ipv6_are_valid(client: [u32; 4], vip: [u32; 4], sequence: u32) {
            let segment = Segment { sequence, ..segment(SYN, 0) };
            let sent = bytes(&reset6(client, vip, segment.refused().unwrap()));
            let packet = SlicedPacket::from_ip(&sent).unwrap();
            let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
            let header = ip.header().to_header();
            prop_assert_eq!(bytes(&vip), header.source.to_vec());
            prop_assert_eq!(bytes(&client), header.destination.to_vec());
            let reset = tcp(&packet);
            prop_assert_eq!(Ok(reset.checksum), reset.calc_checksum_ipv6(&header, &[]));
        }
    }
}
