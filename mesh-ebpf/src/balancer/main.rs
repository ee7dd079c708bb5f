//! The balancer: steers packets of services to backends.
//!
//! [`meshlb`], which is attached, sends **plain** packets ([`plain`]) and hands all others over to the whole way: what
//! only some packets need costs the others nothing. The whole way is a line of programs that tail-call each other, each
//! with the verifier's limits to itself; what they know of the packet stands in the [`journey`]:
//!
//! ```text
//! whole (headers, service) → [quic (connection id)] → choose (backend) → deliver → [reject (none)] → outcome
//! ```
//!
//! The entries decide nothing.
#![no_std]
#![cfg_attr(target_arch = "bpf", no_main)]

mod choose;
mod client;
mod connect;
mod connections;
mod cookies;
mod deliver;
mod echo;
mod extensions;
mod floods;
mod flows;
mod forward;
mod fragments;
mod guard;
mod icmp;
mod journey;
mod maps;
mod nat;
mod notes;
mod options;
mod parse;
mod plain;
mod quic;
mod read;
mod reject;
mod schedule;
mod screen;
mod splice;
mod tables;
mod translate;
mod tunnels;
mod vlan;
mod wide;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use mesh_common::{
    abi::programs,
    outcome::{Outcome, Verdict},
};
use mesh_ebpf::packet::Packet;
use plain::End;

/// The program that is attached to the interfaces: plain packets.
#[xdp(frags)]
fn meshlb(context: XdpContext) -> u32 {
    if notes::begin(&context) {
        maps::call::<{ programs::WHOLE }>(&context);
        return end(Outcome::Unhandled);
    }
    match plain::run(Packet::new(&context)) {
        Some(End::Sent(sent)) => return action(sent),
        Some(End::Denied) => return end(Outcome::Denied),
        Some(End::Next(program)) => call(&context, program),
        None => maps::call::<{ programs::WHOLE }>(&context),
    }
    end(Outcome::Unhandled)
}

/// Every other packet: what is it, and for which service?
#[xdp(frags)]
fn whole(context: XdpContext) -> u32 {
    go_on(&context, read::run(&context))
}

/// Datagrams of QUIC services: whose connection is it?
#[xdp(frags)]
fn quic(context: XdpContext) -> u32 {
    go_on(&context, quic::run(&Packet::new(&context)))
}

/// Packets of services: which backend gets it?
#[xdp(frags)]
fn choose(context: XdpContext) -> u32 {
    go_on(&context, choose::run())
}

/// Packets that are to be translated: whose connection is it?
#[xdp(frags)]
fn nat(context: XdpContext) -> u32 {
    sent_or(&context, nat::run(&context))
}

/// Packets that begin a connection: from which port?
#[xdp(frags)]
fn connect(context: XdpContext) -> u32 {
    go_on(&context, connect::run(&context))
}

/// Packets that are not for a service: which backend answers whom?
#[xdp(frags)]
fn reply(context: XdpContext) -> u32 {
    sent_or(&context, nat::reply(&context))
}

/// Packets that are known to become something else than a plain packet of their own family.
#[xdp(frags)]
fn translate(context: XdpContext) -> u32 {
    sent_or(&context, nat::of_any_kind(&context))
}

/// Segments that begin a connection while too many do: has their client shown that it is there?
#[xdp(frags)]
fn cookie(context: XdpContext) -> u32 {
    sent_or(&context, cookies::run(&context).map(nat::End::Next))
}

/// Segments of connections that began so.
#[xdp(frags)]
fn splice(context: XdpContext) -> u32 {
    sent_or(&context, splice::run(&context).map(nat::End::Next))
}

/// Packets that have a backend.
#[xdp(frags)]
fn deliver(context: XdpContext) -> u32 {
    sent_or(&context, deliver::run(&context).map(nat::End::Sent))
}

/// Packets that have no backend, whose senders are told so.
#[xdp(frags)]
fn reject(context: XdpContext) -> u32 {
    go_on(&context, Err(reject::run(Packet::new(&context))))
}

/// Tells the agent the time by which flow records are stamped; never attached.
#[xdp(frags)]
fn clock(_: XdpContext) -> u32 {
    maps::now()
}

/// Ends the journey of a packet that was sent; any other goes on, by way of the refusal if its sender is to get one.
#[inline(always)]
fn sent_or(context: &XdpContext, end: Result<nat::End, Outcome>) -> u32 {
    match end {
        Ok(nat::End::Sent(sent)) => {
            notes::end(sent);
            action(sent)
        }
        Ok(nat::End::Next(program)) => go_on(context, Ok(program)),
        Err(outcome) => {
            if reject::is_asked_for(outcome) {
                maps::call::<{ programs::REJECT }>(context);
            }
            go_on(context, Err(outcome))
        }
    }
}

/// Goes on with the next program of the way, or ends the journey: what was not sent has its tags again, and is counted.
#[inline(always)]
fn go_on(context: &XdpContext, next: Result<u32, Outcome>) -> u32 {
    let outcome = match next {
        Ok(program) => {
            call(context, program);
            Outcome::Unhandled
        }
        Err(outcome) => outcome,
    };
    // Where an outer header took the tags' room, the packet is dropped.
    let _ = maps::journey().and_then(|journey| vlan::put_back(context, journey));
    if let Verdict::Pass = outcome.verdict() {
        let action = end(outcome);
        maps::call_next(context);
        return action;
    }
    end(outcome)
}

/// Goes on with another program; comes back only if it is not in its place.
#[inline(always)]
fn call(context: &XdpContext, program: u32) {
    match program {
        programs::QUIC => maps::call::<{ programs::QUIC }>(context),
        programs::CHOOSE => maps::call::<{ programs::CHOOSE }>(context),
        programs::NAT => maps::call::<{ programs::NAT }>(context),
        programs::CONNECT => maps::call::<{ programs::CONNECT }>(context),
        programs::REPLY => maps::call::<{ programs::REPLY }>(context),
        programs::TRANSLATE => maps::call::<{ programs::TRANSLATE }>(context),
        programs::COOKIE => maps::call::<{ programs::COOKIE }>(context),
        programs::SPLICE => maps::call::<{ programs::SPLICE }>(context),
        _ => maps::call::<{ programs::DELIVER }>(context),
    }
}

/// Counts the end of a journey that did not lead to a backend, and says what the kernel does with the packet.
#[inline(always)]
fn end(outcome: Outcome) -> u32 {
    notes::end(outcome);
    if notes::writes() {
        maps::count(outcome);
    }
    action(outcome)
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
