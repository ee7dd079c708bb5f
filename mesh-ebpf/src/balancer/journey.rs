//! What is known of a packet on the whole way: noted by one program, read by the next.

use crate::{
    choose::Choice,
    client::{Client, Client6},
    parse::Flow,
};
use mesh_common::{
    abi::{Journey, halves},
    encap::Inner,
};

/// Notes a flow.
#[inline(always)]
pub(crate) fn note<C: Client>(journey: &mut Journey, flow: &Flow<C>) {
    journey.destination = flow.service;
    journey.client = halves(flow.client.address());
    journey.port = flow.client.port();
    journey.family = C::INNER_PROTOCOL;
    journey.signs = flow.signs;
    journey.length = flow.length;
    (journey.headers, journey.ip_headers) = (flow.headers, flow.ip_headers);
    journey.quoted = flow.quoted;
    journey.traffic_class = flow.traffic_class;
    journey.rejects = 0;
    (journey.backend, journey.is_reply, journey.opened) = (0, 0, 0);
    (journey.proxied, journey.number) = (0, 0);
}

/// The flow; an IPv4 client by its mapped address.
#[inline(always)]
pub(crate) const fn flow(journey: &Journey) -> Flow<Client6> {
    Flow {
        service: journey.destination,
        client: Client6 { address: journey.client, port: journey.port },
        signs: journey.signs,
        length: journey.length,
        headers: journey.headers,
        ip_headers: journey.ip_headers,
        quoted: journey.quoted,
        traffic_class: journey.traffic_class,
    }
}

/// The packet as an outer IP header sees it.
#[inline(always)]
pub(crate) const fn inner(journey: &Journey) -> Inner {
    Inner { length: journey.length, traffic_class: journey.traffic_class, protocol: journey.family }
}

/// Notes a plain packet, which has no tags and is all of its packet.
#[inline(always)]
pub(crate) fn note_plain<C: Client>(journey: &mut Journey, flow: &Flow<C>) {
    note(journey, flow);
    (journey.tag_count, journey.first) = (0, 0);
}

/// Notes a plain packet, and who gets it.
#[inline(always)]
pub(crate) fn note_chosen<C: Client>(journey: &mut Journey, flow: &Flow<C>, choice: &Choice, hash: u64) {
    note_plain(journey, flow);
    (journey.backend, journey.opened, journey.hash) = (choice.backend, u8::from(choice.opened), hash);
}
