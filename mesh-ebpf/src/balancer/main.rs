//! The balancer: steers packets of services to backends.
//!
//! Two programs over the same maps. [`meshlb`], which is attached, sends **plain** packets ([`plain`]) and hands all
//! others over to [`whole`], whose way is [`parse`] → [`pipeline`] (service, flow decision, backend) → [`forward`] →
//! outcome. What only some packets need costs the others nothing. The entries decide nothing.
#![no_std]
#![no_main]

mod client;
mod echo;
mod extensions;
mod forward;
mod fragments;
mod icmp;
mod maps;
mod parse;
mod pipeline;
mod plain;
mod tables;
mod vlan;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use mesh_common::outcome::{Outcome, Verdict};
use mesh_ebpf::packet::Packet;

/// The program that is attached to the interfaces: plain packets.
#[xdp(frags)]
fn meshlb(context: XdpContext) -> u32 {
    if let Some(sent) = plain::run(Packet::new(&context)) {
        return action(sent);
    }
    maps::call_whole(&context);
    maps::count(Outcome::Unhandled);
    action(Outcome::Unhandled)
}

/// Every packet.
#[xdp(frags)]
fn whole(context: XdpContext) -> u32 {
    let outcome = pipeline::run(&context);
    let action = action(outcome);
    if action == xdp_action::XDP_PASS {
        maps::call_next(&context);
    }
    action
}

/// What the kernel does with the packet.
#[inline(always)]
const fn action(outcome: Outcome) -> u32 {
    match outcome.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Redirect => xdp_action::XDP_REDIRECT,
    }
}

mesh_ebpf::object!();
