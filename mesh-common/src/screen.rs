//! What no honest sender sends: sources that nobody has, flags of TCP that contradict each other, source routes.
//!
//! All of this is about packets of services; what is not ours is nobody's business.

/// Flags of TCP by their bits (RFC 9293 §3.1).
mod bit {
    pub(super) const FIN: u32 = 0x01;
    pub(super) const SYN: u32 = 0x02;
    pub(super) const RST: u32 = 0x04;
    pub(super) const ACK: u32 = 0x10;
}

/// Which sets of the six flags from FIN to URG may stand together: a bit for each set.
const SENSIBLE: u64 = {
    let (mut sets, mut flags) = (0, 0);
    while flags < 64 {
        sets |= (makes_sense(flags) as u64) << flags;
        flags += 1;
    }
    sets
};

/// Every segment but a SYN or RST has ACK (RFC 9293 §3.10.7.4), and of beginning, end and abortion a segment means one:
/// no stack sends SYN with FIN, a remnant of T/TCP (RFC 6247), or either with RST.
const fn makes_sense(flags: u32) -> bool {
    let turn = flags & (bit::SYN | bit::FIN | bit::RST);
    turn.count_ones() <= 1 && flags & (bit::ACK | bit::SYN | bit::RST) != 0
}

/// Whether the flags of a TCP segment (the byte that holds FIN, SYN, RST, PSH, ACK, URG, and two of ECN, which may stand
/// with any others: RFC 3168) make sense together.
#[inline(always)]
#[must_use]
pub const fn is_sensible(flags: u8) -> bool {
    SENSIBLE >> (flags & 0x3f) & 1 != 0
}

/// Whether nobody can have sent a packet from this IPv4 address to that one, both in the byte order of the wire: from its
/// own destination ("land"), this network, a loopback, a group or everybody (RFC 1122 §3.2.1.3). Addresses from 240.0.0.0
/// on are in use.
#[inline(always)]
#[must_use]
pub const fn is_spoofed4(source: u32, destination: u32) -> bool {
    let [first, ..] = source.to_ne_bytes();
    matches!(first, 0 | 127 | 224..=239) || source == u32::MAX || source == destination
}

/// As [`is_spoofed4`]; of IPv6 from its own destination, a group, or `::/64`, which has the unspecified address, the
/// loopback and addresses that stand for IPv4's (RFC 4291 §2.4).
#[inline(always)]
#[must_use]
pub const fn is_spoofed6(source: [u64; 2], destination: [u64; 2]) -> bool {
    source[0] == 0
        || source[0].to_ne_bytes()[0] == 0xff
        || (source[0] == destination[0] && source[1] == destination[1])
}

/// Words that hold the options of an IPv4 header: 40 bytes at most, and room to look beyond.
pub const OPTION_WORDS: usize = 6;

/// Whether a packet may go on with these options (RFC 791 §3.1), `length` bytes of them: their lengths lie within the
/// header, and none is a source route, by which whoever sent the packet may be anybody (RFC 7126 §4.3, §4.4).
///
/// verifier: `forget` takes what is known of a position away, so that each step is walked through once.
#[inline(always)]
#[must_use]
pub fn may_pass(options: &[u64; OPTION_WORDS], length: usize, forget: impl Fn(usize) -> usize) -> bool {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_ROUTE: u8 = 131;
    const STRICT_ROUTE: u8 = 137;
    const MOST: usize = 40;
    let byte = |at: usize| {
        let word = u64::from_le(options.get(at / 8).copied().unwrap_or(0));
        #[expect(clippy::cast_possible_truncation, reason = "a byte is cut out")]
        let byte = (word >> (at % 8 * 8)) as u8;
        byte
    };
    let mut at = 0;
    for _ in 0..MOST {
        at = forget(at);
        if at >= length || at >= MOST {
            return at == length;
        }
        at += match byte(at) {
            END => return true,
            NO_OPERATION => 1,
            LOOSE_ROUTE | STRICT_ROUTE => return false,
            _ => match usize::from(byte(at + 1)) {
                0 | 1 => return false,
                bytes => bytes,
            },
        };
    }
    at == length
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const ACK: u8 = 16;
    const URG: u8 = 32;

    #[test]
    fn segments_that_stacks_send_are_sensible_with_every_bit_of_ecn() {
        let sent = [
            SYN,
            SYN | ACK,
            SYN | PSH,
            SYN | ACK | PSH,
            ACK,
            ACK | PSH,
            ACK | URG,
            ACK | PSH | URG,
            FIN | ACK,
            FIN | ACK | PSH,
            FIN | ACK | PSH | URG,
            RST,
            RST | ACK,
            RST | PSH,
            RST | ACK | PSH,
        ];
        for flags in sent {
            for ecn in [0, 0x40, 0x80, 0xc0] {
                assert!(is_sensible(flags | ecn), "{flags:#x}");
            }
        }
    }

    #[test]
    fn what_scanners_send_is_not() {
        let (null, xmas, everything) = (0, FIN | PSH | URG, 0x3f);
        let nonsense = [
            null,
            xmas,
            everything,
            FIN,
            PSH,
            URG,
            PSH | URG,
            FIN | URG,
            SYN | FIN,
            SYN | FIN | ACK,
            SYN | RST,
            SYN | RST | ACK,
            FIN | RST,
            FIN | RST | ACK,
            SYN | FIN | RST,
        ];
        for flags in nonsense {
            for ecn in [0, 0x40, 0x80, 0xc0] {
                assert!(!is_sensible(flags | ecn), "{flags:#x}");
            }
        }
        assert_eq!((0..=u8::MAX).filter(|flags| is_sensible(*flags)).count(), 4 * 4 * 6);
    }

    fn is_spoofed(source: &str, destination: &str) -> bool {
        match (source.parse().unwrap(), destination.parse().unwrap()) {
            (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
                let [source, destination] = [source, destination].map(|ip| u32::from_ne_bytes(ip.octets()));
                is_spoofed4(source, destination)
            }
            (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
                let [source, destination] = [source, destination].map(|ip| crate::abi::halves(ip.octets()));
                is_spoofed6(source, destination)
            }
            _ => unreachable!("one family"),
        }
    }

    #[test]
    fn sources_that_nobody_has_are_spoofed() {
        for source in
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "239.1.1.1", "255.255.255.255"]
        {
            assert!(is_spoofed(source, "192.0.2.10"), "{source}");
        }
        for source in ["::", "::1", "::ffff:198.51.100.7", "ff02::1", "ff00::", "2001:db8::10"] {
            assert!(is_spoofed(source, "2001:db8::10"), "{source}");
        }
        assert!(is_spoofed("192.0.2.10", "192.0.2.10"));
    }

    #[test]
    fn sources_that_somebody_may_have_are_not() {
        for source in
            ["1.0.0.0", "10.0.0.1", "126.255.255.255", "128.0.0.1", "192.0.2.11", "223.1.1.1", "240.1.1.1"]
        {
            assert!(!is_spoofed(source, "192.0.2.10"), "{source}");
        }
        for source in ["2001:db8::11", "2001:db8:1::10", "fe80::1", "fd00::1", "64:ff9b::1", "::1:0:0:0:0"] {
            assert!(!is_spoofed(source, "2001:db8::10"), "{source}");
        }
    }

    fn may_pass_as(options: &[u8]) -> bool {
        let mut bytes: Vec<u8> = options.to_vec();
        bytes.resize(8 * OPTION_WORDS, 0);
        let mut words = [0; OPTION_WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        may_pass(&words, options.len(), |at| at)
    }

    #[test]
    fn options_that_hosts_send_may_pass() {
        let timestamp = [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
        let router_alert = [148, 4, 0, 0];
        for options in [&[][..], &[1; 40], &[0; 4], &timestamp, &record_route, &router_alert, &[1, 1, 1, 0]] {
            assert!(may_pass_as(options), "{options:?}");
        }
        assert!(may_pass_as(&[&router_alert[..], &timestamp, &[1; 24]].concat()));
        // What follows the end is padding, whatever it looks like.
        assert!(may_pass_as(&[0, 131, 3, 4]));
    }

    #[test]
    fn source_routes_may_not_wherever_they_stand() {
        for kind in [131, 137] {
            let route = [kind, 7, 4, 192, 0, 2, 1, 0];
            assert!(!may_pass_as(&route));
            for before in 0..=32 {
                assert!(!may_pass_as(&[&vec_of(before)[..], &route].concat()), "{before}");
            }
            assert!(!may_pass_as(&[&[1; 39][..], &[kind]].concat()));
        }
    }

    fn vec_of(no_operations: usize) -> Vec<u8> {
        std::vec![1; no_operations]
    }

    #[test]
    fn options_that_end_beyond_the_header_may_not() {
        for options in [[68, 5, 5, 0], [7, 0, 0, 0], [7, 1, 0, 0], [1, 1, 1, 7], [148, 0xff, 0, 0]] {
            assert!(!may_pass_as(&options), "{options:?}");
        }
        assert!(!may_pass_as(&[&[1; 39][..], &[7]].concat()));
    }

    proptest! {
        #[test]
        fn options_pass_if_a_plain_reading_of_them_says_so(mut options in prop::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(2), Just(4), Just(131), any::<u8>()], 0..=10
        )) {
            let words = options.len();
            options.resize(4 * words, 1);
            prop_assert_eq!(may_pass_as(&options), plainly(&options));
        }
    }

    fn plainly(options: &[u8]) -> bool {
        match options {
            [] | [0, ..] => true,
            [1, rest @ ..] => plainly(rest),
            [131 | 137, ..] | [_] => false,
            [_, bytes, ..] => {
                let bytes = usize::from(*bytes);
                bytes >= 2 && options.get(bytes..).is_some_and(plainly)
            }
        }
    }
}
