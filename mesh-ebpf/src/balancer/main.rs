//! The balancer: steers packets of services to backends.
//!
//! The packet's way: [`main`](meshlb) → [`parse`] → [`pipeline`] (service, flow decision, backend) → [`forward`] →
//! outcome. The entry decides nothing.
#![no_std]
#![no_main]

mod client;
mod forward;
mod icmp;
mod maps;
mod parse;
mod pipeline;
mod wide;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use mesh_common::outcome::Verdict;
use mesh_ebpf::packet::Packet;

/// The program that is attached to the interfaces.
#[xdp(frags)]
fn meshlb(context: XdpContext) -> u32 {
    let outcome = pipeline::run(Packet::new(&context));
    match outcome.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Redirect => xdp_action::XDP_REDIRECT,
    }
}

mesh_ebpf::object!();
