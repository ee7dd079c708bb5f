//! Connections: flows whose packets are translated, in both directions.
//!
//! A connection has an entry for each direction, found by the five-tuple that this direction's packets come with: in the map
//! `CONNECTIONS` that of the client's packets, which says how far the connection has come, and in the map `REPLIES` that of
//! the backend's. That the latter has a tuple only once is what keeps two connections from getting one port.

use crate::{
    flow::{FlowRecord, Segment, Signs, Ticks, state},
    tuple::Tuple,
};

/// Most addresses of each family that packets of a service can come from.
pub const SOURCES: usize = 8;

/// How many ports are tried before a new connection is refused.
pub const TRIES: u32 = 256;

/// What a connection has shown: bits of [`Connection::signs`].
pub mod sign {
    /// The client acknowledged something, or sent a second datagram.
    pub const CLIENT_WENT_ON: u32 = 1;
    /// The client sent a FIN.
    pub const CLIENT_FIN: u32 = 1 << 1;
    /// The client sent a RST.
    pub const CLIENT_RST: u32 = 1 << 2;
    /// The backend answered.
    pub const ANSWERED: u32 = 1 << 3;
    /// The backend sent a FIN.
    pub const BACKEND_FIN: u32 = 1 << 4;
    /// The backend sent a RST.
    pub const BACKEND_RST: u32 = 1 << 5;
    /// The client came back with a cookie: we answered its SYN, and sent one to the backend in its place.
    pub const PROXIED: u32 = 1 << 6;
    /// The backend has answered that one: what it numbers, and what the client does, differ by [`Splice::difference`].
    ///
    /// [`Splice::difference`]: super::Splice::difference
    pub const SPLICED: u32 = 1 << 7;
}

/// Where frames of a reply go: back the way by which the client's came.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The Ethernet addresses: the first 8 bytes.
    pub macs: u64,
    /// The 4 bytes after them.
    pub macs_rest: u32,
    /// The interface.
    pub ifindex: u32,
    /// The VLAN tags, as they stand on the wire.
    pub tags: [u32; 2],
    /// How many.
    pub tag_count: u16,
    /// The longest packet that the interface takes, in bytes from the IP header on.
    pub room: u16,
    /// Reserved, zero.
    pub reserved: u32,
}

/// How a backend's numbers become those of a cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splice {
    /// What is added to the numbers of the backend's segments; before the backend has answered, the cookie.
    pub difference: u32,
    /// How far the backend's windows are shifted.
    pub theirs: u8,
    /// How far we told the client that they are.
    pub ours: u8,
    /// Reserved, zero.
    pub reserved: u16,
}

/// The client's direction of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// What packets' tuple becomes.
    pub to: Tuple,
    /// How replies reach the client.
    pub way: Way,
    /// The hash of the client's flow.
    pub hash: u64,
    /// The backend.
    pub backend: u32,
    /// Its service.
    pub service: u32,
    /// When the last packet came, in either direction.
    pub seen: Ticks,
    /// What it has shown: bits of [`sign`].
    pub signs: u32,
    /// How its numbers are changed, if it is spliced.
    pub splice: Splice,
}

/// The backend's direction of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What packets' tuple becomes.
    pub to: Tuple,
    /// Where they go.
    pub way: Way,
    /// The backend.
    pub backend: u32,
    /// When the client's direction was last told of a packet.
    pub told: Ticks,
    /// What the client's direction was told, and what became of its handshake.
    pub signs: u32,
    /// How its numbers are changed, if it is proxied.
    pub splice: Splice,
    /// Reserved, zero.
    pub reserved: u32,
}

/// Where packets to backends of a service come from: an element of the map `SOURCES`, by the service's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// 1 if they come from the client's own address, where that can be.
    pub keep: u32,
    /// The first port that they may come from.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// How many addresses there are to IPv4 backends; 0: the one that the host has on the way to the backend.
    pub v4_count: u32,
    /// As many to IPv6 backends.
    pub v6_count: u32,
    /// The addresses, IPv4-mapped.
    pub v4: [[u64; 2]; SOURCES],
    /// The addresses.
    pub v6: [[u64; 2]; SOURCES],
}

const _: () = {
    assert!(size_of::<Way>() == 32);
    assert!(size_of::<Connection>() == 104);
    assert!(size_of::<Reply>() == 96);
    assert!(size_of::<Sources>() == 272);
};

/// What a client's packet adds to what its connection has shown.
#[inline(always)]
#[must_use]
pub const fn of_client(signs: Signs) -> u32 {
    // An error, or a later fragment, shows nothing.
    if signs.opens() || matches!(signs.segment(), Segment::Related) {
        0
    } else {
        sign::CLIENT_WENT_ON | ends(signs, sign::CLIENT_FIN, sign::CLIENT_RST)
    }
}

/// What a backend's packet adds.
#[inline(always)]
#[must_use]
pub const fn of_backend(signs: Signs) -> u32 {
    sign::ANSWERED | ends(signs, sign::BACKEND_FIN, sign::BACKEND_RST)
}

#[inline(always)]
const fn ends(signs: Signs, fin: u32, rst: u32) -> u32 {
    // Datagrams and errors have no flags.
    (if signs.is_fin() { fin } else { 0 }) | (if signs.is_rst() { rst } else { 0 })
}

/// Whether a connection that has shown this is over, so that a SYN begins a new one.
#[inline(always)]
#[must_use]
pub const fn is_over(signs: u32) -> bool {
    signs & (sign::CLIENT_RST | sign::BACKEND_RST | sign::CLIENT_FIN | sign::BACKEND_FIN) != 0
}

/// Whether a backend's segment refuses a connection that nothing has come of.
#[inline(always)]
#[must_use]
pub const fn refuses(shown: u32, signs: Signs) -> bool {
    signs.is_rst() && shown & (sign::ANSWERED | sign::CLIENT_WENT_ON) == 0
}

impl Connection {
    /// The connection as flows are recorded: both have got as far, and are as long silent.
    #[must_use]
    pub const fn record(&self) -> FlowRecord {
        const BOTH_FINS: u32 = sign::CLIENT_FIN | sign::BACKEND_FIN;
        let closed =
            self.signs & (sign::CLIENT_RST | sign::BACKEND_RST) != 0 || self.signs & BOTH_FINS == BOTH_FINS;
        let state = if closed {
            state::CLOSING
        } else if self.signs & sign::ANSWERED != 0 && self.signs & sign::CLIENT_WENT_ON != 0 {
            state::ESTABLISHED
        } else {
            state::OPENING
        };
        FlowRecord { backend: self.backend, seen: self.seen, state }
    }

    /// Whether nothing has come back from the backend yet.
    #[must_use]
    pub const fn is_unanswered(&self) -> bool {
        self.signs & sign::ANSWERED == 0
    }
}

/// One of the primes beyond 2^20: steps of that size lead through every place, whatever number of them there is up to 2^20.
#[inline(always)]
#[must_use]
pub const fn stride(chance: u32) -> u32 {
    const PRIMES: [u32; 4] = [1_048_583, 1_048_589, 1_048_601, 1_048_609];
    match chance & 3 {
        0 => PRIMES[0],
        1 => PRIMES[1],
        2 => PRIMES[2],
        _ => PRIMES[3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;

    #[test]
    fn a_connection_goes_from_opening_to_closed() {
        let state = |signs| Connection { signs, ..Connection::default() }.record().state;
        let (syn, ack, fin, rst) = (Signs::tcp(2), Signs::tcp(16), Signs::tcp(17), Signs::tcp(4));
        let mut signs = of_client(syn);
        assert_eq!(state(signs), state::OPENING);
        signs |= of_backend(Signs::tcp(18));
        assert_eq!(state(signs), state::OPENING);
        signs |= of_client(ack);
        assert_eq!(state(signs), state::ESTABLISHED);
        signs |= of_backend(fin);
        assert_eq!((state(signs), is_over(signs)), (state::ESTABLISHED, true));
        assert_eq!(state(signs | of_client(fin)), state::CLOSING);
        assert_eq!(state(signs | of_backend(rst)), state::CLOSING);
    }

    #[test]
    fn only_a_reset_in_place_of_an_answer_refuses() {
        let rst = Signs::tcp(0x14);
        assert!(refuses(0, rst));
        assert!(!refuses(sign::ANSWERED, rst) && !refuses(sign::CLIENT_WENT_ON, rst));
        assert!(!refuses(0, Signs::tcp(0x12)) && !refuses(0, Signs::DATAGRAM));
    }

    #[test]
    fn datagrams_establish_in_both_directions() {
        let signs = of_client(Signs::DATAGRAM) | of_backend(Signs::DATAGRAM);
        assert_eq!(Connection { signs, ..Connection::default() }.record().state, state::ESTABLISHED);
        assert!(!is_over(signs));
    }

    proptest! {
        #[test]
        fn strides_lead_through_every_place(chance: u32, places in 1u32..3000) {
            let step = stride(chance) % places;
            let mut seen = std::collections::BTreeSet::new();
            let mut at = chance % places;
            for _ in 0..places {
                seen.insert(at);
                at = (at + step) % places;
            }
            prop_assert_eq!(seen.len(), usize::try_from(places).unwrap());
        }
    }
}
