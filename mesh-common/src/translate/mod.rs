//! Translating packets: other addresses and ports (RFC 2663 §4.1.2), and where these say so the other IP version (RFC
//! 7915).
//!
//! A packet is given the [`Tuple`](crate::tuple::Tuple) that it is to have afterwards. What is kept of it, and what is not:
//!
//! - TCP, UDP and what they carry stay, but for ports and checksums, which are updated and not computed anew ([`Change`]).
//!   A UDP datagram without a checksum stays so, but that IPv6 wants one: it is computed over all of the datagram.
//! - Within a version the IP header keeps all but its addresses and one hop, options and extension headers, too.
//! - Between versions ([`header`]) it is put together anew: traffic class and hops stay, the flow label is 0, options and
//!   extension headers end here, but for the fragment header.
//! - An ICMP error about a packet ([`error`]) is put together anew, too: it quotes the packet as whoever gets the error sent
//!   it.
//!
//! Words are those of memory, as in [`checksum`](crate::checksum), unless they are said to be in the host's order.

mod change;
pub mod error;
pub mod header;
#[cfg(test)]
mod tests;

pub use change::{Change, Sum};
