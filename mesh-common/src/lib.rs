//! What the kernel programs and the agent share.
//!
//! Two things live here: the **ABI** of the maps ([`abi`]) and the **decisions** as pure functions ([`hash`],
//! [`flow`], [`filter`], [`fragment`], [`slot`], [`schedule`], [`lifecycle`], [`quic`], [`reset`], [`encap`], [`ecn`], [`tuple`](mod@tuple),
//! [`connection`], [`translate`], [`flood`], [`cookie`], [`handshake`], [`outcome`]), so that one piece of code runs in the kernel, in the agent and in the
//! tests. Beside them stands what the benchmark's programs share with the benchmark ([`bench`](mod@bench)).
//!
//! Architecture invariant: nothing here allocates, reads a clock, or touches a map or a packet.
#![no_std]

pub mod abi;
pub mod aes;
pub mod bench;
pub mod checksum;
pub mod connection;
pub mod cookie;
pub mod ecn;
pub mod encap;
pub mod filter;
pub mod flood;
pub mod flow;
pub mod fragment;
pub mod handshake;
pub mod hash;
pub mod icmp;
pub mod lifecycle;
pub mod notes;
pub mod outcome;
pub mod policy;
pub mod quic;
pub mod reset;
pub mod schedule;
pub mod screen;
pub mod siphash;
pub mod slot;
pub mod table;
pub mod translate;
pub mod tuple;
