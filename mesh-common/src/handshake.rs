//! TCP segments that we send in somebody's place while a connection begins: the answer to a SYN, the SYN of a client that
//! answered ours, and what tells it that the backend is there.

use crate::{abi::protocol, translate::Sum, tuple::Tuple};

/// Flags of a segment (RFC 9293 §3.1).
pub mod flags {
    /// The connection begins.
    pub const SYN: u8 = 0x02;
    /// Something is acknowledged.
    pub const ACK: u8 = 0x10;
}

/// Words of a header with [`Options`].
pub const OPENING: usize = 8;

/// Words of a header without any.
pub const HEADER: usize = 5;

/// How far the windows are shifted that we promise in a backend's place: these come as multiples of 256 bytes.
pub const SHIFT: u8 = 8;

/// A segment; numbers in the byte order of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first byte.
    pub number: u32,
    /// What it acknowledges.
    pub acknowledged: u32,
    /// [`flags`].
    pub flags: u8,
    /// How many bytes its sender takes, shifted.
    pub window: u16,
}

/// What both sides of a connection tell each other when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The maximum segment size (RFC 9293 §3.7.1).
    pub size: u16,
    /// How far windows are shifted (RFC 7323 §2.2), if they are.
    pub shift: Option<u8>,
    /// Whether selective acknowledgements are understood (RFC 2018 §2).
    pub sack: bool,
}

impl Options {
    #[inline(always)]
    const fn words(self) -> [u32; 3] {
        const NOTHING: u8 = 1;
        let [high, low] = self.size.to_be_bytes();
        [
            u32::from_ne_bytes([2, 4, high, low]),
            u32::from_ne_bytes(if self.sack { [NOTHING, NOTHING, 4, 2] } else { [NOTHING; 4] }),
            u32::from_ne_bytes(match self.shift {
                Some(shift) => [NOTHING, 3, 3, shift],
                None => [NOTHING; 4],
            }),
        ]
    }
}

impl Segment {
    /// The header with these options, between these ends.
    #[inline(always)]
    #[must_use]
    pub fn with_options(self, ends: &Tuple, options: Options) -> [u32; OPENING] {
        let [a, b, c] = options.words();
        let (ports, number, acknowledged, rest) = self.words(ends, OPENING);
        let sum = pseudo(ends, OPENING as u64 * 4).plus(both(ports, number)).plus(both(acknowledged, rest));
        let sum = sum.plus(both(a, b)).plus(c.into());
        [ports, number, acknowledged, rest, sum.checksum().into(), a, b, c]
    }

    /// The header of a segment of one byte, which is 0.
    #[inline(always)]
    #[must_use]
    pub fn with_byte(self, ends: &Tuple) -> [u32; HEADER] {
        let (ports, number, acknowledged, rest) = self.words(ends, HEADER);
        let sum =
            pseudo(ends, HEADER as u64 * 4 + 1).plus(both(ports, number)).plus(both(acknowledged, rest));
        [ports, number, acknowledged, rest, sum.checksum().into()]
    }

    /// The header's first words, of so many.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "there are no more than eight")]
    const fn words(self, ends: &Tuple, words: usize) -> (u32, u32, u32, u32) {
        let [high, low] = self.window.to_be_bytes();
        let rest = u32::from_ne_bytes([(words as u8) << 4, self.flags, high, low]);
        (ends.ports(), self.number.to_be(), self.acknowledged.to_be(), rest)
    }
}

#[inline(always)]
const fn both(first: u32, second: u32) -> u64 {
    first as u64 | (second as u64) << 32
}

/// The sum of the pseudo-header of TCP (RFC 9293 §3.1) of so many bytes.
#[inline(always)]
fn pseudo(ends: &Tuple, bytes: u64) -> Sum {
    let rest = (bytes + u64::from(protocol::TCP)).swap_bytes() >> 32;
    Sum::of_addresses(ends.source, ends.destination).plus(rest)
}

/// A window that is shifted so far, as one that is shifted otherwise; never closed by that alone.
#[inline(always)]
#[must_use]
pub const fn rescaled(window: u16, from: u8, to: u8) -> u16 {
    const MOST: u64 = u16::MAX as u64;
    let bytes = (u16::from_be(window) as u64) << (from & 15);
    let shifted = bytes >> (to & 15);
    let shifted = if shifted > MOST { MOST } else { shifted };
    #[expect(clippy::cast_possible_truncation, reason = "bounded")]
    let shifted = shifted as u16;
    let shifted = if shifted == 0 && bytes != 0 { 1 } else { shifted };
    shifted.to_be()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::{abi::halves, encap::map_ipv4};
    use etherparse::{Ipv4Header, Ipv6Header, TcpHeader, TcpOptionElement};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn header(words: &[u32]) -> TcpHeader {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        TcpHeader::from_slice(&bytes).unwrap().0
    }

    fn segment() -> impl Strategy<Value = Segment> {
        any::<(u32, u32, u16)>().prop_map(|(number, acknowledged, window)| Segment {
            number,
            acknowledged,
            flags: flags::SYN | flags::ACK,
            window,
        })
    }

    fn ends(source: [u8; 16], destination: [u8; 16]) -> Tuple {
        let [source, destination] = [source, destination].map(halves);
        Tuple {
            source,
            destination,
            source_port: 7_u16.to_be(),
            destination_port: 80_u16.to_be(),
            ..Tuple::default()
        }
    }

    proptest! {
        #[test]
        fn a_segment_with_options_is_one(
            segment in segment(), source: [u8; 4], destination: [u8; 4],
            size: u16, shift in proptest::option::of(0u8..15), sack: bool,
        ) {
            let ends = ends(map_ipv4(source), map_ipv4(destination));
            let header = header(&segment.with_options(&ends, Options { size, shift, sack }));
            let ip = Ipv4Header { source, destination, ..Ipv4Header::default() };
            prop_assert_eq!(Ok(header.checksum), header.calc_checksum_ipv4(&ip, &[]));
            let options: Vec<_> = header.options_iterator().map(Result::unwrap).collect();
            let said = |option| options.contains(&option);
            prop_assert!(said(TcpOptionElement::MaximumSegmentSize(size)));
            prop_assert_eq!(said(TcpOptionElement::SelectiveAcknowledgementPermitted), sack);
            let scale = options.iter().find_map(|it| if let TcpOptionElement::WindowScale(it) = it { Some(*it) } else { None });
            prop_assert_eq!(scale, shift);
            prop_assert_eq!((header.syn, header.ack, header.window_size), (true, true, segment.window));
        }

        #[test]
        fn a_segment_of_a_byte_is_one(segment in segment(), source: [u8; 16], destination: [u8; 16]) {
            let header = header(&segment.with_byte(&ends(source, destination)));
            let ip = Ipv6Header { source, destination, ..Ipv6Header::default() };
            prop_assert_eq!(Ok(header.checksum), header.calc_checksum_ipv6(&ip, &[0]));
            prop_assert_eq!((header.sequence_number, header.source_port), (segment.number, 7));
        }

        #[test]
        fn windows_are_never_wider_than_they_were_nor_closed(window in 1u16.., from in 0u8..15, to in 0u8..15) {
            let before = u64::from(window) << from;
            let after = u64::from(u16::from_be(rescaled(window.to_be(), from, to))) << to;
            prop_assert!(after <= before.max(1 << to) && after > 0);
        }
    }

    #[test]
    fn a_closed_window_stays_closed() {
        assert_eq!(rescaled(0, 7, 8), 0);
    }
}
