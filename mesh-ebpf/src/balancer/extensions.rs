//! IPv6 extension headers: stepped over, within bounds.

use crate::parse::Part;
use mesh_common::outcome::Outcome;
use mesh_ebpf::{header::Extension, packet::Packet};

/// Most extension headers of a packet that are looked through.
const MOST: usize = 6;

/// Most bytes that they take together.
const BYTES: usize = 256;

/// Protocol numbers of extension headers (IANA). AH, ESP and "no next header" end the walk: no ports are behind them,
/// or none that can be read.
mod number {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION: u8 = 60;
}

/// Where the extension headers end, and what they said.
pub(crate) struct Chain {
    /// The protocol of what follows.
    pub(crate) number: u8,
    /// Where that begins.
    pub(crate) at: usize,
    pub(crate) part: Part,
}

/// One step's end.
enum Step {
    On,
    Done,
}

/// Goes through the extension headers from `at` on, the first of which has this number (RFC 8200 §4); the packet says that
/// it has bytes up to `last`.
#[inline(always)]
pub(crate) fn walk(packet: &Packet, at: usize, number: u8, last: usize) -> Result<Chain, Outcome> {
    let end = at + BYTES;
    let mut chain = Chain { number, at, part: Part::whole() };
    for passed in 0..=MOST {
        if chain.at > end {
            break;
        }
        if let Step::Done = chain.step(packet, passed, last)? {
            return Ok(chain);
        }
    }
    Err(Outcome::TooManyHeaders)
}

impl Chain {
    #[inline(always)]
    fn step(&mut self, packet: &Packet, passed: usize, last: usize) -> Result<Step, Outcome> {
        match self.number {
            number::HOP_BY_HOP | number::ROUTING | number::FRAGMENT | number::DESTINATION
                if passed == MOST =>
            {
                Err(Outcome::TooManyHeaders)
            }
            // It stands first or nowhere (RFC 8200 §4.1).
            number::HOP_BY_HOP if passed == 0 => self.pass(packet),
            number::DESTINATION => self.pass(packet),
            number::ROUTING => self.route(packet),
            number::FRAGMENT => self.fragment(packet, last),
            _ => Ok(Step::Done),
        }
    }

    /// Steps over a header that says its length: in units of 8 bytes, without the first.
    #[inline(always)]
    fn pass(&mut self, packet: &Packet) -> Result<Step, Outcome> {
        let header: &Extension = packet.view(self.at).ok_or(Outcome::Truncated)?;
        self.number = header.next;
        self.at += (usize::from(header.length) + 1) * 8;
        Ok(Step::On)
    }

    /// A packet that is still to go elsewhere (RFC 8200 §4.4) is not at its destination, and so not ours.
    #[inline(always)]
    fn route(&mut self, packet: &Packet) -> Result<Step, Outcome> {
        let header: &Extension = packet.view(self.at).ok_or(Outcome::Truncated)?;
        let [_, segments_left] = header.rest.to_ne_bytes();
        if segments_left != 0 {
            return Err(Outcome::OtherProtocol);
        }
        self.pass(packet)
    }

    /// The fragment header (RFC 8200 §4.5). A fragment that is all of its packet is none (RFC 6946).
    #[inline(always)]
    fn fragment(&mut self, packet: &Packet, last: usize) -> Result<Step, Outcome> {
        const OFFSET: u16 = 0xfff8_u16.to_be();
        const MORE: u16 = 1_u16.to_be();
        let header: &Extension = packet.view(self.at).ok_or(Outcome::Truncated)?;
        self.number = header.next;
        self.at += size_of::<Extension>();
        if header.rest & OFFSET != 0 {
            self.part = Part::later(header.id, u16::from_be(header.rest) >> 3);
            return Ok(Step::Done);
        }
        if header.rest & MORE != 0 {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "16 bits of length; less than none is dropped"
            )]
            let length = last.wrapping_sub(self.at) as u16;
            self.part = Part::first(header.id, length);
        }
        Ok(Step::On)
    }
}
