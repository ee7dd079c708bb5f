//! What an instance of the programs notes of a packet about which somebody wants to know more than its outcome.
//!
//! The object is loaded more than once over the same maps. The instance that is attached notes nothing: for it the
//! verifier removes what writes notes. The others send every packet of theirs the whole way, whose steps they note.

use crate::{
    abi::Journey,
    flow::{FlowRecord, Ticks},
};

/// What an instance is for; settled when it is loaded.
pub mod instance {
    /// It is attached, and notes nothing.
    pub const PLAIN: u32 = 0;
    /// It is run by the agent, notes everything and changes no map but its own.
    pub const EXPLAINING: u32 = 1;
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
}

/// The single element of the `NOTES` map, on each CPU.
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

const _: () = assert!(size_of::<Notes>() == 256);

impl Notes {
    /// Whether the packet came so far.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, step: u32) -> bool {
        self.steps & step != 0
    }
}
