//! What an instance of the programs notes of a packet about which somebody wants to know more than its outcome.
//!
//! The object is loaded more than once over the same maps. The instance that is attached notes nothing: for it the
//! verifier removes what writes notes. The others send every packet of theirs the whole way, whose steps they note.

use crate::{
    abi::{Journey, ServiceKey},
    flow::{FlowRecord, Ticks},
};

/// What an instance is for; settled when it is loaded. Those that are attached and tell something are bits.
pub mod instance {
    /// It is attached, and notes nothing.
    pub const PLAIN: u32 = 0;
    /// It is run by the agent, notes everything and changes no map but its own.
    pub const EXPLAINING: u32 = 1;
    /// It is attached while somebody watches packets: it does all that the plain one does, and tells of those wanted.
    pub const TRACING: u32 = 2;
    /// It is attached while flows are logged: it does all that the plain one does, and tells of the segments that open
    /// and close flows. May stand beside [`TRACING`].
    pub const LOGGING: u32 = 4;
}

/// How far a packet came: bits of [`Notes::steps`].
pub mod step {
    /// It is noted at all.
    pub const BEGUN: u32 = 1;
    /// It has a flow whose service was looked for: of the journey, what is noted of a flow stands.
    pub const READ: u32 = 1 << 1;
    /// It is a later fragment, and it is known where the first went: the journey stands up to the backend.
    pub const FOLLOWED: u32 = 1 << 2;
    /// The service was found: the journey stands but for the backend.
    pub const SERVICE: u32 = 1 << 3;
    /// Its connection id was looked at: [`super::Notes::routed`] stands.
    pub const ROUTED: u32 = 1 << 4;
    /// A slot was looked at: [`super::Notes::slot`] stands.
    pub const SLOT: u32 = 1 << 5;
    /// The scheduler picked a slot for a new flow: [`super::Notes::picked`] stands.
    pub const PICKED: u32 = 1 << 6;
    /// Its flow is recorded: [`super::Notes::found`] stands.
    pub const FOUND: u32 = 1 << 7;
    /// A record of its flow is written, or would be: [`super::Notes::written`] stands.
    pub const WRITTEN: u32 = 1 << 8;
    /// There is a backend for it: that of the journey stands.
    pub const CHOSEN: u32 = 1 << 9;
    /// The scheduler compared two slots: [`super::Notes::compared`] stands.
    pub const COMPARED: u32 = 1 << 10;
    /// It is over: [`super::Notes::outcome`] stands.
    pub const ENDED: u32 = 1 << 11;
    /// It is among those that are taken for somebody who watches.
    pub const WATCHED: u32 = 1 << 12;
    /// It is of a connection that is known: what of the journey says what becomes of its tuple stands.
    pub const CONNECTED: u32 = 1 << 13;
    /// It begins a connection, or would: the same stands.
    pub const CONNECTS: u32 = 1 << 14;
    /// It is what a backend answers with: as [`CONNECTED`].
    pub const REPLY: u32 = 1 << 15;
}

/// Bytes of a packet, from its beginning on, that are told at most: all headers, of most packets.
pub const SNAP: u32 = 256;

/// Words that have room for a byte more than [`SNAP`].
pub const SNAP_WORDS: usize = SNAP as usize / 8 + 1;

/// The single element of the `NOTES` map, on each CPU; and what is told of a packet that is watched, in the ring buffer
/// `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What the programs noted.
    pub notes: Notes,
    /// When the packet came, by the monotonic clock. Nanoseconds.
    pub time: u64,
    /// The interface that it came in by.
    pub ingress: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// How many of them are told.
    pub captured: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// The packet as it came.
    pub packet: [u64; SNAP_WORDS],
}

impl Default for Event {
    fn default() -> Self {
        let (notes, packet) = (Notes::default(), [0; SNAP_WORDS]);
        Self { notes, time: 0, ingress: 0, length: 0, captured: 0, reserved: 0, packet }
    }
}

/// What is told of a segment that opens or closes a flow, in the ring buffer `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEvent {
    /// When it was at its end, by the monotonic clock. Nanoseconds.
    pub time: u64,
    /// Whom it was for.
    pub destination: ServiceKey,
    /// The client's address; IPv4 as an IPv4-mapped address.
    pub client: [u64; 2],
    /// The service's id.
    pub service: u32,
    /// The backend's id; 0: none was found.
    pub backend: u32,
    /// The index of the outcome.
    pub outcome: u32,
    /// The client's port, in the byte order of the wire.
    pub port: u16,
    /// The flags of the segment.
    pub flags: u16,
}

impl FlowEvent {
    /// What the notes of a packet that has a service say.
    #[inline(always)]
    #[must_use]
    pub const fn of(notes: &Notes, time: u64) -> Self {
        let journey = &notes.journey;
        Self {
            time,
            destination: journey.destination,
            client: journey.client,
            service: journey.service.id,
            backend: if notes.has(step::CHOSEN) { journey.backend } else { 0 },
            outcome: notes.outcome,
            port: journey.port,
            flags: journey.signs.flags() as u16,
        }
    }
}

/// Which packets are told of: the single element of the map `FILTER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// A bit for the index of each outcome that is wanted.
    pub outcomes: u64,
    /// The client's address; IPv4 as an IPv4-mapped address. What is behind the mask is 0.
    pub client: [u64; 2],
    /// Which bits of it count.
    pub client_mask: [u64; 2],
    /// The backend's address in the same form; 0: any, or none.
    pub backend: [u64; 2],
    /// The service's id; 0: any, or none.
    pub service: u32,
    /// Of 32 random bits, the highest number with which a packet is taken.
    pub chance: u32,
    /// TCP flags that must be set.
    pub flags: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

impl Default for Filter {
    /// Every packet.
    fn default() -> Self {
        Self {
            outcomes: u64::MAX,
            client: [0; 2],
            client_mask: [0; 2],
            backend: [0; 2],
            service: 0,
            chance: u32::MAX,
            flags: 0,
            reserved: 0,
        }
    }
}

impl Filter {
    /// Whether a packet is wanted, whose backend has this address, if it has one.
    #[inline(always)]
    #[must_use]
    pub const fn wants(&self, notes: &Notes, backend: Option<[u64; 2]>) -> bool {
        let journey = &notes.journey;
        let has_flow = notes.has(step::READ | step::FOLLOWED);
        let [high, low] = [journey.client[0] & self.client_mask[0], journey.client[1] & self.client_mask[1]];
        let is_from = self.client_mask[0] | self.client_mask[1] == 0
            || has_flow && high == self.client[0] && low == self.client[1];
        let is_for = self.service == 0
            || notes.has(step::SERVICE | step::FOLLOWED) && journey.service.id == self.service;
        let is_at = self.backend[0] | self.backend[1] == 0
            || matches!(backend, Some([first, second]) if first == self.backend[0] && second == self.backend[1]);
        let flags = self.flags;
        let has_flags = flags == 0 || has_flow && journey.signs.flags() as u32 & flags == flags;
        self.outcomes >> (notes.outcome & 63) & 1 != 0 && is_from && is_for && is_at && has_flags
    }
}

/// What the programs noted of a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes {
    /// What the programs knew of the packet.
    pub journey: Journey,
    /// The slot.
    pub slot: u64,
    /// The flow's record, as it was found.
    pub found: FlowRecord,
    /// The flow's record, as it is after the packet.
    pub written: FlowRecord,
    /// The owners of the two slots of which a scheduler took the one that has less to do.
    pub compared: [u32; 2],
    /// The owner of the slot that a scheduler picked.
    pub picked: u32,
    /// Bits of [`step`].
    pub steps: u32,
    /// The index of the outcome.
    pub outcome: u32,
    /// How a packet of a QUIC service found its backend: [`crate::quic::Routed`].
    pub routed: u32,
    /// The codepoint of its connection id.
    pub rotation: u32,
    /// When the packet came, as flow records are stamped.
    pub now: Ticks,
}

const _: () = {
    assert!(size_of::<Notes>() == 336 && size_of::<Filter>() == 72);
    assert!(size_of::<FlowEvent>() == 64);
    assert!(size_of::<Event>() == 336 + 24 + SNAP_WORDS * 8);
    // A bit each.
    assert!(crate::outcome::Outcome::COUNT <= 64);
};

impl Notes {
    /// Whether the packet came so far.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, step: u32) -> bool {
        self.steps & step != 0
    }
}
