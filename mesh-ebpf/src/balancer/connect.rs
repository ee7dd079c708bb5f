//! Begins connections: a new one gets a source address and port that no other to the same backend has.

use crate::{
    connections::{self, Known, Refused},
    maps,
    nat::{tuple, way},
    notes, schedule,
    tables::Tables,
};
use aya_ebpf::{helpers::generated::bpf_check_mtu, programs::XdpContext};
use mesh_common::{
    abi::{BackendEntry, Journey, flag, halves, programs},
    connection::{self, Connection, Reply, SOURCES, Sources, Splice, TRIES, Way, sign},
    notes::step,
    outcome::Outcome,
    tuple::Tuple,
};
use mesh_ebpf::packet::Packet;

/// Begins the connection of a packet whose backend is chosen, and says who sends it.
#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> Result<u32, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let backend = tables.backend(journey.backend).filter(|entry| entry.forward != 0);
    let backend = backend.ok_or(Outcome::NoBackend)?;
    let from = tuple(journey);
    let before = connections::connection(&from);
    if let Some(known) = before
        && renews(known, journey)
    {
        return Ok(programs::TRANSLATE);
    }
    journey.way = Way { room: room(context), ..way(&Packet::new(context), journey) };
    let to = open(journey, backend)?;
    notes::translated(step::CONNECTS, &to);
    journey.opened = 1;
    if notes::writes() {
        begin(journey, &from, &to, before)?;
    }
    Ok(programs::TRANSLATE)
}

/// Begins a connection that is over anew, with the port that it had: its backend is the same.
#[inline(always)]
fn renews(known: Known, journey: &mut Journey) -> bool {
    let connection = known.get();
    if connection.backend != journey.backend || journey.proxied != 0 {
        return false;
    }
    journey.to = connection.to;
    journey.opened = 1;
    notes::translated(step::CONNECTS, &connection.to);
    if notes::writes() {
        if let Some(reply) = connections::reply(&connection.to.turned()) {
            reply.signs = 0;
        }
        known.renew(maps::now());
        count(journey);
    }
    true
}

/// Makes the client's direction of a connection whose backend's direction stands.
#[inline(always)]
fn begin(journey: &mut Journey, from: &Tuple, to: &Tuple, before: Option<Known>) -> Result<(), Outcome> {
    if let Some(known) = before {
        connections::release(&known.get().to.turned());
    }
    let connection = Connection {
        to: *to,
        way: journey.way,
        hash: journey.hash,
        backend: journey.backend,
        service: journey.service.id,
        seen: maps::now(),
        signs: connection::of_client(journey.signs) & !sign::CLIENT_WENT_ON | proxied(journey),
        splice: Splice::default(),
    };
    match connections::begin(from, &connection, before.is_some()) {
        Ok(()) => {
            count(journey);
            Ok(())
        }
        Err(refused) => {
            connections::release(&to.turned());
            // Another CPU began it: the client repeats itself.
            let theirs = match refused {
                Refused::Exists => connections::connection(from),
                Refused::Full => None,
            };
            let theirs = theirs.ok_or(Outcome::ConnectionsExhausted)?.get();
            (journey.to, journey.backend, journey.opened) = (theirs.to, theirs.backend, 0);
            Ok(())
        }
    }
}

/// Whether the client came back with a cookie, as a sign.
#[inline(always)]
const fn proxied(journey: &Journey) -> u32 {
    if journey.proxied == 0 { 0 } else { sign::PROXIED }
}

/// Counts a connection where somebody asks for loads, until the agent counts all of them.
#[inline(always)]
fn count(journey: &Journey) {
    if journey.service.flags & (flag::SCHEDULER | flag::CAPPED) != 0 {
        schedule::count(&journey.service, 0, journey.backend);
    }
}

/// The tuple that the connection's packets get: the backend's direction of it is made.
#[inline(always)]
fn open(journey: &mut Journey, backend: &BackendEntry) -> Result<Tuple, Outcome> {
    let from = tuple(journey);
    let port = if backend.port == 0 { from.destination_port } else { backend.port.to_be() };
    journey.to = Tuple { destination: halves(backend.address), destination_port: port, ..from };
    let sources = connections::sources(journey.service.id).ok_or(Outcome::Unhandled)?;
    let choice = Choice::of(sources, journey, backend);
    let (first, count) = ports(sources);
    let places = choice.count * count;
    let own = u32::from(u16::from_be(from.source_port)).wrapping_sub(first);
    // At first the client's own port is tried, which is easily told in a capture.
    let mut at = if own < count {
        let nth = (journey.hash >> 32) as u32 % choice.count;
        nth * count + own
    } else {
        maps::random() % places
    };
    let step = connection::stride(maps::random()) % places;
    for _ in 0..TRIES.min(places) {
        match take_port(at) {
            TAKEN => return Ok(journey.to),
            IN_USE => at = (at + step) % places,
            NO_ROOM => return Err(Outcome::ConnectionsExhausted),
            _ => return Err(Outcome::NoNextHop),
        }
    }
    Err(Outcome::PortsExhausted)
}

/// The first port of a service's sources, and how many there are.
#[inline(always)]
const fn ports(sources: &Sources) -> (u32, u32) {
    let count = sources.last.saturating_sub(sources.first);
    (sources.first as u32, count as u32 + 1)
}

// What comes of taking a port.
const TAKEN: u32 = 0;
const IN_USE: u32 = 1;
const NO_ROOM: u32 = 2;
const NO_SOURCE: u32 = 3;

/// Takes the source address and port at a place among those of the noted packet's service, for the tuple that is noted
/// but for these.
///
/// Exported, which makes it a global function: the verifier walks through it once, not for every try (kernel 5.6).
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(unsafe_code, reason = "a name for the kernel")]
extern "C" fn take_port(at: u32) -> u32 {
    maps::journey().and_then(|journey| try_port(journey, at)).unwrap_or(NO_SOURCE)
}

#[inline(always)]
fn try_port(journey: &mut Journey, at: u32) -> Option<u32> {
    let backend = Tables::open()?.backend(journey.backend)?;
    let sources = connections::sources(journey.service.id)?;
    let (first, count) = ports(sources);
    journey.to.source = Choice::of(sources, journey, backend).address(sources, at / count)?;
    #[expect(clippy::cast_possible_truncation, reason = "between two ports")]
    let port = (first + at % count) as u16;
    journey.to.source_port = port.to_be();
    let reply = Reply {
        to: tuple(journey).turned(),
        way: journey.way,
        backend: journey.backend,
        told: maps::now(),
        signs: proxied(journey),
        splice: Splice { difference: journey.number, ..Splice::default() },
        reserved: 0,
    };
    Some(match claim(&journey.to.turned(), &reply) {
        Ok(()) => TAKEN,
        Err(Refused::Exists) => IN_USE,
        Err(Refused::Full) => NO_ROOM,
    })
}

/// Takes a tuple, or, in an instance that does not write, says whether it is free.
#[inline(always)]
fn claim(tuple: &Tuple, reply: &Reply) -> Result<(), Refused> {
    if notes::writes() {
        return connections::claim(tuple, reply);
    }
    if connections::reply(tuple).is_some() { Err(Refused::Exists) } else { Ok(()) }
}

#[expect(clippy::cast_possible_truncation, reason = "no more than eight")]
const MOST: u32 = SOURCES as u32;

/// The addresses that a connection can come from.
struct Choice {
    /// The only one, if it is none of the service's.
    one: Option<[u64; 2]>,
    is_v4: bool,
    count: u32,
}

impl Choice {
    #[inline(always)]
    fn of(sources: &Sources, journey: &Journey, backend: &BackendEntry) -> Self {
        let (client, address) = (journey.client, halves(backend.address));
        // What the packet is to is settled before where it comes from.
        let is_v4 = journey.to.is_ipv4();
        let is_itself = client[0] == address[0] && client[1] == address[1];
        let count = if is_v4 { sources.v4_count } else { sources.v6_count };
        // A client that is its own backend would answer itself past us.
        let one = if backend.is_here != 0 {
            Some(halves(backend.source))
        } else if sources.keep != 0 && !is_itself {
            Some(client)
        } else if count == 0 {
            Some(halves(backend.source))
        } else {
            None
        };
        Self { one, is_v4, count: if one.is_some() { 1 } else { count.min(MOST) } }
    }

    #[inline(always)]
    fn address(&self, sources: &Sources, nth: u32) -> Option<[u64; 2]> {
        if self.one.is_some() {
            return self.one;
        }
        let list = if self.is_v4 { &sources.v4 } else { &sources.v6 };
        list.get(nth as usize).copied()
    }
}

/// The longest packet on any way: one byte less than what lengths that need more than 16 bits are taken for.
const LONGEST: u16 = u16::MAX - 1;

/// The longest packet that the interface takes that the packet came in by (kernel 5.12).
#[inline(always)]
#[expect(unsafe_code, reason = "a helper of the kernel")]
fn room(context: &XdpContext) -> u16 {
    let mut mtu = 0;
    // SAFETY: the helper reads the context, and writes the MTU.
    let _ = unsafe { bpf_check_mtu(context.ctx.cast(), 0, &raw mut mtu, 0, 0) };
    if mtu == 0 {
        return LONGEST;
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded")]
    let room = mtu.min(u32::from(LONGEST)) as u16;
    room
}
