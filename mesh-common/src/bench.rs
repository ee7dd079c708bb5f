//! The traffic that the benchmark's wrapper program plays to a program under test.
//!
//! `BPF_PROG_TEST_RUN` does not restore the packet between runs, so the wrapper does, from a template of the first
//! bytes; a counter chooses the flow and the service of each packet.
//! Invariant: everything is words, so that restoring takes few wide stores: what the program under test reads must
//! not straddle two of them, or the processor cannot forward the bytes from its store buffer.

use crate::checksum::finish;

/// Bytes of a frame that are restored: all headers.
pub const RESTORED: usize = 14 + 8 * HEADERS;

/// Words from the IP header on.
pub const HEADERS: usize = 8;

/// Words of a [`Traffic`].
pub const WORDS: usize = 8 + HEADERS;

/// The single element of the wrapper's map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the frame as the program under test gets it; at least [`RESTORED`].
    pub length: u64,
    /// 4 or 6.
    pub family: u64,
    /// How many flows there are; at most 2^32.
    pub flows: u64,
    /// The flow of the next packet.
    pub flow: u64,
    /// How many services there are; at most 2^16.
    pub services: u64,
    /// The service of the next packet.
    pub service: u64,
    /// Bytes 0 to 7 and 6 to 13 of the frame.
    pub ethernet: [u64; 2],
    /// The frame from the IP header on; source port and the last two bytes of source and destination are zero.
    pub headers: [u64; HEADERS],
}

const _: () = assert!(size_of::<Traffic>() == 8 * WORDS);

impl Traffic {
    /// Traffic made of one frame; `None` if the frame is too short.
    #[must_use]
    pub fn new(family: u64, frame: &[u8], flows: u64, services: u64) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(*frame.get(at..)?.first_chunk()?));
        let mut headers = [0; HEADERS];
        for (header, at) in headers.iter_mut().zip((14..).step_by(8)) {
            *header = word(at)?;
        }
        let length = u64::try_from(frame.len()).ok()?;
        let ethernet = [word(0)?, word(6)?];
        Some(Self { length, family, flows, services, ethernet, headers, ..Self::default() })
    }

    /// The headers of the next packet, of an IPv4 header with its checksum.
    #[inline(always)]
    #[must_use]
    pub const fn headers(&self) -> [u64; HEADERS] {
        let [a, b, c, d, e, f, g, h] = self.headers;
        let (port, host, service) = (self.flow & 0xffff, self.flow >> 16, self.service);
        if self.family == 4 {
            #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of a word")]
            let checksum =
                finish(!(b >> 16) as u16 as u32 + (host & 0xffff) as u32 + (service & 0xffff) as u32);
            let b = b & !(0xffff << 16) | (checksum as u64) << 16;
            [a, b ^ host << 48, c ^ port << 32 ^ service << 16, d, e, f, g, h]
        } else {
            [a, b, c ^ host << 48, d, e ^ service << 48, f ^ port, g, h]
        }
    }

    /// Goes on to the next packet.
    #[inline(always)]
    pub const fn advance(&mut self) {
        self.flow = successor(self.flow, self.flows);
        self.service = successor(self.service, self.services);
    }

    /// As the map has it.
    #[must_use]
    pub const fn words(&self) -> [u64; WORDS] {
        let [a, b, c, d, e, f, g, h] = self.headers;
        let [first, second] = self.ethernet;
        let Self { length, family, flows, flow, services, service, .. } = *self;
        [length, family, flows, flow, services, service, first, second, a, b, c, d, e, f, g, h]
    }

    /// Whatever the map has.
    #[must_use]
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        let [length, family, flows, flow, services, service, first, second, headers @ ..] = words;
        Self { length, family, flows, flow, services, service, ethernet: [first, second], headers }
    }
}

/// The last two bytes of the VIP of the service with this number, in every family.
#[must_use]
pub const fn vip_ending(service: u16) -> [u8; 2] {
    service.to_le_bytes()
}

#[inline(always)]
const fn successor(number: u64, count: u64) -> u64 {
    if number + 1 < count { number + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn bytes(headers: [u64; HEADERS]) -> Vec<u8> {
        headers.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn traffic(family: u64) -> Traffic {
        let frame: [u8; RESTORED] = [0; RESTORED];
        let mut traffic = Traffic::new(family, &frame, 1 << 20, 300).unwrap();
        (traffic.flow, traffic.service) = (0x0003_0201, 0x0102);
        traffic
    }

    #[test]
    fn flow_and_service_stand_in_their_fields_of_ipv4() {
        let headers = bytes(traffic(4).headers());
        let varied = (0..).zip(headers).filter(|(at, byte)| *byte != 0 && !(10..12).contains(at));
        assert_eq!(varied.collect::<Vec<_>>(), [(14, 3), (18, 2), (19, 1), (20, 1), (21, 2)]);
    }

    #[test]
    fn ipv4_headers_keep_their_checksum() {
        let mut frame: [u8; RESTORED] = [7; RESTORED];
        for at in [24, 25, 28, 29, 32, 33] {
            frame[at] = 0;
        }
        let sum = frame[14..34].as_chunks().0.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum();
        [frame[24], frame[25]] = finish(sum).to_ne_bytes();
        let mut traffic = Traffic::new(4, &frame, 1 << 20, 300).unwrap();
        for (flow, service) in [(0, 0), (0x0003_0201, 0x0102), (0xffff_ffff, 299)] {
            (traffic.flow, traffic.service) = (flow, service);
            let header = bytes(traffic.headers());
            let words = header[..20].as_chunks().0.iter().map(|word| u64::from(u32::from_ne_bytes(*word)));
            assert!(crate::checksum::adds_up(words.sum()), "{flow:#x}, {service}");
        }
    }

    #[test]
    fn flow_and_service_stand_in_their_fields_of_ipv6() {
        let headers = bytes(traffic(6).headers());
        let varied: Vec<_> = (0..).zip(headers).filter(|(_, byte)| *byte != 0).collect();
        assert_eq!(varied, [(22, 3), (38, 2), (39, 1), (40, 1), (41, 2)]);
    }

    #[test]
    fn after_the_last_flow_comes_the_first() {
        let mut traffic = Traffic { flows: 2, services: 1, ..Traffic::default() };
        let mut flows = [0; 4];
        for flow in &mut flows {
            *flow = traffic.flow;
            traffic.advance();
        }
        assert_eq!((flows, traffic.service), ([0, 1, 0, 1], 0));
    }

    #[test]
    fn words_come_back() {
        let traffic = traffic(6);
        assert_eq!(Traffic::from_words(traffic.words()), traffic);
    }
}
